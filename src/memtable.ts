// The records of the commit group that is filling, found by key. Reads look here before the keydir; once the group is
// in its segment, all of it moves to the keydir at once. A group that fails is dropped, and the keydir never knew.
import {
  FLAG_EXPIRES,
  KIND_DELETE,
  KIND_MASK,
  RECORD_HEADER_BYTES,
  RECORD_KEY_BYTES_AT,
  RECORD_KIND_AT,
  WRITE_BYTES,
} from '../assembly/layout'
import { invariant } from './errors'
import type { Kernels } from './kernels'
import { recordBytes } from './segment'

const RECORDS_MAX = Math.ceil(WRITE_BYTES / (RECORD_HEADER_BYTES + 1))
const SLOTS = 16_384
const SLOT_MASK = SLOTS - 1

export class Memtable {
  private readonly slots = new Uint16Array(SLOTS)
  private readonly hashLow = new Uint32Array(RECORDS_MAX)
  private readonly hashHigh = new Uint32Array(RECORDS_MAX)
  private readonly address = new Uint32Array(RECORDS_MAX)
  count = 0

  constructor(private readonly kernels: Kernels) {}

  /** Takes the record at `address` of the kernels' memory; a later one of the same key hides it. */
  add(hashLow: number, hashHigh: number, address: number): void {
    const index = this.count
    invariant(index < RECORDS_MAX, 'a group holds no more records than its buffer has room for')
    this.hashLow[index] = hashLow
    this.hashHigh[index] = hashHigh
    this.address[index] = address
    this.count++
    const { slots } = this
    const bytes = this.kernels.bytes
    let slot = hashLow & SLOT_MASK
    for (; slots[slot] !== 0; slot = (slot + 1) & SLOT_MASK) {
      const other = slots[slot] - 1
      if (this.hashLow[other] !== hashLow || this.hashHigh[other] !== hashHigh) continue
      if (this.hasKey(other, bytes, this.keyAt(index), this.keyBytes(index))) break
    }
    slots[slot] = index + 1
  }

  /** The newest record of the key, or -1. */
  find(hashLow: number, hashHigh: number, source: Uint8Array, at: number, keyBytes: number): number {
    const { slots } = this
    for (let slot = hashLow & SLOT_MASK; slots[slot] !== 0; slot = (slot + 1) & SLOT_MASK) {
      const index = slots[slot] - 1
      if (this.hashLow[index] !== hashLow || this.hashHigh[index] !== hashHigh) continue
      if (this.hasKey(index, source, at, keyBytes)) return index
    }
    return -1
  }

  private hasKey(index: number, source: Uint8Array, at: number, keyBytes: number): boolean {
    if (this.keyBytes(index) !== keyBytes) return false
    const bytes = this.kernels.bytes
    const keyAt = this.keyAt(index)
    for (let i = 0; i < keyBytes; i++) if (bytes[keyAt + i] !== source[at + i]) return false
    return true
  }

  addressOf(index: number): number {
    return this.address[index]
  }

  isDelete(index: number): boolean {
    return (this.kernels.bytes[this.address[index] + RECORD_KIND_AT] & KIND_MASK) === KIND_DELETE
  }

  keyBytes(index: number): number {
    return this.kernels.view.getUint16(this.address[index] + RECORD_KEY_BYTES_AT, true)
  }

  keyAt(index: number): number {
    const at = this.address[index]
    const expires = (this.kernels.bytes[at + RECORD_KIND_AT] & FLAG_EXPIRES) !== 0
    return at + recordBytes(0, 0, expires)
  }

  hashLowOf(index: number): number {
    return this.hashLow[index]
  }

  hashHighOf(index: number): number {
    return this.hashHigh[index]
  }

  /** Whether no later record of the group has the same key. */
  isNewest(index: number): boolean {
    const bytes = this.kernels.bytes
    return (
      this.find(this.hashLow[index], this.hashHigh[index], bytes, this.keyAt(index), this.keyBytes(index)) ===
      index
    )
  }

  clear(): void {
    if (this.count * 8 > SLOTS) {
      this.slots.fill(0)
    } else {
      for (let i = 0; i < this.count; i++) {
        // Everything from a record's home slot to the next empty one belongs to this group: empty it all.
        for (let slot = this.hashLow[i] & SLOT_MASK; this.slots[slot] !== 0; slot = (slot + 1) & SLOT_MASK) {
          this.slots[slot] = 0
        }
      }
    }
    this.count = 0
  }
}
