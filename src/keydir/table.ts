// One sub-table of the keydir: entries packed in a heap of words, and slots that find them by hash.
//
//   entry   word 0  24 bits of hash | high 8 bits of the segment slot
//           word 1  1 bit: expires  | 31 bits: offset of the record in its segment
//           word 2  1 bit: damaged  | 31 bits: bytes of the value          (all ones: the entry is dead)
//           word 3  low 16 bits of the segment slot | 16 bits: bytes of the key
//           words 4 and 5, only if it expires: expiresAtMs, low and high
//           the key, padded with zero bytes to whole words
//   slot    8 bits of tag (the hash's lowest) | 24 bits: the entry's first word, plus 1       (0: empty)
//
// An entry's home slot is its hash scaled to the number of slots, so a table can have any length and grow by an
// eighth instead of doubling. The tags settle nearly every probe without a look at the heap.
import { TWO_32 } from '../bytes'
import { invariant } from '../errors'
import { recordBytes } from '../segment'
import type { Piece } from './folded'

const FIXED_WORDS = 4
const EXPIRY_WORDS = 2
const TOP_BIT = 0x8000_0000
const LOW_31 = 0x7fff_ffff
const DEAD = 0xffff_ffff
const HEAP_WORDS_MAX = 0xff_fffe
const SLOTS_MIN = 4
const HEAP_WORDS_MIN = 32
const QUARTER_UNTIL_WORDS = 2048
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

/** A quarter more while small, since growing often costs more than the room; an eighth more from then on. */
function grownLength(words: number): number {
  return words + (words < QUARTER_UNTIL_WORDS ? words >>> 2 : words >>> 3)
}

/** A table as a checkpoint keeps it. */
export interface TableImage {
  /** Entries only, no room for more. */
  heap: Uint32Array
  slots: Uint32Array
  count: number
  deadWords: number
}

/** Whether nothing in an image leads out of it, or in circles: its CRC tells who wrote it, not that it was sound. */
export function isImageSound({ heap, slots, count, deadWords }: TableImage, segments: number): boolean {
  if (heap.length > HEAP_WORDS_MAX || count * 8 > slots.length * 7) return false
  let entries = 0
  let foundDeadWords = 0
  let entry = 0
  while (entry + FIXED_WORDS <= heap.length) {
    const last = heap[entry + 3]
    const words = FIXED_WORDS + (heap[entry + 1] >>> 31) * EXPIRY_WORDS + (((last & 0xffff) + 3) >>> 2)
    if (heap[entry + 2] === DEAD) foundDeadWords += words
    else if (heap[entry + 2] >= TOP_BIT || (((heap[entry] & 0xff) << 16) | (last >>> 16)) >= segments)
      return false
    else entries++
    entry += words
  }
  if (entry !== heap.length || entries !== count || foundDeadWords !== deadWords) return false
  let used = 0
  for (let slot = 0; slot < slots.length; slot++) {
    const word = slots[slot]
    if (word === 0) continue
    used++
    if ((word & 0xff_ffff) > heap.length || (word & 0xff_ffff) === 0) return false
  }
  return used === count
}

function bytesOf(words: Uint32Array): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength)
}

export class Table {
  /** Goes on where this table is full, which takes keys made to meet in one sub-table. */
  next: Table | undefined
  private heap: Uint32Array
  private heapBytes: Uint8Array
  private slots: Uint32Array
  private usedWords = 0
  private deadWords = 0
  count = 0
  /** The memory that it shares with other tables, until one of them grows. */
  private piece: Piece | undefined

  /** Tests lower the limit. The arrays of an image are taken over. */
  constructor(
    private readonly heapWordsMax = HEAP_WORDS_MAX,
    image?: TableImage & { piece: Piece },
  ) {
    this.heap = image?.heap ?? new Uint32Array(HEAP_WORDS_MIN)
    this.slots = image?.slots ?? new Uint32Array(SLOTS_MIN)
    this.heapBytes = bytesOf(this.heap)
    if (image === undefined) return
    this.usedWords = image.heap.length
    this.deadWords = image.deadWords
    this.count = image.count
    this.piece = image.piece
  }

  /** Copies what it shares with other tables into arrays of its own. */
  moveOut(): void {
    this.piece = undefined
    this.heap = this.heap.slice()
    this.heapBytes = bytesOf(this.heap)
    this.slots = this.slots.slice()
  }

  get memoryBytes(): number {
    return this.heap.byteLength + this.slots.byteLength
  }

  private home(hash24: number): number {
    return Math.floor((hash24 * this.slots.length) / TWO_24)
  }

