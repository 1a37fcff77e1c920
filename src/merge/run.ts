// Merges segments that stand next to each other into one: what still counts is copied, in the order it was written, and
// the manifest names the copy in their place. Until then nothing has changed, and from then on it is done.
import {
  FLAG_EXPIRES,
  FLAG_JOINED_TO_NEXT,
  FLAG_JOINED_TO_PREVIOUS,
  KIND_DELETE,
  KIND_MASK,
  KIND_PUT,
  ROW_AT,
  ROW_BURIED,
  ROW_COPIED,
  ROW_HASH_HIGH,
  ROW_HASH_LOW,
  ROW_KIND,
  ROW_VALUE_BYTES,
  ROW_VALUE_DAMAGED,
  ROW_WORDS,
  SCAN_TABLE_AT,
} from '../../assembly/layout'
import { GrowableWords } from '../bytes'
import type { Catalog, Segment } from '../catalog'
import { CaskyError, invariant, ioError } from '../errors'
import { join, segmentName } from '../files'
import type { Health } from '../health'
import type { Host } from '../host/host'
import type { Kernels } from '../kernels'
import { TOUCHED_AT_ONCE } from '../keydir/keydir'
import type { Ledger } from '../ledger'
import type { ManifestEntry } from '../manifest'
import type { Pace } from '../pace'
import type { Publisher } from '../publisher'
import { SegmentScan } from '../scanner'
import { JOINED, recordBytes, type SegmentHeader } from '../segment'
import { MERGE_WINDOW_BYTES, MergeOutput, type MergeSource } from './output'

const TABLE = SCAN_TABLE_AT / 4

export interface MergeRooms {
  host: Host
  catalog: Catalog
  ledger: Ledger
  health: Health
  publisher: Publisher
  /** Resolves once all that was written by now is on disk, and certified. */
  certify: () => Promise<void>
}

export interface RunPlan {
  segments: readonly Segment[]
  /** Whether nothing that is older than these can hold what a delete among them hides. */
  dropsTombstones: boolean
}

/** What has become of a run. */
export interface RunOutcome {
  /** Where it found damage, which it does not copy; then nothing has changed. */
  damaged: Segment | undefined
  /** What took the place of the segments; undefined where nothing has changed. */
  merged: Segment | undefined
  recordsRead: number
  recordsWritten: number
  /** Puts that had expired. */
  recordsExpired: number
  bytesRead: number
  bytesWritten: number
}

/** How the rows of one window fared. */
const FOUND_DAMAGE = -1

export class MergeRun {
  private output: MergeOutput | undefined
  private source: MergeSource | undefined
  /** Where each record of the output stood, in its order, and how many are of each segment and those before it. */
  private readonly offsets = new GrowableWords()
  private readonly ends: number[] = []
  private recordsRead = 0
  private recordsExpired = 0
  private bytesRead = 0
  private tombstoneBytes = 0
  /** Of the batch that is passing by: whether one of it is kept, and the row of the last such one in this window. */
  private keepsOfBatch = false
  private lastKept = -1
  private mustEndBatch = false
  private readonly nowMs: number

  constructor(
    private readonly rooms: MergeRooms,
    private readonly kernels: Kernels,
    private readonly pace: Pace,
    private readonly plan: RunPlan,
    /** Throws where the merge is not wanted any more. */
    private readonly check: () => void,
    private readonly onProgress: (bytesRead: number) => void,
  ) {
    this.nowMs = rooms.host.nowMs()
  }

  /** Up to the change of the manifest; `move` must follow, before the next merge looks at what it wrote. */
  async execute(): Promise<RunOutcome> {
    try {
      return await this.merge()
    } catch (error) {
      // What is on disk is unknown then: a manifest may name it.
      if ((error as CaskyError).code === 'CASKY_POISONED') this.leave()
      else await this.giveUp()
      throw error
    }
  }

  private leave(): void {
    this.closeSource()
    this.output?.close()
    this.output = undefined
  }

  /** Takes back what no manifest names, at once, and gives back what is open. */
  discard(): void {
    this.closeSource()
    this.output?.discard()
    this.output = undefined
  }

  /** The same, in slices. */
  private async giveUp(): Promise<void> {
    this.closeSource()
    await this.output?.giveUp()
    this.output = undefined
  }

