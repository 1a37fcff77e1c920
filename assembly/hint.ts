// A hint holds a segment's records without their values: read here into the same rows that a scan makes of the segment.
import {
  RECORD_HEADER_BYTES,
  RECORD_KEY_BYTES_AT,
  RECORD_KIND_AT,
  RECORD_SEQUENCE_AT,
  RECORD_VALUE_BYTES_AT,
  RESULT_ADVANCED_BYTES,
  RESULT_AT,
  RESULT_CONSUMED_BYTES,
  RESULT_NEXT_SEQUENCE,
  RESULT_STOP,
  ROW_AT,
  ROW_BYTES,
  SCAN_ROWS_MAX,
  SCAN_TABLE_AT,
  STOP_BAD,
  STOP_MORE,
  STOP_TABLE_FULL,
} from './layout'
import { isHeaderValid, isPlausible, prefixBytes } from './record'
import { isInOrder, storeRow } from './scan'

/**
 * Reads records without their values from `at`, of which `available` bytes are in memory. The first of them lies at
 * `fileOffset` of the segment, which goes on for `remaining` bytes. ROW_AT counts in the segment, RESULT_CONSUMED_BYTES
 * in memory, and RESULT_ADVANCED_BYTES says how far that is in the segment. Returns the number of rows.
 */
export function scanPrefixes(
  at: u32,
  available: u32,
  remaining: u32,
  fileOffset: u32,
  salt: u32,
  nextSequence: f64,
): u32 {
  const base = at
  let rows: u32 = 0
  let stop: u32 = STOP_MORE
  let advanced: u32 = 0
  while (true) {
    if (rows === SCAN_ROWS_MAX) {
      stop = STOP_TABLE_FULL
      break
    }
    const left = available - (at - base)
    if (left < <u32>RECORD_HEADER_BYTES) break
    const kind: u32 = load<u8>(at, RECORD_KIND_AT)
    const keyBytes: u32 = load<u16>(at, RECORD_KEY_BYTES_AT)
    const valueBytes = load<u32>(at, RECORD_VALUE_BYTES_AT)
    const sequence = load<u32>(at, RECORD_SEQUENCE_AT)
    const prefix = prefixBytes(kind, keyBytes)
    const total = <u64>prefix + valueBytes
    if (
      !isPlausible(kind, keyBytes, valueBytes) ||
      !isInOrder(kind, sequence, nextSequence) ||
      total > remaining - advanced
    ) {
      stop = STOP_BAD
      break
    }
    if (prefix > left) break
    if (!isHeaderValid(at, left, salt ^ (fileOffset + advanced))) {
      stop = STOP_BAD
      break
    }
    const row = SCAN_TABLE_AT + rows * ROW_BYTES
    storeRow(row, at, at, prefix, kind, keyBytes, valueBytes)
    store<u32>(row, advanced, ROW_AT * 4)
    nextSequence = max<f64>(nextSequence, <f64>sequence + 1)
    rows++
    at += prefix
    advanced += <u32>total
  }
  store<u32>(RESULT_AT + RESULT_CONSUMED_BYTES * 4, at - base)
  store<u32>(RESULT_AT + RESULT_STOP * 4, stop)
  store<u32>(RESULT_AT + RESULT_ADVANCED_BYTES * 4, advanced)
  store<f64>(RESULT_AT + RESULT_NEXT_SEQUENCE * 4, nextSequence)
  return rows
}
