// One segment: its header, and the fields of its records as far as the host reads them itself
// (docs/FORMAT.md, "Segment" and "Record").
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
  RECORD_KEY_BYTES_AT,
  RECORD_KIND_AT,
  RECORD_SEQUENCE_AT,
  RECORD_TIME_AT,
  RECORD_VALUE_BYTES_AT,
  RECORD_VALUE_CRC_AT,
  SEAL_VALUE_BYTES,
} from '../assembly/layout'
import { isEqual, readU64, viewOf, writeU64 } from './bytes'
import { CaskyError, invariant } from './errors'
import type { FileHandle, Host } from './host/host'
import { readFully } from './io'
import type { Kernels } from './kernels'
import { FORMAT_VERSION, magicOf, type Preamble, readPreamble, writePreamble } from './preamble'

export const SEGMENT_HEADER_BYTES = 96
/** A record may begin below this; so an offset fits into 31 bits. */
export const SEGMENT_BYTES_MAX = 0x8000_0000
/** A record begins below 2^31, and is shorter than that. */
export const SEGMENT_LENGTH_MAX = 0xffff_ffff

const MAGIC = magicOf('CASKYSEG')
const STORE_ID_AT = 16
export const STORE_ID_BYTES = 16
const ID_AT = 32
const SALT_AT = 36
const CREATED_AT = 40
const FIRST_SEQUENCE_AT = 48
const PREVIOUS_ID_AT = 56
const FLAGS_AT = 60
const PREVIOUS_BYTES_AT = 64
const PREVIOUS_LAST_SEQUENCE_AT = 72
const COPIES_GENERATION_AT = 80
const COPIES_SEGMENT_ID_AT = 88
const CRC_AT = 92
const FLAG_PREVIOUS_SEALED = 1
const FLAG_COPIES = 2
const FLAG_FOLDED = 4
const FLAG_ROOM = 8

export interface SegmentHeader {
  storeId: Uint8Array
  id: number
  /** Random; every CRC of this segment's records begins with it. */
  salt: number
  createdAtMs: number
  /** Every sequence number in this segment is at least this. */
  firstSequence: number
  /** What was known of the segment before when this one was made; id 0 if there was none. */
  previous: { id: number; bytes: number; lastSequence: number; isSealed: boolean }
  /** Set where this segment holds copies only: of records that segments of the manifest held when it was made. */
  copies?: CopyOrigin | undefined
  /** While it was written to, room may have stood behind its records (see room). */
  mayHaveRoom?: boolean | undefined
}

export interface CopyOrigin {
  /** Of the manifest in force when the copies were made. */
  generation: number
  /** The segment that they were copied from; 0 where there were several. */
  segmentId: number
  /** A merge's: of what was there, the records that hid nothing and were hidden by others are left out. */
  isFolded?: boolean | undefined
}

export function encodeSegmentHeader(kernels: Kernels, header: SegmentHeader): Uint8Array {
  invariant(header.storeId.length === STORE_ID_BYTES, 'a store id has 16 bytes')
  const { previous, copies, mayHaveRoom } = header
  const bytes = new Uint8Array(SEGMENT_HEADER_BYTES)
  const view = viewOf(bytes)
  writePreamble(kernels, bytes, MAGIC, SEGMENT_HEADER_BYTES)
  bytes.set(header.storeId, STORE_ID_AT)
  view.setUint32(ID_AT, header.id, true)
  view.setUint32(SALT_AT, header.salt, true)
  writeU64(view, CREATED_AT, header.createdAtMs)
  writeU64(view, FIRST_SEQUENCE_AT, header.firstSequence)
  view.setUint32(PREVIOUS_ID_AT, previous.id, true)
  const copied = copies === undefined ? 0 : FLAG_COPIES | (copies.isFolded === true ? FLAG_FOLDED : 0)
  const room = mayHaveRoom === true ? FLAG_ROOM : 0
  const flags = (previous.isSealed ? FLAG_PREVIOUS_SEALED : 0) | copied | room
  view.setUint32(FLAGS_AT, flags, true)
  writeU64(view, PREVIOUS_BYTES_AT, previous.bytes)
  writeU64(view, PREVIOUS_LAST_SEQUENCE_AT, previous.lastSequence)
  writeU64(view, COPIES_GENERATION_AT, copies?.generation ?? 0)
  view.setUint32(COPIES_SEGMENT_ID_AT, copies?.segmentId ?? 0, true)
  view.setUint32(CRC_AT, kernels.crc(bytes.subarray(0, CRC_AT)), true)
  return bytes
}

