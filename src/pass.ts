// One pass over a segment, from its header to its end, with everything in it handed on and everything wrong reported:
// opening, checking and repairing all read by it, so what they find is the same.
import type { Catalog, Segment } from './catalog'
import { ioError, isCaskyError } from './errors'
import { Findings, REMEDY_COUNT, REMEDY_HEADER, REMEDY_MISSING } from './findings'
import type { Health } from './health'
import type { FileHandle, Host } from './host/host'
import type { Kernels } from './kernels'
import type { ManifestEntry } from './manifest'
import { Replay, type ReplayedSegment, type Sink } from './replay'
import { logEnd, tornTailOf } from './room'
import { SegmentScan } from './scanner'
import { isSameSegment, readSegmentHeader, SEGMENT_HEADER_BYTES, type SegmentHeader } from './segment'

/** More writes than a segment left active can hold that is no larger than segments are. */
const SEQUENCES_OF_A_SEGMENT_MAX = 2 ** 27

/** How much is done between two yields. */
export interface Stride {
  /** More than two of the longest headers. */
  bytes: number
  records: number
}

/** For who reads beside others: a step takes a quarter of a millisecond, about. */
export const STRIDE: Stride = { bytes: 0x3_0000, records: 128 }

export interface PassRooms {
  host: Host
  kernels: Kernels
  health: Health
  /** undefined: as much as there is room for. */
  stride?: Stride | undefined
}

export type PassedSegment = ReplayedSegment &
  Pick<Segment, 'bytes'> & { certifiedBytes?: number; writesEnd?: number }

/** Where records go that are only looked at. */
export const NOWHERE: Sink = { put: () => {}, remove: () => {} }

export function openToRead(host: Host, path: string): FileHandle {
  try {
    return host.open(path, 'read')
  } catch (cause) {
    throw ioError('open a segment', path, cause)
  }
}

/** The segment's file, for the catalog to close; undefined where it is missing. */
export function openNamed(catalog: Catalog, segment: Segment): FileHandle | undefined {
  try {
    return catalog.fileOf(segment)
  } catch (error) {
    if (isCaskyError(error) && error.code === 'CASKY_CORRUPT') return undefined
    throw error
  }
}

/** What is known of a segment before it is read; undefined where only reading tells. */
export interface Expected {
  bytes: number | undefined
  records: number | undefined
  lastSequence: number | undefined
}

export function expectedOf({ state, bytes, records, lastSequence }: ManifestEntry): Expected {
  return state === 'active'
    ? { bytes: undefined, records: undefined, lastSequence: undefined }
    : { bytes, records, lastSequence }
}

/** Where to begin in a segment whose records up to there came in another way. */
export interface ReadFrom {
  /** Where a record begins, at the begin of a batch; what lies before is known to be on disk, up to `certifiedBytes`. */
  bytes: number
  certifiedBytes: number
  records: number
  lastSequence: number
}

/** Behind the end of a segment may stand what was copied from there into the next one: that is no torn tail. */
export function forgetCopiedEnds(
  health: Health,
  segments: readonly { path: string; header: SegmentHeader }[],
): void {
  for (const [i, { header }] of segments.entries()) {
    const former = segments[i - 1]
    const isCopied = header.copies !== undefined && header.copies.segmentId === former?.header.id
    if (isCopied) health.forgetTornTail(former.path)
  }
}

/** The highest sequence number that a segment can have used whose file is gone. */
export function lastSequenceOf(entry: ManifestEntry): number {
  return entry.state === 'active'
    ? entry.header.firstSequence + SEQUENCES_OF_A_SEGMENT_MAX
    : entry.lastSequence
}

export function reportMissing(
  health: Health,
  segment: Pick<Segment, 'path' | 'header' | 'lastSequence' | 'state'>,
  bytes: number,
  nowMs: number,
  reason = 'the manifest names this segment, and it is missing',
): void {
  health.addDamage({
    path: segment.path,
    offset: 0,
    bytes,
    reason,
    remedy: REMEDY_MISSING,
    firstSequence: segment.header.firstSequence,
    lastSequence: segment.state === 'active' ? undefined : segment.lastSequence,
    foundAtMs: nowMs,
  })
}

