// Numbers set to their extremes, with the CRCs above them mended: what no accident does, and a defect of the writer might.
import { crc32 } from 'node:zlib'
import {
  type Field,
  getField,
  manifestFields,
  mendManifest,
  recordExtent,
  recordOffsets,
  SEGMENT_HEADER_BYTES,
  segmentFields,
  setField,
} from '../support/hostile'
import { type Hurt, rewrite } from './rot'

const HEADER_BYTES = 96
const CHECKPOINT_HEADER_BYTES = 112
const CRC_BYTES = 4
const RECORD_HEADER_BYTES = 29
const EXPIRY_BYTES = 8
const FLAG_EXPIRES = 0x10

/** Numbers that say how much there is of something. */
const LENGTHS = /(length|count|records|sequence|next segment id)$/

function extremesOf(field: Field, now: bigint): bigint[] {
  const max = 2n ** BigInt(8 * field.bytes) - 1n
  const some = [0n, 1n, 95n, 96n, 97n, now - 1n, now + 1n, 2n ** 31n - 1n, 2n ** 31n, 2n ** 32n - 1n]
  const large = [2n ** 53n - 1n, 2n ** 53n, max / 2n, max - 1n, max]
  return [...new Set([...some, ...large])].filter((value) => value >= 0n && value <= max && value !== now)
}

/** Each of the fields set to each of its extremes; `mend` is told where something has changed. */
function extremes(
  name: string,
  bytes: Buffer,
  fields: Field[],
  mend: (changed: Buffer, at: number) => void,
): Hurt[] {
  return fields.flatMap((field) =>
    extremesOf(field, getField(bytes, field)).map((value) => ({
      path: name,
      what: `${field.name} = ${value}, mended`,
      keysMax: undefined,
      isForged: true,
      apply: (disk) =>
        rewrite(disk, name, (before) => {
          const changed = Buffer.from(before)
          setField(changed, field, value)
          mend(changed, field.at)
          return new Uint8Array(changed)
        }),
    })),
  )
}

/** The CRC of a record's header; its value's stays as it is, so that no value is made which nobody wrote. */
function mendRecordHeader(segment: Buffer, offset: number, salt: number): void {
  const extent = recordExtent(segment, offset)
  if (extent === undefined || extent.valueAt > segment.length) return
  const header = segment.subarray(offset + 4, extent.valueAt)
  segment.writeUInt32LE(crc32(header, (salt ^ offset) >>> 0), offset)
}

/** Every length in a manifest or a segment. */
export function lengths(name: string, content: Uint8Array): Hurt[] {
  const bytes = Buffer.from(content)
  const isManifest = name === 'MANIFEST'
  const offsets = isManifest ? [] : recordOffsets(bytes)
  const fields = (isManifest ? manifestFields(bytes) : segmentFields(bytes, offsets)).filter((field) =>
    LENGTHS.test(field.name),
  )
  return extremes(name, bytes, fields, (changed, at) => {
    const salt = changed.readUInt32LE(36)
    const record = offsets.findLast((offset) => offset <= at)
    if (isManifest) mendManifest(changed)
    else if (record !== undefined) mendRecordHeader(changed, record, salt)
    else mendHeader(changed)
  })
}

function mendHeader(changed: Buffer, headerBytes = HEADER_BYTES): void {
  const end = headerBytes - CRC_BYTES
  changed.writeUInt32LE(crc32(changed.subarray(0, end)), end)
}

const HINT_HEADER: Field[] = [
  { name: 'first sequence', at: 48, bytes: 8 },
  { name: 'segment length', at: 64, bytes: 8 },
  { name: 'last sequence', at: 72, bytes: 8 },
  { name: 'records', at: 80, bytes: 4 },
]

/** Of a record's header as a hint has it. */
const HINTED_RECORD: Field[] = [
  { name: 'value length', at: 16, bytes: 4 },
  { name: 'key length', at: 20, bytes: 2 },
]

/** Where each record's header stands in a hint, and where its record in the segment. */
function hintedRecords(hint: Buffer): { at: number; bytes: number; offset: number }[] {
  const found: { at: number; bytes: number; offset: number }[] = []
  let offset = SEGMENT_HEADER_BYTES
  for (let at = HEADER_BYTES; at + RECORD_HEADER_BYTES <= hint.length - CRC_BYTES; ) {
    const expiryBytes = hint[at + 28] & FLAG_EXPIRES ? EXPIRY_BYTES : 0
    const bytes = RECORD_HEADER_BYTES + expiryBytes + hint.readUInt16LE(at + 20)
    found.push({ at, bytes, offset })
    offset += bytes + hint.readUInt32LE(at + 16)
    at += bytes
  }
  return found
}

