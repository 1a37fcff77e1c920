// CHECKPOINT, as it lies on disk: the keydir at some moment, and the segments that it speaks of (docs/FORMAT.md,
// "Checkpoint").
import { readU64, viewOf, writeU64 } from './bytes'
import type { Kernels } from './kernels'
import { TABLES, type TableImage } from './keydir/keydir'
import { SECRET_BYTES } from './manifest'
import { magicOf, readPreamble, writePreamble } from './preamble'
import { STORE_ID_BYTES } from './segment'

const MAGIC = magicOf('CASKYCHK')
export const CHECKPOINT_HEADER_BYTES = 112
const STORE_ID_AT = 16
const SEGMENTS_AT = 32
const TABLES_AT = 36
const IMAGE_BYTES_AT = 40
const BEGIN_INDEX_AT = 48
const BEGIN_RECORDS_AT = 52
const BEGIN_BYTES_AT = 56
const BEGIN_LAST_SEQUENCE_AT = 64
const ENTRIES_AT = 72
const PIECES_AT = 80
const SECRET_AT = 88
const LISTS_CRC_AT = 104
const CRC_AT = 108

const SEGMENT_BYTES = 48
const TABLE_BYTES = 24
const PIECE_BYTES = 8
const WORD_BYTES = 4
/** In the word of a table's index: its hashes are keyed ones. */
const IS_KEYED = 0x8000_0000

/** A segment that a checkpoint speaks of. */
export interface CoveredSegment {
  id: number
  salt: number
  /** Whether it had ended: then its bytes, records and last sequence number were decided. */
  isEnded: boolean
  records: number
  /** Valid bytes; of the last one, if it was active: those that the log had when the last table was copied. */
  bytes: number
  lastSequence: number
  /** Of the records that the entries of the checkpoint point to. */
  liveBytes: number
  tombstoneBytes: number
}

/** Tables that were written together, and are loaded together, under one CRC. */
export interface CheckpointPiece {
  /** Their words stand in the file in the order of this list, of each its heap first, then its slots. */
  tables: TableImage[]
  crc: number
}

/** Where the log was when the first table was copied: all that was written later is applied again. */
export interface CheckpointBegin {
  /** Of the segment in the list. */
  index: number
  /** Of that segment: bytes, records and last sequence number. */
  bytes: number
  records: number
  lastSequence: number
}

export interface Checkpoint {
  storeId: Uint8Array
  /** What keyed hashes are keyed with. */
  secret: Uint8Array
  begin: CheckpointBegin
  entries: number
  segments: CoveredSegment[]
  pieces: CheckpointPiece[]
}

export function bytesOf({ tables }: CheckpointPiece): number {
  return tables.reduce((sum, { heapWords, slots }) => sum + (heapWords + slots) * WORD_BYTES, 0)
}

/** What stands behind the tables' words, and the header, which stands before them. */
export function encodeCheckpoint(
  kernels: Kernels,
  checkpoint: Checkpoint,
): { header: Uint8Array; lists: Uint8Array } {
  const { storeId, secret, begin, entries, segments, pieces } = checkpoint
  const tables = pieces.reduce((sum, piece) => sum + piece.tables.length, 0)
  const lists = encodeLists(segments, pieces, tables)
  const header = new Uint8Array(CHECKPOINT_HEADER_BYTES)
  const view = viewOf(header)
  writePreamble(kernels, header, MAGIC, CHECKPOINT_HEADER_BYTES)
  header.set(storeId, STORE_ID_AT)
  header.set(secret, SECRET_AT)
  view.setUint32(SEGMENTS_AT, segments.length, true)
  view.setUint32(TABLES_AT, tables, true)
  writeU64(
    view,
    IMAGE_BYTES_AT,
    pieces.reduce((sum, piece) => sum + bytesOf(piece), 0),
  )
  view.setUint32(BEGIN_INDEX_AT, begin.index, true)
  view.setUint32(BEGIN_RECORDS_AT, begin.records, true)
  writeU64(view, BEGIN_BYTES_AT, begin.bytes)
  writeU64(view, BEGIN_LAST_SEQUENCE_AT, begin.lastSequence)
  writeU64(view, ENTRIES_AT, entries)
  view.setUint32(PIECES_AT, pieces.length, true)
  view.setUint32(LISTS_CRC_AT, kernels.crc(lists), true)
  view.setUint32(CRC_AT, kernels.crc(header.subarray(0, CRC_AT)), true)
  return { header, lists }
}

function encodeLists(segments: CoveredSegment[], pieces: CheckpointPiece[], tables: number): Uint8Array {
  const lists = new Uint8Array(
    segments.length * SEGMENT_BYTES + pieces.length * PIECE_BYTES + tables * TABLE_BYTES,
  )
  const view = viewOf(lists)
  let at = 0
  const words = (...values: number[]): void => {
    for (const value of values) {
      view.setUint32(at, value, true)
      at += WORD_BYTES
    }
  }
  for (const { id, salt, isEnded, records, bytes, lastSequence, liveBytes, tombstoneBytes } of segments) {
    words(id, salt, isEnded ? 1 : 0, records)
    for (const long of [bytes, lastSequence, liveBytes, tombstoneBytes]) {
      writeU64(view, at, long)
      at += 2 * WORD_BYTES
    }
  }
  for (const { tables, crc } of pieces) {
    words(tables.length, crc)
    for (const { index, count, heapWords, deadWords, slots, expiring, isKeyed } of tables)
      words(isKeyed ? index + IS_KEYED : index, count, heapWords, deadWords, slots, expiring)
  }
  return lists
}

