// Shortens a message to a few hundred bytes with the same CRC-32, sixteen bytes at a time and without tables. Over GF(2)
// a polynomial of few terms that the CRC's divides stays one of few terms when it is squared, and three times squared it
// shifts by whole bytes: each byte can be struck out by adding it to a few later ones. The idea is that of Chorba
// (K. Kwan et al., "Chorba: A novel CRC32 implementation", arXiv:2412.16398), with polynomials as sparse as they come.
import { FOLD_AT, FOLD_BYTES, FOLDED_AT, FOLDED_TWICE_AT } from './layout'

// x^300 + x^155 + x^117 + x^89 + 1: a byte goes to those 145, 183, 211 and 300 behind it.
const LONG_BYTES: u32 = 300
// x^137 + x^84 + x^80 + x^70 + x^29 + x^8 + 1
const SHORT_BYTES: u32 = 137
const STEP_BYTES: u32 = 16

/** What is left of `bytes` bytes: all of them down to `distance`, in whole steps. */
function leftOf(bytes: u32, distance: u32): u32 {
  return bytes - ((bytes - distance) & ~(STEP_BYTES - 1))
}

function long(from: u32, struck: u32): v128 {
  const low = v128.xor(v128.load(struck, 155), v128.load(struck, 117))
  const high = v128.xor(v128.load(struck, 89), v128.load(struck))
  return v128.xor(v128.load(from), v128.xor(low, high))
}

function short(from: u32, struck: u32): v128 {
  const low = v128.xor(v128.load(struck, 84), v128.load(struck, 80))
  const mid = v128.xor(v128.load(struck, 70), v128.load(struck, 29))
  const high = v128.xor(v128.load(struck, 8), v128.load(struck))
  return v128.xor(v128.load(from), v128.xor(low, v128.xor(mid, high)))
}

/**
 * Folds at least 316 bytes. `register`: the CRC's state before them; it is zero before those that are left at FOLDED_AT.
 * Returns how many these are.
 */
export function fold(register: u32, at: u32, bytes: u32): u32 {
  // What is struck out, as it was added on: the last bytes of the part before, and the part.
  memory.fill(FOLD_AT, 0, LONG_BYTES)
  const left = leftOf(bytes, LONG_BYTES)
  let remaining = bytes - left
  let part: u32 = 0
  let isFirst = true
  while (remaining > 0) {
    part = min<u32>(remaining, FOLD_BYTES)
    let struck: u32 = FOLD_AT
    const end = struck + part
    if (isFirst) {
      v128.store(struck, v128.xor(v128.load(at), i32x4(register, 0, 0, 0)), LONG_BYTES)
      struck += STEP_BYTES
      at += STEP_BYTES
      isFirst = false
    }
    while (struck < end) {
      v128.store(struck, long(at, struck), LONG_BYTES)
      struck += STEP_BYTES
      at += STEP_BYTES
    }
    remaining -= part
    if (remaining > 0) memory.copy(FOLD_AT, FOLD_AT + part, LONG_BYTES)
  }
  memory.fill(FOLD_AT + LONG_BYTES + part, 0, left)
  const last = left - STEP_BYTES
  for (let done: u32 = 0; done < last; done += STEP_BYTES)
    v128.store(FOLDED_AT + done, long(at + done, FOLD_AT + part + done))
  v128.store(FOLDED_AT + last, long(at + last, FOLD_AT + part + last))
  return left
}

/** As `fold`, of 153 bytes to FOLD_BYTES, to FOLDED_TWICE_AT. */
export function foldShort(register: u32, at: u32, bytes: u32): u32 {
  memory.fill(FOLD_AT, 0, SHORT_BYTES)
  const left = leftOf(bytes, SHORT_BYTES)
  let struck: u32 = FOLD_AT
  const end = struck + bytes - left
  v128.store(struck, v128.xor(v128.load(at), i32x4(register, 0, 0, 0)), SHORT_BYTES)
  struck += STEP_BYTES
  at += STEP_BYTES
  while (struck < end) {
    v128.store(struck, short(at, struck), SHORT_BYTES)
    struck += STEP_BYTES
    at += STEP_BYTES
  }
  memory.fill(struck + SHORT_BYTES, 0, left)
  const last = left - STEP_BYTES
  for (let done: u32 = 0; done < last; done += STEP_BYTES)
    v128.store(FOLDED_TWICE_AT + done, short(at + done, struck + done))
  v128.store(FOLDED_TWICE_AT + last, short(at + last, struck + last))
  return left
}
