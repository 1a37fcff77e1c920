// CRC-32 (IEEE 802.3, reflected polynomial 0xEDB88320), slicing by eight as in M. Kounavis and F. Berry,
// "A Systematic Approach to Building High Performance, Software-based, CRC Generators" (Intel, 2005).
// `seed` is the CRC of what came before, so crc32(crc32(0, a), b) == crc32(0, a followed by b).
import { fold, foldShort } from './fold'
import { CRC_TABLES_AT, FOLDED_AT, FOLDED_TWICE_AT } from './layout'

const POLYNOMIAL: u32 = 0xedb88320
/** From so many bytes on it is faster to fold them first, and from so many to fold twice. */
export const FOLD_MIN: u32 = 208
const FOLD_TWICE_MIN: u32 = 640

export function buildCrcTables(): void {
  for (let n: u32 = 0; n < 256; n++) {
    let crc = n
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1
    store<u32>(CRC_TABLES_AT + (n << 2), crc)
  }
  for (let n: u32 = 0; n < 256; n++) {
    let crc = load<u32>(CRC_TABLES_AT + (n << 2))
    for (let table: u32 = 1; table < 8; table++) {
      crc = load<u32>(CRC_TABLES_AT + ((crc & 0xff) << 2)) ^ (crc >>> 8)
      store<u32>(CRC_TABLES_AT + (table << 10) + (n << 2), crc)
    }
  }
}

export function crc32(seed: u32, at: u32, bytes: u32): u32 {
  let crc = ~seed
  if (bytes >= FOLD_TWICE_MIN) {
    bytes = fold(crc, at, bytes)
    crc = 0
    at = FOLDED_AT
  }
  if (bytes >= FOLD_MIN) {
    bytes = foldShort(crc, at, bytes)
    crc = 0
    at = FOLDED_TWICE_AT
  }
  const end = at + bytes
  const sliced = at + (bytes & ~7)
  while (at < sliced) {
    const low = load<u32>(at) ^ crc
    const high = load<u32>(at, 4)
    crc =
      load<u32>(((low & 0xff) << 2) + 0x1c00, CRC_TABLES_AT) ^
      load<u32>(((low >>> 6) & 0x3fc) + 0x1800, CRC_TABLES_AT) ^
      load<u32>(((low >>> 14) & 0x3fc) + 0x1400, CRC_TABLES_AT) ^
      load<u32>(((low >>> 24) << 2) + 0x1000, CRC_TABLES_AT) ^
      load<u32>(((high & 0xff) << 2) + 0xc00, CRC_TABLES_AT) ^
      load<u32>(((high >>> 6) & 0x3fc) + 0x800, CRC_TABLES_AT) ^
      load<u32>(((high >>> 14) & 0x3fc) + 0x400, CRC_TABLES_AT) ^
      load<u32>((high >>> 24) << 2, CRC_TABLES_AT)
    at += 8
  }
  while (at < end) {
    crc = load<u32>(((crc ^ load<u8>(at)) & 0xff) << 2, CRC_TABLES_AT) ^ (crc >>> 8)
    at++
  }
  return ~crc
}

/**
 * The CRCs of two pieces of the same length, the second one's in the upper half. Each step waits for the one before; two
 * of them side by side take little longer than one, up to where folding is faster.
 */
export function crc32Pair(seedA: u32, a: u32, seedB: u32, b: u32, bytes: u32): u64 {
  let crcA = ~seedA
  let crcB = ~seedB
  const end = a + bytes
  const sliced = a + (bytes & ~7)
  while (a < sliced) {
    const lowA = load<u32>(a) ^ crcA
    const highA = load<u32>(a, 4)
    crcA =
      load<u32>(((lowA & 0xff) << 2) + 0x1c00, CRC_TABLES_AT) ^
      load<u32>(((lowA >>> 6) & 0x3fc) + 0x1800, CRC_TABLES_AT) ^
      load<u32>(((lowA >>> 14) & 0x3fc) + 0x1400, CRC_TABLES_AT) ^
      load<u32>(((lowA >>> 24) << 2) + 0x1000, CRC_TABLES_AT) ^
      load<u32>(((highA & 0xff) << 2) + 0xc00, CRC_TABLES_AT) ^
      load<u32>(((highA >>> 6) & 0x3fc) + 0x800, CRC_TABLES_AT) ^
      load<u32>(((highA >>> 14) & 0x3fc) + 0x400, CRC_TABLES_AT) ^
      load<u32>((highA >>> 24) << 2, CRC_TABLES_AT)
    const lowB = load<u32>(b) ^ crcB
    const highB = load<u32>(b, 4)
    crcB =
      load<u32>(((lowB & 0xff) << 2) + 0x1c00, CRC_TABLES_AT) ^
      load<u32>(((lowB >>> 6) & 0x3fc) + 0x1800, CRC_TABLES_AT) ^
      load<u32>(((lowB >>> 14) & 0x3fc) + 0x1400, CRC_TABLES_AT) ^
      load<u32>(((lowB >>> 24) << 2) + 0x1000, CRC_TABLES_AT) ^
      load<u32>(((highB & 0xff) << 2) + 0xc00, CRC_TABLES_AT) ^
      load<u32>(((highB >>> 6) & 0x3fc) + 0x800, CRC_TABLES_AT) ^
      load<u32>(((highB >>> 14) & 0x3fc) + 0x400, CRC_TABLES_AT) ^
      load<u32>((highB >>> 24) << 2, CRC_TABLES_AT)
    a += 8
    b += 8
  }
  while (a < end) {
    crcA = load<u32>(((crcA ^ load<u8>(a)) & 0xff) << 2, CRC_TABLES_AT) ^ (crcA >>> 8)
    crcB = load<u32>(((crcB ^ load<u8>(b)) & 0xff) << 2, CRC_TABLES_AT) ^ (crcB >>> 8)
    a++
    b++
  }
  return ((<u64>~crcB) << 32) | <u64>~crcA
}