/** How many bytes of lists a header announces, and where they begin; or what is wrong with the header. */
export function listsOf(
  kernels: Kernels,
  header: Uint8Array,
  fileBytes: number,
): { at: number; bytes: number } | string {
  const preamble = readPreamble(kernels, header, MAGIC)
  if (preamble.kind === 'newer') return 'it is of a newer format'
  if (preamble.kind !== 'ours' || header.length < CHECKPOINT_HEADER_BYTES) return 'it is damaged'
  const view = viewOf(header)
  if (view.getUint32(CRC_AT, true) !== kernels.crc(header.subarray(0, CRC_AT))) return 'it is damaged'
  const at = CHECKPOINT_HEADER_BYTES + readU64(view, IMAGE_BYTES_AT)
  const bytes =
    view.getUint32(SEGMENTS_AT, true) * SEGMENT_BYTES +
    view.getUint32(PIECES_AT, true) * PIECE_BYTES +
    view.getUint32(TABLES_AT, true) * TABLE_BYTES
  return at + bytes === fileBytes ? { at, bytes } : 'it has another length than it says'
}

/** What a header, known to be sound, and its lists say; or what is wrong with them. */
export function decodeCheckpoint(
  kernels: Kernels,
  header: Uint8Array,
  lists: Uint8Array,
): Checkpoint | string {
  const view = viewOf(header)
  if (view.getUint32(LISTS_CRC_AT, true) !== kernels.crc(lists)) return 'its lists are damaged'
  const checkpoint: Checkpoint = {
    storeId: header.slice(STORE_ID_AT, STORE_ID_AT + STORE_ID_BYTES),
    secret: header.slice(SECRET_AT, SECRET_AT + SECRET_BYTES),
    begin: {
      index: view.getUint32(BEGIN_INDEX_AT, true),
      records: view.getUint32(BEGIN_RECORDS_AT, true),
      bytes: readU64(view, BEGIN_BYTES_AT),
      lastSequence: readU64(view, BEGIN_LAST_SEQUENCE_AT),
    },
    entries: readU64(view, ENTRIES_AT),
    ...decodeLists(viewOf(lists), view.getUint32(SEGMENTS_AT, true), view.getUint32(PIECES_AT, true)),
  }
  return isConsistent(checkpoint, readU64(view, IMAGE_BYTES_AT)) ? checkpoint : 'its lists make no sense'
}

/** Stops where the lists end, whatever they say of their own length. */
function decodeLists(
  view: DataView,
  segmentCount: number,
  pieceCount: number,
): { segments: CoveredSegment[]; pieces: CheckpointPiece[] } {
  const segments: CoveredSegment[] = []
  const pieces: CheckpointPiece[] = []
  let at = 0
  const word = (): number => {
    at += WORD_BYTES
    return view.getUint32(at - WORD_BYTES, true)
  }
  const long = (): number => {
    at += 2 * WORD_BYTES
    return readU64(view, at - 2 * WORD_BYTES)
  }
  for (let i = 0; i < segmentCount; i++) {
    segments.push({
      id: word(),
      salt: word(),
      isEnded: word() === 1,
      records: word(),
      bytes: long(),
      lastSequence: long(),
      liveBytes: long(),
      tombstoneBytes: long(),
    })
  }
  for (let i = 0; i < pieceCount && at + PIECE_BYTES <= view.byteLength; i++) {
    const tables: TableImage[] = []
    const tableCount = word()
    const crc = word()
    for (let table = 0; table < tableCount && at + TABLE_BYTES <= view.byteLength; table++) {
      const index = word()
      tables.push({
        index: index & ~IS_KEYED,
        isKeyed: index >= IS_KEYED,
        count: word(),
        heapWords: word(),
        deadWords: word(),
        slots: word(),
        expiring: word(),
      })
    }
    pieces.push({ tables, crc })
  }
  return { segments, pieces }
}

function isConsistent({ begin, entries, segments, pieces }: Checkpoint, imageBytes: number): boolean {
  if (begin.index >= segments.length || segments.some(({ bytes, liveBytes }) => liveBytes > bytes))
    return false
  const begun = segments[begin.index]
  if (begin.bytes > begun.bytes || begin.records > begun.records) return false
  if (begin.records > 0 && begin.lastSequence > begun.lastSequence) return false
  let foundEntries = 0
  let foundBytes = 0
  for (const piece of pieces) {
    for (const { index, count, expiring, heapWords, slots } of piece.tables) {
      // At most seven eighths of the slots are used.
      if (index >= TABLES || count === 0 || expiring > count) return false
      if (count * 8 > slots * 7 || count * 4 > heapWords) return false
      foundEntries += count
    }
    foundBytes += bytesOf(piece)
  }
  return foundEntries === entries && foundBytes === imageBytes
}
