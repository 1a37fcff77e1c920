// Group commit: writes are gathered in a buffer and found through the memtable. A group is what one write call takes
// to the segment, encoded just before; its promise resolves once it is as durable as `sync` asks. While one group syncs, the
// next one fills.
import { WRITE_AT, WRITE_BYTES } from '../assembly/layout'
import { CaskyError, invariant } from './errors'
import { Group, type SyncMode } from './group'
import type { Health } from './health'
import { Heartbeat } from './heartbeat'
import type { Host } from './host/host'
import type { Kernels } from './kernels'
import { emptyPlace } from './keydir/keydir'
import type { Ledger } from './ledger'
import type { Log, TurnEvents } from './log'
import { Memtable } from './memtable'
import { type RawRecord, rawBytes, writePieces } from './oversize'
import { recordBytes, SEGMENT_HEADER_BYTES } from './segment'

/** To fill a group takes about as long as to sync it from here on. */
const EARLY_BYTES = 0x1_0000
/** So much is written without a sync before the event loop has to turn; a group counts for so much at least. */
const UNTURNED_BYTES_MAX = 0x4_0000
const GROUP_BYTES = 0x1000

export interface WriterRooms {
  host: Host
  kernels: Kernels
  ledger: Ledger
  health: Health
  log: Log
  sync: SyncMode
}

export class Writer {
  readonly memtable: Memtable
  readonly stats = {
    groups: 0,
    records: 0,
    largestGroupRecords: 0,
    /** How many groups had 2^i records, up to twice as many. */
    groupSizes: new Float64Array(32),
  }
  /** Up to this sequence number all is acknowledged. */
  acknowledgedSequence: number
  /** Called when that has moved on. */
  onAcknowledged: (() => void) | undefined
  private usedBytes = 0
  /** The sequence number that the filling group began with. */
  private groupSequence: number
  private group = new Group()
  /** Written groups that no sync has been started for, and those whose sync is under way; oldest first. */
  private unsynced: Group[] = []
  private syncing: Group[] = []
  /** Written without a sync since the event loop turned last, and the groups that are told of it once it has. */
  private unturnedBytes = 0
  private readonly waiting: Group[] = []
  private isSyncing = false
  private isCommitDue = false
  private isClosed = false
  private readonly heartbeat: Heartbeat

  constructor(private readonly rooms: WriterRooms) {
    this.memtable = new Memtable(rooms.kernels)
    this.heartbeat = new Heartbeat(this, rooms)
    this.groupSequence = rooms.log.nextSequence
    this.acknowledgedSequence = rooms.log.nextSequence - 1
  }

  /** Neither is a sync under way, nor does anything wait to be written. */
  get isAtRest(): boolean {
    return this.usedBytes === 0 && !this.isSyncing
  }

  checkPoison(): void {
    if (this.rooms.health.poisoned !== undefined) throw this.rooms.health.poisoned
  }

  /** Makes room for `bytes`, at most the whole buffer, and returns its address; `append` must follow. */
  reserve(bytes: number): number {
    this.checkPoison()
    invariant(bytes <= WRITE_BYTES, 'what goes into the buffer fits into it')
    if (this.usedBytes + bytes > WRITE_BYTES) this.commit()
    return WRITE_AT + this.usedBytes
  }

  /**
   * The records that stand at `at`, `bytes` in all, will be appended: begins another segment if they need one; off the
   * thread, unless whoever writes them waits for it on the thread anyway.
   */
  settleSegment(at: number, bytes: number, isNow: boolean): number {
    const { kernels, log } = this.rooms
    // What waits for the end of a segment begins the next.
    const writtenBytes = log.isReady ? log.writtenBytes : SEGMENT_HEADER_BYTES
    if (!log.needsRotation(writtenBytes + this.usedBytes, bytes)) return at
    this.commit()
    if (isNow || log.isHeldUp) this.rotate()
    else log.rotateLater(this.groupSequence, this.turning)
    kernels.bytes.copyWithin(WRITE_AT, at, at + bytes)
    return WRITE_AT
  }

  private rotate(): void {
    try {
      this.rooms.log.rotate(this.groupSequence)
    } finally {
      this.segmentEnded()
    }
  }

  /** What has waited for another segment goes into it, or is refused. */
  private readonly turning: TurnEvents = {
    failed: (error) => {
      if (this.usedBytes > 0) this.dropGroup(error)
    },
    idle: () => {
      this.segmentEnded()
      this.commitAndSync()
    },
  }

  /** Whether another segment begins or not: the one so far was synced, unless that is what failed. */
  private segmentEnded(): void {
    const { health, log } = this.rooms
    if (health.poisoned !== undefined) this.failAll(health.poisoned)
    else if (!log.isDirty) this.settleWritten(undefined)
  }

  /** Takes the record whose key and value stand in their places at `at`, and makes it visible. */
  append(
    at: number,
    kind: number,
    keyBytes: number,
    valueBytes: number,
    expiresAtMs: number | undefined,
  ): void {
    this.rooms.log.takeSequence()
    this.memtable.add(at, kind, keyBytes, valueBytes, expiresAtMs ?? 0)
    this.usedBytes += recordBytes(keyBytes, valueBytes, expiresAtMs !== undefined)
  }

