// Sorts numbers, and indices by numbers that belong to them, sixteen bits at a time, the lowest first: each pass keeps the order of the
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
  toStarts(starts)
  const sorted = new Uint32Array(order.length)
  for (let i = 0; i < order.length; i++) {
    const index = order[i]
    sorted[starts[(words[index] >>> shift) & (DIGITS - 1)]++] = index
  }
  return sorted
}

/** From how many there are of each digit to where the first of them goes. */
function toStarts(counts: Uint32Array): void {
  let before = 0
  for (let digit = 0; digit < counts.length; digit++) {
    const count = counts[digit]
    counts[digit] = before
    before += count
  }
}

const NEAR_DIGIT_BITS = 9
export const NEAR_BITS = 2 * NEAR_DIGIT_BITS
/** Fewer are sorted sooner by comparing. */
const NEAR_MIN = 64
const nearCounts = new Uint32Array(1 << NEAR_DIGIT_BITS)

/** Sorts numbers that are alike above their lowest NEAR_BITS bits, in place. */
export function sortNear(numbers: Uint32Array): Uint32Array {
  if (numbers.length < NEAR_MIN) return numbers.sort()
  const between = new Uint32Array(numbers.length)
  nearPass(numbers, between, 0)
  nearPass(between, numbers, NEAR_DIGIT_BITS)
  return numbers
}

function nearPass(from: Uint32Array, to: Uint32Array, shift: number): void {
  const mask = nearCounts.length - 1
  nearCounts.fill(0)
  for (let i = 0; i < from.length; i++) nearCounts[(from[i] >>> shift) & mask]++
  toStarts(nearCounts)
  for (let i = 0; i < from.length; i++) to[nearCounts[(from[i] >>> shift) & mask]++] = from[i]
}
