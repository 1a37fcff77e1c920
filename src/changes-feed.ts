// One feed of changes: it is pulled, so it is never further ahead of its consumer than what it read last.
import type { Segment } from './catalog'
import { LogCursor, type LogItem } from './changes-cursor'
import { heldAfter, lastOf, segmentsAfter } from './changes-segments'
import { CaskyError, typed } from './errors'
import { Kernels } from './kernels'
import type { Rooms } from './open'
import type { Unpin } from './pins'

/** The event loop turns at the first window after so long; a window takes about as long. */
const SLICE_MS = 1
/** A consumer that asks for nothing for so long no longer keeps the files of merged segments. */
const PATIENCE_MS = 60_000

/** What the feeds of one store share. */
export class Feeds {
  private own: Kernels | undefined
  readonly waiting = new Set<() => void>()

  /** The store's own go on working while a feed reads. */
  get kernels(): Kernels {
    this.own ??= new Kernels()
    return this.own
  }

  /** There is more to read, or the store was closed. */
  readonly wake = (): void => {
    for (const resume of [...this.waiting]) resume()
  }
}

export interface FeedCall {
  since: number
  isLive: boolean
  signal: AbortSignal | undefined
}

export class Feed<T> {
  private readonly directory: string
  private readonly cursor: LogCursor
  /** Where it ends: undefined where it goes on with the store. */
  private readonly until: number | undefined
  private segments: Segment[] = []
  /** Those that were replaced before, and that others hold. */
  private readonly borrowed = new Set<Segment>()
  private unpin: Unpin | undefined
  private cancelTimer: (() => void) | undefined
  private hasAsked = false
  private isDone = false
  private sliceMs = 0
  /** Calls that wait for those before them. */
  private pending = 0
  private last: Promise<unknown> = Promise.resolve()
  private resume: (() => void) | undefined

  constructor(
    /** Throws where the store is closed. */
    private readonly opened: () => Rooms,
    private readonly feeds: Feeds,
    private readonly call: FeedCall,
    /** Whether only what is known to be on disk counts as acknowledged. */
    private readonly isStrict: boolean,
    private readonly decode: (item: LogItem) => T,
  ) {
    const rooms = opened()
    this.directory = rooms.catalog.directory
    this.cursor = new LogCursor(rooms, feeds.kernels, call.since)
    this.until = call.isLive ? undefined : acknowledgedOf(rooms)
  }

  next(): Promise<IteratorResult<T, undefined>> {
    this.hasAsked = true
    if (this.pending === 0) {
      try {
        const item = this.isOver() ? undefined : this.cursor.take()
        if (item !== undefined) return Promise.resolve({ done: false, value: this.decode(item) })
      } catch (error) {
        this.end()
        return Promise.reject(error)
      }
    }
    this.pending++
    const result = this.last.then(() => this.pull())
    const done = (): void => {
      this.pending--
    }
    this.last = result.then(done, done)
    return result
  }

  /** Lets go of everything; a call that waits ends. */
  readonly end = (): void => {
    this.isDone = true
    this.letGo()
    this.resume?.()
  }

  /** Nobody holds it any more; a call that waits is still answered. */
  readonly leave = (): void => {
    if (this.pending === 0) this.end()
    else this.last.then(this.end)
  }

  /** Throws where it ends with an error. */
  private isOver(): boolean {
    if (this.isDone) return true
    const { isLive, signal } = this.call
    if (signal?.aborted === true) {
      throw new CaskyError('CASKY_ABORTED', 'the iteration of changes was aborted by its signal', {
        cause: signal.reason,
      })
    }
    try {
      this.opened()
      return false
    } catch (error) {
      // One that has not come to its end must not look as if it had.
      if (!isLive) throw error
      return true
    }
  }

  private async pull(): Promise<IteratorResult<T, undefined>> {
    try {
      while (!this.isOver()) {
        const item = this.cursor.take()
        if (item !== undefined) return { done: false, value: this.decode(item) }
        if (!(await this.rest())) continue
        const state = this.look()
        if (state === 'large') await this.cursor.readLarge(() => this.restWithin())
        if (state !== 'end') continue
        if (!this.call.isLive) break
        await this.more()
      }
      this.end()
      return { done: true, value: undefined }
    } catch (error) {
      const isNew = !this.isDone
      this.end()
      if (!isNew) return { done: true, value: undefined }
      throw typed('read changes', this.directory, error)
    }
  }

