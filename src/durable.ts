// How much of a segment that another process may be writing to can be shown: what no power cut takes back.
import type { Segment } from './catalog'
import { systemCode } from './errors'
import type { FileHandle, Host } from './host/host'
import { Kernels } from './kernels'
import { type LogEnd, logEnd, type RoomySegment, tornTailOf } from './room'
import { type ScanTarget, SegmentScan } from './scanner'
import { SEGMENT_HEADER_BYTES, type SegmentHeader } from './segment'

/** A sync that ends so may have lost what it was to write; any other refusal says that there is nothing to be written. */
const LOSSES = new Set(['EIO', 'ENOSPC', 'EDQUOT'])

/** A write call is over by then. */
const SETTLING_MS = 2

/** So many bytes of the log between two steps. */
const WINDOW_BYTES = 0x3_0000

/** What there is of a segment's file, room left out. */
export interface Written extends LogEnd {
  /** The file's length, room and all. */
  fileBytes: number
}

export type WrittenSegment = RoomySegment &
  Pick<Segment, 'bytes' | 'lastSequence'> & { header: SegmentHeader }

/**
 * What is written by now. Where no mark tells, that is as far as records can be read behind the known ones: the writer is
 * between two calls, or in the midst of one.
 */
export function writtenOf(host: Host, segment: WrittenSegment, file: FileHandle): Written {
  const { bytes: fileBytes } = host.status(file)
  const end = logEnd(host, file, segment, fileBytes)
  if (end.by !== 'nothing') return { ...end, fileBytes }
  const bytes = readableEnd(host, segment, file, fileBytes)
  // No record ends with room, so this one has made the file as long as it is.
  return { bytes, by: bytes === fileBytes ? 'length' : 'nothing', fileBytes }
}

/** The same, and what a sync that begins now covers: a write call that was not over yet is waited for. */
export function settled(host: Host, segment: WrittenSegment, file: FileHandle): Written {
  const first = writtenOf(host, segment, file)
  if (first.by !== 'nothing') return first
  const begunMs = host.clockMs()
  while (host.clockMs() - begunMs < SETTLING_MS) {
    const now = writtenOf(host, segment, file)
    if (now.by !== 'nothing') return now
  }
  const last = writtenOf(host, segment, file)
  if (last.by !== 'nothing') return last
  // What has come meanwhile may be in the midst of its call. What can't be read and stays so is torn, or damaged.
  const isStuck =
    last.bytes === first.bytes && tornTailOf(host, file, segment, last.bytes, last.fileBytes) !== undefined
  return { ...last, bytes: isStuck ? last.fileBytes : Math.min(first.bytes, last.bytes) }
}

/** How much that is of a segment of which nothing is known yet. */
export function settledBytes(
  host: Host,
  { path, header }: Pick<WrittenSegment, 'path' | 'header'>,
  file: FileHandle,
): number {
  return settled(host, { path, header, bytes: 0, lastSequence: header.firstSequence - 1 }, file).bytes
}

/** Where the records end that can be read behind those that are known. */
function readableEnd(host: Host, segment: WrittenSegment, file: FileHandle, fileBytes: number): number {
  const fromBytes = Math.max(SEGMENT_HEADER_BYTES, segment.bytes)
  const fromSequence = Math.max(0, segment.lastSequence + 1 - segment.header.firstSequence)
  const scan = scanOf(host, segment, { file, fileBytes, fromBytes, fromSequence, skims: true })
  let end = fromBytes
  for (const event of scan.events()) {
    if (event.kind !== 'rows') break
    end = scan.validBytes
  }
  return Math.min(end, fileBytes)
}

/** With kernels of its own: the store's go on working between the steps. */
function scanOf(
  host: Host,
  { path, header }: RoomySegment,
  how: Omit<ScanTarget, 'path' | 'salt' | 'decidedBytes' | 'windowBytes'>,
): SegmentScan {
  const target = { ...how, path, salt: header.salt, decidedBytes: undefined, windowBytes: WINDOW_BYTES }
  return new SegmentScan(host, new Kernels(), target)
}

/** Puts on disk what is in the file by now, which changes nothing of it; returns how many bytes may be shown. */
export function durableBytes(host: Host, segment: Segment, file: FileHandle): number {
  const { bytes } = settled(host, segment, file)
  return shownBytes(host, segment, file, bytes, failureOfSync(host, file))
}

/** Syncs the file; what that fails with is for `shownBytes`. */
export function failureOfSync(host: Host, file: FileHandle): unknown {
  try {
    host.sync(file)
    return undefined
  } catch (error) {
    return error
  }
}

/** The same, once the first `bytes` of the file were synced, or that has failed. */
export function shownBytes(
  host: Host,
  segment: Segment,
  file: FileHandle,
  bytes: number,
  failure: unknown,
): number {
  const steps = shownBytesInSteps(host, segment, file, bytes, failure)
  for (;;) {
    const step = steps.next()
    if (step.done === true) return step.value
  }
}

export function* shownBytesInSteps(
  host: Host,
  segment: Segment,
  file: FileHandle,
  bytes: number,
  failure: unknown,
): Generator<void, number> {
  // A write that was refused is cut back.
  const fileBytes = Math.min(bytes, host.status(file).bytes)
  if (!LOSSES.has(systemCode(failure) ?? '')) return fileBytes
  // What the log itself says is on disk.
  const scan = scanOf(host, segment, { file, fileBytes, pauses: true })
  for (const _ of scan.steps()) yield
  return Math.max(segment.bytes, Math.min(fileBytes, scan.certified))
}
