// Reads of what another process has written, and reads among updates.
import { KEY_BYTES, keysTo, randomNumbers, VALUE_BYTES } from '../../data.mjs'
import { bytesFor, checkValue, numberOf, zipfianNumbers } from '../data.mjs'
import { openStore, SECONDS_MAX, verifyClosed, verifyStore } from '../store.mjs'

const BLOCK = 1000
const AT_ONCE = 64
const WARM_SHARE = 10
const CHECKED_MAX = 100_000
/** Keys like the others, none of which was written. */
const missing = (key) => `kex${key.slice(3)}`

const drawn = (pick, count) =>
  pick === 'zipfian' ? zipfianNumbers(count, count) : randomNumbers(count, count)

/** Reads these keys as fast as the engine can, and tells each value with its place, in any order. */
function readerOf(db) {
  if (db.get !== undefined) {
    return (keys, from, to, tell) => {
      for (let i = from; i < to; i++) tell(i, db.get(keys[i]))
    }
  }
  // So many at once: one after another most of the time would be spent on waiting.
  return (keys, from, to, tell) =>
    new Promise((resolve) => {
      let next = from
      let left = to - from
      const begin = () => {
        if (next === to) return
        const i = next++
        db.getLater(keys[i], (value) => {
          tell(i, value)
          if (--left === 0) resolve()
          else begin()
        })
      }
      for (let lane = 0; lane < AT_ONCE; lane++) begin()
    })
}

/** Reads block by block, until all is done or time is up; the first tenth is not counted. */
async function timed(count, readBlock, blockLength = BLOCK) {
  const warm = Math.ceil(count / WARM_SHARE / blockLength) * blockLength
  let done = 0
  const readTo = async (end, seconds) => {
    const until = performance.now() + seconds * 1000
    for (; done < end && performance.now() < until; done += blockLength) {
      const result = readBlock(done, Math.min(done + blockLength, count))
      if (result !== undefined) await result
    }
    done = Math.min(done, count)
  }
  await readTo(warm, SECONDS_MAX / WARM_SHARE)
  const before = done
  const begin = performance.now()
  await readTo(count, SECONDS_MAX)
  return (done - before) / ((performance.now() - begin) / 1000)
}

/** `pick`: 'uniform', 'zipfian', or 'missing' for keys that aren't there. */
export async function get({ path, keys: count, pick, options }) {
  const there = keysTo(count)
  const numbers = drawn(pick, count)
  const isMissing = pick === 'missing'
  const keys = Array.from(numbers, (i) => (isMissing ? missing(there[i]) : there[i]))
  const db = await openStore(path, options)
  const read = readerOf(db)
  let length = 0
  const add = (_, value) => {
    if (value !== undefined) length += value.length
  }
  const perSecond = await timed(count, (from, to) => read(keys, from, to, add))
  const seen = (i, value) => {
    if (!isMissing) checkValue(numbers[i], 0, value)
    else if (value !== undefined) throw new Error(`${keys[i]} has a value`)
  }
  await read(keys, 0, Math.min(count, CHECKED_MAX), seen)
  if ((length === 0) !== isMissing) throw new Error(`${length} bytes came back`)
  await db.close()
  return { perSecond }
}

export async function getMany({ path, keys: count, options }) {
  const there = keysTo(count)
  const numbers = drawn('uniform', count)
  const groups = []
  for (let i = 0; i + AT_ONCE <= count; i += AT_ONCE)
    groups.push(Array.from(numbers.subarray(i, i + AT_ONCE), (number) => there[number]))
  const db = await openStore(path, options)
  const isLater = db.getMany(groups[0]) instanceof Promise
  const readLater = async (from, to) => {
    for (let i = from; i < to; i++) await db.getMany(groups[i])
  }
  const readNow = (from, to) => {
    for (let i = from; i < to; i++) db.getMany(groups[i])
  }
  const perSecond = await timed(groups.length, isLater ? readLater : readNow, Math.ceil(BLOCK / AT_ONCE))
  for (let g = 0; g * AT_ONCE < CHECKED_MAX && g < groups.length; g++) {
    const values = await db.getMany(groups[g])
    for (let i = 0; i < AT_ONCE; i++) checkValue(numbers[g * AT_ONCE + i], 0, values[i])
  }
  await db.close()
  return { perSecond: perSecond * AT_ONCE }
}

/** YCSB's A and B by the share of updates, on a store of its own. What was updated is in the system's hands at the end of a block. */
export async function ycsb({ path, keys: count, updates, options }) {
  const there = keysTo(count)
  const numbers = drawn('zipfian', count)
  const keys = Array.from(numbers, (i) => there[i])
  const isUpdate = Uint8Array.from(randomNumbers(count, 1000), (number) => (number < updates * 1000 ? 1 : 0))
  const isUpdated = new Uint8Array(count)
  const db = await openStore(path, options)
  let length = 0
  const add = (value) => {
    length += value.length
  }
  const block = async (begin, end) => {
    const pending = []
    for (let i = begin; i < end; i++) {
      if (isUpdate[i] === 1) {
        const promise = db.put(keys[i], bytesFor(numbers[i], 1))
        if (promise !== undefined && promise !== pending.at(-1)) pending.push(promise)
        isUpdated[numbers[i]] = 1
      } else if (db.get !== undefined) add(db.get(keys[i]))
      else pending.push(new Promise((resolve) => db.getLater(keys[i], (value) => resolve(add(value)))))
    }
    await Promise.all(pending)
  }
  const perSecond = await timed(count, block)
  if (length === 0) throw new Error('no bytes came back')
  await db.close()
  await verifyClosed(path, options, count, (i) => isUpdated[i])
  return { perSecond }
}

export async function iterate({ path, keys: count, options }) {
  const db = await openStore(path, options)
  let seen = 0
  let length = 0
  const begin = performance.now()
  await db.each((key, value) => {
    seen++
    length += key.length + value.length
  })
  const seconds = (performance.now() - begin) / 1000
  if (seen !== count || length !== count * (KEY_BYTES + VALUE_BYTES))
    throw new Error(`${seen} entries of ${length} bytes where there are ${count}`)
  await verifyStore(db, count)
  if (options?.order !== 'any') await checkOrder(db)
  await db.close()
  return { perSecond: count / seconds }
}

async function checkOrder(db) {
  let last = -1
  await db.each((key) => {
    const i = numberOf(key)
    if (i <= last) throw new Error(`${key} comes after number ${last}`)
    last = i
  })
}
