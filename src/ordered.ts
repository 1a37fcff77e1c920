// A view of the keydir as of one moment: the matching keys and their places, packed and sorted, so that writes may
// go on while it is read.
import { compareRanges, GrowableBytes } from './bytes'
import { emptyPlace, type Keydir, type Place } from './keydir/keydir'
import { isInRange, type Range } from './range'

const ROW_NUMBERS = 8
const HEAD = 0 // the key's first four bytes, as a number that sorts as they do
const KEY_AT = 1
const KEY_BYTES = 2
const SEGMENT = 3
const OFFSET = 4
const VALUE_BYTES = 5
const RECORD_BYTES = 6
const IS_DAMAGED = 7

export class OrderedView {
  private readonly keys = new GrowableBytes()
  private rows = new Float64Array(ROW_NUMBERS * 64)
  private count = 0
  private order = new Uint32Array(0)
  private readonly place: Place = emptyPlace()

  /** Takes from a keydir what is in range and has not expired by `nowMs`. */
  constructor(keydir: Pick<Keydir, 'forEach'>, range: Range, nowMs: number) {
    if (range.limit === 0) return
    keydir.forEach((place, keys, at, keyBytes) => {
      if (place.expiresAtMs !== undefined && place.expiresAtMs <= nowMs) return
      if (!range.isOrdered && this.count >= range.limit) return
      if (isInRange(range, keys, at, keyBytes)) this.add(place, keys, at, keyBytes)
    })
    this.order = new Uint32Array(this.count).map((_, i) => i)
    // Without an order asked for, the order of the log: it reads each block once.
    if (range.isOrdered) this.order.sort((a, b) => this.compare(a, b))
    else this.order.sort((a, b) => this.comparePlaces(a, b))
    if (range.reverse) this.order.reverse()
    if (range.limit < this.count) this.order = this.order.subarray(0, range.limit)
  }

  private add(place: Place, keys: Uint8Array, at: number, keyBytes: number): void {
    const row = this.count * ROW_NUMBERS
    if (row + ROW_NUMBERS > this.rows.length) {
      const grown = new Float64Array(this.rows.length * 2)
      grown.set(this.rows)
      this.rows = grown
    }
    const { rows } = this
    let head = 0
    for (let i = 0; i < 4; i++) head = head * 256 + (i < keyBytes ? keys[at + i] : 0)
    rows[row + HEAD] = head
    rows[row + KEY_AT] = this.keys.append(keys, at, keyBytes)
    rows[row + KEY_BYTES] = keyBytes
    rows[row + SEGMENT] = place.segment
    rows[row + OFFSET] = place.offset
    rows[row + VALUE_BYTES] = place.valueBytes
    rows[row + RECORD_BYTES] = place.recordBytes
    rows[row + IS_DAMAGED] = place.isDamaged ? 1 : 0
    this.count++
  }

  private compare(a: number, b: number): number {
    const { rows } = this
    const rowA = a * ROW_NUMBERS
    const rowB = b * ROW_NUMBERS
    const difference = rows[rowA + HEAD] - rows[rowB + HEAD]
    if (difference !== 0) return difference
    const { bytes } = this.keys
    return compareRanges(
      bytes,
      rows[rowA + KEY_AT],
      rows[rowA + KEY_BYTES],
      bytes,
      rows[rowB + KEY_AT],
      rows[rowB + KEY_BYTES],
    )
  }

  private comparePlaces(a: number, b: number): number {
    const { rows } = this
    const rowA = a * ROW_NUMBERS
    const rowB = b * ROW_NUMBERS
    return rows[rowA + SEGMENT] - rows[rowB + SEGMENT] || rows[rowA + OFFSET] - rows[rowB + OFFSET]
  }

  get length(): number {
    return this.order.length
  }

  /** The key at a position, as a view on bytes that never change. */
  keyAt(position: number): Uint8Array {
    const row = this.order[position] * ROW_NUMBERS
    const at = this.rows[row + KEY_AT]
    return this.keys.bytes.subarray(at, at + this.rows[row + KEY_BYTES])
  }

  /** Where the entry at a position lies; the object is reused. */
  placeAt(position: number): Place {
    const { place, rows } = this
    const row = this.order[position] * ROW_NUMBERS
    place.segment = rows[row + SEGMENT]
    place.offset = rows[row + OFFSET]
    place.valueBytes = rows[row + VALUE_BYTES]
    place.recordBytes = rows[row + RECORD_BYTES]
    place.isDamaged = rows[row + IS_DAMAGED] === 1
    return place
  }
}
