// A feed of changes: beside the writer that it follows, and from the begin of a store.
import { open } from '../../dist/index.js'
import { keyOf, percentile, valueFor, verify } from '../data.mjs'
import { turn } from './write.mjs'

const PUTS_A_TURN = 1000

/** Puts in groups of a thousand, each awaited; with `live` one consumer hears of them, in the same process. */
export async function feed({ path, keys: count, sync, live }) {
  const db = await open(path, { sync, merge: false })
  const putAtMs = new Float64Array(count)
  const lags = new Float64Array(count)
  let written = 0
  let heard = 0
  let mostBehind = 0
  const follow = async () => {
    for await (const { sequence } of db.changes({ live: true })) {
      lags[heard] = performance.now() - putAtMs[heard]
      heard++
      if (sequence !== heard) throw new Error(`change ${sequence} where ${heard} was to come`)
      mostBehind = Math.max(mostBehind, written - heard)
      if (heard === count) break
    }
  }
  const begin = performance.now()
  const following = live ? follow() : undefined
  while (written < count) {
    const end = Math.min(written + PUTS_A_TURN, count)
    let group
    for (; written < end; written++) {
      putAtMs[written] = performance.now()
      group = db.put(keyOf(written), valueFor(written))
    }
    await group
    await turn()
  }
  const writeSeconds = (performance.now() - begin) / 1000
  await following
  const seconds = (performance.now() - begin) / 1000
  verify(db, count)
  await db.close()
  if (!live) return { perSecond: count / writeSeconds }
  lags.sort()
  return {
    perSecond: count / seconds,
    p50Ms: percentile(lags, 0.5),
    p99Ms: percentile(lags, 0.99),
    lagMaxMs: lags.at(-1),
    mostBehind,
  }
}

/** Once for the time, and once to see that each change is right. */
export async function catchUp({ path, keys: count }) {
  const db = await open(path)
  const begin = performance.now()
  let heard = 0
  for await (const { key, value } of db.changes({ since: 0 })) if (key.length + value.length > 0) heard++
  const seconds = (performance.now() - begin) / 1000
  if (heard !== count) throw new Error(`${heard} changes where ${count} were written`)
  let last = 0
  for await (const { sequence, key, value } of db.changes({ since: 0 })) {
    if (sequence !== last + 1 || key !== keyOf(last) || value !== valueFor(last))
      throw new Error(`change ${sequence} is ${key} ${value}`)
    last++
  }
  await db.close()
  return { perSecond: count / seconds }
}
