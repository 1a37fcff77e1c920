// The commit group that is filling: a row of the kernels' group table for each of its records. Reads look here before
// the keydir; once the group is in its segment, all of it moves to the keydir at once. A group that fails is dropped,
// and the keydir never knew. What nobody asks for before that is never hashed or indexed one by one.
import {
  FLAG_EXPIRES,
  GROUP_ROWS_MAX,
  GROUP_TABLE_AT,
  KIND_DELETE,
  KIND_MASK,
  ROW_AT,
  ROW_EXPIRES_HIGH,
  ROW_EXPIRES_LOW,
  ROW_HASH_HIGH,
  ROW_HASH_LOW,
  ROW_KIND,
  ROW_VALUE_BYTES,
  ROW_WORDS,
  WRITE_AT,
} from '../assembly/layout'
import { TWO_32 } from './bytes'
import { invariant } from './errors'
import type { Kernels } from './kernels'
import { recordBytes } from './segment'

const ROWS = GROUP_TABLE_AT / 4
const SLOTS = 16_384
const SLOT_MASK = SLOTS - 1

export class Memtable {
  private readonly slots = new Uint16Array(SLOTS)
  count = 0
  /** So many of the records have their hashes, and can be found. */
  private hashed = 0
  private indexed = 0

  constructor(private readonly kernels: Kernels) {}

  /** Takes the record whose key and value stand in their places at `address`; a later one of the same key hides it. */
  add(address: number, kind: number, keyBytes: number, valueBytes: number, expiresAtMs: number): void {
    invariant(this.count < GROUP_ROWS_MAX, 'a group holds no more records than its buffer has room for')
    const { words } = this.kernels
    const word = ROWS + this.count * ROW_WORDS
    words[word + ROW_AT] = address - WRITE_AT
    words[word + ROW_KIND] = kind | (keyBytes << 16)
    words[word + ROW_VALUE_BYTES] = valueBytes
    words[word + ROW_EXPIRES_LOW] = expiresAtMs
    words[word + ROW_EXPIRES_HIGH] = expiresAtMs / TWO_32
    this.count++
  }

  /** Sees to the hashes of all of them. */
  hash(): void {
    if (this.hashed < this.count) this.kernels.call.hashGroup(this.hashed, this.count)
    this.hashed = this.count
  }

  private index(): void {
    this.hash()
    const { slots } = this
    const { bytes } = this.kernels
    for (; this.indexed < this.count; this.indexed++) {
      const index = this.indexed
      const low = this.hashLowOf(index)
      const high = this.hashHighOf(index)
      let slot = low & SLOT_MASK
      for (; slots[slot] !== 0; slot = (slot + 1) & SLOT_MASK) {
        if (this.isKey(slots[slot] - 1, low, high, bytes, this.keyAt(index), this.keyBytes(index))) break
      }
      slots[slot] = index + 1
    }
  }

  /** The newest record of the key, or -1. */
  find(hashLow: number, hashHigh: number, source: Uint8Array, at: number, keyBytes: number): number {
    if (this.indexed < this.count) this.index()
    const { slots } = this
    for (let slot = hashLow & SLOT_MASK; slots[slot] !== 0; slot = (slot + 1) & SLOT_MASK) {
      const index = slots[slot] - 1
      if (this.isKey(index, hashLow, hashHigh, source, at, keyBytes)) return index
    }
    return -1
  }

  private isKey(
    index: number,
    hashLow: number,
    hashHigh: number,
    source: Uint8Array,
    at: number,
    keyBytes: number,
  ): boolean {
    if (this.hashLowOf(index) !== hashLow || this.hashHighOf(index) !== hashHigh) return false
    if (this.keyBytes(index) !== keyBytes) return false
    const { bytes } = this.kernels
    const keyAt = this.keyAt(index)
    for (let i = 0; i < keyBytes; i++) if (bytes[keyAt + i] !== source[at + i]) return false
    return true
  }

  private word(index: number, word: number): number {
    return this.kernels.words[ROWS + index * ROW_WORDS + word]
  }

  /** From the group's first byte. */
  offsetOf(index: number): number {
    return this.word(index, ROW_AT)
  }

  isDelete(index: number): boolean {
    return (this.word(index, ROW_KIND) & KIND_MASK) === KIND_DELETE
  }

  keyBytes(index: number): number {
    return this.word(index, ROW_KIND) >>> 16
  }

  valueBytes(index: number): number {
    return this.word(index, ROW_VALUE_BYTES)
  }

  expiresAtMs(index: number): number | undefined {
    const expires = (this.word(index, ROW_KIND) & FLAG_EXPIRES) !== 0
    return expires ? this.kernels.expiryOfRow(ROWS + index * ROW_WORDS) : undefined
  }

  keyAt(index: number): number {
    const expires = (this.word(index, ROW_KIND) & FLAG_EXPIRES) !== 0
    return WRITE_AT + this.offsetOf(index) + recordBytes(0, 0, expires)
  }

  /** `hash` or a search must have seen to it. */
  hashLowOf(index: number): number {
    return this.word(index, ROW_HASH_LOW)
  }

  hashHighOf(index: number): number {
    return this.word(index, ROW_HASH_HIGH)
  }

  /** Whether no later record of the group has the same key. */
  isNewest(index: number): boolean {
    this.hash()
    const keyAt = this.keyAt(index)
    const { bytes } = this.kernels
    return (
      this.find(this.hashLowOf(index), this.hashHighOf(index), bytes, keyAt, this.keyBytes(index)) === index
    )
  }

  clear(): void {
    const { slots } = this
    if (this.indexed * 8 > SLOTS) {
      slots.fill(0)
    } else {
      for (let i = 0; i < this.indexed; i++) {
        // Everything from a record's home slot to the next empty one belongs to this group: empty it all.
        for (let slot = this.hashLowOf(i) & SLOT_MASK; slots[slot] !== 0; slot = (slot + 1) & SLOT_MASK) {
          slots[slot] = 0
        }
      }
    }
    this.count = 0
    this.hashed = 0
    this.indexed = 0
  }
}
