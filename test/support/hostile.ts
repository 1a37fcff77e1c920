// Store files as an attacker would make them: every field set to whatever one likes, and all CRCs mended behind it.
// Written from docs/FORMAT.md alone and sharing no code with src/ or assembly/, so that a mistake there is not
// repeated here.
import { crc32 } from 'node:zlib'

export const MANIFEST_HEADER_BYTES = 96
export const MANIFEST_ENTRY_BYTES = 128
export const SEGMENT_HEADER_BYTES = 96
export const RECORD_HEADER_BYTES = 29
const CRC_BYTES = 4
const EXPIRY_BYTES = 8
const FLAG_EXPIRES = 0x10

/** A number somewhere in a file. */
export interface Field {
  name: string
  at: number
  bytes: number
}

const PREAMBLE: Field[] = [
  { name: 'magic', at: 0, bytes: 8 },
  { name: 'version', at: 8, bytes: 2 },
  { name: 'header length', at: 10, bytes: 2 },
]

const SEGMENT_HEADER: Field[] = [
  ...PREAMBLE,
  { name: 'store id', at: 16, bytes: 8 },
  { name: 'segment id', at: 32, bytes: 4 },
  { name: 'salt', at: 36, bytes: 4 },
  { name: 'created', at: 40, bytes: 8 },
  { name: 'first sequence', at: 48, bytes: 8 },
  { name: 'previous id', at: 56, bytes: 4 },
  { name: 'previous sealed', at: 60, bytes: 4 },
  { name: 'previous length', at: 64, bytes: 8 },
  { name: 'previous last sequence', at: 72, bytes: 8 },
]

const MANIFEST_HEADER: Field[] = [
  ...PREAMBLE,
  { name: 'store id', at: 16, bytes: 8 },
  { name: 'generation', at: 32, bytes: 8 },
  { name: 'created', at: 40, bytes: 8 },
  { name: 'next segment id', at: 48, bytes: 4 },
  { name: 'entry count', at: 52, bytes: 4 },
  { name: 'secret', at: 56, bytes: 8 },
]

const MANIFEST_ENTRY: Field[] = [
  ...SEGMENT_HEADER,
  { name: 'state', at: 96, bytes: 4 },
  { name: 'records', at: 100, bytes: 4 },
  { name: 'length', at: 104, bytes: 8 },
  { name: 'last sequence', at: 112, bytes: 8 },
]

const RECORD: Field[] = [
  { name: 'certified length', at: 8, bytes: 4 },
  { name: 'sequence', at: 12, bytes: 4 },
  { name: 'value length', at: 16, bytes: 4 },
  { name: 'key length', at: 20, bytes: 2 },
  { name: 'time', at: 22, bytes: 6 },
  { name: 'kind', at: 28, bytes: 1 },
  { name: 'expiry', at: 29, bytes: 8 },
]

const SEAL_VALUE: Field[] = [
  { name: 'seal records', at: 29, bytes: 4 },
  { name: 'seal length', at: 33, bytes: 4 },
  { name: 'seal last sequence', at: 37, bytes: 8 },
]

const shifted = (fields: readonly Field[], by: number, prefix: string): Field[] =>
  fields.map(({ name, at, bytes }) => ({ name: `${prefix} ${name}`, at: at + by, bytes }))

/** How many entries the file has room for, whatever it claims. */
export function entriesOf(manifest: Buffer): number {
  const body = manifest.length - MANIFEST_HEADER_BYTES - CRC_BYTES
  return Math.max(0, Math.floor(body / MANIFEST_ENTRY_BYTES))
}

export function entryAt(index: number): number {
  return MANIFEST_HEADER_BYTES + index * MANIFEST_ENTRY_BYTES
}

export function manifestFields(manifest: Buffer): Field[] {
  const fields = shifted(MANIFEST_HEADER, 0, 'manifest')
  for (let i = 0; i < entriesOf(manifest); i++) {
    fields.push(...shifted(MANIFEST_ENTRY, entryAt(i), `entry ${i + 1}`))
  }
  return fields.filter(({ at, bytes }) => at + bytes <= manifest.length)
}

export function segmentFields(segment: Buffer, offsets: readonly number[]): Field[] {
  const fields = shifted(SEGMENT_HEADER, 0, 'header')
  for (const offset of offsets) {
    fields.push(...shifted(RECORD, offset, `record at ${offset}`))
    if ((segment[offset + 28] & 0x0f) === 4)
      fields.push(...shifted(SEAL_VALUE, offset, `record at ${offset}`))
  }
  return fields.filter(({ at, bytes }) => at + bytes <= segment.length)
}

/** Writes the low bytes of a number into a field. */
export function setField(file: Buffer, { at, bytes }: Field, value: bigint): void {
  for (let i = 0; i < bytes; i++) file[at + i] = Number((value >> BigInt(8 * i)) & 0xffn)
}

export function getField(file: Buffer, { at, bytes }: Field): bigint {
  let value = 0n
  for (let i = bytes - 1; i >= 0; i--) value = (value << 8n) | BigInt(file[at + i])
  return value
}

interface Extent {
  keyAt: number
  valueAt: number
  end: number
}

/** Where a record's parts lie by the lengths that it claims. */
export function recordExtent(segment: Buffer, offset: number): Extent | undefined {
  if (offset + RECORD_HEADER_BYTES > segment.length) return undefined
  const expiryBytes = segment[offset + 28] & FLAG_EXPIRES ? EXPIRY_BYTES : 0
  const keyAt = offset + RECORD_HEADER_BYTES + expiryBytes
  const valueAt = keyAt + segment.readUInt16LE(offset + 20)
  return { keyAt, valueAt, end: valueAt + segment.readUInt32LE(offset + 16) }
}

