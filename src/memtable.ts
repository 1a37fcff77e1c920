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

/** The word of the kernels' memory that the table begins at. */
export const GROUP_TABLE = GROUP_TABLE_AT / 4
const SLOTS = 16_384
const SLOT_MASK = SLOTS - 1
/** At little more than half full no search comes as far, unless keys were made to meet. */
const WALKED_MAX = 128

export class Memtable {
  private readonly slots = new Uint16Array(SLOTS)
  count = 0
  /** So many of the records have their hashes, and can be found. */
  private hashed = 0
  private indexed = 0
  /** A search has cost too much; whether keys are placed by the keyed hash since. */
  private isStrained = false
  private isKeyed = false

  constructor(private readonly kernels: Kernels) {}

  /** Takes the record whose key and value stand in their places at `address`; a later one of the same key hides it. */
  add(address: number, kind: number, keyBytes: number, valueBytes: number, expiresAtMs: number): void {
    invariant(this.count < GROUP_ROWS_MAX, 'a group holds no more records than its buffer has room for')
    const { words } = this.kernels
    const word = GROUP_TABLE + this.count * ROW_WORDS
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
    const { bytes } = this.kernels
    for (; this.indexed < this.count; this.indexed++) {
      const index = this.indexed
      const low = this.hashLowOf(index)
      const slot = this.slotOf(low, this.hashHighOf(index), bytes, this.keyAt(index), this.keyBytes(index))
      this.slots[slot] = index + 1
    }
  }

  /** The slot that the key stands in, or would. */
  private slotOf(
    hashLow: number,
    hashHigh: number,
    source: Uint8Array,
    at: number,
    keyBytes: number,
  ): number {
    const { slots } = this
    const home = (this.isKeyed ? this.kernels.keyedHash(source, at, keyBytes) : hashLow) & SLOT_MASK
    let slot = home
    while (slots[slot] !== 0 && !this.isKey(slots[slot] - 1, hashLow, hashHigh, source, at, keyBytes)) {
      slot = (slot + 1) & SLOT_MASK
    }
    if (((slot - home) & SLOT_MASK) > WALKED_MAX) this.isStrained = true
    return slot
  }

  /** The newest record of the key, or -1. */
  find(hashLow: number, hashHigh: number, source: Uint8Array, at: number, keyBytes: number): number {
    if (this.indexed < this.count) this.index()
    if (this.isStrained && !this.isKeyed) this.rekey()
    return this.slots[this.slotOf(hashLow, hashHigh, source, at, keyBytes)] - 1
  }

  /** Places all of them by a keyed hash, until the group is written. */
  private rekey(): void {
    this.slots.fill(0)
    this.indexed = 0
    this.isKeyed = true
    this.index()
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
    return this.kernels.ints[GROUP_TABLE + index * ROW_WORDS + word]
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
    return expires ? this.kernels.expiryOfRow(GROUP_TABLE + index * ROW_WORDS) : undefined
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
    if (this.isKeyed || this.indexed * 8 > SLOTS) {
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
    this.isStrained = false
    this.isKeyed = false
  }
}