  /** The slot that holds this key, or -1. */
  find(hash24: number, source: Uint8Array, at: number, keyBytes: number): number {
    const { slots, heap } = this
    const length = slots.length
    const tag = hash24 & 0xff
    let slot = this.home(hash24)
    for (let word = slots[slot]; word !== 0; word = slots[slot]) {
      if (word >>> 24 === tag) {
        const entry = (word & 0xff_ffff) - 1
        if (heap[entry] >>> 8 === hash24 && this.hasKey(entry, source, at, keyBytes)) return slot
      }
      if (++slot === length) slot = 0
    }
    return -1
  }

  /** Reads the line that a search for this hash begins at, so that its cache miss overlaps with others. */
  touch(hash24: number): number {
    return this.slots[this.home(hash24)]
  }

  private hasKey(entry: number, source: Uint8Array, at: number, keyBytes: number): boolean {
    if ((this.heap[entry + 3] & 0xffff) !== keyBytes) return false
    const bytes = this.heapBytes
    const keyAt = this.keyAt(entry)
    for (let i = 0; i < keyBytes; i++) if (bytes[keyAt + i] !== source[at + i]) return false
    return true
  }

  private keyAt(entry: number): number {
    return (entry + FIXED_WORDS + (this.heap[entry + 1] >>> 31) * EXPIRY_WORDS) * 4
  }

  private entryWords(entry: number): number {
    const keyWords = ((this.heap[entry + 3] & 0xffff) + 3) >>> 2
    return FIXED_WORDS + (this.heap[entry + 1] >>> 31) * EXPIRY_WORDS + keyWords
  }

  read(slot: number, into: Place): void {
    this.readEntry((this.slots[slot] & 0xff_ffff) - 1, into)
  }

  private readEntry(entry: number, into: Place): void {
    const heap = this.heap
    const offset = heap[entry + 1]
    const value = heap[entry + 2]
    const last = heap[entry + 3]
    const expires = offset >= TOP_BIT
    into.segment = ((heap[entry] & 0xff) << 16) | (last >>> 16)
    into.offset = offset & LOW_31
    into.valueBytes = value & LOW_31
    into.isDamaged = value >= TOP_BIT
    into.expiresAtMs = expires ? heap[entry + 4] + heap[entry + 5] * TWO_32 : undefined
    into.recordBytes = recordBytes(last & 0xffff, into.valueBytes, expires)
  }

  /** Points the entry in `slot` at another record; false where its expiry needs other room than it has. */
  update(slot: number, place: Place): boolean {
    const entry = (this.slots[slot] & 0xff_ffff) - 1
    const expires = place.expiresAtMs !== undefined
    if (this.heap[entry + 1] >= TOP_BIT !== expires) return false
    this.writePlace(entry, this.heap[entry] >>> 8, this.heap[entry + 3] & 0xffff, place)
    return true
  }

  private writePlace(entry: number, hash24: number, keyBytes: number, place: Place): void {
    const heap = this.heap
    invariant(place.offset <= LOW_31 && place.valueBytes < LOW_31, 'an offset and a value fit into 31 bits')
    heap[entry] = (hash24 << 8) | (place.segment >>> 16)
    heap[entry + 1] = place.expiresAtMs === undefined ? place.offset : place.offset | TOP_BIT
    heap[entry + 2] = place.isDamaged ? place.valueBytes | TOP_BIT : place.valueBytes
    heap[entry + 3] = (place.segment << 16) | keyBytes
    if (place.expiresAtMs !== undefined) {
      heap[entry + 4] = place.expiresAtMs >>> 0
      heap[entry + 5] = Math.floor(place.expiresAtMs / TWO_32)
    }
  }

  /** Whether a key of so many bytes still fits; a slot can't point further than 64 MiB. */
  hasRoom(keyBytes: number): boolean {
    return this.usedWords + FIXED_WORDS + EXPIRY_WORDS + ((keyBytes + 3) >>> 2) <= this.heapWordsMax
  }

