// CHECKPOINT, as it lies on disk: the keydir at some moment, and the segments that it speaks of (docs/FORMAT.md,
// "Checkpoint").
import { readU64, viewOf, writeU64 } from './bytes'
import type { Kernels } from './kernels'
import { type FoldedKeydir, type FoldedPiece, TABLES, type TableImage } from './keydir/keydir'
import { SECRET_BYTES } from './manifest'
import { magicOf, readPreamble, writePreamble } from './preamble'
import { STORE_ID_BYTES } from './segment'

const MAGIC = magicOf('CASKYKDR')
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
const TABLE_BYTES = 16
const PIECE_BYTES = 8
const WORD_BYTES = 4
const TABLE_WORDS = TABLE_BYTES / WORD_BYTES
const PIECE_WORDS = PIECE_BYTES / WORD_BYTES
/** The least that an entry takes: its fixed words, the hash before them, and a key of one. */
const ENTRY_WORDS_MIN = 5
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
  /** Their words stand in the file in the order of this list, which is that of their indexes. */
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

interface About {
  storeId: Uint8Array
  /** What keyed hashes are keyed with. */
  secret: Uint8Array
  begin: CheckpointBegin
  entries: number
  segments: CoveredSegment[]
}

export interface Checkpoint extends About {
  pieces: CheckpointPiece[]
}

/** A checkpoint without the words of its tables. */
export interface CheckpointLists extends About {
  keydir: FoldedKeydir
}

function bytesOf({ tables }: CheckpointPiece): number {
  return tables.reduce((sum, { words }) => sum + words * WORD_BYTES, 0)
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
    for (const { index, count, words: tableWords, expiring, isKeyed } of tables)
      words(isKeyed ? index + IS_KEYED : index, count, tableWords, expiring)
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
): CheckpointLists | string {
  const view = viewOf(header)
  if (view.getUint32(LISTS_CRC_AT, true) !== kernels.crc(lists)) return 'its lists are damaged'
  const segments = decodeSegments(viewOf(lists), view.getUint32(SEGMENTS_AT, true))
  const keydir = decodeTables(
    lists.subarray(segments.length * SEGMENT_BYTES),
    view.getUint32(PIECES_AT, true),
    segments.length,
  )
  if (keydir === undefined) return 'its lists make no sense'
  const decoded = {
    storeId: header.slice(STORE_ID_AT, STORE_ID_AT + STORE_ID_BYTES),
    secret: header.slice(SECRET_AT, SECRET_AT + SECRET_BYTES),
    begin: {
      index: view.getUint32(BEGIN_INDEX_AT, true),
      records: view.getUint32(BEGIN_RECORDS_AT, true),
      bytes: readU64(view, BEGIN_BYTES_AT),
      lastSequence: readU64(view, BEGIN_LAST_SEQUENCE_AT),
    },
    entries: readU64(view, ENTRIES_AT),
    segments,
    keydir,
  }
  return isConsistent(decoded, readU64(view, IMAGE_BYTES_AT)) ? decoded : 'its lists make no sense'
}

function decodeSegments(view: DataView, count: number): CoveredSegment[] {
  const segments: CoveredSegment[] = []
  for (let i = 0, at = 0; i < count; i++, at += SEGMENT_BYTES) {
    segments.push({
      id: view.getUint32(at, true),
      salt: view.getUint32(at + 4, true),
      isEnded: view.getUint32(at + 8, true) === 1,
      records: view.getUint32(at + 12, true),
      bytes: readU64(view, at + 16),
      lastSequence: readU64(view, at + 24),
      liveBytes: readU64(view, at + 32),
      tombstoneBytes: readU64(view, at + 40),
    })
  }
  return segments
}

/** The lists of pieces and tables; undefined where they make no sense. They are looked at word by word, once. */
function decodeTables(lists: Uint8Array, pieces: number, segments: number): FoldedKeydir | undefined {
  const words = new Uint32Array(lists.buffer, lists.byteOffset, lists.length / WORD_BYTES)
  const pieceOf = new Int32Array(TABLES).fill(-1)
  const listedAt: number[] = []
  const positions: number[] = [CHECKPOINT_HEADER_BYTES]
  let count = 0
  let expiring = 0
  let position = CHECKPOINT_HEADER_BYTES
  let at = 0
  let last = -1
  for (let piece = 0; piece < pieces; piece++) {
    const end = at + PIECE_WORDS + words[at] * TABLE_WORDS
    if (!(words[at] > 0 && end <= words.length)) return undefined
    listedAt.push(at)
    for (at += PIECE_WORDS; at < end; at += TABLE_WORDS) {
      const index = (words[at] & ~IS_KEYED) >>> 0
      const entries = words[at + 1]
      if (index >= TABLES || index <= last || entries === 0 || words[at + 3] > entries) return undefined
      if (entries * ENTRY_WORDS_MIN > words[at + 2]) return undefined
      last = index
      pieceOf[index] = piece
      count += entries
      expiring += words[at + 3]
      position += words[at + 2] * WORD_BYTES
    }
    positions.push(position)
  }
  if (at !== words.length) return undefined
  const pieceAt = (piece: number): FoldedPiece => ({
    position: positions[piece],
    bytes: positions[piece + 1] - positions[piece],
    crc: words[listedAt[piece] + 1],
    tables: tablesIn(words, listedAt[piece]),
  })
  const bytes = position - CHECKPOINT_HEADER_BYTES
  return { count, expiring, bytes, segments, pieces, pieceOf, pieceAt }
}

/** The tables of the piece that is listed from there on. */
function tablesIn(words: Uint32Array, listedAt: number): TableImage[] {
  return Array.from({ length: words[listedAt] }, (_, table) => {
    const at = listedAt + PIECE_WORDS + table * TABLE_WORDS
    return {
      index: (words[at] & ~IS_KEYED) >>> 0,
      isKeyed: words[at] >= IS_KEYED,
      count: words[at + 1],
      words: words[at + 2],
      expiring: words[at + 3],
    }
  })
}

function isConsistent({ begin, entries, segments, keydir }: CheckpointLists, imageBytes: number): boolean {
  if (begin.index >= segments.length || segments.some(({ bytes, liveBytes }) => liveBytes > bytes))
    return false
  const begun = segments[begin.index]
  if (begin.bytes > begun.bytes || begin.records > begun.records) return false
  if (begin.records > 0 && begin.lastSequence > begun.lastSequence) return false
  return keydir.count === entries && keydir.bytes === imageBytes
}
