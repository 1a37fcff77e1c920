// Takes the rows of a scan in order and applies them to the keydir: batches whole or not at all.
import {
  FLAG_EXPIRES,
  FLAG_JOINED_TO_NEXT,
  FLAG_JOINED_TO_PREVIOUS,
  KIND_DELETE,
  KIND_MASK,
  KIND_PUT,
  RECORD_HEADER_BYTES,
  ROW_AT,
  ROW_EXPIRES_HIGH,
  ROW_EXPIRES_LOW,
  ROW_HASH_HIGH,
  ROW_HASH_LOW,
  ROW_KIND,
  ROW_SEQUENCE,
  ROW_VALUE_BYTES,
  ROW_VALUE_DAMAGED,
  ROW_WORDS,
  SCAN_TABLE_AT,
} from '../assembly/layout'
import { GrowableBytes } from './bytes'
import type { Segment } from './catalog'
import { Findings } from './findings'
import type { Damage, Health } from './health'
import type { Kernels } from './kernels'
import { emptyPlace, type Place } from './keydir/keydir'
import type { Ledger } from './ledger'
import { recordBytes } from './segment'

const TABLE = SCAN_TABLE_AT / 4
const TWO_32 = 0x1_0000_0000

/** Numbers kept for each member of a batch that is not complete yet. */
const MEMBER_NUMBERS = 8

export class Replay {
  private readonly place: Place = emptyPlace()
  private batch: { startOffset: number; members: number[]; keys: GrowableBytes } | undefined
  /** The report of the batch that a hole broke, while its members may still follow. */
  private broken: Damage | undefined
  private readonly findings: Findings

  constructor(
    private readonly kernels: Kernels,
    private readonly ledger: Ledger,
    health: Health,
    private readonly segment: Segment,
    private readonly nowMs: number,
  ) {
    this.findings = new Findings(health, segment.path, segment.header.firstSequence, nowMs)
    this.place.segment = segment.slot
    segment.records = 0
  }

  rows(count: number, at: number, offset: number): void {
    const { words, bytes } = this.kernels
    for (let row = 0, word = TABLE; row < count; row++, word += ROW_WORDS) {
      const kind = words[word + ROW_KIND]
      const rowOffset = offset + words[word + ROW_AT]
      const sequence = this.segment.header.firstSequence + words[word + ROW_SEQUENCE]
      const isWrite = (kind & KIND_MASK) === KIND_PUT || (kind & KIND_MASK) === KIND_DELETE
      this.findings.record(sequence, isWrite)
      this.segment.lastSequence = Math.max(this.segment.lastSequence, sequence)
      if (!isWrite) continue
      this.segment.records++
      // Before the place is filled: breaking a batch uses it for the members.
      if ((kind & FLAG_JOINED_TO_PREVIOUS) === 0) this.breakBatch()
      this.readPlace(word, kind, rowOffset)
      const keyBytes = kind >>> 16
      const keyAt = at + words[word + ROW_AT] + this.place.recordBytes - this.place.valueBytes - keyBytes
      if (this.place.isDamaged) {
        const valueOffset = rowOffset + this.place.recordBytes - this.place.valueBytes
        this.findings.damagedValue(
          sequence,
          bytes.slice(keyAt, keyAt + keyBytes),
          valueOffset,
          this.place.valueBytes,
        )
      }
      this.write(kind, words[word + ROW_HASH_LOW], words[word + ROW_HASH_HIGH], keyAt, keyBytes)
    }
  }

  private readPlace(word: number, kind: number, offset: number): void {
    const { words } = this.kernels
    const { place } = this
    const expires = (kind & FLAG_EXPIRES) !== 0
    place.offset = offset
    place.valueBytes = words[word + ROW_VALUE_BYTES]
    place.isDamaged = (kind & ROW_VALUE_DAMAGED) !== 0
    place.expiresAtMs = expires
      ? words[word + ROW_EXPIRES_LOW] + words[word + ROW_EXPIRES_HIGH] * TWO_32
      : undefined
    place.recordBytes = recordBytes(kind >>> 16, place.valueBytes, expires)
  }

