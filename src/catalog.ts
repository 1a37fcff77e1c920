// The live segments, in the order of their records, and the files they are read through.
import { CaskyError, invariant, ioError, isOutOfHandles, systemCode } from './errors'
import { join, segmentName } from './files'
import type { FileHandle, Host } from './host/host'
import type { ManifestEntry, SegmentState } from './manifest'
import { SEGMENT_HEADER_BYTES, type SegmentHeader } from './segment'
import type { Strangers } from './strangers'

/** Reading from more segments than this closes the file that was opened first. */
const OPEN_FILES_MAX = 128
/** Where another process may remove a file, those that are open can still be read. */
const FILES_BESIDE_MAX = 1024

export interface Segment {
  /** Its number in the keydir; reused once the segment is gone, unlike its id. */
  readonly slot: number
  readonly header: SegmentHeader
  readonly path: string
  state: SegmentState
  /** Valid bytes, header included; grows while the segment is active. */
  bytes: number
  /** So many of them are known to be on disk: of a recovered segment, by its own word. */
  certifiedBytes: number
  /** Puts and deletes in it. */
  records: number
  lastSequence: number
  /** Bytes of the records that the keydir points to. */
  liveBytes: number
  /** Where its last put or delete ends, if it was read. */
  writesEnd?: number
  /** Bytes of the records that hide older ones: deletes, and what has expired and was swept. */
  tombstoneBytes: number
}

export class Catalog {
  private readonly bySlot: (Segment | undefined)[] = []
  private readonly freeSlots: number[] = []
  private readonly open = new Map<number, FileHandle>()
  /** Asked where a segment's file is gone; throws where that is no damage. */
  onMissing: (segment: Segment) => void = () => {}
  private filesMax = OPEN_FILES_MAX
  /** Beside a writer: the files that are not what their names say. */
  strangers: Strangers | undefined
  readonly segments: Segment[] = []

  constructor(
    private readonly host: Host,
    readonly directory: string,
  ) {}

  /** From now on another process may put other files in the place of these. */
  besideWriter(strangers: Strangers): void {
    this.strangers = strangers
    this.filesMax = FILES_BESIDE_MAX
  }

  add(entry: ManifestEntry): Segment {
    const last = this.segments.at(-1)
    invariant(
      last === undefined || last.header.firstSequence <= entry.header.firstSequence,
      'segments stand in the order of their sequence numbers',
    )
    const segment = this.give(entry)
    this.segments.push(segment)
    return segment
  }

  /** A segment that is not in the order of the others yet. */
  give(entry: ManifestEntry): Segment {
    const segment: Segment = {
      slot: this.freeSlots.pop() ?? this.bySlot.length,
      header: entry.header,
      path: join(this.directory, segmentName(entry.header.id)),
      state: entry.state,
      bytes: entry.state === 'active' ? SEGMENT_HEADER_BYTES : entry.bytes,
      certifiedBytes: entry.state === 'active' ? SEGMENT_HEADER_BYTES : entry.bytes,
      records: entry.records,
      lastSequence: entry.lastSequence,
      liveBytes: 0,
      tombstoneBytes: 0,
    }
    this.bySlot[segment.slot] = segment
    return segment
  }

  /** Puts what they were merged into in the place of `run`, which stand next to each other. They stay readable. */
  replace(run: readonly Segment[], entry: ManifestEntry): Segment {
    const merged = this.give(entry)
    this.segments.splice(this.placeOf(run), run.length, merged)
    return merged
  }

  /** The segments and their order from now on; those that it leaves out stay readable. */
  rearrange(segments: readonly Segment[]): void {
    this.segments.splice(0, this.segments.length, ...segments)
  }

  private placeOf(run: readonly Segment[]): number {
    const at = this.segments.indexOf(run[0])
    invariant(at >= 0 && run.every((each, i) => this.segments[at + i] === each), 'a run stands together')
    return at
  }

