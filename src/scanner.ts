// Reads one segment from end to end and tells records, damage and a torn tail apart. The rules stand in
// docs/FORMAT.md, "Reading a segment"; docs/DURABILITY.md says why they are right. It writes nothing.
import {
  READ_AT,
  READ_BYTES,
  RECORD_HEADER_BYTES,
  RECORD_PREFIX_BYTES_MAX,
  ROW_AT,
  ROW_KIND,
  ROW_SEQUENCE,
  ROW_VALUE_DAMAGED,
  ROW_WORDS,
  SCAN_AT,
  SCAN_BYTES,
  SCAN_TABLE_AT,
  STOP_BAD,
  STOP_LARGE,
  STOP_MORE,
} from '../assembly/layout'
import { invariant, ioError } from './errors'
import type { FileHandle, Host } from './host/host'
import { readFully } from './io'
import type { Kernels } from './kernels'
import { recordFields, recordSeed, SEGMENT_HEADER_BYTES } from './segment'

const TABLE = SCAN_TABLE_AT / 4
/** Searching for records behind damage reads at most so many times the segment's length: docs/FORMAT.md, "Reading". */
const SEARCH_MULTIPLE = 64
/** A value that is verified before the header behind it is looked at. */
const SHORT_BYTES = 1024

export interface ScanTarget {
  file: FileHandle
  path: string
  salt: number
  fileBytes: number
  /** Where the log seems to end, where there is room behind it. */
  logBytes?: number | undefined
  /** The segment's valid length where it was decided already: all below it is acknowledged. */
  decidedBytes: number | undefined
  /** Where a record begins from which to read; the first record where undefined. */
  fromBytes?: number | undefined
  /** The least sequence number there, counted from the segment's first; 0 where undefined. */
  fromSequence?: number | undefined
  /** So many bytes are taken at a time, by who skims or pauses; else as many as there is room for. */
  windowBytes?: number | undefined
  /**
   * Whether to skim: a record that is longer than what is taken at a time is handed out with its value unread, and the
   * first damage ends the scan.
   */
  skims?: boolean
  /** Whether to pause within what takes long: a long value, or a search. A window has room for two of the longest headers. */
  pauses?: boolean
}

export type ScanEvent =
  /** `count` rows in the scan's table, of the part that stands at `at` in memory and at `offset` in the file. */
  | { kind: 'rows'; count: number; at: number; offset: number; isUnread?: boolean }
  /** Acknowledged bytes that can't be read as records. */
  | { kind: 'damage'; offset: number; bytes: number }
  /** Bytes behind the last acknowledged one that aren't whole records: never acknowledged, so cut off. */
  | { kind: 'torn'; offset: number; bytes: number }

type Pausing<T> = Generator<undefined, T>

export class SegmentScan {
  private readonly limit: number
  private offset: number
  private nextSequence = 0
  private windowOffset = 0
  private windowBytes = 0
  /** Every bad place below this is damage, every other one the torn tail; known once it was needed. */
  private boundary: number | undefined
  private certifiedBytes = 0
  private searchedBytes = 0
  private neededBytes = 0
  /** With fewer bytes ahead than this they are read anew: a small window has no room for every header. */
  private readonly leastBytes: number

  constructor(
    private readonly host: Host,
    private readonly kernels: Kernels,
    private readonly target: ScanTarget,
  ) {
    // The kernels count in 32 bits, and no segment comes near: what lies behind is no part of one.
    this.limit = Math.min(target.fileBytes, target.decidedBytes ?? target.fileBytes, 0xffff_ffff)
    this.boundary = target.decidedBytes
    this.leastBytes = Math.min(RECORD_PREFIX_BYTES_MAX, (target.windowBytes ?? SCAN_BYTES) >> 1)
    this.offset = target.fromBytes ?? SEGMENT_HEADER_BYTES
    this.nextSequence = target.fromSequence ?? 0
  }

  *events(): Generator<ScanEvent, void> {
    for (const event of this.steps()) if (event !== undefined) yield event
  }

