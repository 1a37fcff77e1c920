// One sub-table of the keydir, in one piece of words: a heap of entries, packed, and behind it slots that find them by
// hash.
//
//   entry   word 0  24 bits of hash | high 8 bits of the segment slot
//           word 1  1 bit: expires  | 31 bits: offset of the record in its segment
//           word 2  1 bit: damaged  | 31 bits: bytes of the value          (all ones: the entry is dead)
//           word 3  low 16 bits of the segment slot | 16 bits: bytes of the key
//           words 4 and 5, only if it expires: expiresAtMs, low and high
//           the key, padded with zero bytes to whole words
//   slot    8 bits of tag (the hash's lowest) | 24 bits: the entry's first word, plus 1       (0: empty)
//
// Where the keys of a table meet too often, it goes over to a keyed hash, for good.
// An entry's home slot is its hash scaled to the number of slots, so a table can have any length and need not
// double to grow. The tags settle nearly every probe without a look at the heap.
import { TWO_32 } from '../bytes'
import { invariant } from '../errors'
import { recordBytes } from '../segment'
import type { FoldedTable, Piece } from './folded'
import { isStrained, type KeyedHash } from './strain'

const FIXED_WORDS = 4
const EXPIRY_WORDS = 2
const TOP_BIT = 0x8000_0000
const LOW_31 = 0x7fff_ffff
const DEAD = 0xffff_ffff
const HEAP_WORDS_MAX = 0xff_fffe
const SLOTS_MIN = 4
const HEAP_WORDS_MIN = 32
const HALF_UNTIL_WORDS = 512
const QUARTER_UNTIL_WORDS = 4096
const TWO_24 = 0x100_0000

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

/** While small, growing often costs more than the room; the larger, the less there is to spare. */
function withRoom(words: number): number {
  if (words < HALF_UNTIL_WORDS) return words + (words >>> 1)
  return words + (words < QUARTER_UNTIL_WORDS ? words >>> 2 : words >>> 3)
}

/** At most seven eighths full: past that a search for what isn't there becomes long. */
function slotsFor(count: number): number {
  return Math.max(SLOTS_MIN, Math.ceil((count * 8) / 7))
}

/** A table as a checkpoint keeps it. */
export interface TableImage {
  /** The heap, without room for more, and the slots. */
  words: Uint32Array
  heapWords: number
  count: number
  deadWords: number
  /** Whether its hashes are keyed ones. */
  isKeyed: boolean
}

/** Whether nothing in an image leads out of it, or in circles: its CRC tells who wrote it, not that it was sound. */
export function isImageSound({ words, heapWords, count, deadWords }: TableImage, segments: number): boolean {
  if (heapWords > HEAP_WORDS_MAX || count * 8 > (words.length - heapWords) * 7) return false
  let entries = 0
  let foundDeadWords = 0
  let entry = 0
  while (entry + FIXED_WORDS <= heapWords) {
    const last = words[entry + 3]
    const size = FIXED_WORDS + (words[entry + 1] >>> 31) * EXPIRY_WORDS + (((last & 0xffff) + 3) >>> 2)
    if (words[entry + 2] === DEAD) foundDeadWords += size
    else if (words[entry + 2] >= TOP_BIT || (((words[entry] & 0xff) << 16) | (last >>> 16)) >= segments)
      return false
    else entries++
    entry += size
  }
  if (entry !== heapWords || entries !== count || foundDeadWords !== deadWords) return false
  let used = 0
  for (let slot = heapWords; slot < words.length; slot++) {
    const word = words[slot]
    if (word === 0) continue
    used++
    if ((word & 0xff_ffff) > heapWords || (word & 0xff_ffff) === 0) return false
  }
  return used === count
}

/** The bytes of a key from `at` on as a word, the first of them lowest; at most four. */
function keyWord(source: Uint8Array, at: number, bytes: number): number {
  let word = source[at]
  if (bytes > 1) word |= source[at + 1] << 8
  if (bytes > 2) word |= source[at + 2] << 16
  if (bytes > 3) word |= source[at + 3] << 24
  return word
}

export class Table {
  /** Goes on where this table is full, which takes keys made to meet in one sub-table. */
  next: Table | undefined
  /** The heap up to `slotsAt`, then the slots. */
  private words: Uint32Array
  private slotsAt: number
  private usedWords = 0
  private deadWords = 0
  count = 0
  /** Whether its hashes are keyed ones. */
  isKeyed = false
  /** A search has cost too much: it is to be hashed by key before the next. */
  isStrained = false
  /** The memory that it shares with other tables, until one of them grows. */
  private piece: Piece | undefined

