// Records that lie near each other, verified together: one call for hundreds of them.
import { crc32 } from './crc32'
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
  WINDOW_ROW_AT,
  WINDOW_ROW_BYTES,
  WINDOW_ROW_KEY,
  WINDOW_ROW_KEY_AT,
  WINDOW_ROW_VALUE_BYTES,
  WINDOW_ROWS_AT,
} from './layout'
import { isHeaderValid, isPlausible, prefixBytes } from './record'

/**
 * Verifies the records that the first `rows` rows name. Of their segment, which has this salt, `available` bytes from
 * `offset` on stand at `at`. Returns for how many of them that was enough: behind them is one of which the window does
 * not hold enough to judge it.
 */
export function verifyRows(rows: u32, at: u32, available: u32, offset: u32, salt: u32): u32 {
  for (let i: u32 = 0; i < rows; i++) {
    const row = WINDOW_ROWS_AT + i * WINDOW_ROW_BYTES
    const from = load<u32>(row, WINDOW_ROW_AT * 4)
    if (from > available || available - from < <u32>RECORD_HEADER_BYTES) return i
    const left = available - from
    const record = at + from
    const kind: u32 = load<u8>(record, RECORD_KIND_AT)
    const keyBytes: u32 = load<u16>(record, RECORD_KEY_BYTES_AT)
    const valueBytes = load<u32>(record, RECORD_VALUE_BYTES_AT)
    const prefix = prefixBytes(kind, keyBytes)
    const seed = salt ^ (offset + from)
    let verdict: u32 = VERIFY_OK
    if (!isPlausible(kind, keyBytes, valueBytes)) {
      verdict = VERIFY_BAD_HEADER
    } else if (prefix > left) {
      return i
    } else if (!isHeaderValid(record, left, seed)) {
      verdict = VERIFY_BAD_HEADER
    } else if (valueBytes > left - prefix) {
      // The next window begins with it, unless this one does.
      if (i > 0) return i
      verdict = VERIFY_CUT_OFF
    } else if (crc32(seed, record + prefix, valueBytes) !== load<u32>(record, RECORD_VALUE_CRC_AT)) {
      verdict = VERIFY_BAD_VALUE
    }
    store<u32>(row, keyBytes | (verdict << 16), WINDOW_ROW_KEY * 4)
    store<u32>(row, valueBytes, WINDOW_ROW_VALUE_BYTES * 4)
    store<u32>(row, from + prefix - keyBytes, WINDOW_ROW_KEY_AT * 4)
    if (verdict === VERIFY_CUT_OFF) return i + 1
  }
  return rows
}
