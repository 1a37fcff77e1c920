// The entries of all tables, packed one behind the other in chunks, in the order in which they came.
//
//   entry   word 0  1 bit: expires  | 31 bits: offset of the record in its segment
//           word 1  1 bit: damaged  | 31 bits: bytes of the value
//           word 2  low 16 bits of the segment slot | 16 bits: bytes of the key
//           words 3 and 4, only if it expires: expiresAtMs, low and high
//           the key, padded with zero bytes to whole words
//
// The high 8 bits of the segment slot stand in the slot that points to it, beside its hash (see table.ts). What is
// released leaves a hole. Once a quarter is holes, the chunks that have many of them are emptied, table by table, and
// given back: as a log-structured memory does (S. Rumble, A. Kejriwal, J. Ousterhout, "Log-structured Memory for
// DRAM-based Storage", FAST 2014).
import { TWO_32 } from '../bytes'
import { CaskyError, invariant } from '../errors'
import { recordBytes } from '../segment'

export const FIXED_WORDS = 3
export const EXPIRY_WORDS = 2
const TOP_BIT = 0x8000_0000
const LOW_31 = 0x7fff_ffff
/** A place is the number of a chunk and a word of it, in 32 bits. */
const CHUNK_BITS = 16
const CHUNK_WORDS = 1 << CHUNK_BITS
const WORD_MASK = CHUNK_WORDS - 1
const CHUNKS_MAX = 1 << (32 - CHUNK_BITS)
/** The first chunk is small, and each is twice as long as the one before until they are whole. */
const CHUNK_BITS_MIN = 10
const CHUNK_WORDS_MIN = 1 << CHUNK_BITS_MIN
/** Fewer holes are not worth the work. */
const HOLE_WORDS_MIN = 1 << 14
/** One word of so many, of all or of a chunk, is a hole. */
const HOLES_RATIO = 4
const NO_WORDS = new Uint32Array(0)
const NO_BYTES = new Uint8Array(0)

/** Where a key's newest record lies. One object is reused for many answers: copy what you keep. */
export interface Place {
  segment: number
  offset: number
  valueBytes: number
  recordBytes: number
  /** undefined: never */
  expiresAtMs: number | undefined
  isDamaged: boolean
}

export function emptyPlace(): Place {
  return { segment: 0, offset: 0, valueBytes: 0, recordBytes: 0, expiresAtMs: undefined, isDamaged: false }
}

/** Calls back with an entry: its key stands in `keys` from `keyAt` on. */
export type Visit = (place: Place, keys: Uint8Array, keyAt: number, keyBytes: number) => void

/** The bytes of a key from `at` on as a word, the first of them lowest; at most four. */
function keyWord(source: Uint8Array, at: number, bytes: number): number {
  let word = source[at]
  if (bytes > 1) word |= source[at + 1] << 8
  if (bytes > 2) word |= source[at + 2] << 16
  if (bytes > 3) word |= source[at + 3] << 24
  return word
}

export class EntryHeap {
  private readonly chunks: Uint32Array[] = []
  private readonly bytesOf: Uint8Array[] = []
  private readonly holeWordsOf: number[] = []
  /** Numbers of chunks that were given back. */
  private readonly vacant: number[] = []
  /** The chunk that is filled. */
  private current = NO_WORDS
  private base = 0
  private usedWords = 0
  private totalWords = 0
  private holeWords = 0
  /** By the number of a chunk: whether it is being emptied. */
  private victims: Uint8Array | undefined

  get memoryBytes(): number {
    return this.totalWords * 4
  }

  /** Adds an entry and returns its place, which is never 0. */
  add(source: Uint8Array, at: number, keyBytes: number, place: Place): number {
    const expiryWords = place.expiresAtMs === undefined ? 0 : EXPIRY_WORDS
    const entry = this.room(FIXED_WORDS + expiryWords + ((keyBytes + 3) >>> 2))
    const words = this.current
    writeFields(words, entry, keyBytes, place)
    let word = entry + FIXED_WORDS + expiryWords
    for (let i = 0; i < keyBytes; i += 4, word++) words[word] = keyWord(source, at + i, keyBytes - i)
    return this.base + entry
  }

