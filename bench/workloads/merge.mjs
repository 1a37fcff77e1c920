// Every key overwritten three times, then merged while reads and writes go on: how fast, and for how long nothing else
// could run.
import { open } from '../../dist/index.js'
import { keyOf, percentile, valueFor } from '../data.mjs'

const ROUNDS = 4
const PUTS_A_TURN = 5
const GETS_A_TURN = 20

export async function merge({ path, keys: count }) {
  const db = await open(path, { sync: 'never', merge: false, maxSegmentBytes: 64 * 2 ** 20 })
  for (let round = 1; round <= ROUNDS; round++) {
    for (let i = 0; i < count; i++) db.put(keyOf(i), valueFor(i + ROUNDS - round))
    await db.flush()
  }
  const bytesBefore = db.stats().bytes
  let isDone = false
  const turns = []
  const begin = performance.now()
  const merging = db.merge().finally(() => {
    isDone = true
  })
  let last = performance.now()
  let next = 0
  while (!isDone) {
    for (let i = 0; i < PUTS_A_TURN; i++, next = (next + 7919) % count) db.put(keyOf(next), valueFor(next))
    for (let i = 0; i < GETS_A_TURN; i++) db.get(keyOf((next * 31 + i) % count))
    await new Promise((resolve) => setImmediate(resolve))
    const now = performance.now()
    turns.push(now - last)
    last = now
  }
  const seconds = (performance.now() - begin) / 1000
  const report = await merging
  turns.sort((a, b) => a - b)
  await db.merge()
  const { bytes, liveBytes } = db.stats()
  for (let i = 0; i < count; i++)
    if (db.get(keyOf(i)) !== valueFor(i)) throw new Error(`${keyOf(i)} is wrong`)
  await db.close()
  return {
    mibPerSecond: report.bytesRead / 2 ** 20 / seconds,
    longestStallMs: turns.at(-1),
    p999Ms: percentile(turns, 0.999),
    spaceBefore: bytesBefore / liveBytes,
    spaceAfter: bytes / liveBytes,
  }
}