  /** Tests lower the limit. The words of an image are taken over. */
  constructor(
    private readonly heapWordsMax = HEAP_WORDS_MAX,
    image?: TableImage & { piece: Piece },
  ) {
    this.words = image?.words ?? new Uint32Array(HEAP_WORDS_MIN + SLOTS_MIN)
    this.slotsAt = image?.heapWords ?? HEAP_WORDS_MIN
    if (image === undefined) return
    this.usedWords = image.heapWords
    this.deadWords = image.deadWords
    this.count = image.count
    this.isKeyed = image.isKeyed
    this.isStrained = image.isKeyed
    this.piece = image.piece
  }

  /** Copies what it shares with other tables into an array of its own. */
  moveOut(): void {
    this.piece = undefined
    this.words = this.words.slice()
  }

  get memoryBytes(): number {
    return this.words.byteLength
  }

  /** The slot at which a search begins. */
  private home(hash24: number): number {
    const { slotsAt } = this
    return slotsAt + Math.floor((hash24 * (this.words.length - slotsAt)) / TWO_24)
  }

  /** The slot that holds this key, or -1. */
  find(hash24: number, source: Uint8Array, at: number, keyBytes: number): number {
    const { words } = this
    const tag = hash24 & 0xff
    const home = this.home(hash24)
    let slot = home
    let found = -1
    let mistaken = 0
    for (let word = words[slot]; word !== 0; word = words[slot]) {
      if (word >>> 24 === tag) {
        const entry = (word & 0xff_ffff) - 1
        if (words[entry] >>> 8 === hash24 && this.hasKey(entry, source, at, keyBytes)) {
          found = slot
          break
        }
        mistaken++
      }
      if (++slot === words.length) slot = this.slotsAt
    }
    const walked = slot >= home ? slot - home : slot - home + words.length - this.slotsAt
    if (isStrained(walked, mistaken)) this.isStrained = true
    return found
  }

  /** Hashes all keys anew, in place. */
  rekey(hash: KeyedHash): void {
    const { words } = this
    const bytes = new Uint8Array(words.buffer, words.byteOffset, words.byteLength)
    words.fill(0, this.slotsAt)
    for (let entry = 0; entry < this.usedWords; entry += this.entryWords(entry)) {
      if (words[entry + 2] === DEAD) continue
      const hash24 = hash(bytes, this.keyAt(entry) * 4, words[entry + 3] & 0xffff)
      words[entry] = (hash24 << 8) | (words[entry] & 0xff)
      this.link(hash24, entry)
    }
    this.isKeyed = true
  }

  /** Reads the lines that a search for this hash, and the next insert, begin at, so that their cache misses overlap. */
  touch(hash24: number): number {
    return this.words[this.home(hash24)] ^ this.words[this.usedWords]
  }

  private hasKey(entry: number, source: Uint8Array, at: number, keyBytes: number): boolean {
    const { words } = this
    if ((words[entry + 3] & 0xffff) !== keyBytes) return false
    let word = this.keyAt(entry)
    for (let i = 0; i < keyBytes; i += 4, word++) {
      if ((words[word] ^ keyWord(source, at + i, keyBytes - i)) !== 0) return false
    }
    return true
  }

  /** The word that its key begins at. */
  private keyAt(entry: number): number {
    return entry + FIXED_WORDS + (this.words[entry + 1] >>> 31) * EXPIRY_WORDS
  }

  private entryWords(entry: number): number {
    const keyWords = ((this.words[entry + 3] & 0xffff) + 3) >>> 2
    return FIXED_WORDS + (this.words[entry + 1] >>> 31) * EXPIRY_WORDS + keyWords
  }

  read(slot: number, into: Place): void {
    this.readEntry((this.words[slot] & 0xff_ffff) - 1, into)
  }

  private readEntry(entry: number, into: Place): void {
    const { words } = this
    const offset = words[entry + 1]
    const value = words[entry + 2]
    const last = words[entry + 3]
    const expires = offset >= TOP_BIT
    into.segment = ((words[entry] & 0xff) << 16) | (last >>> 16)
    into.offset = offset & LOW_31
    into.valueBytes = value & LOW_31
    into.isDamaged = value >= TOP_BIT
    into.expiresAtMs = expires ? words[entry + 4] + words[entry + 5] * TWO_32 : undefined
    into.recordBytes = recordBytes(last & 0xffff, into.valueBytes, expires)
  }

