// Records that lie near each other, verified together: one call for hundreds of them.
import { crc32, crc32Pair, FOLD_MIN } from './crc32'
import {
  RECORD_HEADER_BYTES,
  RECORD_KEY_BYTES_AT,
  RECORD_KIND_AT,
  RECORD_VALUE_BYTES_AT,
  RECORD_VALUE_CRC_AT,
  VERIFY_BAD_HEADER,
  VERIFY_BAD_VALUE,
  VERIFY_CUT_OFF,
  VERIFY_OK,
  WINDOW_ROW_ASCII,
  WINDOW_ROW_AT,
  WINDOW_ROW_BYTES,
  WINDOW_ROW_KEY,
  WINDOW_ROW_KEY_AT,
  WINDOW_ROW_VALUE_BYTES,
  WINDOW_ROWS_AT,
} from './layout'
import { isHeaderValid, isPlausible, prefixBytes } from './record'

const UNKNOWN: u32 = 0xff

function isAscii(at: u32, bytes: u32): bool {
  const end = at + bytes
  let sum: v128 = i32x4(0, 0, 0, 0)
  while (at + 16 <= end) {
    sum = v128.or(sum, v128.load(at))
    at += 16
  }
  let rest: u32 = 0
  while (at < end) rest |= load<u8>(at++)
  return (rest & 0x80) === 0 && i8x16.bitmask(sum) === 0
}

function storeFound(row: u32, record: u32, from: u32, verdict: u32): void {
  const keyBytes: u32 = load<u16>(record, RECORD_KEY_BYTES_AT)
  const valueBytes = load<u32>(record, RECORD_VALUE_BYTES_AT)
  const keyAt = prefixBytes(load<u8>(record, RECORD_KIND_AT), keyBytes) - keyBytes
  const ascii = verdict === VERIFY_OK && isAscii(record + keyAt, keyBytes + valueBytes)
  const flag: u32 = ascii ? WINDOW_ROW_ASCII : 0
  store<u32>(row, keyBytes | (verdict << 16) | flag, WINDOW_ROW_KEY * 4)
  store<u32>(row, valueBytes, WINDOW_ROW_VALUE_BYTES * 4)
  store<u32>(row, from + keyAt, WINDOW_ROW_KEY_AT * 4)
}

/** Whether two records have the same lengths, and both are intact: side by side that is told in little more time. */
function areIntact(a: u32, b: u32, left: u32, seedA: u32, seedB: u32): bool {
  const kind: u32 = load<u8>(a, RECORD_KIND_AT)
  const keyBytes: u32 = load<u16>(a, RECORD_KEY_BYTES_AT)
  const valueBytes = load<u32>(a, RECORD_VALUE_BYTES_AT)
  const prefix = prefixBytes(kind, keyBytes)
  if (
    !isPlausible(kind, keyBytes, valueBytes) ||
    kind !== load<u8>(b, RECORD_KIND_AT) ||
    keyBytes !== load<u16>(b, RECORD_KEY_BYTES_AT) ||
    valueBytes !== load<u32>(b, RECORD_VALUE_BYTES_AT) ||
    valueBytes >= FOLD_MIN ||
    prefix + valueBytes > left
  ) {
    return false
  }
  const fromCrc = RECORD_VALUE_CRC_AT
  const headers = crc32Pair(seedA, a + fromCrc, seedB, b + fromCrc, prefix - fromCrc)
  if (<u32>headers !== load<u32>(a) || <u32>(headers >>> 32) !== load<u32>(b)) return false
  const values = crc32Pair(seedA, a + prefix, seedB, b + prefix, valueBytes)
  return (
    <u32>values === load<u32>(a, RECORD_VALUE_CRC_AT) &&
    <u32>(values >>> 32) === load<u32>(b, RECORD_VALUE_CRC_AT)
  )
}

/**
 * Verifies the records that the first `rows` rows name, each behind the one before. Of their segment, which has this
 * salt, `available` bytes from `offset` on stand at `at`. Returns for how many of them that was enough: behind them is
 * one of which the window does not hold enough to judge it.
 */
export function verifyRows(rows: u32, at: u32, available: u32, offset: u32, salt: u32): u32 {
  for (let i: u32 = 0; i < rows; i++) {
    const row = WINDOW_ROWS_AT + i * WINDOW_ROW_BYTES
    const from = load<u32>(row, WINDOW_ROW_AT * 4)
    if (from > available || available - from < <u32>RECORD_HEADER_BYTES) return i
    const record = at + from
    const seed = salt ^ (offset + from)
    if (i + 1 < rows) {
      const next = load<u32>(row, WINDOW_ROW_BYTES + WINDOW_ROW_AT * 4)
      const nextSeed = salt ^ (offset + next)
      if (
        next < available &&
        available - next >= <u32>RECORD_HEADER_BYTES &&
        areIntact(record, at + next, available - next, seed, nextSeed)
      ) {
        storeFound(row, record, from, VERIFY_OK)
        storeFound(row + WINDOW_ROW_BYTES, at + next, next, VERIFY_OK)
        i++
        continue
      }
    }
    const verdict = judge(record, available - from, seed)
    if (verdict === VERIFY_CUT_OFF && i > 0) return i
    if (verdict === UNKNOWN) return i
    storeFound(row, record, from, verdict)
    if (verdict === VERIFY_CUT_OFF) return i + 1
  }
  return rows
}

/** One record by itself, of which `left` bytes are there; UNKNOWN where these do not hold its key. */
function judge(record: u32, left: u32, seed: u32): u32 {
  const kind: u32 = load<u8>(record, RECORD_KIND_AT)
  const keyBytes: u32 = load<u16>(record, RECORD_KEY_BYTES_AT)
  const valueBytes = load<u32>(record, RECORD_VALUE_BYTES_AT)
  const prefix = prefixBytes(kind, keyBytes)
  if (!isPlausible(kind, keyBytes, valueBytes)) return VERIFY_BAD_HEADER
  if (prefix > left) return UNKNOWN
  if (!isHeaderValid(record, left, seed)) return VERIFY_BAD_HEADER
  if (valueBytes > left - prefix) return VERIFY_CUT_OFF
  const intact = crc32(seed, record + prefix, valueBytes) === load<u32>(record, RECORD_VALUE_CRC_AT)
  return intact ? VERIFY_OK : VERIFY_BAD_VALUE
}