  /** Adds an entry as it stands at `from[at]`, `size` words long. */
  copy(from: Uint32Array, at: number, size: number): number {
    const entry = this.room(size)
    const words = this.current
    for (let i = 0; i < size; i++) words[entry + i] = from[at + i]
    return this.base + entry
  }

  private room(size: number): number {
    if (this.usedWords + size > this.current.length) this.begin(size)
    const entry = this.usedWords
    this.usedWords += size
    return entry
  }

  private begin(size: number): void {
    const { chunks } = this
    const chunk = this.vacant.pop() ?? chunks.length
    if (chunk === CHUNKS_MAX) {
      throw new CaskyError('CASKY_MEMORY', 'the keys of one store take at most 16 GiB of memory')
    }
    const usual = CHUNK_WORDS_MIN << Math.min(chunks.length, CHUNK_BITS - CHUNK_BITS_MIN)
    const words = new Uint32Array(Math.max(usual, size + 1))
    invariant(words.length <= CHUNK_WORDS, 'a chunk has room for the longest key')
    chunks[chunk] = words
    this.bytesOf[chunk] = new Uint8Array(words.buffer)
    this.holeWordsOf[chunk] = 0
    this.totalWords += words.length
    this.current = words
    this.base = chunk * CHUNK_WORDS
    // So that no entry is at place 0.
    this.usedWords = 1
  }

  /** Leaves a hole where the entry was. */
  release(at: number): void {
    const chunk = at >>> CHUNK_BITS
    const size = this.sizeOf(at)
    this.holeWordsOf[chunk] += size
    this.holeWords += size
  }

  /** In words. */
  sizeOf(at: number): number {
    const words = this.chunks[at >>> CHUNK_BITS]
    const entry = at & WORD_MASK
    return FIXED_WORDS + expiryWordsOf(words, entry) + (((words[entry + 2] & 0xffff) + 3) >>> 2)
  }

  hasKey(at: number, source: Uint8Array, from: number, keyBytes: number): boolean {
    const words = this.chunks[at >>> CHUNK_BITS]
    const entry = at & WORD_MASK
    if ((words[entry + 2] & 0xffff) !== keyBytes) return false
    let word = entry + FIXED_WORDS + expiryWordsOf(words, entry)
    for (let i = 0; i < keyBytes; i += 4, word++) {
      if ((words[word] ^ keyWord(source, from + i, keyBytes - i)) !== 0) return false
    }
    return true
  }

  /** Brings its cache line in. */
  touch(at: number): number {
    return this.chunks[at >>> CHUNK_BITS][at & WORD_MASK] | 0
  }

  /** Brings in the lines of the first so many entries, of which some may be 0, as far as so many words go. */
  touchAll(entries: Int32Array, count: number, words: number): number {
    const { chunks } = this
    let touched = 0
    for (let i = 0; i < count; i++) {
      const entry = entries[i]
      if (entry === 0) continue
      const chunk = chunks[entry >>> CHUNK_BITS]
      const word = entry & WORD_MASK
      const last = word + words - 1
      touched ^= chunk[word]
      if (last < chunk.length) touched ^= chunk[last]
    }
    return touched
  }

  /** `high`: the high 8 bits of its segment slot. */
  read(at: number, high: number, into: Place): void {
    const words = this.chunks[at >>> CHUNK_BITS]
    const entry = at & WORD_MASK
    const offset = words[entry]
    const value = words[entry + 1]
    const last = words[entry + 2]
    const expires = offset >= TOP_BIT
    into.segment = (high << 16) | (last >>> 16)
    into.offset = offset & LOW_31
    into.valueBytes = value & LOW_31
    into.isDamaged = value >= TOP_BIT
    into.expiresAtMs = expires ? words[entry + 3] + words[entry + 4] * TWO_32 : undefined
    into.recordBytes = recordBytes(last & 0xffff, into.valueBytes, expires)
  }