  /** Lets others run, where it is time to; false where it is over. */
  private async rest(): Promise<boolean> {
    if (this.isOver()) return false
    const { host } = this.opened()
    if (host.clockMs() - this.sliceMs < SLICE_MS) return true
    await new Promise<void>((resolve) => host.soon(resolve))
    this.sliceMs = host.clockMs()
    return !this.isOver()
  }

  /** As `rest`, in the middle of a record: false also where its segment is gone. */
  private async restWithin(): Promise<boolean> {
    if (!(await this.rest())) return false
    const [segment] = this.segments
    return segment !== undefined && !this.isGone(segment)
  }

  /** Reads on, where there is more. */
  private look(): 'read' | 'large' | 'end' {
    const { cursor } = this
    const rooms = this.opened()
    const lastSequence = Math.min(acknowledgedOf(rooms), this.until ?? Number.POSITIVE_INFINITY)
    if (cursor.position < lastSequence) this.hold(rooms)
    const [segment] = this.segments
    if (cursor.position >= lastSequence || segment === undefined) {
      this.letGo()
      return 'end'
    }
    if (this.isGone(segment)) {
      this.letGo()
      return 'read'
    }
    const isWrittenTo = rooms.writing?.log.isWritingTo(segment) === true
    const isEnded = segment.state !== 'active'
    // The end that a crash left, or that another process writes, is on disk as far as it says so.
    const limitBytes = isEnded || isWrittenTo || !this.isStrict ? segment.bytes : segment.certifiedBytes
    const state = cursor.read(segment, limitBytes, lastSequence)
    if (state !== 'end') return state
    const { position } = cursor
    if (isEnded || isWrittenTo || cursor.hasHole) cursor.end(Math.min(lastSequence, lastOf(segment)))
    if (isEnded) this.segments.shift()
    if (!isEnded || this.segments.length === 0) this.letGo()
    return isEnded || cursor.position > position ? 'read' : 'end'
  }

  /** From now on the segments that are still to be read stay, also where a merge replaces them. */
  private hold(rooms: Rooms): void {
    if (this.unpin !== undefined) return
    const { host, pins } = rooms
    this.segments = this.segmentsOf(rooms)
    this.unpin = pins.pin()
    // Whoever stops asking must not make the store grow for ever.
    const watch = (): void => {
      this.cancelTimer = host.later(PATIENCE_MS, () => {
        if (this.pending === 0 && !this.hasAsked) this.letGo()
        else watch()
        this.hasAsked = false
      })
    }
    watch()
  }

  private segmentsOf({ catalog, replaced }: Rooms): Segment[] {
    const { position } = this.cursor
    try {
      return segmentsAfter(catalog, position)
    } catch (error) {
      const held = heldAfter(catalog, replaced.segments, position)
      if (held === undefined) throw error
      for (const segment of held) if (replaced.segments.has(segment)) this.borrowed.add(segment)
      return held
    }
  }

  /** Whether a segment that others hold is gone with their hold. */
  private isGone(segment: Segment): boolean {
    return this.borrowed.has(segment) && !this.opened().replaced.segments.has(segment)
  }

  private letGo(): void {
    this.segments = []
    this.borrowed.clear()
    this.cancelTimer?.()
    this.cancelTimer = undefined
    this.unpin?.()
    this.unpin = undefined
  }

  /** Waits until there may be more, or until it is over. */
  private more(): Promise<void> {
    const { waiting } = this.feeds
    const { signal } = this.call
    return new Promise((resolve) => {
      const resume = (): void => {
        waiting.delete(resume)
        signal?.removeEventListener('abort', resume)
        this.resume = undefined
        resolve()
      }
      this.resume = resume
      waiting.add(resume)
      signal?.addEventListener('abort', resume)
    })
  }
}

/** The last sequence number that may be told. */
function acknowledgedOf({ writing, lastSequence }: Rooms): number {
  return writing === undefined ? lastSequence() : writing.writer.acknowledgedSequence
}