/** The header in `bytes`, or what is wrong with it. */
export function decodeSegmentHeader(
  kernels: Kernels,
  bytes: Uint8Array,
): { header: SegmentHeader } | { header: undefined; preamble: Preamble } {
  const preamble = readPreamble(kernels, bytes, MAGIC)
  if (preamble.kind !== 'ours') return { header: undefined, preamble }
  const damaged: Preamble = { kind: 'damaged' }
  if (bytes.length < SEGMENT_HEADER_BYTES) return { header: undefined, preamble: damaged }
  const view = viewOf(bytes)
  if (view.getUint32(CRC_AT, true) !== kernels.crc(bytes.subarray(0, CRC_AT))) {
    return { header: undefined, preamble: damaged }
  }
  const flags = view.getUint32(FLAGS_AT, true)
  const origin = {
    generation: readU64(view, COPIES_GENERATION_AT),
    segmentId: view.getUint32(COPIES_SEGMENT_ID_AT, true),
    isFolded: (flags & FLAG_FOLDED) !== 0 ? true : undefined,
  }
  return {
    header: {
      storeId: bytes.slice(STORE_ID_AT, STORE_ID_AT + STORE_ID_BYTES),
      id: view.getUint32(ID_AT, true),
      salt: view.getUint32(SALT_AT, true),
      createdAtMs: readU64(view, CREATED_AT),
      firstSequence: readU64(view, FIRST_SEQUENCE_AT),
      previous: {
        id: view.getUint32(PREVIOUS_ID_AT, true),
        isSealed: (flags & FLAG_PREVIOUS_SEALED) !== 0,
        bytes: readU64(view, PREVIOUS_BYTES_AT),
        lastSequence: readU64(view, PREVIOUS_LAST_SEQUENCE_AT),
      },
      copies: (flags & FLAG_COPIES) === 0 ? undefined : origin,
      mayHaveRoom: (flags & FLAG_ROOM) !== 0 ? true : undefined,
    },
  }
}

/** What a segment file's first bytes say; throws what the system throws, and CASKY_NEWER_FORMAT. */
export function readSegmentHeader(
  host: Host,
  kernels: Kernels,
  file: FileHandle,
  path: string,
): ReturnType<typeof decodeSegmentHeader> {
  const bytes = new Uint8Array(SEGMENT_HEADER_BYTES)
  const read = readFully(host, file, bytes, 0, bytes.length, 0)
  const decoded = decodeSegmentHeader(kernels, bytes.subarray(0, read))
  if (decoded.header === undefined && decoded.preamble.kind === 'newer') {
    throw newerFormat(path, decoded.preamble.version)
  }
  return decoded
}

export function isSameSegment(a: SegmentHeader, b: SegmentHeader): boolean {
  return (
    isEqual(a.storeId, b.storeId) && a.id === b.id && a.salt === b.salt && a.firstSequence === b.firstSequence
  )
}

export function newerFormat(path: string, version: number): CaskyError {
  return new CaskyError(
    'CASKY_NEWER_FORMAT',
    `written in format ${version}, and this casky reads up to ${FORMAT_VERSION}; use a newer casky: ${path}`,
    { path, expected: FORMAT_VERSION, got: version },
  )
}

