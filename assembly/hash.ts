// djb2-xor as in the C Casky, 64 bits wide as its `unsigned long` on Linux: h = h * 33 ^ byte, from 5381.
// Raw it spreads badly, so a finalizer follows (fmix64 of Austin Appleby's MurmurHash3, public domain).
import {
  KEY_TABLE_AT,
  RESULT_AT,
  RESULT_HASH_HIGH,
  RESULT_HASH_LOW,
  ROW_AT,
  ROW_BYTES,
  ROW_HASH_LOW,
  ROW_KIND,
} from './layout'

export function djb2xor(at: u32, bytes: u32): u64 {
  let hash: u64 = 5381
  const end = at + bytes
  while (at < end) {
    hash = (hash * 33) ^ load<u8>(at)
    at++
  }
  return hash
}

export function finalize(hash: u64): u64 {
  hash ^= hash >>> 33
  hash *= 0xff51afd7ed558ccd
  hash ^= hash >>> 33
  hash *= 0xc4ceb9fe1a85ec53
  return hash ^ (hash >>> 33)
}

export function hashOf(at: u32, bytes: u32): u64 {
  return finalize(djb2xor(at, bytes))
}

/** Leaves the hash of a key in RESULT_HASH_LOW and RESULT_HASH_HIGH. */
export function hashKey(at: u32, bytes: u32): void {
  const hash = hashOf(at, bytes)
  store<u32>(RESULT_AT + RESULT_HASH_LOW * 4, <u32>hash)
  store<u32>(RESULT_AT + RESULT_HASH_HIGH * 4, <u32>(hash >>> 32))
}

/** Fills in the hashes of the first `rows` keys that are looked for together. */
export function hashKeys(rows: u32): void {
  const end = KEY_TABLE_AT + rows * ROW_BYTES
  for (let row = KEY_TABLE_AT; row < end; row += ROW_BYTES) {
    store<u64>(row, hashOf(load<u32>(row, ROW_AT * 4), load<u32>(row, ROW_KIND * 4) >>> 16), ROW_HASH_LOW * 4)
  }
}
