// Keeps opening short, and memory free: hints for segments that have ended, a checkpoint as the log grows and when the
// store closes, and a sweep of what has expired. All of it in slices, and none of it ever needed.
import type { Segment } from './catalog'
import { type CheckpointRooms, checkpointSteps, writeCheckpointNow } from './checkpoint'
import { hintSteps, removeHint, removeStaleCaches } from './hinting'
import type { Jobs } from './jobs'
import type { Kernels } from './kernels'
import type { Pace } from './pace'
import type { RecoveryReport } from './recovery'

/** A segment shorter than this is read as fast as a hint of it. */
export const HINT_SEGMENT_BYTES_MIN = 0x1_0000
/** So much of the log without a checkpoint is read as fast as one is written. */
export const LOG_BYTES_MIN = 0x4_0000
/** A checkpoint is written again when the log has grown by so much, or by half of what the checkpoint takes. */
const LOG_BYTES_MAX = 0x200_0000
const SWEEP_EVERY_MS = 30_000
/** Fewer expired entries than this are not worth a walk through the keydir. */
const EXPIRED_MIN = 1000
/** Or that share of all. */
const EXPIRED_RATIO_MIN = 0.05

export interface CaretakerRooms extends CheckpointRooms {
  /** Resolves once all that is in the log by now is on disk. */
  flush: () => Promise<void>
  pace: (maxBytesPerSecond: number) => Pace
  /** Used by one job at a time. */
  jobKernels: () => Kernels
  /** Forgets what has expired, part by part, and says how many of each. */
  sweep: () => Iterable<number>
}

export class Caretaker {
  /** Of these a hint was written, or can't be. */
  private readonly seen = new Set<Segment>()
  /** The log when the last checkpoint was begun: its segments, and how long the last of them was. */
  private checkpointedAt: { segments: readonly Segment[]; bytes: number } | undefined
  /** What opening had to read behind the checkpoint; none once there is a newer one. */
  private readBehindBytes: number
  /** Whether a checkpoint was written since the store was opened. */
  private isRewritten = false
  private isDue = false
  private cancelTimer: (() => void) | undefined
  /** Ends the steps that are under way. */
  private end: (() => void) | undefined
  private isClosed = false

  constructor(
    private readonly rooms: CaretakerRooms,
    private readonly jobs: Jobs,
    private readonly recovery: RecoveryReport,
  ) {
    const { checkpoint, bySegment, withoutHint } = recovery
    const lacking = new Set(withoutHint)
    for (const segment of rooms.catalog.segments) if (!lacking.has(segment.header.id)) this.seen.add(segment)
    if (checkpoint.used) this.checkpointedAt = this.position()
    this.readBehindBytes = bySegment.reduce((sum, { bytesRead }) => sum + bytesRead, 0)
    removeStaleCaches(rooms.host, rooms.catalog)
    this.armTimer()
  }

  /** Something has changed: a segment has ended, or a merge. */
  consider(): void {
    if (this.isDue || this.jobs.isStopped) return
    this.isDue = true
    this.rooms.host.soon(() => {
      this.jobs
        .add(() => this.tidy())
        // What is only there to be faster may fail.
        .catch(() => {})
    })
  }

  private armTimer(): void {
    this.cancelTimer = this.rooms.host.later(SWEEP_EVERY_MS, () => {
      if (this.jobs.isStopped) return
      if (this.isSweepDue()) this.jobs.add(() => this.sweep()).catch(() => {})
      this.armTimer()
    })
  }

  private isSweepDue(): boolean {
    const { host, ledger } = this.rooms
    const { keydir } = ledger
    const expired = keydir.count - keydir.liveCount(host.nowMs())
    return expired >= EXPIRED_MIN || (expired > 0 && expired >= EXPIRED_RATIO_MIN * keydir.count)
  }

  /** Forgets what has expired, in slices; returns how many entries. */
  async sweep(): Promise<number> {
    const pace = this.rooms.pace(0)
    let swept = 0
    for (const count of this.rooms.sweep()) {
      swept += count
      if (pace.isDue) await pace.rest()
      if (this.jobs.isStopped) break
    }
    return swept
  }

