// One record: encoded in place, and verified. The rules cited as "R1" and so on stand in docs/FORMAT.md.
import { crc32 } from './crc32'
import {
  FLAG_EXPIRES,
  FLAG_JOINED_TO_NEXT,
  FLAG_JOINED_TO_PREVIOUS,
  KIND_DELETE,
  KIND_MARKER,
  KIND_MASK,
  KIND_PUT,
  KIND_SEAL,
  RECORD_CERTIFIED_AT,
  RECORD_EXPIRY_BYTES,
  RECORD_HEADER_BYTES,
  RECORD_HEADER_CRC_AT,
  RECORD_KEY_BYTES_AT,
  RECORD_KIND_AT,
  RECORD_SEQUENCE_AT,
  RECORD_TIME_AT,
  RECORD_VALUE_BYTES_AT,
  RECORD_VALUE_CRC_AT,
  SEAL_VALUE_BYTES,
  VALUE_BYTES_MAX,
  VERIFY_BAD_HEADER,
  VERIFY_BAD_VALUE,
  VERIFY_OK,
  VERIFY_OTHER_KEY,
} from './layout'

export function prefixBytes(kind: u32, keyBytes: u32): u32 {
  return RECORD_HEADER_BYTES + (kind & FLAG_EXPIRES ? RECORD_EXPIRY_BYTES : 0) + keyBytes
}

/** Writes the header of the record at `at`, whose key already stands in its place. */
export function encodeHeader(
  at: u32,
  kind: u32,
  keyBytes: u32,
  valueBytes: u32,
  sequence: u32,
  timeMs: f64,
  expiresAtMs: f64,
  certifiedBytes: u32,
  seed: u32,
  valueCrc: u32,
): void {
  assert(keyBytes <= 0xffff && valueBytes <= <u32>VALUE_BYTES_MAX)
  const time = <u64>timeMs
  store<u32>(at, valueCrc, RECORD_VALUE_CRC_AT)
  store<u32>(at, certifiedBytes, RECORD_CERTIFIED_AT)
  store<u32>(at, sequence, RECORD_SEQUENCE_AT)
  store<u32>(at, valueBytes, RECORD_VALUE_BYTES_AT)
  store<u16>(at, <u16>keyBytes, RECORD_KEY_BYTES_AT)
  store<u32>(at, <u32>time, RECORD_TIME_AT)
  store<u16>(at, <u16>(time >>> 32), RECORD_TIME_AT + 4)
  store<u8>(at, <u8>kind, RECORD_KIND_AT)
  if (kind & FLAG_EXPIRES) store<u64>(at, <u64>expiresAtMs, RECORD_HEADER_BYTES)
  const prefix = prefixBytes(kind, keyBytes)
  store<u32>(at, crc32(seed, at + RECORD_VALUE_CRC_AT, prefix - RECORD_VALUE_CRC_AT), RECORD_HEADER_CRC_AT)
}

/** Encodes the record at `at`, whose key and value already stand in their places. */
export function encodeRecord(
  at: u32,
  kind: u32,
  keyBytes: u32,
  valueBytes: u32,
  sequence: u32,
  timeMs: f64,
  expiresAtMs: f64,
  certifiedBytes: u32,
  seed: u32,
): void {
  const valueCrc = crc32(seed, at + prefixBytes(kind, keyBytes), valueBytes)
  encodeHeader(at, kind, keyBytes, valueBytes, sequence, timeMs, expiresAtMs, certifiedBytes, seed, valueCrc)
}

/** R2 to R4: may a header with these fields exist at all? */
export function isPlausible(kind: u32, keyBytes: u32, valueBytes: u32): bool {
  const joins = FLAG_JOINED_TO_PREVIOUS | FLAG_JOINED_TO_NEXT
  switch (kind & KIND_MASK) {
    case KIND_PUT:
      return (
        (kind & ~(KIND_MASK | FLAG_EXPIRES | joins)) === 0 &&
        keyBytes > 0 &&
        valueBytes <= <u32>VALUE_BYTES_MAX
      )
    case KIND_DELETE:
      return (kind & ~(KIND_MASK | joins)) === 0 && keyBytes > 0 && valueBytes === 0
    case KIND_MARKER:
      return kind === KIND_MARKER && keyBytes === 0 && valueBytes === 0
    case KIND_SEAL:
      return kind === KIND_SEAL && keyBytes === 0 && valueBytes === SEAL_VALUE_BYTES
    default:
      return false
  }
}

/** R2 to R5 for the header and key at `at`, of which `available` bytes are in memory. */
export function isHeaderValid(at: u32, available: u32, seed: u32): bool {
  if (available < <u32>RECORD_HEADER_BYTES) return false
  const kind: u32 = load<u8>(at, RECORD_KIND_AT)
  const keyBytes: u32 = load<u16>(at, RECORD_KEY_BYTES_AT)
  if (!isPlausible(kind, keyBytes, load<u32>(at, RECORD_VALUE_BYTES_AT))) return false
  const prefix = prefixBytes(kind, keyBytes)
  if (prefix > available) return false
  return crc32(seed, at + RECORD_VALUE_CRC_AT, prefix - RECORD_VALUE_CRC_AT) === load<u32>(at)
}

/** The whole record at `at`: is it intact, and is it `keyBytes` bytes at `keyAt` that it belongs to? */
export function verifyRecord(at: u32, available: u32, seed: u32, keyAt: u32, keyBytes: u32): u32 {
  if (!isHeaderValid(at, available, seed)) return VERIFY_BAD_HEADER
  const recordKeyBytes: u32 = load<u16>(at, RECORD_KEY_BYTES_AT)
  const prefix = prefixBytes(load<u8>(at, RECORD_KIND_AT), recordKeyBytes)
  if (recordKeyBytes !== keyBytes) return VERIFY_OTHER_KEY
  if (memory.compare(at + prefix - keyBytes, keyAt, keyBytes) !== 0) return VERIFY_OTHER_KEY
  const valueBytes = load<u32>(at, RECORD_VALUE_BYTES_AT)
  if (valueBytes > available - prefix) return VERIFY_BAD_VALUE
  return crc32(seed, at + prefix, valueBytes) === load<u32>(at, RECORD_VALUE_CRC_AT)
    ? VERIFY_OK
    : VERIFY_BAD_VALUE
}
