// Whole reads and writes over a host whose single calls may do less than asked; and what is done to a path in one go.
import { ioError } from './errors'
import type { FileHandle, Host } from './host/host'

/** Writes all of it, or throws with a part written. */
export function writeFully(
  host: Host,
  file: FileHandle,
  from: Uint8Array,
  at: number,
  bytes: number,
  position: number,
): void {
  let done = 0
  while (done < bytes) {
    const written = host.write(file, from, at + done, bytes - done, position + done)
    // A write that makes no progress would loop for ever; the system's next word is a full disk in every known case.
    if (written <= 0) throw Object.assign(new Error('the system wrote nothing'), { code: 'ENOSPC' })
    done += written
  }
}

/** Reads until `bytes` are there or the file ends; returns how many there are. */
export function readFully(
  host: Host,
  file: FileHandle,
  into: Uint8Array,
  at: number,
  bytes: number,
  position: number,
): number {
  let done = 0
  while (done < bytes) {
    const read = host.read(file, into, at + done, bytes - done, position + done)
    if (read <= 0) break
    done += read
  }
  return done
}

/** The whole of a small file; `undefined` where there is none. Throws where it is longer than `bytesMax`. */
export function readWhole(host: Host, path: string, bytesMax: number): Uint8Array | undefined {
  if (host.inspect(path) === undefined) return undefined
  const file = host.open(path, 'read')
  try {
    const { bytes } = host.status(file)
    if (bytes > bytesMax) throw new Error(`longer than the ${bytesMax} bytes that it may have`)
    const content = new Uint8Array(bytes)
    return content.subarray(0, readFully(host, file, content, 0, bytes, 0))
  } finally {
    host.close(file)
  }
}

/** What may still be written beside a path. Not every system can tell, and then nothing is in the way. */
export function freeBytesAt(host: Host, path: string): number {
  try {
    return host.freeBytes(path)
  } catch {
    return Number.POSITIVE_INFINITY
  }
}

/** On return the names in a directory are on disk. */
export function syncNames(host: Host, directory: string): void {
  try {
    host.syncDirectory(directory)
  } catch (cause) {
    throw ioError('sync the directory', directory, cause)
  }
}

/** On return what the file at a path holds is on disk. `doing` completes "could not …". */
export function syncPath(host: Host, path: string, doing: string): void {
  try {
    const file = host.open(path, 'write')
    try {
      host.sync(file)
    } finally {
      host.close(file)
    }
  } catch (cause) {
    throw ioError(doing, path, cause)
  }
}

/** To read it, or undefined: where it isn't there, or can't be opened. */
export function openIfThere(host: Host, path: string): FileHandle | undefined {
  try {
    return host.open(path, 'read')
  } catch {
    return undefined
  }
}

/** Takes a name for what is about to be made: one that no manifest knows is left from a crash in this very place. */
export function clearName(host: Host, path: string): void {
  if (host.inspect(path)?.kind === 'file') host.remove(path)
}

/** Of a long file the system frees so much when it goes that it takes long. */
const SHRUNK_AT_ONCE_BYTES = 0x10_0000

/** Cuts off a file of so many bytes that is about to be removed, piece by piece. */
export function* shrinkSteps(host: Host, file: FileHandle, bytes: number): Generator<void, void> {
  for (let left = bytes - SHRUNK_AT_ONCE_BYTES; left > 0; left -= SHRUNK_AT_ONCE_BYTES) {
    host.truncate(file, left)
    yield
  }
}

/** As `host.remove`, off the event loop's thread; for names that nobody makes anew meanwhile. */
export function removeLater(host: Host, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    host.removeLater(path, (error) => (error === null || error === undefined ? resolve() : reject(error)))
  })
}

/** Removes what no manifest names; what can't be removed is found, and removed, by the next open. */
export function tryRemove(host: Host, path: string): void {
  try {
    host.remove(path)
  } catch {
    // As said above.
  }
}
