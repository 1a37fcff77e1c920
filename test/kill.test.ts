// A process that writes is killed at random moments, again and again: nothing acknowledged is ever lost.
// test/real does the same on all runtimes by turns.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { makeWorkshop, removeAll } from './real/ground'
import { killRounds } from './real/kills'
import { node } from './runtimes/runtime'

const KILLS = Number(process.env.CASKY_KILLS ?? 20)

let workshop: string
beforeAll(async () => {
  workshop = await makeWorkshop()
})
afterAll(() => removeAll(workshop))

test(`${KILLS} kills at random moments lose no acknowledged write`, async () => {
  const seed = Number(process.env.CASKY_SEED ?? 20)
  const counts = await killRounds({ workshop, runtimes: [node], seed, kills: KILLS })
  expect(counts.kills).toBe(KILLS)
  expect(counts.acknowledged).toBeGreaterThan(KILLS)
}, 240_000)
