// Rows of a scan in, their records out, encoded for another place: who copies in bulk decodes nothing.
import { crc32 } from './crc32'
import {
  FLAG_JOINED_TO_NEXT,
  FLAG_JOINED_TO_PREVIOUS,
  KIND_DELETE,
  RECORD_CERTIFIED_AT,
  RECORD_HEADER_BYTES,
  RECORD_HEADER_CRC_AT,
  RECORD_KIND_AT,
  RECORD_SEQUENCE_AT,
  RECORD_VALUE_BYTES_AT,
  RECORD_VALUE_CRC_AT,
  RESULT_AT,
  RESULT_LAST_RECORD,
  ROW_AT,
  ROW_BURIED,
  ROW_BYTES,
  ROW_COPIED,
  ROW_KIND,
  ROW_SEQUENCE,
  ROW_VALUE_BYTES,
  SCAN_TABLE_AT,
} from './layout'
import { prefixBytes } from './record'

/**
 * Copies the records of those of the first `rows` rows that are marked ROW_COPIED, and puts a delete in the place of
 * those marked ROW_BURIED. They stand at `at`; the copies go to `out`, and will lie at `offset` of a segment with this
 * salt. `sequenceShift`, which may be negative, is added to their sequence numbers, as these count from another first one.
 * The flags for batches are taken from the rows. Returns the length of the copies; RESULT_LAST_RECORD says where the last one begins.
 */
export function copyRows(
  rows: u32,
  at: u32,
  out: u32,
  offset: u32,
  salt: u32,
  certifiedBytes: u32,
  sequenceShift: f64,
): u32 {
  const start = out
  for (let i: u32 = 0; i < rows; i++) {
    const row = SCAN_TABLE_AT + i * ROW_BYTES
    const marks = load<u32>(row, ROW_KIND * 4)
    if ((marks & (ROW_COPIED | ROW_BURIED)) === 0) continue
    const from = at + load<u32>(row, ROW_AT * 4)
    const keyBytes = marks >>> 16
    let kind = marks & 0xff
    let valueBytes = load<u32>(row, ROW_VALUE_BYTES * 4)
    if (marks & ROW_BURIED) {
      const keyAt = from + prefixBytes(load<u8>(from, RECORD_KIND_AT), keyBytes) - keyBytes
      kind = KIND_DELETE | (kind & (FLAG_JOINED_TO_PREVIOUS | FLAG_JOINED_TO_NEXT))
      valueBytes = 0
      memory.copy(out, from, RECORD_HEADER_BYTES)
      memory.copy(out + RECORD_HEADER_BYTES, keyAt, keyBytes)
    } else {
      memory.copy(out, from, prefixBytes(kind, keyBytes) + valueBytes)
    }
    const sequence = <f64>load<u32>(row, ROW_SEQUENCE * 4) + sequenceShift
    assert(sequence >= 0 && sequence <= <f64>u32.MAX_VALUE)
    const prefix = prefixBytes(kind, keyBytes)
    const seed = salt ^ (offset + (out - start))
    store<u8>(out, <u8>kind, RECORD_KIND_AT)
    store<u32>(out, valueBytes, RECORD_VALUE_BYTES_AT)
    store<u32>(out, <u32>sequence, RECORD_SEQUENCE_AT)
    store<u32>(out, certifiedBytes, RECORD_CERTIFIED_AT)
    store<u32>(out, crc32(seed, out + prefix, valueBytes), RECORD_VALUE_CRC_AT)
    store<u32>(
      out,
      crc32(seed, out + RECORD_VALUE_CRC_AT, prefix - RECORD_VALUE_CRC_AT),
      RECORD_HEADER_CRC_AT,
    )
    store<u32>(RESULT_AT + RESULT_LAST_RECORD * 4, out)
    out += prefix + valueBytes
  }
  return out - start
}