  /** The events; undefined is a pause, in which others may run. */
  *steps(): Generator<ScanEvent | undefined, void> {
    const { skims, pauses } = this.target
    while (this.offset < this.limit) {
      const at = this.load(this.offset)
      const available = this.loadedBehind - this.offset
      const rows = this.scanWindow(at, available, this.offset, this.nextSequence)
      const { consumedBytes, stop, certifiedBytes, nextSequence } = this.kernels.scanResult()
      const doubtful = this.firstDoubtfulRow(rows)
      if (doubtful < rows) {
        // A record whose value is damaged, and it isn't known yet on which side of the boundary it lies, or it
        // lies behind it: hand out what comes before, and decide.
        const { offset } = this
        this.offset += this.kernels.words[TABLE + doubtful * ROW_WORDS + ROW_AT]
        if (doubtful > 0) {
          this.nextSequence = this.kernels.words[TABLE + (doubtful - 1) * ROW_WORDS + ROW_SEQUENCE] + 1
          yield { kind: 'rows', count: doubtful, at, offset }
        }
        if (this.offset >= (yield* this.findBoundary())) return yield this.torn()
        continue
      }
      const { offset } = this
      this.offset += consumedBytes
      this.nextSequence = nextSequence
      this.certifiedBytes = Math.max(this.certifiedBytes, certifiedBytes)
      if (rows > 0) yield { kind: 'rows', count: rows, at, offset }
      if (skims === true && this.isTooLarge(consumedBytes, stop)) {
        const event = this.unreadRecord()
        if (event !== undefined) yield event
      } else if (stop === STOP_LARGE || (pauses === true && this.isTooLarge(consumedBytes, stop))) {
        const event = yield* this.largeRecord()
        if (event === undefined) continue
        yield event
        if (event.kind === 'torn') return
      } else if (stop === STOP_BAD || this.isStuck(consumedBytes, stop)) {
        const boundary = yield* this.findBoundary()
        if (this.offset >= boundary) return yield this.torn()
        const end = Math.min(boundary, this.limit)
        const next = skims === true ? this.limit : yield* this.findRecord(this.offset + 1, end)
        // What is missing behind the end of the file is the same damage.
        const isLast = next >= this.limit
        const bytes = (isLast ? this.decidedEnd : next) - this.offset
        yield { kind: 'damage', offset: this.offset, bytes }
        this.offset = next
        if (isLast) return
      }
    }
    const missing = this.decidedEnd - this.limit
    if (missing > 0) yield { kind: 'damage', offset: this.limit, bytes: missing }
  }

  private get decidedEnd(): number {
    return Math.max(this.limit, this.target.decidedBytes ?? 0)
  }

  /** The longest length that a record says was on disk when it was written. */
  get certified(): number {
    return Math.max(this.certifiedBytes, this.boundary ?? 0)
  }

  /** The offset reached: behind the last record handed out. */
  get validBytes(): number {
    return this.offset
  }

  private *pause(): Pausing<void> {
    if (this.target.pauses === true) yield
  }

  private torn(): ScanEvent {
    return { kind: 'torn', offset: this.offset, bytes: this.limit - this.offset }
  }

  /** Whether a scan that wanted more has all there is; else the window is read anew from where the scan came to. */
  private isStuck(consumedBytes: number, stop: number): boolean {
    if (stop !== STOP_MORE) return false
    if (this.loadedBehind >= this.limit) return consumedBytes === 0
    this.windowBytes = 0
    return false
  }

  /** Whether the record at the place reached doesn't fit into what is taken at a time. */
  private isTooLarge(consumedBytes: number, stop: number, offset = this.offset): boolean {
    if (stop === STOP_LARGE) return true
    const isFresh = consumedBytes === 0 && this.windowOffset === offset
    return stop === STOP_MORE && isFresh && this.loadedBehind < this.limit
  }

  private unreadRecord(): ScanEvent | undefined {
    const { offset } = this
    const at = this.load(offset)
    const { keyBytes, prefixBytes, valueBytes, certifiedBytes, sequenceOffset } = recordFields(
      this.kernels.view,
      at,
    )
    if (offset + prefixBytes > this.loadedBehind) {
      invariant(keyBytes > 0, 'only a key makes a header long')
      this.neededBytes = prefixBytes
      this.windowBytes = 0
      return undefined
    }
    if (!this.isHeaderSound(at)) return undefined
    this.kernels.call.describe(at)
    this.certifiedBytes = Math.max(this.certifiedBytes, certifiedBytes)
    this.nextSequence = sequenceOffset + 1
    this.offset += prefixBytes + valueBytes
    return { kind: 'rows', count: 1, at, offset, isUnread: true }
  }

