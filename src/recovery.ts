// Opening: from the manifest and its segments to a full keydir. It reads, and changes nothing on disk. A checkpoint
// spares it all that was written before, a hint the values of a segment; what has neither, or one that doesn't fit, is
// read from end to end, and the store is the same.
import { RECORD_HEADER_BYTES } from '../assembly/layout'
import type { Catalog, Segment } from './catalog'
import { hintedIdOf, join, segmentIdOf, segmentName } from './files'
import type { Health } from './health'
import { type HintReading, readHint } from './hint'
import type { FileHandle, Host } from './host/host'
import type { Kernels } from './kernels'
import { TABLES } from './keydir/keydir'
import type { Ledger } from './ledger'
import type { Manifest, ManifestEntry } from './manifest'
import {
  checkHeader,
  expectedOf,
  forgetCopiedEnds,
  lastSequenceOf,
  openNamed,
  type ReadFrom,
  readRecords,
  reportMissing,
  type Stride,
} from './pass'
import type { Sink } from './replay'
import { type Restored, restore } from './restore'
import { tornTailOf } from './room'
import { retold } from './steps'

/** `checkpoint` also where what was written to it later was read as well. */
export type SegmentSource = 'checkpoint' | 'hint' | 'scan' | 'missing'

/** How far opening has come, in bytes of the log, whichever way they come in. */
export interface OpenProgress {
  phase: 'open'
  segment: number
  segments: number
  bytesDone: number
  bytesTotal: number
  cameFrom: SegmentSource
}

export interface RecoveredSegment {
  id: number
  cameFrom: SegmentSource
  /** Read of the segment's file, or of its hint. */
  bytesRead: number
  /** Why its hint was of no use, where there is one that was tried. */
  hintReason: string | undefined
}

export interface RecoveryReport {
  segments: number
  /** How many segments came in which way; those that are missing in none. */
  checkpointed: number
  hinted: number
  scanned: number
  /** Puts and deletes in the log. */
  records: number
  /** Read of segments, hints and the checkpoint. */
  bytesRead: number
  durationMs: number
  /**
   * `reason` says why it was not used, or not all of it; neither it nor a hint is ever needed. `bytesRead`: by the time
   * that the store was open; its tables may come in later.
   */
  checkpoint: { used: boolean; reason: string | undefined; entries: number; bytesRead: number }
  /** In the order of the log. */
  bySegment: RecoveredSegment[]
  /** The ids of the segments that have ended and have no hint, or none that fits. */
  withoutHint: number[]
}

export interface RecoveryRooms {
  host: Host
  kernels: Kernels
  catalog: Catalog
  ledger: Ledger
  health: Health
  /** How much of a segment that another process may be writing to is to be read; all, where undefined. */
  lengthOf?: ((segment: Segment, file: FileHandle) => number) | undefined
  /** Whether a checkpoint's tables come in when they are first used. */
  isLazy?: boolean
  /** Why the checkpoint is not to be used, where that is known. */
  unfit?: string | undefined
  /** How much is done between two yields; as much as there is room for, where undefined. */
  stride?: Stride | undefined
}

/** Hardly a table gets more entries than that beyond its share. */
const TABLE_SPREAD = 1.05

/** The ids of the segments whose file, or whose hint, is there. */
interface Present {
  segments: ReadonlySet<number>
  hints: ReadonlySet<number>
}

export function* recover(rooms: RecoveryRooms, manifest: Manifest): Generator<OpenProgress, RecoveryReport> {
  const { host, catalog } = rooms
  const startedAtMs = host.nowMs()
  const segments = manifest.segments.map((entry) => catalog.add(entry))
  // Beside a writer, which may merge: what is open can be read to its end.
  if (rooms.lengthOf !== undefined) for (const segment of segments) openNamed(catalog, segment)
  const present = presentFiles(rooms, manifest, segments)
  const recovery = new Recovery(rooms, manifest, segments, present)
  const restored = yield* recovery.restore()
  const { keydir } = rooms.ledger
  if (restored === undefined) keydir.expected = (recovery.records() / TABLES) * TABLE_SPREAD
  for (const [i, segment] of segments.entries()) {
    const begin = restored?.begin
    recovery.number = i + 1
    if (begin !== undefined && i < begin.index) {
      recovery.passOver(segment)
      if (i + 1 === begin.index) yield recovery.progress(0, 'checkpoint')
    } else {
      yield* recovery.read(segment, manifest.segments[i], begin?.index === i ? begin : undefined)
    }
  }
  if (restored === undefined) keydir.fit()
  forgetCopiedEnds(rooms.health, catalog.segments)
  recovery.report.durationMs = host.nowMs() - startedAtMs
  return recovery.report
}

