// The end of the log: which segment is written to. One is made by the first write, so that opening a store that was
// closed, and reading it, changes nothing; it is sealed when it is full or the store closes, and never written to again.
import type { ActiveSegment, RecordHead } from './active'
import type { Catalog, Segment } from './catalog'
import { Course, type Stage } from './course'
import { endingOf } from './ending'
import { CaskyError, invariant } from './errors'
import type { Health } from './health'
import { TimeHistogram } from './histogram'
import type { Host } from './host/host'
import type { Kernels } from './kernels'
import type { Ledger } from './ledger'
import type { Publisher } from './publisher'
import { relog, uncertifiedTail } from './relog'
import { ROOM_BYTES } from './room'
import { SEGMENT_HEADER_BYTES, type SegmentHeader } from './segment'
import { Starting } from './starting'

/** A record's sequence number is counted from its segment's first, in 32 bits. */
const SEQUENCES_PER_SEGMENT_MAX = 0xffff_ffff

export interface TurnEvents {
  /** It has failed, and with it what waits for it. */
  failed: (error: CaskyError) => void
  /** It is over, and nothing of it is under way any more. */
  idle: (error: CaskyError | undefined) => void
}

export interface LogRooms {
  host: Host
  kernels: Kernels
  catalog: Catalog
  health: Health
  ledger: Ledger
  publisher: Publisher
  maxSegmentBytes: number
  /** Whether groups are synced one by one, so that room is worth making. */
  makesRoom: boolean
}

