// Puts that each wait for the disk, so many at once; and what the disk itself does with the same bytes.
import { closeSync, fdatasync, fsyncSync, openSync, writeSync } from 'node:fs'
import { open } from '../../dist/index.js'
import { KEY_BYTES, keyOf, percentile, VALUE_BYTES, valueFor, verify } from '../data.mjs'
import { readLayout } from '../layout.mjs'

/** The first tenth of the puts is for warming up. */
const WARM_SHARE = 10

function summary(latencies, seconds, puts) {
  latencies.sort()
  const perSecond = puts / seconds
  return { perSecond, p50Ms: percentile(latencies, 0.5), p99Ms: percentile(latencies, 0.99) }
}

export async function durable({ path, inFlight, puts }) {
  const db = await open(path)
  const latencies = new Float64Array(puts)
  let next = 0
  const writeTo = async (end) => {
    while (next < end) {
      const i = next++
      const begin = performance.now()
      await db.put(keyOf(i), valueFor(i))
      latencies[i] = performance.now() - begin
    }
  }
  const lanes = (end) => Promise.all(Array.from({ length: inFlight }, () => writeTo(end)))
  const warm = Math.ceil(puts / WARM_SHARE)
  await lanes(warm)
  const before = db.stats().writes
  const begin = performance.now()
  await lanes(puts)
  const seconds = (performance.now() - begin) / 1000
  const { records, groups, syncs } = db.stats().writes
  await db.close()
  const again = await open(path)
  verify(again, puts)
  await again.close()
  return {
    ...summary(latencies.subarray(warm), seconds, puts - warm),
    putsPerGroup: (records - before.records) / (groups - before.groups),
    syncs: syncs - before.syncs,
  }
}

/** The same number of bytes in pieces as large as `inFlight` records, each written and then synced. */
export async function bare({ path, inFlight, puts }) {
  const recordBytes = readLayout().RECORD_HEADER_BYTES + KEY_BYTES + VALUE_BYTES
  const piece = new Uint8Array(recordBytes * inFlight).fill(120)
  const count = Math.ceil(puts / inFlight)
  const latencies = new Float64Array(count)
  const file = openSync(path, 'wx')
  fsyncSync(file)
  const begin = performance.now()
  for (let i = 0; i < count; i++) {
    const begun = performance.now()
    for (let done = 0; done < piece.length; ) done += writeSync(file, piece, done)
    await new Promise((resolve, reject) => fdatasync(file, (error) => (error ? reject(error) : resolve())))
    latencies[i] = performance.now() - begun
  }
  const seconds = (performance.now() - begin) / 1000
  closeSync(file)
  return summary(latencies, seconds, count * inFlight)
}