  /** Nobody reads from it any more: its file is closed, and its slot free for another. */
  forget(segment: Segment): void {
    invariant(this.bySlot[segment.slot] === segment && segment.liveBytes === 0, 'nothing points to it')
    // Beside a writer the file may have no name any more.
    this.closeFile(segment.slot, this.strangers !== undefined)
    this.bySlot[segment.slot] = undefined
    this.freeSlots.push(segment.slot)
  }

  /** Takes back the segment added last, whose making failed. */
  removeLast(segment: Segment): void {
    invariant(this.segments.at(-1) === segment, 'only the last segment is taken back')
    this.segments.pop()
    this.forget(segment)
  }

  at(slot: number): Segment {
    const segment = this.bySlot[slot]
    invariant(segment !== undefined, 'the keydir points to live segments only')
    return segment
  }

  /** All that the keydir may point to: the live ones, and those whose records are being moved, or are still read. */
  inUse(): Segment[] {
    return this.bySlot.filter((segment) => segment !== undefined)
  }

  /** No number up to this one is given again: a segment's first may lie above every last one that is known. */
  get lastSequence(): number {
    return this.segments.reduce(
      (last, { header, lastSequence }) => Math.max(last, lastSequence, header.firstSequence - 1),
      0,
    )
  }

  /** What the manifest says of the segments as they are now. */
  entries(): ManifestEntry[] {
    return entriesOf(this.segments)
  }

  /** As `entries`, once `replace` has been done. */
  entriesWith(run: readonly Segment[], entry: ManifestEntry): ManifestEntry[] {
    const at = this.placeOf(run)
    return [
      ...entriesOf(this.segments.slice(0, at)),
      entry,
      ...entriesOf(this.segments.slice(at + run.length)),
    ]
  }

  /** A handle to read the segment through; the catalog closes it. */
  fileOf(segment: Segment): FileHandle {
    const known = this.open.get(segment.slot)
    if (known !== undefined) return known
    if (this.open.size >= this.filesMax) {
      const [oldest] = this.open.keys()
      this.closeFile(oldest)
    }
    try {
      const file = this.withHandles(() => this.openSegment(segment))
      this.open.set(segment.slot, file)
      return file
    } catch (cause) {
      if (systemCode(cause) === 'ENOENT') {
        this.onMissing(segment)
        throw new CaskyError(
          'CASKY_CORRUPT',
          `a segment that the manifest names is missing: ${segment.path}`,
          {
            path: segment.path,
            cause,
          },
        )
      }
      throw ioError('open a segment', segment.path, cause)
    }
  }

  private openSegment(segment: Segment): FileHandle {
    const file = this.host.open(segment.path, 'read')
    try {
      if (this.strangers?.has(segment, file) !== true) return file
    } catch (cause) {
      this.host.close(file)
      throw cause
    }
    this.host.close(file)
    throw Object.assign(new Error('another segment has its name'), { code: 'ENOENT' })
  }

  /**
   * Runs what opens files, and leaves everything as it was where it fails. Where the process has no handle left, those
   * that are only kept for later are given back, and it runs once more.
   */
  withHandles<T>(run: () => T): T {
    try {
      return run()
    } catch (error) {
      if (this.open.size === 0 || !isOutOfHandles(error)) throw error
      this.closeFiles()
      return run()
    }
  }

  private closeFile(slot: number, isLater = false): void {
    const file = this.open.get(slot)
    if (file === undefined) return
    this.open.delete(slot)
    if (isLater) this.host.closeLater(file)
    else this.host.close(file)
  }

  closeFiles(): void {
    for (const slot of [...this.open.keys()]) this.closeFile(slot)
  }
}

function entriesOf(segments: readonly Segment[]): ManifestEntry[] {
  return segments.map(({ header, state, bytes, records, lastSequence }) =>
    state === 'active'
      ? { header, state, bytes: 0, records: 0, lastSequence: 0 }
      : { header, state, bytes, records, lastSequence },
  )
}
