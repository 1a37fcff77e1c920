// What the log says, behind a checkpoint, of keys whose tables did not come in yet: it is applied when they do. So an
// open after a kill reads the end of the log, and no table. For each piece of the checkpoint a list, in the log's order:
//
//   change  word 0  where the next change of the piece is (0: it is the last)
//           word 1  2 bits: its kind | 1 bit: damaged | 1 bit: expires | 16 bits: bytes of the key
//           words 2 and 3  the key's hash, low and high
//           words 4 and 5  the record's segment slot and offset
//           words 6 to 8  of a put: bytes of the value, and expiresAtMs, low and high
//           words 6 and 7  of a move: the segment slot and the offset that the record has now
//           the key, padded to whole words
import { TWO_32 } from '../bytes'
import { recordBytes } from '../segment'
import { emptyPlace, type Place } from './heap'

export const CHANGE_PUT = 0
export const CHANGE_REMOVE = 1
export const CHANGE_MOVE = 2

const KIND_SHIFT = 30
const DAMAGED = 1 << 29
const EXPIRES = 1 << 28
const FIXED_WORDS = 9
const CHUNK_BITS = 16
const CHUNK_WORDS = 1 << CHUNK_BITS
const WORD_MASK = CHUNK_WORDS - 1
/** What comes behind so much is applied at once, and has its tables come in. */
const BYTES_MAX = 0x400_0000
const CHUNKS_MAX = BYTES_MAX / (CHUNK_WORDS * 4)

/** A change as `forEach` shows it: one object for all. */
export interface Change {
  kind: number
  hashLow: number
  hashHigh: number
  source: Uint8Array
  at: number
  keyBytes: number
  /** Of a put the new place; of a move what the old one was, its segment and its offset only. */
  place: Place
  /** Of a move: where the record lies now. */
  to: { segment: number; offset: number }
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

  constructor(pieces: number) {
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

  /** False, and nothing is kept, where there is no more room. `to`: of a move. */
  add(
    piece: number,
    kind: number,
    hashLow: number,
    hashHigh: number,
    source: Uint8Array,
    at: number,
    keyBytes: number,
    place: Pick<Place, 'segment' | 'offset'> & Partial<Place>,
    to: Change['to'],
  ): boolean {
    const size = FIXED_WORDS + ((keyBytes + 3) >>> 2)
    if (this.usedWords + size > CHUNK_WORDS && !this.begin()) return false
    const chunk = this.chunks.length - 1
    const words = this.chunks[chunk]
    const word = this.usedWords
    this.usedWords += size
    const { expiresAtMs } = place
    const flags =
      (place.isDamaged === true ? DAMAGED : 0) |
      (kind === CHANGE_PUT && expiresAtMs !== undefined ? EXPIRES : 0)
    words[word + 1] = (kind << KIND_SHIFT) | flags | keyBytes
    words[word + 2] = hashLow
    words[word + 3] = hashHigh
    words[word + 4] = place.segment
    words[word + 5] = place.offset
    if (kind === CHANGE_MOVE) {
      words[word + 6] = to.segment
      words[word + 7] = to.offset
    } else {
      words[word + 6] = place.valueBytes ?? 0
      words[word + 7] = expiresAtMs ?? 0
      words[word + 8] = (expiresAtMs ?? 0) / TWO_32
    }
    const bytes = this.bytesOf[chunk]
    const keyAt = (word + FIXED_WORDS) * 4
    for (let i = 0; i < keyBytes; i++) bytes[keyAt + i] = source[at + i]
    this.link(piece, chunk * CHUNK_WORDS + word)
    return true
  }

  private begin(): boolean {
    if (this.chunks.length === CHUNKS_MAX) return false
    const words = new Uint32Array(CHUNK_WORDS)
    this.chunks.push(words)
    this.bytesOf.push(new Uint8Array(words.buffer))
    // So that no change is at 0.
    this.usedWords = 1
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
    const to = { segment: 0, offset: 0 }
    const change: Change = {
      ...{ kind: 0, hashLow: 0, hashHigh: 0 },
      ...{ source: new Uint8Array(0), at: 0, keyBytes: 0, place, to },
    }
    for (let each = this.first[piece], next = 0; each !== 0; each = next) {
      const words = this.chunks[each >>> CHUNK_BITS]
      const word = each & WORD_MASK
      next = words[word]
      const head = words[word + 1]
      const expires = (head & EXPIRES) !== 0
      change.kind = head >>> KIND_SHIFT
      change.hashLow = words[word + 2]
      change.hashHigh = words[word + 3]
      change.source = this.bytesOf[each >>> CHUNK_BITS]
      change.at = (word + FIXED_WORDS) * 4
      change.keyBytes = head & 0xffff
      place.segment = words[word + 4]
      place.offset = words[word + 5]
      place.isDamaged = (head & DAMAGED) !== 0
      place.valueBytes = words[word + 6]
      place.expiresAtMs = expires ? words[word + 7] + words[word + 8] * TWO_32 : undefined
      place.recordBytes = recordBytes(change.keyBytes, place.valueBytes, expires)
      to.segment = words[word + 6]
      to.offset = words[word + 7]
      visit(change)
    }
  }

  /** The changes of a piece are applied, or it has been made anew from the log, which holds them. */
  drop(piece: number): void {
    if (this.first[piece] === 0) return
    this.first[piece] = 0
    this.waiting--
  }
}