  private async tidy(): Promise<void> {
    this.isDue = false
    await this.allIn()
    const { catalog } = this.rooms
    const ended = catalog.segments.filter((segment) => segment.state !== 'active' && !this.seen.has(segment))
    for (const segment of ended) {
      this.seen.add(segment)
      if (segment.bytes >= HINT_SEGMENT_BYTES_MIN) await this.hint(segment)
    }
    const covered = new Set(catalog.segments)
    for (const segment of this.seen) if (!covered.has(segment)) await this.forget(segment)
    if (this.uncheckpointedBytes() >= this.checkpointAfterBytes()) await this.checkpoint()
  }

  /** Has the index come in that opening has left in the checkpoint: so its file is let go, and no read has to wait. */
  async allIn(): Promise<void> {
    const { keydir } = this.rooms.ledger
    const pace = this.rooms.pace(0)
    while (keydir.isFolded && !this.jobs.isStopped) {
      if (keydir.unfoldNext() === undefined) keydir.mend()
      if (pace.isDue) await pace.rest()
    }
  }

  private async forget(segment: Segment): Promise<void> {
    const { host, catalog } = this.rooms
    this.seen.delete(segment)
    await removeHint(host, catalog, segment.header.id)
  }

  private async hint(segment: Segment): Promise<void> {
    const pace = this.rooms.pace(0)
    const steps = hintSteps({ ...this.rooms, kernels: this.rooms.jobKernels() }, segment)
    this.end = () => steps.return(false)
    while (!this.jobs.isStopped && steps.next().done !== true) if (pace.isDue) await pace.rest()
    this.end = undefined
  }

  private async checkpoint(): Promise<void> {
    const pace = this.rooms.pace(0)
    const steps = checkpointSteps(this.rooms)
    this.end = () => steps.return({ isWritten: false, reason: 'ended early' })
    const begin = this.position()
    while (!this.jobs.isStopped) {
      const step = steps.next()
      if (step.done === true) {
        if (step.value.isWritten) {
          this.checkpointedAt = begin
          this.readBehindBytes = 0
          this.isRewritten = true
        }
        break
      }
      try {
        const { value } = step
        if (value === 'sync') await pace.wait((done) => this.rooms.flush().then(() => done(null), done))
        else if (value !== 'slice') await pace.wait(value)
        else if (pace.isDue) await pace.rest()
      } catch {
        // Where the log could not be synced, whoever writes hears of it.
        this.end?.()
        break
      }
    }
    this.end = undefined
  }

  /** Ends what is under way, at once. */
  stop(): void {
    this.cancelTimer?.()
    this.end?.()
    this.end = undefined
  }

  /** Writes a last checkpoint: before the lock is given back, and once the log is sealed. */
  close(): void {
    if (this.isClosed) return
    this.isClosed = true
    if (this.uncheckpointedBytes() >= LOG_BYTES_MIN) writeCheckpointNow(this.rooms, () => {})
  }

  private position(): NonNullable<Caretaker['checkpointedAt']> {
    const segments = [...this.rooms.catalog.segments]
    return { segments, bytes: segments.at(-1)?.bytes ?? 0 }
  }

  /** How much of the log an open would have to read beside the checkpoint. */
  private uncheckpointedBytes(): number {
    const { segments } = this.rooms.catalog
    // Where a part of it turned out damaged, the next open would read all of the log.
    const isSound = this.isRewritten || this.recovery.checkpoint.reason === undefined
    const covered = isSound ? (this.checkpointedAt?.segments ?? []) : []
    // Where a merge has replaced one of them it is of no use.
    const isUsable = covered.length > 0 && covered.every((segment, i) => segments[i] === segment)
    const behind = isUsable ? segments.slice(covered.length - 1) : segments
    const total = behind.reduce((sum, { bytes }) => sum + bytes, 0)
    return isUsable ? total - (this.checkpointedAt?.bytes ?? 0) + this.readBehindBytes : total
  }

  private checkpointAfterBytes(): number {
    return Math.max(LOG_BYTES_MAX, this.rooms.ledger.keydir.memoryBytes / 2)
  }
}
