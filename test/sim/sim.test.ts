// The simulator's share of `npm test`: at most a minute of it. `npm run soak` goes on as long as it is told.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { bundleWorker, type Rooms } from './bundle'
import { describeFailure, drive } from './drive'
import { KEPT } from './kept'
import { RULES } from './rules'
import type { Job } from './worker'

const SECONDS = Number(process.env.CASKY_SIM_SECONDS ?? 50)
/** As many seeds as make more than 200,000 states; on a slow machine the clock ends it. */
const SEEDS = 800
const ROOMS: Rooms[] = ['small', 'real']

let folder: string
const bundleOf = (rooms: Rooms): string => join(folder, `${rooms}.mjs`)

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'casky-sim-'))
  for (const rooms of ROOMS) await bundleWorker(bundleOf(rooms), rooms)
})

afterAll(() => rmSync(folder, { recursive: true, force: true }))

const seed = process.env.CASKY_SIM_SEED

test.skipIf(seed !== undefined)(
  `${SECONDS} seconds of crashes, errors and bit rot break no rule`,
  async () => {
    const untilMs = Date.now() + SECONDS * 1000
    const startedAt = performance.now()
    const { tally, failures } = await drive(
      ROOMS.map((rooms, i) => ({
        bundle: bundleOf(rooms),
        job: { firstSeed: 1 + i, stride: ROOMS.length, seeds: SEEDS, untilMs },
      })),
    )
    const seconds = Math.round((performance.now() - startedAt) / 1000)
    console.log(
      `simulated in ${seconds} s: ${tally.states + tally.nested} distinct crash states (${tally.nested} inside recovery) of ${tally.crashes} crashes at ${tally.calls} calls; ${tally.faults} errors injected; ${tally.flips} stores rotted; ${tally.restores} backups restored; ${tally.traces} traces`,
    )
    expect(failures.map(describeFailure)).toEqual([])
    expect(Math.min(tally.states, tally.nested, tally.faults, tally.flips)).toBeGreaterThan(0)
  },
  240_000,
)

test.runIf(seed !== undefined)(`seed ${seed} breaks no rule`, async () => {
  const jobs = ROOMS.flatMap((rooms) =>
    (['crash', 'merge', 'backup', 'fault', 'rot', 'repair'] as const).map((kind) => {
      const job: Job = {
        firstSeed: Number(seed),
        stride: 1,
        seeds: 1,
        untilMs: Number.POSITIVE_INFINITY,
        kind,
      }
      return { bundle: bundleOf(rooms), job }
    }),
  )
  const { failures } = await drive(jobs)
  expect(failures.map(describeFailure)).toEqual([])
})

test('docs/DURABILITY.md says what each rule means, and knows no other', () => {
  const text = readFileSync(join(import.meta.dirname, '../../docs/DURABILITY.md'), 'utf8')
  const named = [...text.matchAll(/^\| \*\*(D\d+ [^*]+)\*\*/gm)].map(([, rule]) => rule)
  expect(named).toEqual([...RULES])
})

test.each(KEPT.map((kept) => [kept.name, kept] as const))('kept: %s', async (_name, kept) => {
  const job: Job = { firstSeed: 0, stride: 1, seeds: 1, untilMs: Number.POSITIVE_INFINITY, kept }
  const { failures } = await drive(ROOMS.map((rooms) => ({ bundle: bundleOf(rooms), job })))
  expect(failures.map(describeFailure)).toEqual([])
})
