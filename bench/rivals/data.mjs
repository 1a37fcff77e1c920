// What the rivals are given: values that don't compress, in versions, and draws of keys as YCSB makes them.
import { KEY_BYTES, keyOf, randomNumbers, VALUE_BYTES } from '../data.mjs'

const VALUES = 1021
/** Shifts every key to another value with each version. */
const VERSION_STEP = 17
const ZIPFIAN = 0.99
const LIVE_BYTES_PER_KEY = KEY_BYTES + VALUE_BYTES

export const liveBytes = (count) => count * LIVE_BYTES_PER_KEY

// Engines that compress blocks would store less than they are given, were values alike.
const noise = Buffer.from(randomNumbers(VALUES * VALUE_BYTES, 256))
const values = Array.from({ length: VALUES }, (_, i) =>
  noise.subarray(i * VALUE_BYTES, (i + 1) * VALUE_BYTES),
)

export const bytesFor = (i, version = 0) => values[(i + version * VERSION_STEP) % VALUES]

/** A key back to its number. */
export function numberOf(key) {
  const i = Number(key.slice(4))
  if (keyOf(i) !== key) throw new Error(`a key that nobody wrote: ${key}`)
  return i
}

/** Throws unless `value` is what the version of key `i` was given. */
export function checkValue(i, version, value) {
  if (value === undefined) throw new Error(`${keyOf(i)} is missing`)
  // A buffer that the engine shares between reads may say that it is shorter than it is.
  const found = Buffer.from(value.buffer, value.byteOffset, value.length)
  if (Buffer.compare(found, bytesFor(i, version)) !== 0)
    throw new Error(`${keyOf(i)} holds ${found.toString('hex')}`)
}

/** Between 0 and 1, the same ones on every run. */
function* fractions(count) {
  const RANGE = 2 ** 32
  for (const number of randomNumbers(count, RANGE)) yield number / RANGE
}

/** All numbers below `count`, in an order that is the same on every run. */
export function shuffled(count) {
  const order = Uint32Array.from({ length: count }, (_, i) => i)
  let left = count
  for (const fraction of fractions(count)) {
    left--
    const other = Math.floor(fraction * (left + 1))
    const moved = order[left]
    order[left] = order[other]
    order[other] = moved
  }
  return order
}

/**
 * Draws from `below` numbers by Zipf's law with YCSB's 0.99, by the way of Gray and others that YCSB takes. The hot ones
 * lie anywhere among the keys.
 */
export function zipfianNumbers(count, below) {
  let zeta = 0
  for (let rank = 1; rank <= below; rank++) zeta += rank ** -ZIPFIAN
  const zetaOfTwo = 1 + 0.5 ** ZIPFIAN
  const alpha = 1 / (1 - ZIPFIAN)
  const eta = (1 - (2 / below) ** (1 - ZIPFIAN)) / (1 - zetaOfTwo / zeta)
  const keyOfRank = shuffled(below)
  const numbers = new Uint32Array(count)
  let at = 0
  for (const fraction of fractions(count)) {
    const share = fraction * zeta
    const rank =
      share < 1 ? 0 : share < zetaOfTwo ? 1 : Math.floor(below * (eta * fraction - eta + 1) ** alpha)
    numbers[at++] = keyOfRank[Math.min(rank, below - 1)]
  }
  return numbers
}