  /** Writes what the buffer has no room for straight to the segment: all of it, or none. */
  writeThrough(records: readonly RawRecord[]): void {
    const { health, kernels, log } = this.rooms
    this.checkPoison()
    this.commit()
    log.segment(this.groupSequence)
    const bytes = records.reduce((sum, record) => sum + rawBytes(record), 0)
    if (log.needsRotation(log.writtenBytes, bytes)) this.rotate()
    const begin = log.writtenBytes
    const sequence = log.nextSequence
    let offsets: Float64Array
    try {
      offsets = writePieces(kernels, log, records)
    } catch (error) {
      if (health.poisoned === undefined) log.cutBack(begin)
      log.nextSequence = sequence
      throw error
    }
    const { group } = this
    this.group = new Group()
    this.written(group, records.length, bytes)
    this.take(group, () => this.takeRaw(records, offsets))
    this.settleUnsynced(group, bytes)
  }

  private takeRaw(records: readonly RawRecord[], offsets: Float64Array): void {
    const { ledger, log } = this.rooms
    const place = emptyPlace()
    place.segment = log.written.slot
    records.forEach((record, i) => {
      place.offset = offsets[i]
      place.valueBytes = record.value.length
      place.recordBytes = rawBytes(record)
      place.expiresAtMs = record.expiresAtMs
      ledger.takeRaw(this.rooms.kernels, record, place)
    })
  }

  /** The promise of what was appended last, whose commit it sees to. */
  acknowledge(): Promise<void> {
    const pending = this.pendingGroup()
    // What comes after it fills the next group while this one syncs.
    const isLong = this.usedBytes >= EARLY_BYTES && this.rooms.sync === 'always' && !this.isSyncing
    if (isLong) this.commitAndSync()
    else this.scheduleCommit()
    return pending?.promise ?? Promise.resolve()
  }

  private pendingGroup(): Group | undefined {
    if (this.usedBytes > 0) return this.group
    return this.unsynced.at(-1) ?? this.syncing.at(-1) ?? this.waiting.at(-1)
  }

  private scheduleCommit(): void {
    // While a group syncs, the next one fills; where nobody waits for syncs there is no reason to.
    if (this.isCommitDue || (this.isSyncing && this.rooms.sync === 'always')) return
    this.isCommitDue = true
    queueMicrotask(() => {
      this.isCommitDue = false
      this.commitAndSync()
    })
  }

  private commitAndSync(): void {
    const { health, log } = this.rooms
    // What comes while a segment ends or begins is written once it has.
    if (this.isClosed || log.isTurning) return
    if (this.usedBytes > 0 && !log.isReady && health.poisoned === undefined) {
      log.startLater(this.groupSequence, this.turning)
      return
    }
    this.tryCommit(true)
    this.startSync()
  }

  /** As `commit`, for those who don't answer for the group: its own promise carries the error. */
  tryCommit(startsSync = false): void {
    try {
      this.commit(startsSync)
    } catch {
      // Where it failed the group is gone.
    }
  }

  /**
   * Takes the filling group to the segment. Where that fails it throws, and the group is gone without a trace. With
   * `startsSync` the disk is at work while the keydir takes the group in.
   */
  commit(startsSync = false): void {
    const { kernels, ledger, log } = this.rooms
    const { memtable } = this
    if (this.usedBytes === 0) return
    let offset: number
    try {
      this.checkPoison()
      offset = log.segment(this.groupSequence).bytes
      memtable.hash()
      log.encodeGroup(memtable.count, this.groupSequence)
      log.write(kernels.bytes, WRITE_AT, this.usedBytes)
    } catch (error) {
      this.dropGroup(error)
      throw error
    }
    const { group, usedBytes } = this
    this.group = new Group()
    this.usedBytes = 0
    this.written(group, memtable.count, usedBytes)
    if (startsSync) this.startSync()
    try {
      this.take(group, () => ledger.takeGroup(kernels, memtable, log.written.slot, offset))
    } finally {
      memtable.clear()
    }
    this.settleUnsynced(group, usedBytes)
  }

  /** Moves a written group to the keydir. Should that fail half-way (no memory), memory and log have come apart. */
  private take(group: Group, move: () => void): void {
    try {
      move()
    } catch (cause) {
      const error = new CaskyError(
        'CASKY_POISONED',
        'the index could not take in what was written; writes are refused until the store is reopened',
        { cause },
      )
      this.rooms.health.poisoned ??= error
      group.settle(error)
      throw error
    }
  }

  private dropGroup(error: unknown): void {
    const { group } = this
    this.group = new Group()
    this.usedBytes = 0
    this.memtable.clear()
    this.rooms.log.nextSequence = this.groupSequence
    group.settle(error)
  }

