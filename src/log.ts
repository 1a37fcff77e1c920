// The end of the log: which segment is written to. One is made by the first write, so that opening a store that was
// closed, and reading it, changes nothing; it is sealed when it is full or the store closes, and never written to again.
import { ActiveSegment, createSegmentFile, discardSegmentFile, type RecordHead } from './active'
import type { Catalog, Segment } from './catalog'
import { Ending } from './ending'
import { CaskyError, invariant, ioError } from './errors'
import { join, segmentName } from './files'
import type { Health } from './health'
import { TimeHistogram } from './histogram'
import type { FileHandle, Host } from './host/host'
import { syncNames } from './io'
import type { Kernels } from './kernels'
import type { Ledger } from './ledger'
import type { Publisher } from './publisher'
import { relog, uncertifiedTail } from './relog'
import { SEGMENT_HEADER_BYTES, type SegmentHeader } from './segment'

/** A record's sequence number is counted from its segment's first, in 32 bits. */
const SEQUENCES_PER_SEGMENT_MAX = 0xffff_ffff

export interface LogRooms {
  host: Host
  kernels: Kernels
  catalog: Catalog
  health: Health
  ledger: Ledger
  publisher: Publisher
  maxSegmentBytes: number
}

export class Log {
  private active: ActiveSegment | undefined
  private ending: Ending | undefined
  /** The last segment that was ended here; the manifest may not know of it yet. */
  private ended: Segment | undefined
  /** Of the syncs of all that was written to since the store was opened. */
  readonly syncTimes = new TimeHistogram()
  /** The next write's sequence number. */
  nextSequence: number
  /** Called when a segment has ended, and another begun. */
  onSegmentEnd: (() => void) | undefined

  constructor(
    private readonly rooms: LogRooms,
    lastSequence: number,
  ) {
    this.nextSequence = lastSequence + 1
  }

  /**
   * The active segment; makes one where there is none, whose first record will have the number `firstSequence`. A
   * failure leaves everything as it was.
   */
  segment(firstSequence: number): Segment {
    this.finishEnding()
    this.active ??= this.rooms.catalog.withHandles(() => this.start(firstSequence))
    return this.active.segment
  }

  /** What was written last is in this one. */
  get written(): Segment {
    return this.current().segment
  }

  private current(): ActiveSegment {
    this.finishEnding()
    invariant(this.active !== undefined, 'a write has an active segment')
    return this.active
  }

  /** The segment is being sealed: who can wait before writing does, and else it is finished on the thread. */
  get isEnding(): boolean {
    return this.ending !== undefined
  }

  private finishEnding(): void {
    if (this.ending === undefined) return
    this.ending.finish()
    if (this.rooms.health.poisoned !== undefined) throw this.rooms.health.poisoned
  }

  get writtenBytes(): number {
    return this.active?.segment.bytes ?? 0
  }

  get isDirty(): boolean {
    return this.active?.isDirty ?? false
  }

  /** So much would be copied if the process was killed now. */
  get uncertifiedBytes(): number {
    return this.active?.uncertifiedBytes ?? 0
  }

  isWritingTo(segment: Segment): boolean {
    return this.active?.segment === segment
  }

  /** Whether `bytes` more at the end of what will be `offset` bytes would pass the segment's bound. */
  needsRotation(offset: number, bytes: number): boolean {
    const { active } = this
    if (active === undefined || offset === SEGMENT_HEADER_BYTES) return false
    return (
      offset + bytes > this.rooms.maxSegmentBytes ||
      this.nextSequence - active.segment.header.firstSequence >= SEQUENCES_PER_SEGMENT_MAX
    )
  }

  private nextHeader(previous: Segment | undefined, firstSequence: number): SegmentHeader {
    const { host, publisher } = this.rooms
    return {
      storeId: publisher.manifest.storeId,
      id: publisher.freeSegmentId,
      salt: new DataView(host.random(4).buffer).getUint32(0),
      createdAtMs: host.nowMs(),
      firstSequence,
      previous: {
        id: previous?.header.id ?? 0,
        bytes: previous?.bytes ?? 0,
        lastSequence: previous?.lastSequence ?? 0,
        isSealed: previous?.state === 'sealed',
      },
    }
  }