  /** Of the record at the place reached: it may have been read again. If not, it is looked at anew, and may be damage. */
  private isHeaderSound(at: number): boolean {
    const { offset, kernels, target } = this
    const seed = recordSeed(target.salt, offset)
    if (kernels.call.isHeaderValid(at, this.loadedBehind - offset, seed) === 1) return true
    this.windowBytes = 0
    return false
  }

  /** Has the bytes from `offset` on in memory, as many as the window takes; returns their address. */
  private load(offset: number): number {
    const end = this.loadedBehind
    const isInside = offset >= this.windowOffset && offset < end
    if (isInside && (end >= this.limit || end - offset >= this.leastBytes)) {
      return SCAN_AT + offset - this.windowOffset
    }
    const wantedBytes = Math.max(this.target.windowBytes ?? SCAN_BYTES, this.neededBytes)
    const bytes = Math.min(wantedBytes, this.limit - offset)
    this.neededBytes = 0
    const read = this.read(SCAN_AT, bytes, offset)
    if (read < bytes) this.kernels.bytes.fill(0, SCAN_AT + read, SCAN_AT + bytes)
    this.windowOffset = offset
    this.windowBytes = bytes
    return SCAN_AT
  }

  private get loadedBehind(): number {
    return this.windowOffset + this.windowBytes
  }

  private read(at: number, bytes: number, offset: number): number {
    try {
      return readFully(this.host, this.target.file, this.kernels.bytes, at, bytes, offset)
    } catch (cause) {
      throw ioError('read a segment', this.target.path, cause)
    }
  }

  private scanWindow(at: number, available: number, offset: number, nextSequence: number): number {
    return this.kernels.call.scan(at, available, this.limit - offset, offset, this.target.salt, nextSequence)
  }

  /** The first row with a damaged value that is not known to lie below the boundary; `rows` if there is none. */
  private firstDoubtfulRow(rows: number): number {
    const { words } = this.kernels
    for (let row = 0; row < rows; row++) {
      const at = TABLE + row * ROW_WORDS
      if ((words[at + ROW_KIND] & ROW_VALUE_DAMAGED) === 0) continue
      if (this.boundary === undefined || this.offset + words[at + ROW_AT] >= this.boundary) return row
    }
    return rows
  }

  /** The record at `offset` is longer than the window: its value is verified piece by piece. */
  private *largeRecord(): Pausing<ScanEvent | undefined> {
    const { call, view, words } = this.kernels
    const { offset } = this
    const at = this.load(offset)
    if (!this.isHeaderSound(at)) return undefined
    const fields = recordFields(view, at)
    const isIntact = yield* this.isValueIntact(offset, fields.prefixBytes, fields.valueBytes, fields.valueCrc)
    if (!isIntact && this.boundary === undefined) {
      yield* this.findBoundary()
      return undefined
    }
    if (!isIntact && offset >= (yield* this.findBoundary())) return this.torn()
    call.describe(at)
    if (!isIntact) words[TABLE + ROW_KIND] |= ROW_VALUE_DAMAGED
    this.certifiedBytes = Math.max(this.certifiedBytes, fields.certifiedBytes)
    this.nextSequence = fields.sequenceOffset + 1
    this.offset += fields.prefixBytes + fields.valueBytes
    return { kind: 'rows', count: 1, at, offset }
  }

  private *isValueIntact(
    offset: number,
    prefixBytes: number,
    valueBytes: number,
    valueCrc: number,
  ): Pausing<boolean> {
    let crc = recordSeed(this.target.salt, offset)
    for (let done = 0; done < valueBytes; ) {
      const bytes = Math.min(READ_BYTES, valueBytes - done)
      if (this.read(READ_AT, bytes, offset + prefixBytes + done) < bytes) return false
      crc = this.kernels.call.crc32(crc, READ_AT, bytes)
      done += bytes
      yield* this.pause()
    }
    return crc >>> 0 === valueCrc
  }

