// Reading what was written by another process: single gets, iterating.
import { open } from '../../dist/index.js'
import { keyOf, keysTo, randomNumbers, valueFor } from '../data.mjs'

/** Uniform over all keys. Keys stand ready before the clock runs, and the first tenth is for warming up. */
export async function get({ path, keys: count, by }) {
  const isBytes = by === 'bytes'
  const encoding = isBytes ? 'bytes' : 'utf8'
  const db = await open(path, { keyEncoding: encoding, valueEncoding: encoding })
  const numbers = randomNumbers(count, count)
  const encoder = new TextEncoder()
  const texts = isBytes ? undefined : keysTo(count)
  const keys = Array.from(numbers, (i) => (isBytes ? encoder.encode(keyOf(i)) : texts[i]))
  const warm = count / 10
  let length = 0
  for (let i = 0; i < warm; i++) length += db.get(keys[i]).length
  const before = db.stats().cache
  const begin = performance.now()
  for (let i = warm; i < count; i++) length += db.get(keys[i]).length
  const seconds = (performance.now() - begin) / 1000
  const { hits, misses } = db.stats().cache
  const decoder = new TextDecoder()
  for (let i = 0; i < count; i++) {
    const value = db.get(keys[i])
    const text = isBytes ? decoder.decode(value) : value
    if (text !== valueFor(numbers[i])) throw new Error(`${keyOf(numbers[i])} holds ${text}`)
    length -= value.length
  }
  if (length !== 0) throw new Error('values of other lengths came back')
  await db.close()
  const looks = hits - before.hits + misses - before.misses
  return { perSecond: (count - warm) / seconds, cacheHits: looks === 0 ? 0 : (hits - before.hits) / looks }
}

export async function iterate({ path, keys: count, order }) {
  const db = await open(path)
  const begin = performance.now()
  let seen = 0
  let firstMs
  for (const [key, value] of db.entries({ order })) {
    firstMs ??= performance.now() - begin
    if (key.length + value.length > 0) seen++
  }
  const seconds = (performance.now() - begin) / 1000
  if (seen !== count) throw new Error(`${seen} entries where there are ${count}`)
  const found = new Set()
  let last = ''
  for (const [key, value] of db.entries({ order })) {
    const i = Number(key.slice(4))
    if (key !== keyOf(i) || value !== valueFor(i)) throw new Error(`${key} holds ${value}`)
    if (order === 'key' && key <= last) throw new Error(`${key} comes after ${last}`)
    last = key
    found.add(i)
  }
  if (found.size !== count) throw new Error(`${found.size} different entries where there are ${count}`)
  await db.close()
  return { perSecond: count / seconds, firstMs }
}
