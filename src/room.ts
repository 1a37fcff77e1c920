// Room at the end of the log: zeros that stand where its next groups will. A sync that makes a file longer has to reach the
// file system's journal as well as the data; one that changes bytes that were there before has not, and is done sooner. Kept
// short, so that there is little to write twice, and little to look through.
import { ioError } from './errors'
import type { TornTail } from './health'
import type { FileHandle, Host } from './host/host'
import { readFully } from './io'

/** So much room is made at a time. */
export const ROOM_BYTES = 0x4_0000
/** A torn tail that was written to room is no longer than this, room and all. */
const TAIL_BYTES_MAX = 2 * ROOM_BYTES
/** What is looked at first: most files end with something else than zeros. */
const LOOK_BYTES = 512

/** Where what was written to a file ends: behind its last byte that is not zero; `from` where there is none behind that. */
export function writtenEnd(
  host: Host,
  file: FileHandle,
  path: string,
  from: number,
  fileBytes: number,
): number {
  try {
    let bytes = LOOK_BYTES
    for (let end = fileBytes; end > from; bytes = Math.min(bytes * 8, ROOM_BYTES)) {
      const begin = Math.max(from, end - bytes)
      const last = lastWritten(host, file, begin, end)
      if (last !== undefined) return last
      end = begin
    }
  } catch (cause) {
    throw ioError('read a segment', path, cause)
  }
  return from
}

/** Behind the last byte in [begin, end) that is not zero, if there is one. */
function lastWritten(host: Host, file: FileHandle, begin: number, end: number): number | undefined {
  const words = new Int32Array(Math.ceil((end - begin) / 4))
  const bytes = new Uint8Array(words.buffer)
  readFully(host, file, bytes, 0, end - begin, begin)
  let word = words.length - 1
  while (word >= 0 && words[word] === 0) word--
  if (word < 0) return undefined
  let at = word * 4 + 3
  while (bytes[at] === 0) at--
  return begin + at + 1
}

/**
 * What stands behind the first `bytes` of a segment's file and is no room; undefined where there is nothing.
 * `writtenBytes`: where what was written to it ended, of a file that may be written to.
 */
export function tornTailOf(
  host: Host,
  file: FileHandle,
  path: string,
  bytes: number,
  fileBytes: number,
  writtenBytes?: number,
): TornTail | undefined {
  if (fileBytes <= bytes) return undefined
  const isLong = fileBytes - bytes > TAIL_BYTES_MAX
  const end = isLong ? fileBytes : (writtenBytes ?? writtenEnd(host, file, path, bytes, fileBytes))
  return end > bytes ? { path, offset: bytes, bytes: end - bytes } : undefined
}
