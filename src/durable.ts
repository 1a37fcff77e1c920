// How much of a segment that another process may be writing to can be shown: what no power cut takes back.
import type { Segment } from './catalog'
import { systemCode } from './errors'
import type { FileHandle, Host } from './host/host'
import { Kernels } from './kernels'
import { writtenEnd } from './room'
import { SegmentScan } from './scanner'
import { SEGMENT_HEADER_BYTES } from './segment'

/** A sync that ends so may have lost what it was to write; any other refusal says that there is nothing to be written. */
const LOSSES = new Set(['EIO', 'ENOSPC', 'EDQUOT'])

/** So many bytes of the log between two steps. */
const WINDOW_BYTES = 0x3_0000

/** What of a segment's file may be shown. */
export interface Shown {
  /** What was written to it ends here; a record that reaches further does so with zeros, which are room as well. */
  bytes: number
  /** So long the file was, room and all. */
  fileBytes: number
}

export const NOTHING: Shown = { bytes: 0, fileBytes: 0 }

/** What is in the file by now. Once it is synced, that may be shown: records that come later stand behind it. */
export function writtenOf(host: Host, segment: Segment, file: FileHandle): Shown {
  const { bytes: fileBytes } = host.status(file)
  const from = Math.max(SEGMENT_HEADER_BYTES, segment.bytes)
  return { bytes: writtenEnd(host, file, segment.path, Math.min(from, fileBytes), fileBytes), fileBytes }
}

/** Puts on disk what is in the file by now, which changes nothing of it; returns how much may be shown. */
export function durable(host: Host, segment: Segment, file: FileHandle): Shown {
  const written = writtenOf(host, segment, file)
  return shownOf(host, segment, file, written, failureOfSync(host, file))
}

/** Syncs the file; what that fails with is for `shownOf`. */
export function failureOfSync(host: Host, file: FileHandle): unknown {
  try {
    host.sync(file)
    return undefined
  } catch (error) {
    return error
  }
}

/** The same, once what was `written` was synced, or that has failed. */
export function shownOf(
  host: Host,
  segment: Segment,
  file: FileHandle,
  written: Shown,
  failure: unknown,
): Shown {
  const steps = shownInSteps(host, segment, file, written, failure)
  for (;;) {
    const step = steps.next()
    if (step.done === true) return step.value
  }
}

export function* shownInSteps(
  host: Host,
  segment: Segment,
  file: FileHandle,
  written: Shown,
  failure: unknown,
): Generator<void, Shown> {
  // A write that was refused is cut back.
  const fileBytes = Math.min(written.fileBytes, host.status(file).bytes)
  const bytes = Math.min(written.bytes, fileBytes)
  if (!LOSSES.has(systemCode(failure) ?? '')) return { bytes, fileBytes }
  // What the log itself says is on disk.
  const { path, header } = segment
  // Kernels of its own: the store's go on working between the steps.
  const scan = new SegmentScan(host, new Kernels(), {
    file,
    path,
    salt: header.salt,
    fileBytes,
    writtenBytes: bytes,
    decidedBytes: undefined,
    windowBytes: WINDOW_BYTES,
    pauses: true,
  })
  for (const _ of scan.steps()) yield
  const certifiedBytes = Math.max(segment.bytes, Math.min(fileBytes, scan.certified))
  return { bytes: certifiedBytes, fileBytes: certifiedBytes }
}
