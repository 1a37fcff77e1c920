// What the log says, behind a checkpoint, of keys whose tables did not come in yet: it is applied when they do. So an
// open after a kill reads the end of the log, and no table. For each piece of the checkpoint a list, in the log's order:
//
//   change  word 0  where the next change of the piece is (0: it is the last)
//           word 1  1 bit: it removes the key | 1 bit: damaged | 1 bit: expires | 16 bits: bytes of the key
//           words 2 and 3  the key's hash, low and high
//           words 4 and 5  the record's segment slot and offset
//           words 6 to 8  bytes of the value, and expiresAtMs, low and high
//           the key, padded to whole words
import {
  KIND_PUT,
  RECORD_HEADER_BYTES,
  ROW_AT,
  ROW_HASH_HIGH,
  ROW_HASH_LOW,
  ROW_KIND,
  ROW_VALUE_BYTES,
  ROW_WORDS,
} from '../../assembly/layout'
import { TWO_32 } from '../bytes'
import { recordBytes } from '../segment'
import type { FoldedTables } from './folded'
import { emptyPlace, type Place } from './heap'

const REMOVES = 1 << 31
const DAMAGED = 1 << 30
const EXPIRES = 1 << 29
const SEGMENT_WORD = 4
const OFFSET_WORD = 5
const FIXED_WORDS = 9
const CHUNK_BITS = 16
const CHUNK_WORDS = 1 << CHUNK_BITS
const WORD_MASK = CHUNK_WORDS - 1
/** What comes behind so much is applied at once, and has its tables come in. */
const BYTES_MAX = 0x400_0000
const CHUNKS_MAX = BYTES_MAX / (CHUNK_WORDS * 4)
/** No change is at 0. */
const FIRST_WORD = 1
const KEY_BYTES_MASK = 0xffff

/** In words. */
const sizeOf = (keyBytes: number): number => FIXED_WORDS + ((keyBytes + 3) >>> 2)

/** Kind and flags of a row whose put is sound, in no batch, and doesn't expire. */
const PLAIN_MASK = 0xffff

/** Rows of a scan's table: `count` of them, from its word `row` on. */
export interface ScannedRows {
  words: Uint32Array
  row: number
  count: number
  /** Their records stand here, one behind the other. */
  bytes: Uint8Array
  at: number
  /** The segment that they are in, and where in it. */
  segment: number
  offset: number
}

/** A change as `forEach` shows it: one object for all. */
export interface Change {
  removes: boolean
  hashLow: number
  hashHigh: number
  source: Uint8Array
  at: number
  keyBytes: number
  /** Where the record lies. */
  place: Place
}

export class Backlog {
  private readonly chunks: Uint32Array[] = []
  private readonly bytesOf: Uint8Array[] = []
  private usedWords = CHUNK_WORDS
  /** By the number of a piece: where its first change is, and its last. */
  private readonly first: Uint32Array
  private readonly last: Uint32Array
  /** How many pieces have changes. */
  private waiting = 0

  /** `indexShift`: the upper half of a hash less so many bits is the index of a table. */
  constructor(
    private readonly folded: FoldedTables,
    private readonly indexShift: number,
  ) {
    const { pieces } = folded.keydir
    this.first = new Uint32Array(pieces)
    this.last = new Uint32Array(pieces)
  }

  get isEmpty(): boolean {
    return this.waiting === 0
  }

  get memoryBytes(): number {
    return this.chunks.length * CHUNK_WORDS * 4
  }

  has(piece: number): boolean {
    return this.first[piece] !== 0
  }

  /**
   * Keeps a change to a key whose table waits, until that comes in: its newest record is at `place`, or `removes` it. False
   * where the table doesn't wait, or there is no room: then the change is to be made at once.
   */
  add(
    removes: boolean,
    hashLow: number,
    hashHigh: number,
    source: Uint8Array,
    at: number,
    keyBytes: number,
    { segment, offset, valueBytes, expiresAtMs, isDamaged }: Place,
  ): boolean {
    const piece = this.folded.pieceOf(hashHigh >>> this.indexShift)
    if (piece < 0) return false
    const size = sizeOf(keyBytes)
    if (this.usedWords + size > CHUNK_WORDS && !this.begin()) return false
    const chunk = this.chunks.length - 1
    const words = this.chunks[chunk]
    const word = this.usedWords
    this.usedWords += size
    const expiry = expiresAtMs ?? 0
    const flags =
      (removes ? REMOVES : 0) | (isDamaged ? DAMAGED : 0) | (expiresAtMs === undefined ? 0 : EXPIRES)
    words[word + 1] = flags | keyBytes
    words[word + 2] = hashLow
    words[word + 3] = hashHigh
    words[word + SEGMENT_WORD] = segment
    words[word + OFFSET_WORD] = offset
    words[word + 6] = valueBytes
    words[word + 7] = expiry
    words[word + 8] = expiry / TWO_32
    const bytes = this.bytesOf[chunk]
    const keyAt = (word + FIXED_WORDS) * 4
    for (let i = 0; i < keyBytes; i++) bytes[keyAt + i] = source[at + i]
    this.link(piece, chunk * CHUNK_WORDS + word)
    return true
  }