  private async merge(): Promise<RunOutcome> {
    const { catalog, host, publisher } = this.rooms
    const { segments } = this.plan
    const header = this.headerOf(publisher.reserveSegmentId())
    const path = join(catalog.directory, segmentName(header.id))
    const output = catalog.withHandles(
      () => new MergeOutput(host, this.kernels, this.pace, path, header, this.check),
    )
    this.output = output
    await output.begin()
    for (const segment of segments) {
      const isWhole = await this.copyFrom(segment, output)
      if (!isWhole) {
        await this.giveUp()
        return this.outcome({ damaged: segment })
      }
      this.ends.push(this.offsets.length)
    }
    // What hides the records that were left out must not be lost when they are gone.
    await this.pace.wait((done) => this.rooms.certify().then(() => done(null), done))
    this.check()
    const entry = await output.finish(segments[segments.length - 1].lastSequence)
    if (!this.isWorthIt(entry)) {
      await this.giveUp()
      return this.outcome({})
    }
    const merged = await this.publish(output, entry)
    return this.outcome({ merged, bytesWritten: merged.bytes })
  }

  private outcome(given: Partial<RunOutcome>): RunOutcome {
    const { recordsRead, recordsExpired, bytesRead, offsets } = this
    const nothing = { damaged: undefined, merged: undefined, bytesWritten: 0 }
    return { ...nothing, recordsRead, recordsExpired, bytesRead, recordsWritten: offsets.length, ...given }
  }

  private headerOf(id: number): SegmentHeader {
    const { host, publisher } = this.rooms
    const { segments } = this.plan
    const [{ header: first }] = segments
    const { generation, storeId } = publisher.manifest
    return {
      storeId,
      id,
      salt: new DataView(host.random(4).buffer).getUint32(0),
      createdAtMs: host.nowMs(),
      firstSequence: first.firstSequence,
      // So that what the segment before those was found to be is still told.
      previous: first.previous,
      copies: { generation, segmentId: segments.length === 1 ? first.id : 0, isFolded: true },
    }
  }

  /** Whether fewer bytes, or fewer files, come of it. */
  private isWorthIt({ bytes }: ManifestEntry): boolean {
    const { segments } = this.plan
    return segments.length > 1 || bytes < segments[0].bytes
  }

  /** Also where nothing is left: without its manifest the store would find what was merged again. */
  private async publish(output: MergeOutput, entry: ManifestEntry): Promise<Segment> {
    const { catalog, host, publisher } = this.rooms
    try {
      await this.pace.wait((done) => host.syncDirectoryLater(catalog.directory, done))
    } catch (cause) {
      throw ioError('sync the directory', catalog.directory, cause)
    }
    this.check()
    this.pace.endSlice()
    const merged = await publisher.replaceLater(this.plan.segments, entry, this.check, () => {
      // From here on a manifest names it.
      this.output = undefined
      output.close()
    })
    this.pace.beginSlice()
    merged.tombstoneBytes = this.tombstoneBytes
    return merged
  }

  private openSource({ path, header }: Segment): MergeSource {
    const { host, catalog } = this.rooms
    try {
      const file = catalog.withHandles(() => host.open(path, 'read'))
      this.source = { path, salt: header.salt, firstSequence: header.firstSequence, file }
      return this.source
    } catch (cause) {
      throw ioError('open a segment', path, cause)
    }
  }

  private closeSource(): void {
    const { source } = this
    this.source = undefined
    if (source !== undefined) this.rooms.host.close(source.file)
  }

  /** False where it is damaged. */
  private async copyFrom(segment: Segment, output: MergeOutput): Promise<boolean> {
    const source = this.openSource(segment)
    this.keepsOfBatch = false
    this.lastKept = -1
    const { recordsRead } = this
    let doneBytes = 0
    try {
      for (const event of this.scanOf(source, segment).events()) {
        if (event.kind !== 'rows') return false
        const { count, at, offset } = event
        this.lastKept = -1
        const kept = await this.decide(count, at, offset, segment)
        if (kept === FOUND_DAMAGE) return false
        if (this.mustEndBatch) output.endBatch()
        this.mustEndBatch = false
        const before = output.bytes
        if (event.isUnread !== true) output.copy(count, at, source, kept)
        else if (kept > 0 && !(await this.copyLarge(output, source, offset))) return false
        this.pace.moved(offset - doneBytes + output.bytes - before)
        this.bytesRead += offset - doneBytes
        doneBytes = offset
        this.onProgress(this.bytesRead)
        await output.syncSome()
        await this.rest()
        this.check()
      }
    } finally {
      this.closeSource()
    }
    this.bytesRead += segment.bytes - doneBytes
    return this.recordsRead - recordsRead === segment.records
  }