/** Where the CRCs of the record at `offset` begin. */
export function recordSeed(salt: number, offset: number): number {
  return (salt ^ offset) >>> 0
}

export function recordBytes(keyBytes: number, valueBytes: number, expires: boolean): number {
  return RECORD_HEADER_BYTES + (expires ? RECORD_EXPIRY_BYTES : 0) + keyBytes + valueBytes
}

/** The flags by which the records of a batch hold together. */
export const JOINED = FLAG_JOINED_TO_PREVIOUS | FLAG_JOINED_TO_NEXT

export type RecordKind = 'put' | 'delete' | 'marker' | 'seal'
const KIND_NAMES: Record<number, RecordKind> = {
  [KIND_PUT]: 'put',
  [KIND_DELETE]: 'delete',
  [KIND_MARKER]: 'marker',
  [KIND_SEAL]: 'seal',
}

/** The fields of a record in memory whose header is known to be valid. */
export interface RecordFields {
  kind: RecordKind
  flags: number
  keyBytes: number
  valueBytes: number
  valueCrc: number
  sequenceOffset: number
  timeMs: number
  expiresAtMs: number | undefined
  certifiedBytes: number
  prefixBytes: number
}

export function recordFields(view: DataView, at: number): RecordFields {
  const kind = view.getUint8(at + RECORD_KIND_AT)
  const expires = (kind & FLAG_EXPIRES) !== 0
  const keyBytes = view.getUint16(at + RECORD_KEY_BYTES_AT, true)
  return {
    kind: KIND_NAMES[kind & KIND_MASK],
    flags: kind & ~KIND_MASK,
    keyBytes,
    valueBytes: view.getUint32(at + RECORD_VALUE_BYTES_AT, true),
    valueCrc: view.getUint32(at + RECORD_VALUE_CRC_AT, true),
    sequenceOffset: view.getUint32(at + RECORD_SEQUENCE_AT, true),
    timeMs:
      view.getUint32(at + RECORD_TIME_AT, true) + view.getUint16(at + RECORD_TIME_AT + 4, true) * 2 ** 32,
    expiresAtMs: expires ? readU64(view, at + RECORD_HEADER_BYTES) : undefined,
    certifiedBytes: view.getUint32(at + RECORD_CERTIFIED_AT, true),
    prefixBytes: recordBytes(keyBytes, 0, expires),
  }
}

/** What a seal says of its segment: how many puts and deletes, its length before the seal, its last sequence number. */
export function encodeSealValue(
  view: DataView,
  at: number,
  records: number,
  bytes: number,
  lastSequence: number,
): void {
  view.setUint32(at, records, true)
  view.setUint32(at + 4, bytes, true)
  writeU64(view, at + 8, lastSequence)
}

export const SEAL_BYTES = recordBytes(0, SEAL_VALUE_BYTES, false)

/** Encodes at `at` the seal of a segment of copies, all of which is on disk. */
export function encodeCopiesSeal(
  kernels: Kernels,
  at: number,
  header: SegmentHeader,
  { records, bytes, lastSequence }: Seal,
  nowMs: number,
): void {
  encodeSealValue(kernels.view, at + RECORD_HEADER_BYTES, records, bytes, lastSequence)
  const counted = lastSequence - header.firstSequence
  invariant(counted <= 0xffff_ffff, 'a seal counts from the first of its segment')
  const seed = recordSeed(header.salt, bytes)
  kernels.call.encodeRecord(at, KIND_SEAL, 0, SEAL_VALUE_BYTES, counted, nowMs, 0, bytes, seed)
}

export interface Seal {
  records: number
  bytes: number
  lastSequence: number
}

export function decodeSealValue(view: DataView, at: number): Seal {
  return {
    records: view.getUint32(at, true),
    bytes: view.getUint32(at + 4, true),
    lastSequence: readU64(view, at + 8),
  }
}

export { SEAL_VALUE_BYTES }
