// What is written, and whether it is there: keys of 16 bytes, values of 100 that follow from the key's number.
export const KEY_BYTES = 16
export const VALUE_BYTES = 100

const VALUES = 1021

export const keyOf = (i) => `key:${String(i).padStart(KEY_BYTES - 4, '0')}`
export const keysTo = (count) => Array.from({ length: count }, (_, i) => keyOf(i))

const values = Array.from({ length: VALUES }, (_, i) => {
  const text = `value ${i} `
  return text.repeat(Math.ceil(VALUE_BYTES / text.length)).slice(0, VALUE_BYTES)
})
/** Neighbours have different values, and so have keys that differ in one bit of their number. */
export const valueFor = (i) => values[i % VALUES]

/** More keys than this are looked at in steps. */
const VERIFIED_MAX = 1_000_000

/** Throws unless the store holds the first `count` keys and nothing else, each with its value. */
export function verify(db, count) {
  if (db.size !== count) throw new Error(`${db.size} entries where ${count} were written`)
  const step = Math.ceil(count / VERIFIED_MAX)
  for (let i = 0; i < count; i += step) {
    const value = db.get(keyOf(i))
    if (value !== valueFor(i)) throw new Error(`${keyOf(i)} holds ${value}`)
  }
}

/** Numbers below `below`, uniform, the same ones on every run. */
export function randomNumbers(count, below) {
  const numbers = new Uint32Array(count)
  let state = 88_172_645
  for (let i = 0; i < count; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    numbers[i] = (state >>> 0) % below
  }
  return numbers
}

export function percentile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]
}

/** The length of the span that a moment falls into, at this share of all moments. */
export function percentileByTime(sorted, share) {
  const total = sorted.reduce((sum, each) => sum + each, 0)
  let passed = 0
  return sorted.find((each) => {
    passed += each
    return passed >= total * share
  })
}