/** Reads segments that have come to a store that is open, each of them whole. */
export function* readSegments(
  rooms: RecoveryRooms,
  manifest: Manifest,
  added: readonly { segment: Segment; entry: ManifestEntry; sink: Sink }[],
): Generator<OpenProgress, RecoveryReport> {
  const ofThem = { ...manifest, segments: added.map(({ entry }) => entry) }
  const present = presentFiles(
    rooms,
    ofThem,
    added.map(({ segment }) => segment),
  )
  const recovery = new Recovery(rooms, ofThem, [], present)
  for (const { segment, entry, sink } of added) yield* recovery.read(segment, entry, undefined, sink)
  return recovery.report
}

/** A manifest's segments were made before it, so what has come since the look doesn't matter. */
function presentFiles(
  { host, catalog, lengthOf }: RecoveryRooms,
  manifest: Manifest,
  segments: readonly Segment[],
): Present {
  const named = new Set(manifest.segments.map((entry) => entry.header.id))
  const present = { segments: new Set<number>(), hints: new Set<number>() }
  for (const name of catalog.withHandles(() => host.list(catalog.directory))) {
    const id = segmentIdOf(name)
    const hintedId = hintedIdOf(name)
    if (id !== undefined && named.has(id)) present.segments.add(id)
    if (hintedId !== undefined && named.has(hintedId)) present.hints.add(hintedId)
  }
  // Another process may have removed them since they were opened.
  if (lengthOf !== undefined) for (const { header } of segments) present.segments.add(header.id)
  return present
}

function totalBytes(host: Host, catalog: Catalog, { segments }: Present): number {
  let total = 0
  for (const id of segments) {
    const path = join(catalog.directory, segmentName(id))
    total += catalog.withHandles(() => host.inspect(path))?.bytes ?? 0
  }
  return total
}

class Recovery {
  readonly report: RecoveryReport = {
    segments: 0,
    checkpointed: 0,
    hinted: 0,
    scanned: 0,
    records: 0,
    bytesRead: 0,
    durationMs: 0,
    checkpoint: { used: false, reason: undefined, entries: 0, bytesRead: 0 },
    bySegment: [],
    withoutHint: [],
  }
  /** Of the segment that is being read; the first is 1. */
  number = 1
  private bytesDone = 0
  private readonly bytesTotal: number

  constructor(
    private readonly rooms: RecoveryRooms,
    private readonly manifest: Manifest,
    private readonly segments: readonly Segment[],
    private readonly present: Present,
  ) {
    this.bytesTotal = totalBytes(rooms.host, rooms.catalog, present)
  }

  /** `bytes` of the segment are done, and all before it. */
  progress(bytes: number, cameFrom: SegmentSource): OpenProgress {
    const { number: segment, bytesTotal } = this
    const bytesDone = this.bytesDone + bytes
    return { phase: 'open', segment, segments: this.segments.length, bytesDone, bytesTotal, cameFrom }
  }

  *restore(): Generator<OpenProgress, Restored | undefined> {
    const { checkpoint } = this.report
    if (this.rooms.unfit !== undefined) {
      checkpoint.reason = this.rooms.unfit
      return undefined
    }
    const steps = restore(this.rooms, this.manifest, this.segments, this.present.segments)
    // How far it brings opening is known only in the end.
    const restored = yield* retold(steps, () => this.progress(0, 'checkpoint'))
    checkpoint.bytesRead = restored?.bytesRead ?? 0
    this.report.bytesRead += checkpoint.bytesRead
    if (restored === undefined || 'reason' in restored) {
      checkpoint.reason = restored?.reason ?? 'there is none'
      return undefined
    }
    checkpoint.used = true
    checkpoint.entries = restored.entries
    return restored
  }

  /** How many the manifest knows of, and the files have room for. */
  records(): number {
    const known = this.manifest.segments.reduce((sum, { records }) => sum + records, 0)
    return Math.min(known, this.bytesTotal / RECORD_HEADER_BYTES)
  }

  /** The checkpoint holds all that is in this segment. */
  passOver(segment: Segment): void {
    this.noteTail(segment, this.rooms.catalog.fileOf(segment))
    this.took(segment, 'checkpoint', 0)
  }