  private write(kind: number, low: number, high: number, keyAt: number, keyBytes: number): void {
    const { bytes } = this.kernels
    const joinsNext = (kind & FLAG_JOINED_TO_NEXT) !== 0
    if ((kind & FLAG_JOINED_TO_PREVIOUS) !== 0) {
      if (this.batch === undefined) {
        this.breakMember(low, high, bytes, keyAt, keyBytes)
        if (!joinsNext) this.broken = undefined
        return
      }
      this.collect(kind, low, high, keyAt, keyBytes)
      if (!joinsNext) this.applyBatch()
      return
    }
    this.broken = undefined
    if (joinsNext) {
      this.batch = { startOffset: this.place.offset, members: [], keys: new GrowableBytes() }
      this.collect(kind, low, high, keyAt, keyBytes)
    } else {
      this.apply(kind, low, high, bytes, keyAt, keyBytes)
    }
  }

  private apply(
    kind: number,
    low: number,
    high: number,
    source: Uint8Array,
    at: number,
    keyBytes: number,
  ): void {
    const { expiresAtMs } = this.place
    // An expired record goes on hiding what is older: it removes the key, as a delete does.
    const isGone =
      (kind & KIND_MASK) === KIND_DELETE || (expiresAtMs !== undefined && expiresAtMs <= this.nowMs)
    if (isGone) this.ledger.remove(low, high, source, at, keyBytes)
    else this.ledger.put(low, high, source, at, keyBytes, this.place)
  }

  private collect(kind: number, low: number, high: number, keyAt: number, keyBytes: number): void {
    const { batch, place } = this
    if (batch === undefined) return
    const at = batch.keys.append(this.kernels.bytes, keyAt, keyBytes)
    const expires = place.expiresAtMs ?? -1
    batch.members.push(kind, low, high, at, place.offset, place.valueBytes, expires, place.recordBytes)
  }

  private forEachMember(
    visit: (kind: number, low: number, high: number, keys: Uint8Array, at: number, keyBytes: number) => void,
  ): void {
    const { batch, place } = this
    this.batch = undefined
    if (batch === undefined) return
    const { members, keys } = batch
    for (let i = 0; i < members.length; i += MEMBER_NUMBERS) {
      const kind = members[i]
      place.offset = members[i + 4]
      place.valueBytes = members[i + 5]
      place.expiresAtMs = members[i + 6] < 0 ? undefined : members[i + 6]
      place.recordBytes = members[i + 7]
      place.isDamaged = (kind & ROW_VALUE_DAMAGED) !== 0
      visit(kind, members[i + 1], members[i + 2], keys.bytes, members[i + 3], kind >>> 16)
    }
  }

  private applyBatch(): void {
    this.forEachMember((kind, low, high, keys, at, keyBytes) =>
      this.apply(kind, low, high, keys, at, keyBytes),
    )
  }

  /** A batch with a hole is not applied; what its keys should be is unknown, so reading them is an error. */
  private breakBatch(): void {
    if (this.batch === undefined) return
    this.forEachMember((_kind, low, high, keys, at, keyBytes) =>
      this.breakMember(low, high, keys, at, keyBytes),
    )
  }

  private breakMember(low: number, high: number, source: Uint8Array, at: number, keyBytes: number): void {
    const { place } = this
    if (this.broken === undefined) {
      this.broken = this.findings.report(
        place.offset,
        0,
        'members of a batch with a hole in it: none of it is applied',
      )
    }
    this.broken.bytes = place.offset + place.recordBytes - this.broken.offset
    this.broken.keys.push(source.slice(at, at + keyBytes))
    place.isDamaged = true
    this.ledger.put(low, high, source, at, keyBytes, place)
  }

  /** Acknowledged bytes that hold no record: whatever batch they were in is not whole any more. */
  damage(offset: number, bytes: number): void {
    this.breakBatch()
    this.findings.unreadable(offset, bytes)
  }

  /** Where the torn tail begins: at `offset`, or where the batch began that it cut. */
  torn(offset: number): number {
    if (this.batch === undefined) return offset
    const { startOffset, members } = this.batch
    this.segment.records -= members.length / MEMBER_NUMBERS
    this.batch = undefined
    return startOffset
  }

  /** No more rows. */
  end(decidedLastSequence: number | undefined): void {
    this.breakBatch()
    const lastSequence = this.findings.end(decidedLastSequence, RECORD_HEADER_BYTES + 1)
    this.segment.lastSequence = Math.max(this.segment.lastSequence, lastSequence)
  }
}
