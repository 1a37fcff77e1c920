// How much of a segment that another process may be writing to can be shown: what no power cut takes back.
import type { Segment } from './catalog'
import { systemCode } from './errors'
import type { FileHandle, Host } from './host/host'
import { Kernels } from './kernels'
import { settledEnd } from './room'
import { SegmentScan } from './scanner'

/** A sync that ends so may have lost what it was to write; any other refusal says that there is nothing to be written. */
const LOSSES = new Set(['EIO', 'ENOSPC', 'EDQUOT'])

/** So many bytes of the log between two steps. */
const WINDOW_BYTES = 0x3_0000

/** Puts on disk what is in the file by now, which changes nothing of it; returns how many bytes may be shown. */
export function durableBytes(host: Host, segment: Segment, file: FileHandle): number {
  const bytes = settledEnd(host, file, segment)
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
  const { path, header } = segment
  // Kernels of its own: the store's go on working between the steps.
  const scan = new SegmentScan(host, new Kernels(), {
    file,
    path,
    salt: header.salt,
    fileBytes,
    decidedBytes: undefined,
    windowBytes: WINDOW_BYTES,
    pauses: true,
  })
  for (const _ of scan.steps()) yield
  return Math.max(segment.bytes, Math.min(fileBytes, scan.certified))
}
