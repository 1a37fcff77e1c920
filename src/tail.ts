// The end of the log that another process writes, as a follower sees it: put on disk before it is shown, and looked at
// again before it is believed to go on.
import { isEqual } from './bytes'
import type { Segment } from './catalog'
import { failureOfSync, settled, shownBytes, shownBytesInSteps, type Written, writtenOf } from './durable'
import { ioError, systemCode } from './errors'
import type { FileHandle, Host } from './host/host'
import { readFully } from './io'
import { isRoomAt } from './room'
import { inTurns } from './steps'

/** So many of the last bytes that are known have to be the same still. */
const ENDING_BYTES = 64

/**
 * A handle of its own, for as long as the segment is the last: of a failed sync the system tells each who had the file
 * open then, and the catalog may close the one that it lends.
 */
export class Tail {
  private ending: { offset: number; bytes: Uint8Array } | undefined
  private syncs = 0
  private isLeft = false
  /** What of it there was when it was last put on disk, and when what was there then was brought in. */
  private secured: Written | undefined
  private seen: Written | undefined

  private constructor(
    private readonly host: Host,
    readonly segment: Segment,
    private readonly file: FileHandle,
  ) {}

  /** undefined where the file is gone. */
  static of(host: Host, segment: Segment): Tail | undefined {
    try {
      return new Tail(host, segment, host.open(segment.path, 'read'))
    } catch (cause) {
      if (systemCode(cause) === 'ENOENT') return undefined
      throw ioError('open a segment', segment.path, cause)
    }
  }

  /** How long its file is by now. */
  get fileBytes(): number {
    return this.reading(() => this.host.status(this.file).bytes)
  }

  private look(): Written {
    return this.reading(() => writtenOf(this.host, this.segment, this.file))
  }

  private settle(): Written {
    return this.reading(() => settled(this.host, this.segment, this.file))
  }

  private reading<T>(read: () => T): T {
    try {
      return read()
    } catch (cause) {
      throw ioError('read a segment', this.segment.path, cause)
    }
  }

  /** Puts on disk what there is; `done` is given how much of that may be shown, or an error. */
  secureLater(done: (shown: number | undefined, error: unknown) => void): void {
    const { host, segment, file } = this
    const written = this.settle()
    const { bytes } = written
    this.syncs++
    const end = (shown: number | undefined, error?: unknown): void => {
      this.syncs--
      this.closeIfLeft()
      done(shown, error)
    }
    host.syncLater(file, (failure) => {
      if (this.isLeft) return end(undefined)
      this.secured = written
      const steps = shownBytesInSteps(host, segment, file, bytes, failure)
      inTurns(steps, host.soon).then(end, (error) => end(undefined, error))
    })
  }

  /** The same, done on return. */
  secure(): number {
    const { host, segment, file } = this
    const written = this.settle()
    const { bytes } = written
    const failure = failureOfSync(host, file)
    this.secured = written
    return shownBytes(host, segment, file, bytes, failure)
  }

  /** Whether there is more, or less, than was brought in. */
  get hasChanged(): boolean {
    const { host, segment, file, seen, fileBytes } = this
    if (seen === undefined || fileBytes !== seen.fileBytes) return true
    // What comes next goes over the mark, or makes the file longer.
    if (seen.by === 'mark') return !isRoomAt(host, file, segment, seen.bytes)
    return seen.by === 'nothing' && this.look().bytes !== seen.bytes
  }

  /** What was put on disk is known now: notes how it ends. */
  remember(): void {
    this.seen = this.secured
    const offset = Math.max(0, this.segment.bytes - ENDING_BYTES)
    const bytes = new Uint8Array(this.segment.bytes - offset)
    readFully(this.host, this.file, bytes, 0, bytes.length, offset)
    this.ending = { offset, bytes }
  }

  /** Whether it still ends so, as far as the first `limitBytes` go: what was refused was cut off, and written over. */
  isAsKnown(limitBytes: number): boolean {
    const { ending } = this
    if (ending === undefined) return true
    const known = ending.bytes.subarray(0, Math.max(0, limitBytes - ending.offset))
    const bytes = new Uint8Array(known.length)
    const read = readFully(this.host, this.file, bytes, 0, bytes.length, ending.offset)
    return isEqual(bytes.subarray(0, read), known)
  }

  /** Nobody asks any more. */
  leave(): void {
    this.isLeft = true
    this.closeIfLeft()
  }

  private closeIfLeft(): void {
    if (!this.isLeft || this.syncs > 0) return
    this.syncs = Number.NaN
    this.host.closeLater(this.file)
  }
}