  /** Points the entry in `slot` at another record; false where its expiry needs other room than it has. */
  update(slot: number, place: Place): boolean {
    const { words } = this
    const entry = (words[slot] & 0xff_ffff) - 1
    const expires = place.expiresAtMs !== undefined
    if (words[entry + 1] >= TOP_BIT !== expires) return false
    this.writePlace(entry, words[entry] >>> 8, words[entry + 3] & 0xffff, place)
    return true
  }

  private writePlace(entry: number, hash24: number, keyBytes: number, place: Place): void {
    const { words } = this
    invariant(place.offset <= LOW_31 && place.valueBytes < LOW_31, 'an offset and a value fit into 31 bits')
    words[entry] = (hash24 << 8) | (place.segment >>> 16)
    words[entry + 1] = place.expiresAtMs === undefined ? place.offset : place.offset | TOP_BIT
    words[entry + 2] = place.isDamaged ? place.valueBytes | TOP_BIT : place.valueBytes
    words[entry + 3] = (place.segment << 16) | keyBytes
    if (place.expiresAtMs !== undefined) {
      words[entry + 4] = place.expiresAtMs >>> 0
      words[entry + 5] = Math.floor(place.expiresAtMs / TWO_32)
    }
  }

  /** Whether a key of so many bytes still fits; a slot can't point further than 64 MiB. */
  hasRoom(keyBytes: number): boolean {
    return this.usedWords + FIXED_WORDS + EXPIRY_WORDS + ((keyBytes + 3) >>> 2) <= this.heapWordsMax
  }

  /** Adds a key that is known to be absent; returns by how many bytes that made the table larger. */
  insert(hash24: number, source: Uint8Array, at: number, keyBytes: number, place: Place): number {
    const expiryWords = place.expiresAtMs === undefined ? 0 : EXPIRY_WORDS
    const size = FIXED_WORDS + expiryWords + ((keyBytes + 3) >>> 2)
    let grownBytes = 0
    if (
      this.usedWords + size > this.slotsAt ||
      (this.count + 1) * 8 > (this.words.length - this.slotsAt) * 7
    ) {
      grownBytes = this.grow(size)
    }
    const { words } = this
    const entry = this.usedWords
    this.writePlace(entry, hash24, keyBytes, place)
    let word = entry + FIXED_WORDS + expiryWords
    for (let i = 0; i < keyBytes; i += 4, word++) words[word] = keyWord(source, at + i, keyBytes - i)
    this.usedWords += size
    this.count++
    this.link(hash24, entry)
    return grownBytes
  }

  private link(hash24: number, entry: number): void {
    const { words } = this
    let slot = this.home(hash24)
    while (words[slot] !== 0) if (++slot === words.length) slot = this.slotsAt
    words[slot] = ((hash24 & 0xff) << 24) | (entry + 1)
  }

  /** Removes the entry in `slot`, and moves back those that probed past it, so that no search meets a gap. */
  remove(slot: number): void {
    const { words, slotsAt } = this
    const { length } = words
    const entry = (words[slot] & 0xff_ffff) - 1
    this.deadWords += this.entryWords(entry)
    words[entry + 2] = DEAD
    this.count--
    const after = (each: number): number => (each + 1 === length ? slotsAt : each + 1)
    const distance = (from: number, to: number): number =>
      to >= from ? to - from : to - from + length - slotsAt
    let gap = slot
    for (let next = after(slot); words[next] !== 0; next = after(next)) {
      const home = this.home(words[(words[next] & 0xff_ffff) - 1] >>> 8)
      if (distance(home, next) >= distance(gap, next)) {
        words[gap] = words[next]
        gap = next
      }
    }
    words[gap] = 0
  }

