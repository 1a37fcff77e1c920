// The simulator is tested by defects: each is planted, and has to be found.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { bundleWorker } from './bundle'
import { drive } from './drive'
import { FOUND_AT } from './found-at'
import { MUTANTS } from './mutants'

/** For the search where it has to begin anew; most take a tenth of a second. */
const SECONDS = 100

let folder: string
const moved: string[] = []

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'casky-mutants-'))
})

afterAll(() => {
  rmSync(folder, { recursive: true, force: true })
  if (moved.length > 0) console.log(`for test/sim/found-at.ts:\n${moved.join('\n')}`)
})

describe('the simulator finds that', () => {
  test.each(MUTANTS.map((mutant, i) => [mutant.name, mutant, i] as const))(
    '%s',
    async (name, { kind, changes }, i) => {
      const bundle = join(folder, `${i}.mjs`)
      await bundleWorker(bundle, 'small', changes)
      const untilMs = Date.now() + SECONDS * 1000
      const search = (firstSeeds: number[], seeds: number) =>
        drive(
          firstSeeds.map((firstSeed) => {
            const stride = firstSeeds.length
            return { bundle, job: { firstSeed, stride, seeds, untilMs, kind, shrinks: false } }
          }),
        )
      let { failures } = await search([FOUND_AT[name] ?? 1], 1)
      if (failures.length === 0) {
        failures = (await search([1, 2], Number.POSITIVE_INFINITY)).failures
        moved.push(`  '${name}': ${failures[0]?.seed},`)
      }
      expect(failures.length).toBeGreaterThan(0)
    },
    SECONDS * 1000 + 30_000,
  )
})

test('where each was found is told of nothing else', () => {
  const names = MUTANTS.map(({ name }) => name)
  expect(Object.keys(FOUND_AT).filter((name) => !names.includes(name))).toEqual([])
})