  /** Points the entry at another record; false where the expiry of that needs other room than there is. */
  update(at: number, place: Place): boolean {
    const words = this.chunks[at >>> CHUNK_BITS]
    const entry = at & WORD_MASK
    if (words[entry] >= TOP_BIT !== (place.expiresAtMs !== undefined)) return false
    writeFields(words, entry, words[entry + 2] & 0xffff, place)
    return true
  }

  keyBytes(at: number): number {
    return this.chunks[at >>> CHUNK_BITS][(at & WORD_MASK) + 2] & 0xffff
  }

  /** The bytes of its chunk, in which its key begins at `keyAt`. */
  bytes(at: number): Uint8Array {
    return this.bytesOf[at >>> CHUNK_BITS]
  }

  keyAt(at: number): number {
    const entry = at & WORD_MASK
    return (entry + FIXED_WORDS + expiryWordsOf(this.chunks[at >>> CHUNK_BITS], entry)) * 4
  }

  /** Copies its words to `into`; returns how many. */
  copyOut(at: number, into: Uint32Array, to: number): number {
    const words = this.chunks[at >>> CHUNK_BITS]
    const entry = at & WORD_MASK
    const size = this.sizeOf(at)
    for (let i = 0; i < size; i++) into[to + i] = words[entry + i]
    return size
  }

  /** Whether there are holes enough to begin with emptying chunks, or that is under way. */
  get wantsEmptying(): boolean {
    if (this.victims !== undefined) return true
    return this.holeWords > HOLE_WORDS_MIN && this.holeWords * HOLES_RATIO > this.totalWords
  }

  /** Chooses the chunks to empty, unless that is done: everything in them has to be moved before `endEmptying`. */
  beginEmptying(): void {
    if (this.victims !== undefined) return
    this.victims = Uint8Array.from(this.chunks, (words, chunk) =>
      words.length > 0 && this.holeWordsOf[chunk] * HOLES_RATIO >= words.length ? 1 : 0,
    )
    this.current = NO_WORDS
    this.usedWords = 0
  }

  /** Whether an entry stands where it can't stay. */
  isToMove(at: number): boolean {
    return this.victims?.[at >>> CHUNK_BITS] === 1
  }

  /** Copies it out of a chunk that is being emptied; returns where it is now. */
  move(at: number): number {
    return this.copy(this.chunks[at >>> CHUNK_BITS], at & WORD_MASK, this.sizeOf(at))
  }

  /** Gives back the chunks that were emptied. */
  endEmptying(): void {
    const { victims, chunks } = this
    this.victims = undefined
    victims?.forEach((isVictim, chunk) => {
      if (isVictim === 0) return
      this.totalWords -= chunks[chunk].length
      this.holeWords -= this.holeWordsOf[chunk]
      this.holeWordsOf[chunk] = 0
      chunks[chunk] = NO_WORDS
      this.bytesOf[chunk] = NO_BYTES
      this.vacant.push(chunk)
    })
    invariant(this.holeWords >= 0 && this.totalWords >= 0, 'no chunk is given back twice')
  }
}

function expiryWordsOf(words: Uint32Array, entry: number): number {
  return (words[entry] >>> 31) * EXPIRY_WORDS
}

function writeFields(words: Uint32Array, entry: number, keyBytes: number, place: Place): void {
  const { offset, valueBytes, expiresAtMs } = place
  invariant(offset <= LOW_31 && valueBytes < LOW_31, 'an offset and a value fit into 31 bits')
  words[entry] = expiresAtMs === undefined ? offset : offset | TOP_BIT
  words[entry + 1] = place.isDamaged ? valueBytes | TOP_BIT : valueBytes
  words[entry + 2] = (place.segment << 16) | keyBytes
  if (expiresAtMs === undefined) return
  words[entry + 3] = expiresAtMs >>> 0
  words[entry + 4] = Math.floor(expiresAtMs / TWO_32)
}
