// Takes the rows of a scan in order and hands on what they come to: batches whole or not at all.
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
import { GrowableBytes, GrowableWords, TWO_32 } from './bytes'
import type { Segment } from './catalog'
import { Findings } from './findings'
import type { Health } from './health'
import type { Kernels } from './kernels'
import type { ScannedRows } from './keydir/backlog'
import { emptyPlace, type Place, TOUCHED_AT_ONCE } from './keydir/keydir'
import { recordBytes } from './segment'

const TABLE = SCAN_TABLE_AT / 4

/** Numbers kept for each member of a batch that is not complete yet. */
const MEMBER_NUMBERS = 8
/** Room for the keys of a batch that is kept for the next one. */
const KEPT_BYTES_MAX = 0x1_0000
/** So many keys of a batch with a hole in it are listed. */
const BROKEN_KEYS_MAX = 1000

/**
 * Takes what a segment holds, each put and delete once and in order: opening has it in the keydir, a check drops it, a
 * repair copies it. `source` and `place` are good for the length of the call.
 */
export interface Sink {
  /** Told of the rows of keys a little before they come, by who can have them at hand then. */
  touch?(rows: Int32Array, at: number, count: number): void
  /** Whether there is a point in asking `puts`. */
  takesPuts?(): boolean
  /** Takes what so many of the first rows put as it can take at once, and says how many; the rest comes one by one. */
  puts?(rows: ScannedRows): number
  put(hashLow: number, hashHigh: number, source: Uint8Array, at: number, keyBytes: number, place: Place): void
  /** A delete, or a put that has expired. */
  remove(
    hashLow: number,
    hashHigh: number,
    source: Uint8Array,
    at: number,
    keyBytes: number,
    place: Place,
  ): unknown
  /** A readable member of a batch with a hole in it; a put of a damaged value to those that don't ask. */
  broken?(
    hashLow: number,
    hashHigh: number,
    source: Uint8Array,
    at: number,
    keyBytes: number,
    place: Place,
  ): void
}

/** What a replay reads of a segment, and fills in. */
export type ReplayedSegment = Pick<Segment, 'slot' | 'header' | 'path' | 'records' | 'lastSequence'>

export class Replay {
  private readonly place: Place = emptyPlace()
  /** Where the batch began that is not complete yet, its members, and their keys. */
  private batchOffset: number | undefined
  private readonly members = new GrowableWords()
  private keys = new GrowableBytes()
  /** The batch that a hole broke, while its members may still follow. */
  private broken: { offset: number; bytes: number; keys: Uint8Array[]; moreKeys: number } | undefined
  private readonly findings: Findings
  /** Members of the batch that the end of the log has cut. */
  tornWrites = 0
  /** Where the last put or delete ends. */
  writesEnd = 0
  /** Of the hint that is being read: where the next row's record stands in memory. */
  private prefixAt = 0
  /** A batch of more members than this is not applied at once, but waits for whoever takes the rows in steps. */
  private membersAtOnce = Number.POSITIVE_INFINITY
  private isBatchDue = false

  constructor(
    private readonly kernels: Kernels,
    private readonly sink: Sink,
    health: Health,
    private readonly segment: ReplayedSegment,
    private readonly nowMs: number,
    /** What is known of the records before those that it takes. */
    before = { records: 0, nextSequence: segment.header.firstSequence },
  ) {
    this.findings = new Findings(health, segment.path, before.nextSequence, nowMs)
    this.place.segment = segment.slot
    segment.records = before.records
  }

  /** `isHint`: the records stand at `at` without their values, one behind the other. */
  rows(count: number, at: number, offset: number, isHint = false): void {
    this.prefixAt = at
    this.take(0, count, at, offset, isHint)
  }

  /** As `rows`, so many records at a time; the table has to stay as it is until the end. */
  *rowsInSteps(
    recordsAtOnce: number,
    count: number,
    at: number,
    offset: number,
    isHint = false,
  ): Generator<void, void> {
    this.prefixAt = at
    this.membersAtOnce = recordsAtOnce
    for (let row = 0; row < count; ) {
      row = this.take(row, Math.min(row + recordsAtOnce, count), at, offset, isHint)
      if (this.isBatchDue) yield* this.applyBatchInSteps(recordsAtOnce)
      if (row < count) yield
    }
  }