/** Where records begin, from the first on, as long as their lengths make sense. */
export function recordOffsets(segment: Buffer, from = SEGMENT_HEADER_BYTES): number[] {
  const offsets: number[] = []
  for (let offset = from; ; ) {
    const extent = recordExtent(segment, offset)
    const kind = segment[offset + 28] & 0x0f
    if (extent === undefined || extent.end > segment.length || kind < 1 || kind > 4) return offsets
    offsets.push(offset)
    offset = extent.end
  }
}

/** Mends the CRCs of a record, as far as the file reaches. A header that its key takes out of the file has none. */
export function mendRecord(segment: Buffer, offset: number, salt: number): void {
  const extent = recordExtent(segment, offset)
  if (extent === undefined || extent.valueAt > segment.length) return
  const seed = (salt ^ offset) >>> 0
  const value = segment.subarray(extent.valueAt, Math.min(extent.end, segment.length))
  segment.writeUInt32LE(crc32(value, seed), offset + 4)
  segment.writeUInt32LE(crc32(segment.subarray(offset + 4, extent.valueAt), seed), offset)
}

function mendPreamble(file: Buffer, at = 0): void {
  if (file.length >= at + 16) file.writeUInt32LE(crc32(file.subarray(at, at + 12)), at + 12)
}

function mendSegmentHeader(file: Buffer, at = 0): void {
  mendPreamble(file, at)
  if (file.length >= at + SEGMENT_HEADER_BYTES) {
    file.writeUInt32LE(crc32(file.subarray(at, at + 92)), at + 92)
  }
}

/** `salt`: the one in force, which is the manifest's. */
export function mendSegment(segment: Buffer, offsets: readonly number[], salt = saltOf(segment)): void {
  mendSegmentHeader(segment)
  for (const offset of offsets) mendRecord(segment, offset, salt)
}

export function saltOf(segment: Buffer): number {
  return segment.length >= 40 ? segment.readUInt32LE(36) : 0
}

/** The salt that the manifest has for a segment. */
export function saltInForce(manifest: Buffer | undefined, id: number): number | undefined {
  for (let i = 0; manifest !== undefined && i < entriesOf(manifest); i++) {
    if (manifest.readUInt32LE(entryAt(i) + 32) === id) return manifest.readUInt32LE(entryAt(i) + 36)
  }
  return undefined
}

/** Mends every CRC in a manifest; the last four bytes are taken for its own. */
export function mendManifest(manifest: Buffer): void {
  mendPreamble(manifest)
  for (let i = 0; i < entriesOf(manifest); i++) mendSegmentHeader(manifest, entryAt(i))
  if (manifest.length < CRC_BYTES) return
  const body = manifest.subarray(0, manifest.length - CRC_BYTES)
  manifest.writeUInt32LE(crc32(body), body.length)
}

/** A manifest with other entries, its count and CRCs right. */
export function withEntries(manifest: Buffer, entries: readonly Buffer[]): Buffer {
  const changed = Buffer.concat([
    manifest.subarray(0, MANIFEST_HEADER_BYTES),
    ...entries,
    Buffer.alloc(CRC_BYTES),
  ])
  changed.writeUInt32LE(entries.length, 52)
  mendManifest(changed)
  return changed
}

export function entriesIn(manifest: Buffer): Buffer[] {
  return Array.from({ length: entriesOf(manifest) }, (_, i) =>
    Buffer.from(manifest.subarray(entryAt(i), entryAt(i + 1))),
  )
}

export interface MadeRecord {
  kind: number
  flags?: number
  key?: Uint8Array
  value?: Uint8Array
  /** What the header claims, where that is not the truth. */
  valueBytes?: number
  sequence: number
  certifiedBytes?: number
  expiresAtMs?: bigint
}

/** One record for this place of a segment. */
export function makeRecord(record: MadeRecord, offset: number, salt: number): Buffer {
  const { kind, flags = 0, key = Buffer.alloc(0), value = Buffer.alloc(0), sequence, expiresAtMs } = record
  const header = Buffer.alloc(RECORD_HEADER_BYTES + (expiresAtMs === undefined ? 0 : EXPIRY_BYTES))
  header.writeUInt32LE(record.certifiedBytes ?? 0, 8)
  header.writeUInt32LE(sequence, 12)
  header.writeUInt32LE(record.valueBytes ?? value.length, 16)
  header.writeUInt16LE(key.length, 20)
  header[28] = kind | flags | (expiresAtMs === undefined ? 0 : FLAG_EXPIRES)
  if (expiresAtMs !== undefined) header.writeBigUInt64LE(expiresAtMs, RECORD_HEADER_BYTES)
  const seed = (salt ^ offset) >>> 0
  header.writeUInt32LE(crc32(value, seed), 4)
  const prefix = Buffer.concat([header, key])
  prefix.writeUInt32LE(crc32(prefix.subarray(4), seed), 0)
  return Buffer.concat([prefix, value])
}

/** A segment of these records: the header of another one, with its own salt, and the records behind it. */
export function makeSegment(header: Buffer, records: Iterable<MadeRecord>): Buffer {
  const parts: Buffer[] = [Buffer.from(header.subarray(0, SEGMENT_HEADER_BYTES))]
  const salt = saltOf(header)
  let offset = SEGMENT_HEADER_BYTES
  for (const record of records) {
    const bytes = makeRecord(record, offset, salt)
    parts.push(bytes)
    offset += bytes.length
  }
  return Buffer.concat(parts)
}