  private scanOf(source: Pick<MergeSource, 'file' | 'path' | 'salt'>, { bytes }: Segment): SegmentScan {
    const { file, path, salt } = source
    const fileBytes = this.rooms.host.status(file).bytes
    const target = { file, path, salt, fileBytes, decidedBytes: bytes }
    return new SegmentScan(this.rooms.host, this.kernels, {
      ...target,
      windowBytes: MERGE_WINDOW_BYTES,
      skims: true,
    })
  }

  private async copyLarge(output: MergeOutput, source: MergeSource, offset: number): Promise<boolean> {
    const marks = this.kernels.words[TABLE + ROW_KIND]
    // A delete takes no more room than a window.
    if ((marks & ROW_BURIED) !== 0) {
      output.bury(source, offset, marks & JOINED)
      return true
    }
    return output.copyLarge(source, offset, marks & 0xff)
  }

  /** Marks those rows whose records are to be kept; returns how many, or FOUND_DAMAGE. */
  private async decide(count: number, at: number, offset: number, segment: Segment): Promise<number> {
    let kept = 0
    for (let begin = 0; begin < count; begin += TOUCHED_AT_ONCE) {
      await this.rest()
      const found = this.decideSome(begin, Math.min(begin + TOUCHED_AT_ONCE, count), at, offset, segment)
      if (found === FOUND_DAMAGE) return FOUND_DAMAGE
      kept += found
    }
    await this.rest()
    return kept
  }

  /** Lets others run, where it is time: between any two things, since what runs for the first time takes long. */
  private async rest(): Promise<void> {
    if (!this.pace.isDue) return
    await this.pace.rest()
    this.check()
  }

  /** The same for some of the rows. */
  private decideSome(begin: number, end: number, at: number, offset: number, segment: Segment): number {
    const { words, ints } = this.kernels
    const { keydir } = this.rooms.ledger
    let kept = 0
    keydir.touchRows(ints, TABLE + begin * ROW_WORDS, end - begin)
    for (let row = begin; row < end; row++) {
      const word = TABLE + row * ROW_WORDS
      const kind = words[word + ROW_KIND]
      if ((kind & ROW_VALUE_DAMAGED) !== 0) return FOUND_DAMAGE
      const isWrite = (kind & KIND_MASK) === KIND_PUT || (kind & KIND_MASK) === KIND_DELETE
      if (!isWrite) continue
      this.recordsRead++
      const rowOffset = offset + words[word + ROW_AT]
      const fate = this.fateOf(word, kind, at, rowOffset, segment)
      if (fate === FOUND_DAMAGE) return FOUND_DAMAGE
      this.mark(word, kind, fate)
      if (fate === 0) continue
      kept++
      this.offsets.push(rowOffset)
    }
    return kept
  }

  /** ROW_COPIED, ROW_BURIED, 0 where it is left out, or FOUND_DAMAGE. */
  private fateOf(word: number, kind: number, at: number, offset: number, segment: Segment): number {
    const { words, bytes } = this.kernels
    const { ledger } = this.rooms
    const { keydir } = ledger
    const keyBytes = kind >>> 16
    const valueBytes = words[word + ROW_VALUE_BYTES]
    const expires = (kind & FLAG_EXPIRES) !== 0
    const keyAt = at + words[word + ROW_AT] + recordBytes(keyBytes, 0, expires) - keyBytes
    const low = words[word + ROW_HASH_LOW]
    const high = words[word + ROW_HASH_HIGH]
    const isThere = keydir.find(low, high, bytes, keyAt, keyBytes)
    if ((kind & KIND_MASK) === KIND_DELETE) {
      // A key that is there again has a newer record, which hides as much.
      return isThere ? 0 : this.tombstone(keyBytes)
    }
    if (!isThere) {
      // Deleted; or it has expired and was swept, and then nothing else hides what is older.
      if (expires && this.kernels.expiryOfRow(word) <= this.nowMs) this.recordsExpired++
      return expires ? this.tombstone(keyBytes) : 0
    }
    const { found } = keydir
    if (found.segment !== segment.slot || found.offset !== offset) return 0
    if (found.isDamaged || found.valueBytes !== valueBytes) return FOUND_DAMAGE
    if (found.expiresAtMs === undefined || found.expiresAtMs > this.nowMs) return ROW_COPIED
    this.recordsExpired++
    ledger.remove(low, high, bytes, keyAt, keyBytes)
    return this.tombstone(keyBytes)
  }