  /** Takes rows up to `end`, or to a batch that is due; says which is the next one. */
  private take(first: number, end: number, at: number, offset: number, isHint: boolean): number {
    const { words, bytes } = this.kernels
    let { prefixAt } = this
    let touchedTo = first
    const waits = !isHint && this.sink.takesPuts?.() === true
    for (let row = first, word = TABLE + first * ROW_WORDS; row < end; row++, word += ROW_WORDS) {
      if (waits) {
        const taken = this.takePuts(word, end - row, at, offset)
        row += taken
        word += taken * ROW_WORDS
        if (row === end) break
      }
      // Keys are scattered all over the keydir: asked for together, they come from memory together.
      if (row >= touchedTo) {
        touchedTo = Math.min(row + TOUCHED_AT_ONCE, end)
        this.sink.touch?.(this.kernels.ints, word, touchedTo - row)
      }
      const kind = words[word + ROW_KIND]
      const keyBytes = kind >>> 16
      const rowOffset = offset + words[word + ROW_AT]
      const keyEnd =
        (isHint ? prefixAt : at + words[word + ROW_AT]) +
        recordBytes(keyBytes, 0, (kind & FLAG_EXPIRES) !== 0)
      prefixAt = keyEnd
      const sequence = this.segment.header.firstSequence + words[word + ROW_SEQUENCE]
      const isWrite = (kind & KIND_MASK) === KIND_PUT || (kind & KIND_MASK) === KIND_DELETE
      this.findings.record(sequence, isWrite)
      this.segment.lastSequence = Math.max(this.segment.lastSequence, sequence)
      if (!isWrite) {
        if ((kind & ROW_VALUE_DAMAGED) !== 0)
          this.findings.damagedSeal(rowOffset, words[word + ROW_VALUE_BYTES])
        continue
      }
      this.segment.records++
      // Before the place is filled: breaking a batch uses it for the members.
      if ((kind & FLAG_JOINED_TO_PREVIOUS) === 0) this.breakBatch()
      this.readPlace(word, kind, rowOffset)
      const keyAt = keyEnd - keyBytes
      if (this.place.isDamaged) {
        const valueOffset = rowOffset + this.place.recordBytes - this.place.valueBytes
        this.findings.damagedValue(
          sequence,
          bytes.slice(keyAt, keyAt + keyBytes),
          valueOffset,
          this.place.valueBytes,
        )
      }
      this.writesEnd = rowOffset + this.place.recordBytes
      this.write(word, kind, keyAt, keyBytes)
      if (this.isBatchDue) {
        this.prefixAt = prefixAt
        return row + 1
      }
    }
    this.prefixAt = prefixAt
    return end
  }

  /** Hands on at once what so many of the first rows put as the sink can take so; returns how many. */
  private takePuts(row: number, count: number, at: number, offset: number): number {
    const { kernels, segment, sink } = this
    if (sink.puts === undefined || this.batchOffset !== undefined || this.broken !== undefined) return 0
    const { words, bytes } = kernels
    const taken = sink.puts({ words, row, count, bytes, at, segment: segment.slot, offset })
    if (taken === 0) return 0
    const last = row + (taken - 1) * ROW_WORDS
    const { firstSequence } = segment.header
    this.findings.record(firstSequence + words[row + ROW_SEQUENCE], true)
    const lastSequence = firstSequence + words[last + ROW_SEQUENCE]
    this.findings.record(lastSequence, true)
    segment.lastSequence = Math.max(segment.lastSequence, lastSequence)
    segment.records += taken
    const keyBytes = words[last + ROW_KIND] >>> 16
    this.writesEnd =
      offset + words[last + ROW_AT] + recordBytes(keyBytes, words[last + ROW_VALUE_BYTES], false)
    return taken
  }

  private readPlace(word: number, kind: number, offset: number): void {
    const { words } = this.kernels
    const { place } = this
    const expires = (kind & FLAG_EXPIRES) !== 0
    place.offset = offset
    place.valueBytes = words[word + ROW_VALUE_BYTES]
    place.isDamaged = (kind & ROW_VALUE_DAMAGED) !== 0
    place.expiresAtMs = expires ? this.kernels.expiryOfRow(word) : undefined
    place.recordBytes = recordBytes(kind >>> 16, place.valueBytes, expires)
  }

