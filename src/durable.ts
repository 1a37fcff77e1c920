// How much of a segment that another process may be writing to can be shown: what no power cut takes back.
import type { Segment } from './catalog'
import { systemCode } from './errors'
import type { FileHandle, Host } from './host/host'
import type { Kernels } from './kernels'
import { SegmentScan } from './scanner'

/** A sync that ends so may have lost what it was to write; any other refusal says that there is nothing to be written. */
const LOSSES = new Set(['EIO', 'ENOSPC', 'EDQUOT'])

interface DurableRooms {
  host: Host
  kernels: Kernels
}

/** Puts on disk what is in the file by now, which changes nothing of it; returns how many bytes may be shown. */
export function durableBytes(rooms: DurableRooms, segment: Segment, file: FileHandle): number {
  const { bytes } = rooms.host.status(file)
  return shownBytes(rooms, segment, file, bytes, failureOfSync(rooms.host, file))
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
  { host, kernels }: DurableRooms,
  segment: Segment,
  file: FileHandle,
  bytes: number,
  failure: unknown,
): number {
  // A write that was refused is cut back.
  const fileBytes = Math.min(bytes, host.status(file).bytes)
  if (!LOSSES.has(systemCode(failure) ?? '')) return fileBytes
  // What the log itself says is on disk.
  const { path, header } = segment
  const scan = new SegmentScan(host, kernels, {
    file,
    path,
    salt: header.salt,
    fileBytes,
    decidedBytes: undefined,
  })
  for (const _ of scan.events());
  return Math.max(segment.bytes, Math.min(fileBytes, scan.certified))
}
