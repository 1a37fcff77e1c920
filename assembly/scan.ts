// Megabytes of a segment in, a packed table of its records out: the host reads rows instead of records.
import { crc32 } from './crc32'
import { hashOf } from './hash'
import {
  FLAG_EXPIRES,
  KIND_MARKER,
  KIND_MASK,
  RECORD_CERTIFIED_AT,
  RECORD_HEADER_BYTES,
  RECORD_KEY_BYTES_AT,
  RECORD_KIND_AT,
  RECORD_PREFIX_BYTES_MAX,
  RECORD_SEQUENCE_AT,
  RECORD_VALUE_BYTES_AT,
  RECORD_VALUE_CRC_AT,
  RESULT_AT,
  RESULT_CERTIFIED,
  RESULT_CONSUMED_BYTES,
  RESULT_NEXT_SEQUENCE,
  RESULT_STOP,
  ROW_AT,
  ROW_BYTES,
  ROW_EXPIRES_HIGH,
  ROW_EXPIRES_LOW,
  ROW_HASH_HIGH,
  ROW_HASH_LOW,
  ROW_KIND,
  ROW_SEQUENCE,
  ROW_VALUE_BYTES,
  ROW_VALUE_DAMAGED,
  SCAN_BYTES,
  SCAN_ROWS_MAX,
  SCAN_TABLE_AT,
  STOP_BAD,
  STOP_LARGE,
  STOP_MORE,
  STOP_TABLE_FULL,
} from './layout'
import { isHeaderValid, isPlausible, prefixBytes } from './record'

/** R6: sequence numbers only grow; a marker or seal repeats the last one. */
export function isInOrder(kind: u32, sequence: u32, nextSequence: f64): bool {
  const isWrite = (kind & KIND_MASK) < <u32>KIND_MARKER
  return isWrite ? <f64>sequence >= nextSequence : <f64>sequence + 1 >= nextSequence
}

export function storeRow(
  row: u32,
  base: u32,
  at: u32,
  prefix: u32,
  kind: u32,
  keyBytes: u32,
  valueBytes: u32,
): void {
  const hash = hashOf(at + prefix - keyBytes, keyBytes)
  store<u32>(row, at - base, ROW_AT * 4)
  store<u32>(row, kind | (keyBytes << 16), ROW_KIND * 4)
  store<u32>(row, valueBytes, ROW_VALUE_BYTES * 4)
  store<u32>(row, load<u32>(at, RECORD_SEQUENCE_AT), ROW_SEQUENCE * 4)
  store<u32>(row, <u32>hash, ROW_HASH_LOW * 4)
  store<u32>(row, <u32>(hash >>> 32), ROW_HASH_HIGH * 4)
  const expires = kind & FLAG_EXPIRES ? load<u64>(at, RECORD_HEADER_BYTES) : 0
  store<u32>(row, <u32>expires, ROW_EXPIRES_LOW * 4)
  store<u32>(row, <u32>(expires >>> 32), ROW_EXPIRES_HIGH * 4)
}

/**
 * Reads records from `at`, of which `available` bytes are in memory, `remaining` bytes in the segment, and the
 * first is at `fileOffset` in it. Returns the number of rows; RESULT_* say where and why it stopped.
 */
export function scan(
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
  let certified: u32 = 0
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
    // The cheap rules come first: R2 to R4, R6, and R1 (the record ends inside the segment).
    if (
      !isPlausible(kind, keyBytes, valueBytes) ||
      !isInOrder(kind, sequence, nextSequence) ||
      total > remaining - (at - base)
    ) {
      stop = STOP_BAD
      break
    }
    if (prefix > left) break
    const seed = salt ^ (fileOffset + (at - base))
    if (!isHeaderValid(at, left, seed)) {
      stop = STOP_BAD
      break
    }
    if (total > left) {
      if (total > <u64>SCAN_BYTES) stop = STOP_LARGE
      break
    }
    const row = SCAN_TABLE_AT + rows * ROW_BYTES
    const intact = crc32(seed, at + prefix, valueBytes) === load<u32>(at, RECORD_VALUE_CRC_AT)
    storeRow(row, base, at, prefix, intact ? kind : kind | ROW_VALUE_DAMAGED, keyBytes, valueBytes)
    certified = max<u32>(certified, load<u32>(at, RECORD_CERTIFIED_AT))
    nextSequence = max<f64>(nextSequence, <f64>sequence + 1)
    rows++
    at += <u32>total
  }
  store<u32>(RESULT_AT + RESULT_CONSUMED_BYTES * 4, at - base)
  store<u32>(RESULT_AT + RESULT_STOP * 4, stop)
  store<u32>(RESULT_AT + RESULT_CERTIFIED * 4, certified)
  store<f64>(RESULT_AT + RESULT_NEXT_SEQUENCE * 4, nextSequence)
  return rows
}

/** The row of the one record at `at`, whose header is valid; its value is not looked at. */
export function describe(at: u32): void {
  const kind: u32 = load<u8>(at, RECORD_KIND_AT)
  const keyBytes: u32 = load<u16>(at, RECORD_KEY_BYTES_AT)
  const prefix = prefixBytes(kind, keyBytes)
  storeRow(SCAN_TABLE_AT, at, at, prefix, kind, keyBytes, load<u32>(at, RECORD_VALUE_BYTES_AT))
}

/**
 * Looks for the next valid header from `at` on. Returns how many bytes it skipped; where that is `available`,
 * there is none. A header too near the end to be judged ends the search, unless the segment ends there too.
 */
export function find(
  at: u32,
  available: u32,
  remaining: u32,
  fileOffset: u32,
  salt: u32,
  nextSequence: f64,
): u32 {
  const whole = available === remaining
  for (let skipped: u32 = 0; skipped < available; skipped++) {
    const here = at + skipped
    const left = available - skipped
    if (!whole && left < <u32>RECORD_PREFIX_BYTES_MAX) return skipped
    if (left < <u32>RECORD_HEADER_BYTES) return available
    const kind: u32 = load<u8>(here, RECORD_KIND_AT)
    const keyBytes: u32 = load<u16>(here, RECORD_KEY_BYTES_AT)
    const valueBytes = load<u32>(here, RECORD_VALUE_BYTES_AT)
    if (!isPlausible(kind, keyBytes, valueBytes)) continue
    if (<u64>prefixBytes(kind, keyBytes) + valueBytes > remaining - skipped) continue
    if (!isInOrder(kind, load<u32>(here, RECORD_SEQUENCE_AT), nextSequence)) continue
    if (isHeaderValid(here, left, salt ^ (fileOffset + skipped))) return skipped
  }
  return available
}