  /** Adds a key that is known to be absent; returns by how many bytes that made the table larger. */
  insert(hash24: number, source: Uint8Array, at: number, keyBytes: number, place: Place): number {
    let grownBytes = 0
    const expiryWords = place.expiresAtMs === undefined ? 0 : EXPIRY_WORDS
    const words = FIXED_WORDS + expiryWords + ((keyBytes + 3) >>> 2)
    if (this.usedWords + words > this.heap.length) grownBytes += this.growHeap(words)
    const entry = this.usedWords
    this.heap[entry + words - 1] = 0 // the padding behind the key
    this.writePlace(entry, hash24, keyBytes, place)
    const keyAt = (entry + FIXED_WORDS + expiryWords) * 4
    for (let i = 0; i < keyBytes; i++) this.heapBytes[keyAt + i] = source[at + i]
    this.usedWords += words
    this.count++
    // At most seven eighths full: past that a search for what isn't there becomes long.
    if (this.count * 8 > this.slots.length * 7) grownBytes += this.growSlots()
    else this.link(hash24, entry)
    return grownBytes
  }

  private link(hash24: number, entry: number): void {
    const { slots } = this
    let slot = this.home(hash24)
    while (slots[slot] !== 0) if (++slot === slots.length) slot = 0
    slots[slot] = ((hash24 & 0xff) << 24) | (entry + 1)
  }

  /** Removes the entry in `slot`, and moves back those that probed past it, so that no search meets a gap. */
  remove(slot: number): void {
    const { slots, heap } = this
    const entry = (slots[slot] & 0xff_ffff) - 1
    this.deadWords += this.entryWords(entry)
    heap[entry + 2] = DEAD
    this.count--
    const length = slots.length
    let gap = slot
    for (
      let next = slot + 1 === length ? 0 : slot + 1;
      slots[next] !== 0;
      next = next + 1 === length ? 0 : next + 1
    ) {
      const home = this.home(heap[(slots[next] & 0xff_ffff) - 1] >>> 8)
      const fromHome = next >= home ? next - home : next - home + length
      const fromGap = next >= gap ? next - gap : next - gap + length
      if (fromHome >= fromGap) {
        slots[gap] = slots[next]
        gap = next
      }
    }
    slots[gap] = 0
  }

  private growSlots(): number {
    this.piece?.leave()
    const before = this.slots.byteLength
    this.slots = new Uint32Array(grownLength(this.slots.length + 1))
    this.linkAll()
    return this.slots.byteLength - before
  }

  private linkAll(): void {
    for (let entry = 0; entry < this.usedWords; entry += this.entryWords(entry)) {
      if (this.heap[entry + 2] !== DEAD) this.link(this.heap[entry] >>> 8, entry)
    }
  }

  /** Makes room for `words` more; where an eighth or more is dead, by dropping that. */
  private growHeap(words: number): number {
    this.piece?.leave()
    const keepsDead = this.deadWords * 8 < this.usedWords
    const needed = (keepsDead ? this.usedWords : this.usedWords - this.deadWords) + words
    invariant(needed <= this.heapWordsMax, 'the keys of one table fit into it')
    const heap = new Uint32Array(Math.min(grownLength(needed), this.heapWordsMax))
    const old = this.heap
    if (keepsDead) {
      heap.set(old.subarray(0, this.usedWords))
    } else {
      let used = 0
      for (let entry = 0, size = 0; entry < this.usedWords; entry += size) {
        size = this.entryWords(entry)
        if (old[entry + 2] === DEAD) continue
        heap.set(old.subarray(entry, entry + size), used)
        used += size
      }
      this.usedWords = used
      this.deadWords = 0
    }
    this.heap = heap
    this.heapBytes = bytesOf(heap)
    if (!keepsDead) {
      this.slots.fill(0)
      this.linkAll()
    }
    return heap.byteLength - old.byteLength
  }

  /** Drops what is dead where that is worth it; returns by how many bytes that made the table larger: less than 0. */
  compact(): number {
    return this.deadWords === 0 || this.deadWords * 8 < this.usedWords ? 0 : this.growHeap(0)
  }

  get imageWords(): number {
    return this.usedWords + this.slots.length
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
  ): { heapWords: number; slots: number; count: number; deadWords: number; expiring: number } | undefined {
    const { usedWords, deadWords, slots, count } = this
    into.set(this.heap.subarray(0, usedWords), at)
    into.set(slots, at + usedWords)
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
    return { heapWords: usedWords, slots: slots.length, count, deadWords, expiring }
  }

  /** Calls `visit` for each live entry, in no order. The key stands in `keys` from `keyAt` on. */
  forEach(
    place: Place,
    visit: (place: Place, keys: Uint8Array, keyAt: number, keyBytes: number) => void,
  ): void {
    for (let entry = 0; entry < this.usedWords; entry += this.entryWords(entry)) {
      if (this.heap[entry + 2] === DEAD) continue
      this.readEntry(entry, place)
      visit(place, this.heapBytes, this.keyAt(entry), this.heap[entry + 3] & 0xffff)
    }
  }
}