function hintLengths(name: string, bytes: Buffer): Hurt[] {
  const records = hintedRecords(bytes)
  const salt = bytes.readUInt32LE(36)
  const fields = records.flatMap(({ at }) =>
    HINTED_RECORD.map((field) => ({
      ...field,
      name: `${field.name} of the record at ${at}`,
      at: at + field.at,
    })),
  )
  return extremes(name, bytes, [...HINT_HEADER, ...fields], (changed, where) => {
    const record = records.find(({ at, bytes }) => where >= at && where < at + bytes)
    if (record === undefined) mendHeader(changed)
    else {
      const { at, bytes, offset } = record
      changed.writeUInt32LE(crc32(changed.subarray(at + 4, at + bytes), (salt ^ offset) >>> 0), at)
    }
    const end = changed.length - CRC_BYTES
    changed.writeUInt32LE(crc32(changed.subarray(0, end)), end)
  })
}

/** What other numbers bear out. The rest of a checkpoint is believed under its CRCs. */
const CHECKPOINT_HEADER: Field[] = [
  { name: 'segments', at: 32, bytes: 4 },
  { name: 'tables', at: 36, bytes: 4 },
  { name: 'bytes of the tables', at: 40, bytes: 8 },
  { name: 'segment of the begin', at: 48, bytes: 4 },
  { name: 'offset of the begin', at: 56, bytes: 8 },
  { name: 'entries', at: 72, bytes: 8 },
  { name: 'pieces', at: 80, bytes: 4 },
]
const COVERED_SEGMENT: Field[] = [
  { name: 'has ended', at: 8, bytes: 4 },
  { name: 'records', at: 12, bytes: 4 },
  { name: 'length', at: 16, bytes: 8 },
  { name: 'last sequence', at: 24, bytes: 8 },
]
const COVERED_SEGMENT_BYTES = 48
const PIECE: Field[] = [{ name: 'tables', at: 0, bytes: 4 }]
const PIECE_BYTES = 8
const TABLE: Field[] = [
  { name: 'entries', at: 4, bytes: 4 },
  { name: 'words', at: 8, bytes: 4 },
  { name: 'expiring entries', at: 12, bytes: 4 },
]
const TABLE_BYTES = 16

function checkpointLengths(name: string, bytes: Buffer): Hurt[] {
  const listsAt = CHECKPOINT_HEADER_BYTES + Number(bytes.readBigUInt64LE(40))
  const fields = [...CHECKPOINT_HEADER]
  let at = listsAt
  const add = (these: Field[], what: string, step: number): void => {
    fields.push(...these.map((field) => ({ ...field, name: `${field.name} of ${what}`, at: at + field.at })))
    at += step
  }
  for (let i = 1; i <= bytes.readUInt32LE(32); i++)
    add(COVERED_SEGMENT, `segment ${i}`, COVERED_SEGMENT_BYTES)
  for (let piece = 1; piece <= bytes.readUInt32LE(80); piece++) {
    const tables = bytes.readUInt32LE(at)
    add(PIECE, `piece ${piece}`, PIECE_BYTES)
    for (let i = 1; i <= tables; i++) add(TABLE, `table ${i} of piece ${piece}`, TABLE_BYTES)
  }
  return extremes(name, bytes, fields, (changed) => {
    changed.writeUInt32LE(crc32(changed.subarray(listsAt)), 104)
    mendHeader(changed, CHECKPOINT_HEADER_BYTES)
  })
}

/** Every length and count in a hint or a checkpoint. */
export function cacheLengths(name: string, content: Uint8Array): Hurt[] {
  const bytes = Buffer.from(content)
  // What is too short has none.
  const isCheckpoint = name === 'CHECKPOINT'
  if (bytes.length < (isCheckpoint ? CHECKPOINT_HEADER_BYTES : HEADER_BYTES) + CRC_BYTES) return []
  return isCheckpoint ? checkpointLengths(name, bytes) : hintLengths(name, bytes)
}