  /**
   * Keeps what rows put, as `add` does: of so many of the first of them as are plain puts to tables that wait, and as there
   * is room for; returns how many. One short loop: opening goes through it once, before anything is compiled well.
   */
  addPuts({ words: rows, row: first, count, bytes: records, at, segment, offset }: ScannedRows): number {
    const { folded, indexShift } = this
    let words = this.chunks[this.chunks.length - 1]
    let bytes = this.bytesOf[this.chunks.length - 1]
    for (let taken = 0, row = first; taken < count; taken++, row += ROW_WORDS) {
      const kind = rows[row + ROW_KIND]
      if ((kind & PLAIN_MASK) !== KIND_PUT) return taken
      const piece = folded.pieceOf(rows[row + ROW_HASH_HIGH] >>> indexShift)
      if (piece < 0) return taken
      const keyBytes = kind >>> 16
      const size = sizeOf(keyBytes)
      if (this.usedWords + size > CHUNK_WORDS) {
        if (!this.begin()) return taken
        words = this.chunks[this.chunks.length - 1]
        bytes = this.bytesOf[this.chunks.length - 1]
      }
      const word = this.usedWords
      this.usedWords = word + size
      words[word + 1] = keyBytes
      words[word + 2] = rows[row + ROW_HASH_LOW]
      words[word + 3] = rows[row + ROW_HASH_HIGH]
      words[word + SEGMENT_WORD] = segment
      words[word + OFFSET_WORD] = offset + rows[row + ROW_AT]
      words[word + 6] = rows[row + ROW_VALUE_BYTES]
      const from = at + rows[row + ROW_AT] + RECORD_HEADER_BYTES
      const to = (word + FIXED_WORDS) * 4
      for (let i = 0; i < keyBytes; i++) bytes[to + i] = records[from + i]
      this.link(piece, (this.chunks.length - 1) * CHUNK_WORDS + word)
    }
    return count
  }

  private begin(): boolean {
    if (this.chunks.length === CHUNKS_MAX) return false
    const words = new Uint32Array(CHUNK_WORDS)
    this.chunks.push(words)
    this.bytesOf.push(new Uint8Array(words.buffer))
    this.usedWords = FIRST_WORD
    return true
  }

  private link(piece: number, change: number): void {
    const { first, last, chunks } = this
    if (first[piece] === 0) {
      first[piece] = change
      this.waiting++
    } else {
      chunks[last[piece] >>> CHUNK_BITS][last[piece] & WORD_MASK] = change
    }
    last[piece] = change
  }

  /** Calls `visit` with each change of a piece, in the log's order. They stay. */
  forEach(piece: number, visit: (change: Change) => void): void {
    const place = emptyPlace()
    const key = { source: new Uint8Array(0), at: 0, keyBytes: 0 }
    const change: Change = { removes: false, hashLow: 0, hashHigh: 0, ...key, place }
    for (let each = this.first[piece], next = 0; each !== 0; each = next) {
      const words = this.chunks[each >>> CHUNK_BITS]
      const word = each & WORD_MASK
      next = words[word]
      const head = words[word + 1]
      const expires = (head & EXPIRES) !== 0
      change.removes = (head & REMOVES) !== 0
      change.hashLow = words[word + 2]
      change.hashHigh = words[word + 3]
      change.source = this.bytesOf[each >>> CHUNK_BITS]
      change.at = (word + FIXED_WORDS) * 4
      change.keyBytes = head & KEY_BYTES_MASK
      place.segment = words[word + SEGMENT_WORD]
      place.offset = words[word + OFFSET_WORD]
      place.isDamaged = (head & DAMAGED) !== 0
      place.valueBytes = words[word + 6]
      place.expiresAtMs = expires ? words[word + 7] + words[word + 8] * TWO_32 : undefined
      place.recordBytes = recordBytes(change.keyBytes, place.valueBytes, expires)
      visit(change)
    }
  }

  /** The records that lie in the segment in slot `from` lie in that in slot `to`, where `movedTo` says that they moved. */
  moveAll(from: number, to: number, movedTo: (offset: number) => number | undefined): void {
    // As they stand, and not list by list, which lie all over the chunks. What is dropped may change as well.
    for (const words of this.chunks) {
      for (
        let word = FIRST_WORD, keyBytes: number;
        word + FIXED_WORDS < CHUNK_WORDS;
        word += sizeOf(keyBytes)
      ) {
        keyBytes = words[word + 1] & KEY_BYTES_MASK
        // No key is empty: that is the end of the chunk.
        if (keyBytes === 0) break
        const offset = words[word + SEGMENT_WORD] === from ? movedTo(words[word + OFFSET_WORD]) : undefined
        if (offset === undefined) continue
        words[word + SEGMENT_WORD] = to
        words[word + OFFSET_WORD] = offset
      }
    }
  }

  /** The changes of a piece are applied, or it has been made anew from the log, which holds them. */
  drop(piece: number): void {
    if (this.first[piece] === 0) return
    this.first[piece] = 0
    this.waiting--
  }
}