  private write(word: number, kind: number, keyAt: number, keyBytes: number): void {
    const { bytes, words } = this.kernels
    const low = words[word + ROW_HASH_LOW]
    const high = words[word + ROW_HASH_HIGH]
    const joinsNext = (kind & FLAG_JOINED_TO_NEXT) !== 0
    if ((kind & FLAG_JOINED_TO_PREVIOUS) !== 0) {
      if (this.batchOffset === undefined) {
        this.breakMember(low, high, bytes, keyAt, keyBytes)
        if (!joinsNext) this.endBroken()
        return
      }
      this.collect(word, kind, keyAt, keyBytes)
      if (joinsNext) return
      if (this.members.length <= this.membersAtOnce * MEMBER_NUMBERS) this.applyBatch()
      else this.isBatchDue = true
      return
    }
    this.endBroken()
    if (joinsNext) {
      this.batchOffset = this.place.offset
      this.collect(word, kind, keyAt, keyBytes)
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
    if (isGone) this.sink.remove(low, high, source, at, keyBytes, this.place)
    else this.sink.put(low, high, source, at, keyBytes, this.place)
  }

  private collect(word: number, kind: number, keyAt: number, keyBytes: number): void {
    const { members, keys, place } = this
    const { words, bytes } = this.kernels
    members.push(kind)
    members.push(words[word + ROW_HASH_LOW])
    members.push(words[word + ROW_HASH_HIGH])
    members.push(keys.append(bytes, keyAt, keyBytes))
    members.push(place.offset)
    members.push(place.valueBytes)
    members.push(words[word + ROW_EXPIRES_LOW])
    members.push(words[word + ROW_EXPIRES_HIGH])
  }

  /** The members from one to another; all of them end the batch. */
  private forEachMember(
    visit: (kind: number, low: number, high: number, keys: Uint8Array, at: number, keyBytes: number) => void,
    from = 0,
    to = this.members.length / MEMBER_NUMBERS,
  ): void {
    const { members, keys, place } = this
    const end = Math.min(members.length, to * MEMBER_NUMBERS)
    for (let i = from * MEMBER_NUMBERS; i < end; i += MEMBER_NUMBERS) {
      const kind = members.at(i)
      const expires = (kind & FLAG_EXPIRES) !== 0
      place.offset = members.at(i + 4)
      place.valueBytes = members.at(i + 5)
      place.expiresAtMs = expires ? members.at(i + 6) + members.at(i + 7) * TWO_32 : undefined
      place.recordBytes = recordBytes(kind >>> 16, place.valueBytes, expires)
      place.isDamaged = (kind & ROW_VALUE_DAMAGED) !== 0
      visit(kind, members.at(i + 1), members.at(i + 2), keys.bytes, members.at(i + 3), kind >>> 16)
    }
    if (end === members.length) this.endBatch()
  }

  private endBatch(): void {
    this.batchOffset = undefined
    this.members.clear()
    if (this.keys.bytes.length > KEPT_BYTES_MAX) this.keys = new GrowableBytes()
    else this.keys.used = 0
  }

  private applyBatch(from?: number, to?: number): void {
    this.forEachMember(
      (kind, low, high, keys, at, keyBytes) => this.apply(kind, low, high, keys, at, keyBytes),
      from,
      to,
    )
  }

  private *applyBatchInSteps(membersAtOnce: number): Generator<void, void> {
    this.isBatchDue = false
    const members = this.members.length / MEMBER_NUMBERS
    for (let from = 0; from < members; from += membersAtOnce) {
      yield
      this.applyBatch(from, from + membersAtOnce)
    }
  }

  /** A batch with a hole is not applied; what its keys should be is unknown, so reading them is an error. */
  private breakBatch(): void {
    if (this.batchOffset === undefined) return
    this.forEachMember((_kind, low, high, keys, at, keyBytes) =>
      this.breakMember(low, high, keys, at, keyBytes),
    )
  }

  private breakMember(low: number, high: number, source: Uint8Array, at: number, keyBytes: number): void {
    const { place } = this
    this.broken ??= { offset: place.offset, bytes: 0, keys: [], moreKeys: 0 }
    this.broken.bytes = place.offset + place.recordBytes - this.broken.offset
    if (this.broken.keys.length < BROKEN_KEYS_MAX) this.broken.keys.push(source.slice(at, at + keyBytes))
    else this.broken.moreKeys++
    place.isDamaged = true
    if (this.sink.broken === undefined) this.sink.put(low, high, source, at, keyBytes, place)
    else this.sink.broken(low, high, source, at, keyBytes, place)
  }

  private endBroken(): void {
    if (this.broken === undefined) return
    const { offset, bytes, keys, moreKeys } = this.broken
    this.broken = undefined
    this.findings.brokenBatch(offset, bytes, keys, moreKeys)
  }

  /** Acknowledged bytes that hold no record: whatever batch they were in is not whole any more. */
  damage(offset: number, bytes: number): void {
    this.breakBatch()
    this.findings.unreadable(offset, bytes)
  }

  /** Where the torn tail begins: at `offset`, or where the batch began that it cut. */
  torn(offset: number): number {
    const { batchOffset } = this
    if (batchOffset === undefined) return offset
    this.tornWrites = this.members.length / MEMBER_NUMBERS
    this.segment.records -= this.tornWrites
    this.endBatch()
    return batchOffset
  }

  /** No more rows. */
  end(decidedLastSequence: number | undefined): void {
    this.breakBatch()
    this.endBroken()
    const lastSequence = this.findings.end(decidedLastSequence, RECORD_HEADER_BYTES + 1)
    this.segment.lastSequence = Math.max(this.segment.lastSequence, lastSequence)
  }
}