/** The manifest knows what the header should say, so a damaged one is reported and costs no record. True where it is sound. */
export function checkHeader(
  { host, kernels, health }: PassRooms,
  segment: Pick<Segment, 'path' | 'header'>,
  file: FileHandle,
  nowMs: number,
): boolean {
  let decoded: ReturnType<typeof readSegmentHeader>
  try {
    decoded = readSegmentHeader(host, kernels, file, segment.path)
  } catch (cause) {
    throw ioError('read a segment', segment.path, cause)
  }
  if (decoded.header !== undefined && isSameSegment(decoded.header, segment.header)) return true
  const reason =
    decoded.header === undefined
      ? 'the segment header is damaged; the manifest stands in for it'
      : 'the file is another segment than its name says'
  new Findings(health, segment.path, 0, nowMs).report(0, SEGMENT_HEADER_BYTES, reason, REMEDY_HEADER)
  return false
}

/**
 * Reads the records; yields how many bytes are done. In the end `segment` says how long it is, and how many records and
 * which last sequence number it has.
 */
export function* readRecords(
  { host, kernels, health, stride }: PassRooms,
  segment: PassedSegment,
  file: FileHandle,
  expected: Expected,
  sink: Sink,
  nowMs: number,
  from?: ReadFrom,
  /** How much there is to read of a file that another process may be writing to: less than room. */
  shownBytes?: number,
): Generator<number, void> {
  const { path } = segment
  const fileBytes = shownBytes ?? host.status(file).bytes
  const logBytes = shownBytes ?? logEnd(host, file, segment, fileBytes).bytes
  const decidedBytes = expected.bytes
  const before = from && { records: from.records, nextSequence: from.lastSequence + 1 }
  const replay = new Replay(kernels, sink, health, segment, nowMs, before)
  const fromSequence = from && from.lastSequence + 1 - segment.header.firstSequence
  const { salt } = segment.header
  const target = {
    file,
    path,
    salt,
    fileBytes,
    logBytes,
    decidedBytes,
    fromBytes: from?.bytes,
    fromSequence,
  }
  const steps = { windowBytes: stride?.bytes, pauses: stride !== undefined }
  const scan = new SegmentScan(host, kernels, { ...target, ...steps })
  let endBytes = from?.bytes ?? SEGMENT_HEADER_BYTES
  let isDamaged = false
  for (const event of scan.steps()) {
    if (event === undefined) {
      yield endBytes
      continue
    }
    if (event.kind === 'torn') {
      endBytes = event.offset
      break
    }
    if (event.kind === 'rows') {
      const { count, at, offset } = event
      if (stride === undefined) replay.rows(count, at, offset)
      else for (const _ of replay.rowsInSteps(stride.records, count, at, offset)) yield endBytes
    } else {
      isDamaged = true
      replay.damage(event.offset, event.bytes)
    }
    endBytes = scan.validBytes
    yield endBytes
  }
  segment.bytes = decidedBytes ?? replay.torn(endBytes)
  segment.certifiedBytes = Math.min(
    segment.bytes,
    Math.max(from?.certifiedBytes ?? SEGMENT_HEADER_BYTES, scan.certified),
  )
  const tail = tornTailOf(host, file, segment, segment.bytes, logBytes)
  if (tail !== undefined) health.addTornTail(tail)
  replay.end(expected.lastSequence)
  const { records, lastSequence } = expected
  if (!isDamaged && records !== undefined && records !== segment.records) {
    const reason = `holds ${segment.records} records where the manifest says ${records}`
    new Findings(health, path, 0, nowMs).report(0, segment.bytes, reason, REMEDY_COUNT)
  }
  // What is left of a batch that was cut is nothing, and its numbers are free.
  segment.lastSequence -= replay.tornWrites
  if (shownBytes !== undefined)
    segment.writesEnd = Math.min(segment.bytes, replay.writesEnd || (from?.bytes ?? SEGMENT_HEADER_BYTES))
  if (lastSequence !== undefined) segment.lastSequence = Math.max(segment.lastSequence, lastSequence)
}
