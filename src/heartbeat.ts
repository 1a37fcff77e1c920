// What a writer does without being asked: to sync by the clock where `sync` says so, and to certify what lies at rest,
// so that a kill leaves little to look through.
import type { SyncMode } from './group'
import type { Health } from './health'
import type { Host } from './host/host'
import type { Log } from './log'

/** After so long without a write, a marker certifies the last group. */
const IDLE_MS = 100
/** To copy so much after a kill takes as long as all else of opening. */
const COPIED_BYTES_MAX = 0x10_0000

/** So much goes to disk at a time where nobody waits for it: the end of a segment, or a flush, finds little left to do. */
const SYNCED_AT_ONCE_BYTES = 0x100_0000

interface Beating {
  /** Neither is a sync under way, nor does anything wait to be written. */
  readonly isAtRest: boolean
  flush(): Promise<void>
}

export class Heartbeat {
  private isMarked = true
  private isStopped = false
  private lastGroupMs = 0
  private cancelTimer: (() => void) | undefined
  private isSyncing = false

  constructor(
    private readonly writer: Beating,
    private readonly rooms: { host: Host; health: Health; log: Log; sync: SyncMode },
  ) {}

  /** A group was written. */
  start(): void {
    this.isMarked = false
    this.lastGroupMs = this.rooms.host.nowMs()
    this.armTimer()
    this.syncSome()
  }

  /** Where nobody waits for syncs, much would come together. */
  private syncSome(): void {
    const { log, sync } = this.rooms
    if (sync === 'always' || this.isSyncing || log.unsyncedBytes < SYNCED_AT_ONCE_BYTES) return
    this.isSyncing = true
    // A failure poisons the store, and the next write says so.
    log.syncLater(() => {
      this.isSyncing = false
    })
  }

  stop(): void {
    this.isStopped = true
    this.cancelTimer?.()
    this.cancelTimer = undefined
  }

  private armTimer(): void {
    const { host, sync } = this.rooms
    if (this.cancelTimer !== undefined || sync === 'never' || this.isStopped) return
    this.cancelTimer = host.later(sync === 'always' ? IDLE_MS : sync.everyMs, () => {
      this.cancelTimer = undefined
      this.beat()
    })
  }

  private beat(): void {
    const { health, host, log, sync } = this.rooms
    if (this.isStopped || health.poisoned !== undefined) return
    const isIdle = host.nowMs() - this.lastGroupMs >= IDLE_MS
    if (!this.writer.isAtRest || log.isDirty) {
      // A failure poisons the store, and the next write says so.
      if (sync !== 'always') this.writer.flush().catch(() => {})
      this.armTimer()
    } else if (!isIdle) {
      this.armTimer()
    } else if (!this.isMarked) {
      this.tryMark()
      this.writer.flush().catch(() => {})
    }
  }

  /** Puts a marker behind the last group, unless one stands there. */
  mark(): void {
    if (this.isMarked) return
    this.isMarked = true
    this.rooms.log.mark()
  }

  private tryMark(): void {
    try {
      this.mark()
    } catch {
      // Without room there is no marker: the last group stays uncertified, and nothing else is lost.
    }
  }

  /** All is on disk. Of what has no record behind it a kill leaves a copy to make: a marker saves that, synced or not. */
  markLongEnd(): void {
    const { health, log, sync } = this.rooms
    if (sync === 'always' || this.isStopped || health.poisoned !== undefined) return
    if (!this.writer.isAtRest || log.isTurning || log.isDirty) return
    if (log.uncertifiedBytes > COPIED_BYTES_MAX) this.tryMark()
  }
}