export class Log {
  private active: ActiveSegment | undefined
  /** The end of the active segment, the begin of another, or both. */
  private turning: { course: Course; isForWrites: boolean } | undefined
  /** Turns and syncs that the system is at, also for those who could not wait for them. */
  private underWay = 0
  private turnsUnderWay = 0
  /** Called when one of them has come to its end. */
  private readonly onOneLess: (() => void)[] = []
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
    this.finishTurning()
    if (this.active === undefined) {
      const starting = this.starting(firstSequence)
      this.turnNow(starting.stages, starting)
    }
    return this.current().segment
  }

  /** What was written last is in this one. */
  get written(): Segment {
    return this.current().segment
  }

  private current(): ActiveSegment {
    this.finishTurning()
    invariant(this.active !== undefined, 'a write has an active segment')
    return this.active
  }

  /** Whether a write can go in at once, and no segment has to begin, or to end, before. */
  get isReady(): boolean {
    return this.active !== undefined && this.turning === undefined
  }

  /** A segment ends, or begins: who can wait before writing does, and else that is finished on the thread. */
  get isTurning(): boolean {
    return this.turning !== undefined
  }

  /** The system is still at an earlier turn, whose handles it holds: in a loop that never yields they would add up. */
  get isHeldUp(): boolean {
    return this.turnsUnderWay > 0
  }

  private finishTurning(): void {
    const { turning } = this
    const error = turning?.course.finish()
    if (error === undefined) return
    // Where a merge's end fails, the segment goes on.
    if (turning?.isForWrites === true || this.rooms.health.poisoned !== undefined) throw error
  }

  get writtenBytes(): number {
    return this.active?.segment.bytes ?? 0
  }

  /** Written, and not known to be on disk. */
  get unsyncedBytes(): number {
    return this.active?.unsyncedBytes ?? 0
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
    if (offset === SEGMENT_HEADER_BYTES) return false
    if (offset + bytes > this.rooms.maxSegmentBytes) return true
    const isCounted = active !== undefined && this.turning === undefined
    return isCounted && this.nextSequence - active.segment.header.firstSequence >= SEQUENCES_PER_SEGMENT_MAX
  }

  private nextHeader(previous: Segment | undefined, firstSequence: number): SegmentHeader {
    const { host, publisher } = this.rooms
    return {
      storeId: publisher.manifest.storeId,
      id: publisher.reserveSegmentId(),
      salt: new DataView(host.random(4).buffer).getUint32(0),
      createdAtMs: host.nowMs(),
      firstSequence,
      previous: {
        id: previous?.header.id ?? 0,
        bytes: previous?.bytes ?? 0,
        lastSequence: previous?.lastSequence ?? 0,
        isSealed: previous?.state === 'sealed',
      },
      mayHaveRoom: this.rooms.makesRoom,
    }
  }

  /** Has what a crash left without a certificate copied, so that it is there to stay (see relog). */
  secureTail(): void {
    const { catalog, publisher } = this.rooms
    const tail = uncertifiedTail(catalog)
    if (tail === undefined) return
    publisher.checkPlace()
    const copies = { generation: publisher.manifest.generation, segmentId: tail.header.id }
    const header = { ...this.nextHeader(tail, this.nextSequence), copies, mayHaveRoom: false }
    relog(this.rooms, tail, header, (next) => publisher.publish(next))
  }

  /** Goes through the stages at once. */
  private turnNow(stages: Stage[], starting?: Starting): void {
    const course = this.courseOf(stages, starting, { failed: () => {}, idle: () => {} })
    const error = course.finish()
    if (error !== undefined) throw error
  }

  private courseOf(stages: Stage[], starting: Starting | undefined, { failed, idle }: TurnEvents): Course {
    const onOver = (error: CaskyError | undefined): void => {
      this.turning = undefined
      if (error === undefined) {
        if (starting !== undefined) this.active = starting.done()
      } else {
        starting?.failed()
        failed(error)
      }
    }
    return new Course(stages, this.rooms.health, onOver, idle)
  }

  private turnLater(stages: Stage[], starting: Starting | undefined, { failed, idle }: TurnEvents): void {
    invariant(this.turning === undefined, 'one turn at a time')
    const onIdle = (error: CaskyError | undefined): void => {
      this.turnsUnderWay--
      idle(error)
      this.oneLess()
    }
    const course = this.courseOf(stages, starting, { failed, idle: onIdle })
    this.turning = { course, isForWrites: starting !== undefined }
    this.underWay++
    this.turnsUnderWay++
    course.go()
  }

  private oneLess(): void {
    this.underWay--
    for (const each of this.onOneLess.splice(0)) each()
  }

  private aWhile(): Promise<void> {
    return new Promise((resolve) => this.onOneLess.push(resolve))
  }

  /** Resolves once no segment ends or begins. */
  async turned(): Promise<void> {
    while (this.turning !== undefined) await this.aWhile()
  }

  /** Resolves once the system is at nothing for the log: then all handles can be given back. */
  async quiet(): Promise<void> {
    while (this.underWay > 0) await this.aWhile()
  }

  private starting(firstSequence: number): Starting {
    const headerOf = (): SegmentHeader => {
      const { catalog, publisher } = this.rooms
      publisher.checkPlace()
      this.checkSequence()
      this.secureTail()
      return this.nextHeader(catalog.segments.at(-1), firstSequence)
    }
    return new Starting(this.rooms, headerOf, this.syncTimes)
  }

  /** The stages that end the active segment; behind them there is none. */
  private endingOf(active: ActiveSegment): Stage[] {
    const [sync, seal] = endingOf(active)
    const end = (): void => {
      seal.end?.()
      this.ended = active.segment
      this.active = undefined
      active.release()
    }
    return [sync, { ...seal, end }]
  }

  /** Appends bytes of the kernels' memory, or of a value. On failure the segment is cut back to what it was. */
  write(from: Uint8Array, at: number, bytes: number): void {
    this.current().write(from, at, bytes)
  }

  /** What was written last, so many bytes, will be synced: has room stand behind it for what comes next. */
  makeRoom(bytes: number): void {
    const { makesRoom, maxSegmentBytes } = this.rooms
    if (makesRoom && this.writtenBytes + ROOM_BYTES <= maxSegmentBytes) this.active?.makeRoom(bytes)
  }

  /** Takes back what lies behind the first `bytes`. */
  cutBack(bytes: number): void {
    this.current().cutBack(bytes)
  }

  /** On return everything written is on disk. */
  sync(): void {
    this.finishTurning()
    this.active?.sync()
  }

  syncLater(done: (error: CaskyError | undefined) => void): void {
    const { host } = this.rooms
    try {
      this.finishTurning()
    } catch (error) {
      host.soon(() => done(error as CaskyError))
      return
    }
    if (this.active === undefined) {
      host.soon(() => done(undefined))
      return
    }
    this.underWay++
    this.active.syncLater((error) => {
      done(error)
      this.oneLess()
    })
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
    this.finishTurning()
    const { active } = this
    if (active !== undefined && active.segment.records > 0) active.mark()
  }

  /**
   * Syncs and seals the active segment and begins the next, whose first record will have the number `firstSequence`. A
   * failure leaves the old one active, or, where only the next can't begin, sealed.
   */
  rotate(firstSequence: number): void {
    this.finishTurning()
    const { active } = this
    if (active === undefined || active.segment.records === 0) return
    const starting = this.starting(firstSequence)
    this.turnNow([...this.endingOf(active), ...starting.stages], starting)
    this.onSegmentEnd?.()
  }

  /** As `rotate`, off the thread. */
  rotateLater(firstSequence: number, { failed, idle }: TurnEvents): void {
    const { active } = this
    invariant(active !== undefined && active.segment.records > 0, 'a full segment has records')
    const starting = this.starting(firstSequence)
    const onIdle = (error: CaskyError | undefined): void => {
      if (error === undefined) this.onSegmentEnd?.()
      idle(error)
    }
    this.turnLater([...this.endingOf(active), ...starting.stages], starting, { failed, idle: onIdle })
  }

  /** Begins a segment where there is none, off the thread. */
  startLater(firstSequence: number, events: TurnEvents): void {
    invariant(this.active === undefined, 'one active segment at a time')
    const starting = this.starting(firstSequence)
    this.turnLater(starting.stages, starting, events)
  }

  /**
   * Seals the log and lets it go. After poison it only lets it go, and with `cutsUnsynced` takes back what no sync has
   * vouched for: after a failed sync the kernel goes on showing bytes that are not on disk, and a reopen would believe
   * them.
   */
  close(cutsUnsynced: boolean): void {
    const wasPoisoned = this.rooms.health.poisoned !== undefined
    try {
      this.turning?.course.finish()
      if (!wasPoisoned) {
        if (this.rooms.health.poisoned !== undefined) throw this.rooms.health.poisoned
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
   * another. One that holds no write stays. `idle` is called when nothing of it is under way any more; with an error the
   * segment stays active.
   */
  endLater(idle: TurnEvents['idle']): void {
    const { active, rooms } = this
    if (active === undefined || active.segment.records === 0) rooms.host.soon(() => idle(undefined))
    else this.turnLater(this.endingOf(active), undefined, { failed: () => {}, idle })
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
      if (active !== undefined && active.segment.records > 0) this.turnNow(this.endingOf(active))
      else if (active !== undefined) {
        active.segment.state = 'closed'
        this.ended = active.segment
      }
      if (this.hasUnnamedEnd) catalog.withHandles(() => publisher.publish(publisher.manifest.nextSegmentId))
    } catch (error) {
      // Without room for the seal all data is on disk still: the next open reads the segment instead.
      if ((error as CaskyError).code !== 'CASKY_NO_SPACE') throw error
    }
  }
}