  /** Has what a crash left without a certificate copied, so that it is there to stay (see relog). */
  secureTail(): void {
    const { catalog, publisher } = this.rooms
    const tail = uncertifiedTail(catalog)
    if (tail === undefined) return
    publisher.checkPlace()
    const copies = { generation: publisher.manifest.generation, segmentId: tail.header.id }
    relog(this.rooms, tail, { ...this.nextHeader(tail, this.nextSequence), copies }, (next) =>
      publisher.publish(next),
    )
  }

  private start(firstSequence: number): ActiveSegment {
    const { host, catalog, publisher } = this.rooms
    publisher.checkPlace()
    this.checkSequence()
    this.secureTail()
    const previous = catalog.segments.at(-1)
    const header = this.nextHeader(previous, firstSequence)
    const path = join(catalog.directory, segmentName(header.id))
    const file = createSegmentFile(this.rooms, { path, header })
    const formerState = previous?.state
    let syncFile: FileHandle | undefined
    let segment: Segment | undefined
    try {
      syncFile = this.openAgain(path)
      // What a recovery left active ends here, at the length that it decided.
      if (previous?.state === 'active') previous.state = 'closed'
      const lastSequence = firstSequence - 1
      segment = catalog.add({ header, state: 'active', bytes: 0, records: 0, lastSequence })
      // The name must last before the manifest counts on it.
      syncNames(host, catalog.directory)
      publisher.publish(header.id + 1)
      return new ActiveSegment(this.rooms, segment, file, syncFile, this.syncTimes)
    } catch (error) {
      if (syncFile !== undefined) host.close(syncFile)
      // After a failed directory sync either manifest may be in force: then the new segment has to stay.
      if ((error as CaskyError).code === 'CASKY_POISONED') {
        host.close(file)
        throw error
      }
      if (previous !== undefined && formerState !== undefined) previous.state = formerState
      if (segment !== undefined) catalog.removeLast(segment)
      discardSegmentFile(host, file, path)
      throw error
    }
  }

  private openAgain(path: string): FileHandle {
    try {
      return this.rooms.host.open(path, 'write')
    } catch (cause) {
      throw ioError('start a segment', path, cause)
    }
  }

  /** Appends bytes of the kernels' memory, or of a value. On failure the segment is cut back to what it was. */
  write(from: Uint8Array, at: number, bytes: number): void {
    this.current().write(from, at, bytes)
  }

  /** Takes back what lies behind the first `bytes`. */
  cutBack(bytes: number): void {
    this.current().cutBack(bytes)
  }

  /** On return everything written is on disk. */
  sync(): void {
    this.finishEnding()
    this.active?.sync()
  }

  syncLater(done: (error: CaskyError | undefined) => void): void {
    const { host } = this.rooms
    try {
      this.finishEnding()
    } catch (error) {
      host.soon(() => done(error as CaskyError))
      return
    }
    if (this.active === undefined) host.soon(() => done(undefined))
    else this.active.syncLater(done)
  }

  seedAt(offset: number): number {
    return this.current().seedAt(offset)
  }

  private checkSequence(): void {
    if (this.nextSequence < Number.MAX_SAFE_INTEGER) return
    throw new CaskyError(
      'CASKY_IO',
      'the store has used up its sequence numbers (2^53); export it, and import it into a new one',
    )
  }

  /** A write takes the next sequence number; a whole group is encoded later. */
  takeSequence(): number {
    this.checkSequence()
    return this.nextSequence++
  }

  /** Encodes the group of so many records, which will be written next; the first has the number `sequence`. */
  encodeGroup(records: number, sequence: number): void {
    this.current().encodeGroup(records, sequence)
  }