  private tombstone(keyBytes: number): number {
    if (this.plan.dropsTombstones) return 0
    this.tombstoneBytes += recordBytes(keyBytes, 0, false)
    return ROW_BURIED
  }

  /** Notes what is to be done with a row; what is kept of a batch stays one. */
  private mark(word: number, kind: number, fate: number): void {
    const { words } = this.kernels
    const joinsPrevious = (kind & FLAG_JOINED_TO_PREVIOUS) !== 0
    const joinsNext = (kind & FLAG_JOINED_TO_NEXT) !== 0
    if (!joinsPrevious) {
      this.keepsOfBatch = false
      this.lastKept = -1
    }
    if (fate !== 0) {
      const joins = (this.keepsOfBatch ? FLAG_JOINED_TO_PREVIOUS : 0) | (joinsNext ? FLAG_JOINED_TO_NEXT : 0)
      words[word + ROW_KIND] = (kind & ~JOINED) | joins | fate
      this.keepsOfBatch = true
      this.lastKept = word
    } else if (joinsPrevious && !joinsNext && this.keepsOfBatch) {
      // The last one that was kept says that another follows.
      if (this.lastKept >= 0) words[this.lastKept + ROW_KIND] &= ~FLAG_JOINED_TO_NEXT
      else this.mustEndBatch = true
    }
  }

  /**
   * Points the keys to the copies. What was overwritten meanwhile stays where it is. Where that fails it may be done
   * again; until it is done, the keydir points to segments that the manifest doesn't name, and they must stay. `check`
   * throws where the store is closed.
   */
  async move(merged: Segment, check: () => void): Promise<void> {
    const { ledger } = this.rooms
    const { words, ints, bytes } = this.kernels
    const source = this.openSource(merged)
    let record = 0
    let run = 0
    try {
      for (const event of this.scanOf(source, merged).events()) {
        if (event.kind !== 'rows') throw unreadable(merged, event.offset)
        for (let row = 0; row < event.count; row++) {
          if (row % TOUCHED_AT_ONCE === 0) {
            if (this.pace.isDue) {
              await this.pace.rest()
              check()
            }
            const rows = Math.min(TOUCHED_AT_ONCE, event.count - row)
            ledger.keydir.touchRows(ints, TABLE + row * ROW_WORDS, rows)
          }
          const word = TABLE + row * ROW_WORDS
          const kind = words[word + ROW_KIND]
          if ((kind & ROW_VALUE_DAMAGED) !== 0) throw unreadable(merged, event.offset)
          const isPut = (kind & KIND_MASK) === KIND_PUT
          if (!isPut && (kind & KIND_MASK) !== KIND_DELETE) continue
          while (record >= this.ends[run]) run++
          const from = { segment: this.plan.segments[run].slot, offset: this.offsets.at(record++) }
          if (!isPut) continue
          const keyBytes = kind >>> 16
          const prefixBytes = recordBytes(keyBytes, 0, (kind & FLAG_EXPIRES) !== 0)
          const keyAt = event.at + words[word + ROW_AT] + prefixBytes - keyBytes
          const to = { segment: merged.slot, offset: event.offset + words[word + ROW_AT] }
          const low = words[word + ROW_HASH_LOW]
          ledger.move(low, words[word + ROW_HASH_HIGH], bytes, keyAt, keyBytes, from, to)
        }
        if (this.pace.isDue) await this.pace.rest()
        check()
      }
    } finally {
      this.closeSource()
    }
    invariant(record === this.offsets.length, 'each copy is where it was written')
  }
}

function unreadable({ path }: Segment, offset: number): CaskyError {
  return new CaskyError(
    'CASKY_CORRUPT',
    `a merged segment does not read back as it was written; reopen the store: byte ${offset} of ${path}`,
    { path, offset },
  )
}
