// A view of the keydir as of one moment: the matching keys and their places, packed and sorted, so that writes may
// go on while it is read.
import { compareRanges, GrowableBytes } from './bytes'
import { emptyPlace, type Keydir, type Place } from './keydir/keydir'
import { isInRange, type Range } from './range'
import { recordBytes } from './segment'
import { DIGITS_MIN, sortByWords } from './sorting'

const ROW_WORDS = 4
const KEY = 0 // 16 bits: bytes of the key | flags
const SEGMENT = 1
const OFFSET = 2
const VALUE_BYTES = 3
const IS_DAMAGED = 0x1_0000
const EXPIRES = 0x2_0000
const ROWS_MIN = 64

export class OrderedView {
  private readonly keys = new GrowableBytes()
  private rows = new Uint32Array(ROW_WORDS * ROWS_MIN)
  /** Where each key begins. */
  private keyAts = new Float64Array(ROWS_MIN)
  /** The bytes that all keys begin with. */
  private sharedBytes = Number.POSITIVE_INFINITY
  private count = 0
  private order: Uint32Array
  private readonly place: Place = emptyPlace()

  /** Takes from a keydir what is in range and has not expired by `nowMs`. */
  constructor(keydir: Pick<Keydir, 'forEach'>, range: Range, nowMs: number) {
    if (range.limit > 0) this.collect(keydir, range, nowMs)
    this.order = new Uint32Array(this.count).map((_, i) => i)
    // Without an order asked for, the order of the log: it reads each block once.
    if (range.isOrdered) this.sortByKeys()
    else this.sortByPlaces()
    if (range.reverse) this.order.reverse()
    if (range.limit < this.count) this.order = this.order.subarray(0, range.limit)
  }

  private collect(keydir: Pick<Keydir, 'forEach'>, range: Range, nowMs: number): void {
    keydir.forEach((place, keys, at, keyBytes) => {
      if (place.expiresAtMs !== undefined && place.expiresAtMs <= nowMs) return
      if (!range.isOrdered && this.count >= range.limit) return
      if (isInRange(range, keys, at, keyBytes)) this.add(place, keys, at, keyBytes)
    })
  }

  private add(place: Place, keys: Uint8Array, at: number, keyBytes: number): void {
    if (this.count === this.keyAts.length) this.grow()
    const { rows, count } = this
    const row = count * ROW_WORDS
    this.keyAts[count] = this.keys.append(keys, at, keyBytes)
    const damaged = place.isDamaged ? IS_DAMAGED : 0
    rows[row + KEY] = keyBytes | damaged | (place.expiresAtMs === undefined ? 0 : EXPIRES)
    rows[row + SEGMENT] = place.segment
    rows[row + OFFSET] = place.offset
    rows[row + VALUE_BYTES] = place.valueBytes
    this.sharedBytes = this.sharedWithFirst(keys, at, Math.min(keyBytes, this.sharedBytes))
    this.count++
  }

  private sharedWithFirst(keys: Uint8Array, at: number, most: number): number {
    const { bytes } = this.keys
    let shared = 0
    while (shared < most && bytes[shared] === keys[at + shared]) shared++
    return shared
  }

  private grow(): void {
    const rows = new Uint32Array(this.rows.length * 2)
    rows.set(this.rows)
    this.rows = rows
    const keyAts = new Float64Array(this.keyAts.length * 2)
    keyAts.set(this.keyAts)
    this.keyAts = keyAts
  }

  private sortByKeys(): void {
    const compare = (a: number, b: number): number => this.compare(a, b)
    if (this.count < DIGITS_MIN) {
      this.order.sort(compare)
      return
    }
    // Eight bytes of each key, behind those that all begin with.
    const high = this.headWords(this.sharedBytes)
    const low = this.headWords(this.sharedBytes + 4)
    this.order = sortByWords(sortByWords(this.order, low), high)
    // What the heads leave in doubt.
    const { order } = this
    let start = 0
    for (let i = 1; i <= order.length; i++) {
      const a = order[start]
      const b = order[i]
      if (i < order.length && high[a] === high[b] && low[a] === low[b]) continue
      if (i - start > 1) order.subarray(start, i).sort(compare)
      start = i
    }
  }