  /** Encodes a write, which takes the next sequence number. `valueCrc` is given where its value stands elsewhere. */
  encode(at: number, head: RecordHead, offset: number, valueCrc?: number): void {
    this.current().encode(at, head, this.takeSequence(), offset, valueCrc)
  }

  /** Notes that the segment now holds `records` more, up to the sequence number before the next. */
  count(records: number): void {
    const { segment } = this.current()
    segment.records += records
    segment.lastSequence = this.nextSequence - 1
  }

  /** Certifies what is synced; a segment that holds no write has nothing to certify. */
  mark(): void {
    this.finishEnding()
    const { active } = this
    if (active !== undefined && active.segment.records > 0) active.mark()
  }

  /** Syncs and seals the active segment and starts the next. A failure leaves the old one active and unsealed. */
  rotate(): void {
    this.finishEnding()
    const former = this.active
    if (former === undefined || former.segment.records === 0) return
    former.seal()
    try {
      this.active = this.rooms.catalog.withHandles(() => this.start(this.nextSequence))
    } catch (error) {
      if (this.rooms.health.poisoned === undefined) former.unseal()
      throw error
    }
    former.release()
    this.onSegmentEnd?.()
  }

  /**
   * Seals the log and lets it go. After poison it only lets it go, and with `cutsUnsynced` takes back what no sync has
   * vouched for: after a failed sync the kernel goes on showing bytes that are not on disk, and a reopen would believe
   * them.
   */
  close(cutsUnsynced: boolean): void {
    const wasPoisoned = this.rooms.health.poisoned !== undefined
    try {
      if (!wasPoisoned) {
        this.finishEnding()
        this.endNow()
      } else if (cutsUnsynced && this.active !== undefined) this.active.cutBack(this.active.syncedBytes)
    } catch (error) {
      // A store that was poisoned before has said so.
      if (!wasPoisoned) throw error
    } finally {
      this.active?.release()
      this.active = undefined
    }
  }

  /**
   * Syncs and seals the segment that is written to, off the thread, so that a merge may take it; the next write begins
   * another. One that holds no write stays. `done` comes later; with an error the segment stays active.
   */
  endLater(done: (error: CaskyError | undefined) => void): void {
    const { active, rooms } = this
    invariant(this.ending === undefined, 'one end at a time')
    if (active === undefined || active.segment.records === 0) {
      rooms.host.soon(() => done(undefined))
      return
    }
    const onOver = (error: CaskyError | undefined): void => {
      this.ending = undefined
      if (error !== undefined) return
      this.ended = active.segment
      this.active = undefined
      active.release()
    }
    this.ending = new Ending(active, rooms.health, onOver, done)
  }

  /**
   * Has the manifest name as ended what has ended: what `endLater` sealed, and what a recovery left active, at the length
   * that it decided. Resolves once that is on disk.
   */
  async publishEnd(check: () => void): Promise<void> {
    const { catalog, publisher } = this.rooms
    if (this.active === undefined) {
      this.secureTail()
      const tail = catalog.segments.at(-1)
      if (tail?.state === 'active') {
        tail.state = 'closed'
        this.ended = tail
      }
    }
    if (this.hasUnnamedEnd) await publisher.publishLater(check)
  }

  private get hasUnnamedEnd(): boolean {
    const { catalog, publisher } = this.rooms
    const isLast = this.ended !== undefined && this.ended === catalog.segments.at(-1)
    return isLast && publisher.manifest.segments.at(-1)?.state === 'active'
  }

  private endNow(): void {
    const { active } = this
    const { catalog, publisher } = this.rooms
    active?.sync()
    try {
      if (active !== undefined) {
        if (active.segment.records > 0) active.seal()
        else active.segment.state = 'closed'
        this.ended = active.segment
      }
      if (this.hasUnnamedEnd) catalog.withHandles(() => publisher.publish(publisher.manifest.nextSegmentId))
    } catch (error) {
      // Without room for the seal all data is on disk still: the next open reads the segment instead.
      if ((error as CaskyError).code !== 'CASKY_NO_SPACE') throw error
    }
  }
}