  /** The boundary between damage and torn tail: the longest length that any later record certifies. */
  private *findBoundary(): Pausing<number> {
    if (this.boundary !== undefined) return this.boundary
    const { pauses } = this.target
    let offset = this.offset
    let nextSequence = this.nextSequence
    let certified = this.certifiedBytes
    this.searchedBytes = 0
    while (offset < this.limit) {
      const at = this.load(offset)
      const available = this.loadedBehind - offset
      this.scanWindow(at, available, offset, nextSequence)
      const result = this.kernels.scanResult()
      certified = Math.max(certified, result.certifiedBytes)
      nextSequence = result.nextSequence
      offset += result.consumedBytes
      yield* this.pause()
      const isPassed = pauses === true && this.isTooLarge(result.consumedBytes, result.stop, offset)
      if (result.stop === STOP_LARGE || isPassed) {
        const fields = recordFields(this.kernels.view, this.load(offset))
        certified = Math.max(certified, fields.certifiedBytes)
        nextSequence = fields.sequenceOffset + 1
        offset += fields.prefixBytes + fields.valueBytes
      } else if (result.stop === STOP_BAD || this.isStuck(result.consumedBytes, result.stop)) {
        offset = yield* this.findRecord(offset + 1, this.limit, nextSequence)
      }
    }
    this.boundary = certified
    // So that the search below it comes to the same as one by whoever knows the boundary.
    this.searchedBytes = 0
    return certified
  }

  /** The next place in [from, end) where a record begins, else `end`. */
  private *findRecord(from: number, end: number, nextSequence = this.nextSequence): Pausing<number> {
    let offset = from
    while (offset < end) {
      const at = this.load(offset)
      const available = this.loadedBehind - offset
      const remaining = this.limit - offset
      const skipped = this.kernels.call.find(at, available, remaining, offset, this.target.salt, nextSequence)
      if (skipped === available) return end
      const isJudged = available === remaining || available - skipped >= RECORD_PREFIX_BYTES_MAX
      offset += skipped
      if (isJudged && offset < end) {
        if (yield* this.isBelievable(offset)) return offset
        offset++
      }
      yield* this.pause()
    }
    return end
  }

  /**
   * A header found by searching counts only with more than its own CRC: an intact value, or a record behind it. What
   * costs less is asked first, and all of it is bounded: a false header may claim all of the file for its value.
   */
  private *isBelievable(offset: number): Pausing<boolean> {
    const fields = recordFields(this.kernels.view, this.load(offset))
    const { prefixBytes, valueBytes, valueCrc } = fields
    const isShort = valueBytes <= SHORT_BYTES
    if (!isShort && this.isRecordAt(offset + prefixBytes + valueBytes)) return true
    if (this.spend(valueBytes) && (yield* this.isValueIntact(offset, prefixBytes, valueBytes, valueCrc)))
      return true
    return isShort && this.isRecordAt(offset + prefixBytes + valueBytes)
  }

  /** R2 to R5 for the header at `offset`; where the segment ends there, that is as good. */
  private isRecordAt(offset: number): boolean {
    if (offset === this.limit || offset === this.target.logBytes) return true
    const { call, view } = this.kernels
    const headerBytes = this.read(READ_AT, Math.min(RECORD_HEADER_BYTES, this.limit - offset), offset)
    if (headerBytes < RECORD_HEADER_BYTES) return false
    const { kind, prefixBytes } = recordFields(view, READ_AT)
    if (kind === undefined || offset + prefixBytes > this.limit || !this.spend(prefixBytes)) return false
    const read = this.read(READ_AT, prefixBytes, offset)
    return call.isHeaderValid(READ_AT, read, recordSeed(this.target.salt, offset)) === 1
  }

  /** Whether a search may read so many bytes more. What honest damage takes is less than three times the segment. */
  private spend(bytes: number): boolean {
    this.searchedBytes += bytes
    return this.searchedBytes <= SEARCH_MULTIPLE * this.limit
  }
}
