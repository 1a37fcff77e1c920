import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

const report = process.env.CASKY_TEST_REPORT
const SIMULATOR = 'test/sim/sim.test.ts'
const shared = { testTimeout: 60_000, hookTimeout: 60_000 }

/** The longest first, so that no worker is left with one of them when the other has nothing more to do. */
const LONGEST = [
  'runtimes/runtimes',
  'fuzz/fuzz',
  'sim/mutants',
  'sim/bits',
  'checkpoint',
  'cli/interrupt',
].map((name) => `test/${name}.test.ts`)

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rankOf = ({ moduleId }: TestSpecification): number => {
      const rank = LONGEST.findIndex((name) => moduleId.endsWith(name))
      return rank < 0 ? LONGEST.length : rank
    }
    return (await super.sort(files)).sort((a, b) => rankOf(a) - rankOf(b))
  }
}

export default defineConfig({
  test: {
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    reporters: report === undefined ? ['default'] : ['default', ['json', { outputFile: report }]],
    projects: [
      // First, and alone: it has two workers of its own.
      { test: { name: 'simulator', include: [SIMULATOR], sequence: { groupOrder: 0 }, ...shared } },
      {
        test: {
          name: 'tests',
          include: ['test/**/*.test.ts'],
          exclude: [SIMULATOR],
          sequence: { groupOrder: 1 },
          ...shared,
        },
      },
    ],
  },
})
