// The salt of a segment whose header is gone and that no manifest knows. A CRC is continued from a seed, and run
// backwards over its bytes it gives the seed back: so each record header tells the one salt under which it would be
// valid, and the record's value and the header behind it tell whether it is.
import {
  READ_AT,
  READ_BYTES,
  RECORD_EXPIRY_BYTES,
  RECORD_HEADER_BYTES,
  RECORD_PREFIX_BYTES_MAX,
  ROW_SEQUENCE,
  ROW_WORDS,
  SCAN_TABLE_AT,
  SEAL_VALUE_BYTES,
} from '../assembly/layout'
import { viewOf } from './bytes'
import type { FileHandle, Host } from './host/host'
import { readFully } from './io'
import type { Kernels } from './kernels'
import { type ScanTarget, SegmentScan } from './scanner'
import {
  decodeSealValue,
  recordFields,
  recordSeed,
  SEAL_BYTES,
  SEGMENT_HEADER_BYTES,
  type Seal,
} from './segment'

/** A record is looked for in so many bytes behind the header. */
const SEARCH_BYTES = 0x1_0000
/** Bytes to run backwards over at most: a file that is made to look like records must not take for ever. */
const WORK_BYTES_MAX = 0x400_0000
const CRC_BYTES = 4
const POLYNOMIAL = 0xedb8_8320

const forward = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? POLYNOMIAL : 0)
  return crc
})
/** By the highest byte of an entry: no two entries share one. */
const backward = new Uint8Array(256)
for (const [byte, entry] of forward.entries()) backward[entry >>> 24] = byte

/** The seed that a CRC was continued from to become `crc` over these bytes. */
export function seedOf(crc: number, bytes: Uint8Array): number {
  let register = ~crc >>> 0
  for (let i = bytes.length - 1; i >= 0; i--) {
    const byte = backward[register >>> 24]
    register = (((register ^ forward[byte]) << 8) | (byte ^ bytes[i])) >>> 0
  }
  return ~register >>> 0
}

export function solveSalt(
  host: Host,
  kernels: Kernels,
  file: FileHandle,
  fileBytes: number,
): number | undefined {
  const searched = Math.min(SEARCH_BYTES + RECORD_PREFIX_BYTES_MAX, fileBytes)
  // What looks like a record with an expiry may stand at the very end.
  const bytes = new Uint8Array(searched + RECORD_EXPIRY_BYTES)
  const read = readFully(host, file, bytes, 0, searched, 0)
  const view = viewOf(bytes)
  let workBytes = 0
  for (
    let offset = SEGMENT_HEADER_BYTES;
    offset + RECORD_HEADER_BYTES <= Math.min(read, SEARCH_BYTES);
    offset++
  ) {
    const { kind, keyBytes, prefixBytes, valueBytes, valueCrc } = recordFields(view, offset)
    // Cheap, and nearly all bytes that are no record fail here.
    if ((kind !== 'put' || keyBytes === 0) && valueBytes > SEAL_VALUE_BYTES) continue
    if (offset + prefixBytes > read || offset + prefixBytes + valueBytes > fileBytes) continue
    workBytes += prefixBytes
    if (workBytes > WORK_BYTES_MAX) return undefined
    const header = bytes.subarray(offset, offset + prefixBytes)
    const seed = seedOf(view.getUint32(offset, true), header.subarray(CRC_BYTES))
    // Most bytes are no header, whatever the salt.
    kernels.bytes.set(header, READ_AT)
    if (kernels.call.isHeaderValid(READ_AT, prefixBytes, seed) !== 1) continue
    const salt = recordSeed(seed, offset)
    const end = offset + prefixBytes + valueBytes
    if (end < fileBytes && !isHeaderAt(host, kernels, file, salt, end)) continue
    if (isValueAt(host, kernels, file, seed, offset + prefixBytes, valueBytes, valueCrc)) return salt
  }
  return undefined
}

function isHeaderAt(host: Host, kernels: Kernels, file: FileHandle, salt: number, offset: number): boolean {
  const read = readFully(host, file, kernels.bytes, READ_AT, RECORD_PREFIX_BYTES_MAX, offset)
  return kernels.call.isHeaderValid(READ_AT, read, recordSeed(salt, offset)) === 1
}

function isValueAt(
  host: Host,
  kernels: Kernels,
  file: FileHandle,
  seed: number,
  offset: number,
  valueBytes: number,
  valueCrc: number,
): boolean {
  let crc = seed
  for (let done = 0; done < valueBytes; ) {
    const bytes = Math.min(READ_BYTES, valueBytes - done)
    if (readFully(host, file, kernels.bytes, READ_AT, bytes, offset + done) < bytes) return false
    crc = kernels.call.crc32(crc, READ_AT, bytes)
    done += bytes
  }
  return crc >>> 0 === valueCrc
}

/** The valid seal that a segment's file ends with, and its sequence number as the segment counts it. */
export function sealAtEnd(
  host: Host,
  kernels: Kernels,
  file: FileHandle,
  fileBytes: number,
  salt: number,
): (Seal & { sequenceOffset: number }) | undefined {
  const offset = fileBytes - SEAL_BYTES
  if (offset < SEGMENT_HEADER_BYTES || !isHeaderAt(host, kernels, file, salt, offset)) return undefined
  const { kind, prefixBytes, valueBytes, valueCrc, sequenceOffset } = recordFields(kernels.view, READ_AT)
  const seal = decodeSealValue(kernels.view, READ_AT + prefixBytes)
  if (kind !== 'seal' || seal.bytes !== offset) return undefined
  const crc = kernels.call.crc32(recordSeed(salt, offset), READ_AT + prefixBytes, valueBytes)
  return crc >>> 0 === valueCrc ? { ...seal, sequenceOffset } : undefined
}

/** The last sequence number in a segment, as it counts them: from 0 on, so -1 where it holds none. */
export function lastSequenceOffset(host: Host, kernels: Kernels, target: ScanTarget): number {
  let last = -1
  for (const event of new SegmentScan(host, kernels, target).events()) {
    if (event.kind !== 'rows') continue
    for (let row = 0; row < event.count; row++) {
      last = Math.max(last, kernels.words[SCAN_TABLE_AT / 4 + row * ROW_WORDS + ROW_SEQUENCE])
    }
  }
  return last
}
