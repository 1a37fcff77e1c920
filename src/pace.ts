// A merge goes on in slices between which the event loop turns, and reads and writes no more a second than it may.
import type { Host } from './host/host'

/** A slice ends at the first place where this has passed; the work between two places takes less than as long again. */
const SLICE_MS = 0.5
const MS_PER_SECOND = 1000
/** It may be so far ahead of its rate, since timers are not exact. */
const AHEAD_MS = 20

export class Pace {
  /** The longest time for which the event loop was held up. */
  longestSliceMs = 0
  private sliceMs: number
  private readonly startedMs: number
  private movedBytes = 0
  private wake: (() => void) | undefined

  /** `bytesPerSecond`: 0 for as many as there are. */
  constructor(
    private readonly host: Host,
    private readonly bytesPerSecond: number,
    /** Counts what others do; as long as it does they get half of the time. */
    private readonly operations: () => number = () => 0,
    /** Whether somebody waits for the end: then the process must not end before. */
    private readonly isAwaited = true,
  ) {
    this.startedMs = host.clockMs()
    this.sliceMs = this.startedMs
  }

  /** Whether it is time to let others run. */
  get isDue(): boolean {
    return this.host.clockMs() - this.sliceMs >= SLICE_MS || this.aheadMs() > AHEAD_MS
  }

  moved(bytes: number): void {
    this.movedBytes += bytes
  }

  private aheadMs(): number {
    if (this.bytesPerSecond === 0) return 0
    const dueMs = this.startedMs + (this.movedBytes / this.bytesPerSecond) * MS_PER_SECOND
    return dueMs - this.host.clockMs()
  }

  async rest(): Promise<void> {
    const { host } = this
    this.endSlice()
    const endMs = host.clockMs()
    const sliceMs = endMs - this.sliceMs
    let before: number
    do {
      before = this.operations()
      const aheadMs = this.aheadMs()
      let cancel: (() => void) | undefined
      await new Promise<void>((resolve) => {
        this.wake = resolve
        if (aheadMs > AHEAD_MS) cancel = host.later(aheadMs, resolve, this.isAwaited)
        else host.soon(resolve)
      })
      cancel?.()
      this.wake = undefined
    } while (this.operations() !== before && host.clockMs() - endMs < sliceMs)
    this.beginSlice()
  }

  /** Waits for what the system does meanwhile; `start` is given what to call in the end. */
  async wait(start: (done: (error: unknown) => void) => void): Promise<void> {
    this.endSlice()
    try {
      await new Promise<void>((resolve, reject) => {
        start((error) => (error === null || error === undefined ? resolve() : reject(error)))
      })
    } finally {
      this.beginSlice()
    }
  }

  beginSlice(): void {
    this.sliceMs = this.host.clockMs()
  }

  endSlice(): void {
    this.longestSliceMs = Math.max(this.longestSliceMs, this.host.clockMs() - this.sliceMs)
  }

  /** Ends a rest at once. */
  stop(): void {
    this.wake?.()
  }
}