  /** The group is in the operating system's hands. */
  private written(group: Group, records: number, bytes: number): void {
    const { log, sync } = this.rooms
    const { stats } = this
    log.count(records)
    this.groupSequence = log.nextSequence
    stats.groups++
    stats.records += records
    stats.largestGroupRecords = Math.max(stats.largestGroupRecords, records)
    stats.groupSizes[31 - Math.clz32(records)]++
    if (sync === 'always') {
      this.unsynced.push(group)
      log.makeRoom(bytes)
    }
    this.heartbeat.start()
  }

  /**
   * The keydir has the group too: that is all where no sync is asked for. Whoever writes on as soon as he is told would
   * never let the event loop turn: every now and then he is told once it has.
   */
  private settleUnsynced(group: Group, bytes: number): void {
    if (this.rooms.sync === 'always') return
    if (this.unturnedBytes === 0) {
      this.rooms.host.soon(() => {
        this.unturnedBytes = 0
        for (const each of this.waiting.splice(0)) each.settle(undefined)
      })
    }
    this.unturnedBytes += Math.max(GROUP_BYTES, bytes)
    if (this.unturnedBytes < UNTURNED_BYTES_MAX) group.settle(undefined)
    else this.waiting.push(group)
    this.acknowledged(this.rooms.log.nextSequence - 1)
  }

  private startSync(): void {
    if (this.isSyncing || this.unsynced.length === 0) return
    this.isSyncing = true
    this.syncing = this.unsynced
    this.unsynced = []
    const lastSequence = this.groupSequence - 1
    this.rooms.log.syncLater((error) => {
      this.isSyncing = false
      if (error !== undefined) return this.failAll(error)
      for (const group of this.syncing.splice(0)) group.settle(undefined)
      this.acknowledged(lastSequence)
      this.commitAndSync()
    })
  }

  /** Everything written is on disk, or its outcome is `error`. */
  private settleWritten(error: unknown): void {
    for (const group of [...this.syncing.splice(0), ...this.unsynced.splice(0)]) group.settle(error)
    if (error === undefined) this.acknowledged(this.groupSequence - 1)
  }

  private acknowledged(sequence: number): void {
    if (sequence <= this.acknowledgedSequence) return
    this.acknowledgedSequence = sequence
    this.onAcknowledged?.()
  }

  /** After a failed sync nothing that waits can be acknowledged, and what isn't written never will be. */
  private failAll(error: unknown): void {
    this.settleWritten(error)
    if (this.usedBytes > 0) this.dropGroup(error)
  }

  /** As durable as `sync` asks on return. */
  commitNow(): void {
    this.commit()
    if (this.rooms.sync === 'always') this.syncNow()
  }

  /** Everything written so far is on disk on return. */
  syncNow(): void {
    this.commit()
    this.checkPoison()
    try {
      this.rooms.log.sync()
    } catch (error) {
      this.failAll(error as CaskyError)
      throw error
    }
    this.settleWritten(undefined)
  }

  /** Resolves once everything written so far is on disk. */
  async flush(): Promise<void> {
    const { log } = this.rooms
    if (log.isTurning) await log.turned()
    this.commit()
    this.checkPoison()
    if (!log.isDirty) {
      this.settleWritten(undefined)
      return
    }
    const group = new Group()
    this.unsynced.push(group)
    this.startSync()
    await group.promise
    this.heartbeat.markLongEnd()
  }

  /** As `flush`; and what is on disk then is certified: damage to it can't pass for a torn tail any more. */
  async certify(): Promise<void> {
    await this.flush()
    this.checkOpen()
    this.commit()
    this.heartbeat.mark()
    await this.flush()
  }

  /** Everything written so far is on disk once this resolves, in segments that are written to no more. */
  async endSegment(): Promise<void> {
    const { log } = this.rooms
    await this.flush()
    this.checkOpen()
    this.commit()
    await new Promise<void>((resolve, reject) => {
      log.endLater((error) => {
        this.segmentEnded()
        this.commitAndSync()
        if (error === undefined) resolve()
        else reject(error)
      })
    })
    // What has waited for it may begin a segment at once.
    await log.turned()
    this.checkOpen()
    await log.publishEnd(() => this.checkOpen())
  }

  /** After a wait: the lock may have been given back, and another process be writing. */
  private checkOpen(): void {
    if (this.isClosed) throw new CaskyError('CASKY_CLOSED', 'the store was closed meanwhile')
  }

  /** Lets go of the log; what still waits then hears why it waits in vain. */
  private end(): void {
    const { health, log, sync } = this.rooms
    this.isClosed = true
    this.heartbeat.stop()
    try {
      log.close(sync === 'always')
    } finally {
      if (health.poisoned !== undefined) this.failAll(health.poisoned)
    }
  }

  /** Everything is on disk and the log is sealed on return; throws where that can't be. Lets go of the log anyway. */
  closeNow(): void {
    try {
      this.syncNow()
    } finally {
      this.end()
    }
  }

  async close(): Promise<void> {
    try {
      await this.flush()
      this.checkPoison()
    } finally {
      await this.rooms.log.quiet()
      if (!this.isClosed) this.end()
    }
  }
}
