// Every key overwritten three times, then merged: how fast, what it gives back, and for how long nothing else could run.
import { open } from '../../dist/index.js'
import { keyOf, percentileByTime, valueFor, verify } from '../data.mjs'
import { putKeys, segmentBytes, settled, turn } from './write.mjs'

const ROUNDS = 4
const PUTS_A_TURN = 5
const GETS_A_TURN = 20
const OPERATIONS_A_TURN = PUTS_A_TURN + GETS_A_TURN
const MIB = 2 ** 20

async function overwritten(path, count) {
  const db = await open(path, { sync: 'never', merge: false, maxSegmentBytes: 64 * MIB })
  for (let round = 1; round <= ROUNDS; round++)
    await putKeys(db, count, { valueAt: (i) => valueFor(i + ROUNDS - round) })
  await db.flush()
  await settled(path)
  return db
}

const speeds = ({ bytesRead, bytesWritten }, seconds) => ({
  mibPerSecond: bytesRead / MIB / seconds,
  writtenMibPerSecond: bytesWritten / MIB / seconds,
})

/** With nothing else to do. */
export async function merge({ path, keys: count }) {
  const db = await overwritten(path, count)
  const before = segmentBytes(path)
  const begin = performance.now()
  const report = await db.merge()
  const seconds = (performance.now() - begin) / 1000
  const after = segmentBytes(path)
  const { liveBytes } = db.stats()
  verify(db, count)
  await db.close()
  return {
    ...speeds(report, seconds),
    beforeMib: before / MIB,
    afterMib: after / MIB,
    spaceBefore: before / liveBytes,
    spaceAfter: after / liveBytes,
  }
}

/** Puts and gets as fast as they go, a few in each turn of the event loop, until `isOver`. */
async function load(db, count, isOver) {
  const turns = []
  const begin = performance.now()
  let last = begin
  for (let next = 0; !isOver(last - begin); ) {
    for (let i = 0; i < PUTS_A_TURN; i++, next = (next + 7919) % count) db.put(keyOf(next), valueFor(next))
    for (let i = 0; i < GETS_A_TURN; i++) db.get(keyOf((next * 31 + i) % count))
    await turn()
    const now = performance.now()
    turns.push(now - last)
    last = now
  }
  return { turns, ms: last - begin }
}

/** What an event that comes at any moment meets: the length of the turn of the event loop that it has to wait for. */
function turnsOf({ turns }) {
  turns.sort((a, b) => a - b)
  return { ms: turns.at(-1), p50Ms: percentileByTime(turns, 0.5), p99Ms: percentileByTime(turns, 0.99) }
}

const operations = ({ turns, ms }) => ({
  perSecond: (turns.length * OPERATIONS_A_TURN) / (ms / 1000),
  operationsATurn: OPERATIONS_A_TURN,
})

/** Then the same load once more, for as long, without a merge: the longest of more turns would be longer. */
export async function mergeUnderLoad({ path, keys: count }) {
  const db = await overwritten(path, count)
  let isDone = false
  const merging = db.merge().finally(() => {
    isDone = true
  })
  const during = await load(db, count, () => isDone)
  const report = await merging
  await settled(path)
  const without = await load(db, count, (ms) => ms >= during.ms)
  verify(db, count)
  await db.close()
  return {
    'merge, under load': { ...speeds(report, during.ms / 1000), sliceMs: report.longestSliceMs },
    'puts and gets, while it merges': operations(during),
    'puts and gets, without a merge': operations(without),
    'longest turn of the event loop, while it merges': turnsOf(during),
    'longest turn of the event loop, without a merge': turnsOf(without),
  }
}
