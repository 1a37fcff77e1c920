// A commit group: its records stand at WRITE_AT with their keys and values in place, its rows in the group's table.
import { hashOf } from './hash'
import {
  FLAG_EXPIRES,
  GROUP_TABLE_AT,
  RECORD_EXPIRY_BYTES,
  RECORD_HEADER_BYTES,
  ROW_AT,
  ROW_BYTES,
  ROW_EXPIRES_LOW,
  ROW_HASH_LOW,
  ROW_KIND,
  ROW_VALUE_BYTES,
  WRITE_AT,
} from './layout'
import { encodeRecord } from './record'

/** Fills in the hashes of the rows `from` up to `to`. */
export function hashGroup(from: u32, to: u32): void {
  const end = GROUP_TABLE_AT + to * ROW_BYTES
  for (let row = GROUP_TABLE_AT + from * ROW_BYTES; row < end; row += ROW_BYTES) {
    const kind = load<u32>(row, ROW_KIND * 4)
    const keyAt =
      WRITE_AT +
      load<u32>(row, ROW_AT * 4) +
      RECORD_HEADER_BYTES +
      (kind & FLAG_EXPIRES ? RECORD_EXPIRY_BYTES : 0)
    store<u64>(row, hashOf(keyAt, kind >>> 16), ROW_HASH_LOW * 4)
  }
}

/** Encodes the first `rows` records: the first will lie at `offset` of its segment, and has the number `sequence`. */
export function encodeGroup(
  rows: u32,
  offset: u32,
  salt: u32,
  sequence: u32,
  timeMs: f64,
  certifiedBytes: u32,
): void {
  const end = GROUP_TABLE_AT + rows * ROW_BYTES
  for (let row = GROUP_TABLE_AT; row < end; row += ROW_BYTES) {
    const at = load<u32>(row, ROW_AT * 4)
    const kind = load<u32>(row, ROW_KIND * 4)
    encodeRecord(
      WRITE_AT + at,
      kind & 0xff,
      kind >>> 16,
      load<u32>(row, ROW_VALUE_BYTES * 4),
      sequence,
      timeMs,
      <f64>load<u64>(row, ROW_EXPIRES_LOW * 4),
      certifiedBytes,
      salt ^ (offset + at),
    )
    sequence++
  }
}