  /** Four bytes of each key, from its byte `from` on, as a number that sorts as they do; zeros behind its end. */
  private headWords(from: number): Uint32Array {
    const { bytes } = this.keys
    const words = new Uint32Array(this.count)
    for (let i = 0; i < words.length; i++) {
      const at = this.keyAts[i] + from
      const left = this.keyBytesOf(i) - from
      let word = 0
      for (let byte = 0; byte < 4; byte++) word = (word << 8) | (byte < left ? bytes[at + byte] : 0)
      words[i] = word
    }
    return words
  }

  private sortByPlaces(): void {
    const { count, rows } = this
    if (count < DIGITS_MIN) {
      this.order.sort((a, b) => this.comparePlaces(a, b))
      return
    }
    const column = (of: number): Uint32Array => new Uint32Array(count).map((_, i) => rows[i * ROW_WORDS + of])
    this.order = sortByWords(sortByWords(this.order, column(OFFSET)), column(SEGMENT))
  }

  private keyBytesOf(index: number): number {
    return this.rows[index * ROW_WORDS + KEY] & 0xffff
  }

  private compare(a: number, b: number): number {
    const { bytes } = this.keys
    const { keyAts } = this
    return compareRanges(bytes, keyAts[a], this.keyBytesOf(a), bytes, keyAts[b], this.keyBytesOf(b))
  }

  private comparePlaces(a: number, b: number): number {
    const { rows } = this
    const rowA = a * ROW_WORDS
    const rowB = b * ROW_WORDS
    return rows[rowA + SEGMENT] - rows[rowB + SEGMENT] || rows[rowA + OFFSET] - rows[rowB + OFFSET]
  }

  get length(): number {
    return this.order.length
  }

  /** Bytes of all keys together. */
  get keysBytes(): number {
    return this.keys.used
  }

  /** Calls `visit` with where each key stands, in their order. */
  forEachKey(visit: (keys: Uint8Array, at: number, keyBytes: number) => void): void {
    const { bytes } = this.keys
    for (const index of this.order) visit(bytes, this.keyAts[index], this.keyBytesOf(index))
  }

  /** Writes the key at a position to `to`, and returns how many bytes it has. */
  writeKey(position: number, into: Uint8Array, to: number): number {
    const index = this.order[position]
    const at = this.keyAts[index]
    const keyBytes = this.keyBytesOf(index)
    const { bytes } = this.keys
    for (let i = 0; i < keyBytes; i++) into[to + i] = bytes[at + i]
    return keyBytes
  }

  /** The position of the entry whose record lies there, in a view in the order of the log; -1 where there is none. */
  find(segment: number, offset: number): number {
    const { rows, order } = this
    let low = 0
    for (let high = order.length; low < high; ) {
      const middle = (low + high) >>> 1
      const row = order[middle] * ROW_WORDS
      const isBefore = (rows[row + SEGMENT] - segment || rows[row + OFFSET] - offset) < 0
      if (isBefore) low = middle + 1
      else high = middle
    }
    const row = order[low] * ROW_WORDS
    return rows[row + SEGMENT] === segment && rows[row + OFFSET] === offset ? low : -1
  }

  /** Where the entry at a position lies; the object is reused. */
  placeAt(position: number): Place {
    const { place, rows } = this
    const row = this.order[position] * ROW_WORDS
    const key = rows[row + KEY]
    place.segment = rows[row + SEGMENT]
    place.offset = rows[row + OFFSET]
    place.valueBytes = rows[row + VALUE_BYTES]
    place.recordBytes = recordBytes(key & 0xffff, place.valueBytes, (key & EXPIRES) !== 0)
    place.isDamaged = (key & IS_DAMAGED) !== 0
    return place
  }
}
