// Sorts indices by numbers that belong to them, sixteen bits at a time, the lowest first: each pass keeps the order of the
// one before, and none compares.

const DIGIT_BITS = 16
const DIGITS = 1 << DIGIT_BITS
/** Fewer are sorted sooner by comparing: a pass looks at all digits. */
export const DIGITS_MIN = 4096

/** Sorts `order` by `words[index]`, stably. Where all have the same digit a pass is left out. */
export function sortByWords(order: Uint32Array, words: Uint32Array): Uint32Array {
  let differing = 0
  for (let i = 1; i < words.length; i++) differing |= words[i] ^ words[0]
  let sorted = order
  for (let shift = 0; shift < 32; shift += DIGIT_BITS) {
    if (((differing >>> shift) & (DIGITS - 1)) !== 0) sorted = pass(sorted, words, shift)
  }
  return sorted
}

function pass(order: Uint32Array, words: Uint32Array, shift: number): Uint32Array {
  const starts = new Uint32Array(DIGITS)
  for (let i = 0; i < words.length; i++) starts[(words[i] >>> shift) & (DIGITS - 1)]++
  let before = 0
  for (let digit = 0; digit < DIGITS; digit++) {
    const count = starts[digit]
    starts[digit] = before
    before += count
  }
  const sorted = new Uint32Array(order.length)
  for (let i = 0; i < order.length; i++) {
    const index = order[i]
    sorted[starts[(words[index] >>> shift) & (DIGITS - 1)]++] = index
  }
  return sorted
}
