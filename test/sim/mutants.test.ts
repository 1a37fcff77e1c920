// The simulator is tested by defects: each is planted, and has to be found.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { bundleWorker } from './bundle'
import { drive } from './drive'
import { MUTANTS } from './mutants'

/** Its share of time; most take a tenth of a second. */
const SECONDS = 100

let folder: string

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'casky-mutants-'))
})

afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe('the simulator finds that', () => {
  test.each(MUTANTS.map((mutant, i) => [mutant.name, mutant, i] as const))(
    '%s',
    async (_name, { kind, changes, firstSeed = 1 }, i) => {
      const bundle = join(folder, `${i}.mjs`)
      await bundleWorker(bundle, 'small', changes)
      const untilMs = Date.now() + SECONDS * 1000
      const jobs = [firstSeed, firstSeed + 1].map((first) => {
        const seeds = Number.POSITIVE_INFINITY
        return { bundle, job: { firstSeed: first, stride: 2, seeds, untilMs, kind, shrinks: false } }
      })
      const { failures } = await drive(jobs)
      expect(failures.length).toBeGreaterThan(0)
    },
    SECONDS * 1000 + 30_000,
  )
})
