// SipHash-1-3 (J.-P. Aumasson and D. J. Bernstein, "SipHash: a fast short-input PRF", 2012), keyed with the store's
// secret: whoever doesn't know that can't make keys that meet.
import { SECRET_AT } from './layout'

const ROUNDS_AT_END: u32 = 3

/** The last bytes of a message, at most seven, the first of them lowest, and its length above them. */
function tailOf(at: u32, left: u32, bytes: u32): u64 {
  let tail = (<u64>(bytes & 0xff)) << 56
  for (let i: u32 = 0; i < left; i++) tail |= (<u64>load<u8>(at + i)) << (i << 3)
  return tail
}

export function sipHash(at: u32, bytes: u32): u64 {
  const low = load<u64>(SECRET_AT)
  const high = load<u64>(SECRET_AT, 8)
  let v0 = low ^ 0x736f6d6570736575
  let v1 = high ^ 0x646f72616e646f6d
  let v2 = low ^ 0x6c7967656e657261
  let v3 = high ^ 0x7465646279746573
  const words = bytes >>> 3
  // One round for each word of the message, one for its tail, and those at the end; in one loop, so that the state
  // stays in registers.
  for (let i: u32 = 0; i <= words + ROUNDS_AT_END; i++) {
    let word: u64 = 0
    if (i < words) word = load<u64>(at + (i << 3))
    else if (i === words) word = tailOf(at + (words << 3), bytes & 7, bytes)
    else if (i === words + 1) v2 ^= 0xff
    v3 ^= word
    v0 += v1
    v2 += v3
    v1 = rotl<u64>(v1, 13) ^ v0
    v3 = rotl<u64>(v3, 16) ^ v2
    v0 = rotl<u64>(v0, 32)
    v2 += v1
    v0 += v3
    v1 = rotl<u64>(v1, 17) ^ v2
    v3 = rotl<u64>(v3, 21) ^ v0
    v2 = rotl<u64>(v2, 32)
    v0 ^= word
  }
  return v0 ^ v1 ^ v2 ^ v3
}

/** 24 bits of it, where the keydir takes them of the other hash: the lower half less its lowest 8. */
export function keyedHash(at: u32, bytes: u32): u32 {
  return <u32>sipHash(at, bytes) >>> 8
}