  private noteTail(segment: Segment, file: FileHandle): void {
    const { host, health } = this.rooms
    const tail = tornTailOf(host, file, segment, segment.bytes, host.status(file).bytes)
    if (tail !== undefined) health.addTornTail(tail)
  }

  private took(segment: Segment, cameFrom: SegmentSource, bytesRead: number, hintReason?: string): void {
    const { report, present } = this
    const { id } = segment.header
    report.segments++
    if (cameFrom === 'checkpoint') report.checkpointed++
    else if (cameFrom === 'hint') report.hinted++
    else if (cameFrom === 'scan') report.scanned++
    report.records += segment.records
    report.bytesRead += bytesRead
    report.bySegment.push({ id, cameFrom, bytesRead, hintReason })
    const hasHint = present.hints.has(id) && hintReason === undefined
    if (segment.state !== 'active' && cameFrom !== 'missing' && !hasHint) report.withoutHint.push(id)
    this.bytesDone += segment.bytes
  }

  /** Reads a segment, or what of it lies behind `from`, into the keydir. */
  *read(
    segment: Segment,
    entry: ManifestEntry,
    from: ReadFrom | undefined,
    sink: Sink = this.rooms.ledger.opening,
  ): Generator<OpenProgress, void> {
    const { host, catalog, health } = this.rooms
    const nowMs = host.nowMs()
    // Asking the system for each of very many would take long.
    const file = this.present.segments.has(entry.header.id) ? openNamed(catalog, segment) : undefined
    if (file === undefined) {
      reportMissing(health, segment, entry.bytes, nowMs)
      segment.lastSequence = lastSequenceOf(entry)
      this.took(segment, 'missing', 0)
      return
    }
    if (from !== undefined && entry.state !== 'active' && from.bytes === entry.bytes) {
      this.passOver(segment)
      yield this.progress(0, 'checkpoint')
      return
    }
    const isSound = checkHeader(this.rooms, segment, file, nowMs)
    const hint = isSound ? yield* this.readHint(segment, entry, file, nowMs, sink) : undefined
    if (hint !== undefined && hint.unfit === undefined) {
      this.took(segment, 'hint', hint.bytesRead)
      return
    }
    this.report.bytesRead += hint?.bytesRead ?? 0
    // What an unfit hint has handed on set keys back to what they were in this segment: it has to be read whole.
    const rest = hint === undefined ? from : undefined
    yield* this.scan(segment, entry, file, nowMs, rest, sink)
    const cameFrom = rest === undefined ? 'scan' : 'checkpoint'
    this.took(segment, cameFrom, segment.bytes - (rest?.bytes ?? 0), hint?.unfit)
  }

  /** undefined where there is no hint. */
  private *readHint(
    segment: Segment,
    entry: ManifestEntry,
    file: FileHandle,
    nowMs: number,
    sink: Sink,
  ): Generator<OpenProgress, HintReading | undefined> {
    const { host } = this.rooms
    if (entry.state === 'active' || !this.present.hints.has(entry.header.id)) return undefined
    // Part of what it speaks of is gone, which is to be reported.
    if (host.status(file).bytes < entry.bytes) return undefined
    // It is counted anew, also where the checkpoint knows the begin of the segment.
    segment.tombstoneBytes = 0
    const steps = readHint(this.rooms, segment, entry, sink, nowMs)
    const reading = yield* retold(steps, (bytes) => this.progress(bytes, 'hint'))
    if (reading.unfit === undefined) this.noteTail(segment, file)
    else segment.tombstoneBytes = 0
    return reading
  }

  private *scan(
    segment: Segment,
    entry: ManifestEntry,
    file: FileHandle,
    nowMs: number,
    from: ReadFrom | undefined,
    sink: Sink,
  ): Generator<OpenProgress, void> {
    const isEnded = entry.state !== 'active'
    const fileBytes = isEnded ? undefined : this.rooms.lengthOf?.(segment, file)
    const steps = readRecords(this.rooms, segment, file, expectedOf(entry), sink, nowMs, from, fileBytes)
    const cameFrom = from === undefined ? 'scan' : 'checkpoint'
    yield* retold(steps, (bytes) => this.progress(bytes, cameFrom))
    // Where some of them can't be read, the manifest goes on telling how many there were.
    if (isEnded) segment.records = entry.records
    // Whoever says how much there is to read vouches for it.
    if (fileBytes !== undefined) segment.certifiedBytes = segment.bytes
  }
}
