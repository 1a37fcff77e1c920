// Puts: those that need not be on disk, those that each wait for it, and batches.
import { keysTo, percentile } from '../../data.mjs'
import { bytesFor, shuffled } from '../data.mjs'
import { BATCH, openStore, SECONDS_MAX, verifyClosed } from '../store.mjs'

/** How often the clock is looked at, in operations. */
const LOOK_EVERY = 64
/** The first tenth is for warming up. */
const WARM_SHARE = 10

/** What is to be waited for: engines give the puts of a group one promise, or none at all. */
class Pending {
  #promises = []
  #left

  /** `most`: so many puts may be on their way. */
  constructor(most) {
    this.#left = this.most = most
  }

  /** Whether it is time to wait. */
  add(promise) {
    if (promise !== undefined && promise !== this.#promises.at(-1)) this.#promises.push(promise)
    return --this.#left === 0
  }

  async settle() {
    await Promise.all(this.#promises)
    this.#promises = []
    this.#left = this.most
  }
}

/** Nobody waits for a single put, unless `awaited`. `most`: so many may be on their way, by what is best for the engine. */
export async function put({ path, keys: count, order, awaited = false, options, most = Infinity }) {
  const keys = keysTo(count)
  const numbers = order === 'shuffled' ? shuffled(count) : Uint32Array.from({ length: count }, (_, i) => i)
  const ordered = Array.from(numbers, (i) => keys[i])
  const db = await openStore(path, options)
  let done = 0
  const begin = performance.now()
  if (awaited) {
    while (done < count) {
      await db.put(ordered[done], bytesFor(numbers[done]))
      done++
      if (done % LOOK_EVERY === 0 && performance.now() - begin > SECONDS_MAX * 1000) break
    }
  } else {
    const pending = new Pending(most)
    for (; done < count; done++)
      if (pending.add(db.put(ordered[done], bytesFor(numbers[done])))) await pending.settle()
    await pending.settle()
  }
  const seconds = (performance.now() - begin) / 1000
  await db.close()
  await verifyClosed(path, options, done)
  return { perSecond: done / seconds }
}

/** So many puts at once, each waited for by somebody until it is on disk. */
export async function durable({ path, keys: all, inFlight, share, options }) {
  const count = Math.ceil(all * share)
  const keys = keysTo(count)
  const db = await openStore(path, { mode: 'durable', ...options })
  const latencies = new Float64Array(count)
  let next = 0
  let until
  const writeTo = async (end) => {
    while (next < end && performance.now() < until) {
      const i = next++
      const begin = performance.now()
      await db.put(keys[i], bytesFor(i))
      latencies[i] = performance.now() - begin
    }
  }
  const lanes = async (end, seconds) => {
    until = performance.now() + seconds * 1000
    await Promise.all(Array.from({ length: inFlight }, () => writeTo(end)))
  }
  await lanes(Math.max(inFlight, Math.ceil(count / WARM_SHARE)), SECONDS_MAX / WARM_SHARE)
  const warm = next
  const begin = performance.now()
  await lanes(count, SECONDS_MAX)
  const seconds = (performance.now() - begin) / 1000
  const puts = next
  await db.close()
  await verifyClosed(path, options, puts)
  const sorted = latencies.subarray(warm, puts).sort()
  return {
    perSecond: (puts - warm) / seconds,
    p50Ms: percentile(sorted, 0.5),
    p99Ms: percentile(sorted, 0.99),
  }
}

/** A thousand puts a batch, each batch on disk before the next, or all of them together at the end. */
export async function batches({ path, keys: count, synced, options }) {
  const all = keysTo(count)
  const keys = []
  const values = []
  for (let begin = 0; begin < count; begin += BATCH) {
    keys.push(all.slice(begin, begin + BATCH))
    values.push(keys.at(-1).map((_, i) => bytesFor(begin + i)))
  }
  const latencies = new Float64Array(keys.length)
  const mode = synced === 'each' ? 'durable' : 'synced at the end'
  const db = await openStore(path, { mode, ...options })
  const begin = performance.now()
  for (let i = 0; i < keys.length; i++) {
    const begun = performance.now()
    await db.writeBatch(keys[i], values[i])
    latencies[i] = performance.now() - begun
  }
  if (synced === 'end') await db.flush()
  const seconds = (performance.now() - begin) / 1000
  await db.close()
  await verifyClosed(path, options, count)
  latencies.sort()
  const speed = { perSecond: count / seconds }
  return synced === 'end'
    ? speed
    : { ...speed, p50Ms: percentile(latencies, 0.5), p99Ms: percentile(latencies, 0.99) }
}
