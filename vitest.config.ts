import { defineConfig } from 'vitest/config'

const report = process.env.CASKY_TEST_REPORT
const SIMULATOR = 'test/sim/sim.test.ts'
const shared = { testTimeout: 60_000, hookTimeout: 60_000 }

export default defineConfig({
  test: {
    maxWorkers: 2,
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