  /**
   * Moves to a larger array, with room for an entry of `size` words and more; where an eighth or more of the heap is
   * dead, without that. Returns by how many bytes it has grown.
   */
  private grow(size: number): number {
    this.piece?.leave()
    const { words: old } = this
    const keepsDead = this.deadWords * 8 < this.usedWords
    const needed = (keepsDead ? this.usedWords : this.usedWords - this.deadWords) + size
    invariant(needed <= this.heapWordsMax, 'the keys of one table fit into it')
    const heapWords = Math.max(HEAP_WORDS_MIN, Math.min(withRoom(needed), this.heapWordsMax))
    const count = this.count + 1
    // As many as the heap will have room for, if the entries to come are like those that there are.
    const slots = slotsFor(Math.ceil((count * heapWords) / Math.max(needed, HEAP_WORDS_MIN)))
    const words = new Uint32Array(heapWords + slots)
    if (keepsDead) words.set(old.subarray(0, this.usedWords))
    else this.copyLive(words)
    this.words = words
    this.slotsAt = heapWords
    for (let entry = 0; entry < this.usedWords; entry += this.entryWords(entry)) {
      if (words[entry + 2] !== DEAD) this.link(words[entry] >>> 8, entry)
    }
    return words.byteLength - old.byteLength
  }

  private copyLive(words: Uint32Array): void {
    const { words: old } = this
    let used = 0
    for (let entry = 0, size = 0; entry < this.usedWords; entry += size) {
      size = this.entryWords(entry)
      if (old[entry + 2] === DEAD) continue
      words.set(old.subarray(entry, entry + size), used)
      used += size
    }
    this.usedWords = used
    this.deadWords = 0
  }

  /** Drops what is dead where that is worth it; returns by how many bytes that made the table larger: less than 0. */
  compact(): number {
    return this.deadWords === 0 || this.deadWords * 8 < this.usedWords ? 0 : this.grow(0)
  }

  get imageWords(): number {
    return this.usedWords + this.words.length - this.slotsAt
  }

  /**
   * Writes heap and slots to `into` from word `at` on. The segment of each entry is written as `indexOfSlot` numbers it,
   * and its record counted in that one's `liveBytes`. Returns what an image says of itself; undefined where an entry is
   * not to be kept: a damaged one, or one of a segment without a number.
   */
  exportTo(
    into: Uint32Array,
    at: number,
    indexOfSlot: Int32Array,
    liveBytes: Float64Array,
  ): Omit<FoldedTable, 'index'> | undefined {
    const { usedWords, deadWords, words, slotsAt, count, isKeyed } = this
    into.set(words.subarray(0, usedWords), at)
    into.set(words.subarray(slotsAt), at + usedWords)
    let expiring = 0
    for (let entry = 0, size = 0; entry < usedWords; entry += size) {
      size = this.entryWords(entry)
      const to = at + entry
      const valueBytes = into[to + 2]
      if (valueBytes === DEAD) continue
      const last = into[to + 3]
      const index = indexOfSlot[((into[to] & 0xff) << 16) | (last >>> 16)] ?? -1
      if (valueBytes >= TOP_BIT || index < 0) return undefined
      const expires = into[to + 1] >= TOP_BIT
      if (expires) expiring++
      liveBytes[index] += recordBytes(last & 0xffff, valueBytes, expires)
      into[to] = (into[to] & 0xffff_ff00) | (index >>> 16)
      into[to + 3] = (index << 16) | (last & 0xffff)
    }
    return { heapWords: usedWords, slots: words.length - slotsAt, count, deadWords, expiring, isKeyed }
  }

  /** Writes each place anew that `change` has changed: it says so. */
  repoint(place: Place, change: (place: Place) => boolean): void {
    const { words } = this
    for (let entry = 0; entry < this.usedWords; entry += this.entryWords(entry)) {
      if (words[entry + 2] === DEAD) continue
      this.readEntry(entry, place)
      if (change(place)) this.writePlace(entry, words[entry] >>> 8, words[entry + 3] & 0xffff, place)
    }
  }

  /** Calls `visit` for each live entry, in no order. The key stands in `keys` from `keyAt` on. */
  forEach(
    place: Place,
    visit: (place: Place, keys: Uint8Array, keyAt: number, keyBytes: number) => void,
  ): void {
    const { words } = this
    const bytes = new Uint8Array(words.buffer, words.byteOffset, words.byteLength)
    for (let entry = 0; entry < this.usedWords; entry += this.entryWords(entry)) {
      if (words[entry + 2] === DEAD) continue
      this.readEntry(entry, place)
      visit(place, bytes, this.keyAt(entry) * 4, words[entry + 3] & 0xffff)
    }
  }
}
