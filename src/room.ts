// Room at the end of the log: zeros that stand where its next groups will. A sync that makes a file longer has to reach the
// file system's journal as well as the data; one that changes bytes that were there before has not, and is done sooner.
//
// Whoever reads beside the writer has to know what was handed to the system when, so that a sync of his own covers it. A
// file's length tells that: it grows once the bytes are in. In room it doesn't grow. So a mark stands where the room begins,
// written by a call of its own, after the one that wrote the group before it: who sees the mark has seen that call end.
import { ioError } from './errors'
import type { TornTail } from './health'
import type { FileHandle, Host } from './host/host'
import { readFully } from './io'

/** So much room is made at a time, mark included. */
export const ROOM_BYTES = 0x4_0000
export const ROOM_MARK_BYTES = 5
const MARK_END = 0xff
/** A group that is torn may have been the first one in it, or have gone on behind it. */
const TAIL_BYTES_MAX = 2 * ROOM_BYTES
/** What is looked at first: most files end with something else than zeros. */
const LOOK_BYTES = 512

/** What a segment's header says that is needed here. */
export interface RoomySegment {
  path: string
  header: { salt: number; mayHaveRoom?: boolean | undefined }
}

export interface LogEnd {
  bytes: number
  /** By what that is known; by nothing where there are zeros, which may be room, and no mark: it is the file's end then. */
  by: 'mark' | 'length' | 'nothing'
}

/** What room at this offset begins with. No record does: its kind would be zero. */
export function roomMark({ salt }: RoomySegment['header'], offset: number): Uint8Array {
  const seed = salt ^ offset
  return Uint8Array.of(seed, seed >>> 8, seed >>> 16, seed >>> 24, MARK_END)
}

/** Where the log seems to end in a segment's file of so many bytes. */
export function logEnd(host: Host, file: FileHandle, segment: RoomySegment, fileBytes: number): LogEnd {
  // Room is made behind as much as it takes.
  const mayHaveRoom = segment.header.mayHaveRoom === true && fileBytes >= 2 * ROOM_BYTES
  if (!mayHaveRoom) return { bytes: fileBytes, by: 'length' }
  const written = writtenEnd(host, file, segment.path, fileBytes - ROOM_BYTES, fileBytes)
  if (written === fileBytes) return { bytes: fileBytes, by: 'length' }
  const begin = written - ROOM_MARK_BYTES
  return isRoomAt(host, file, segment, begin)
    ? { bytes: begin, by: 'mark' }
    : { bytes: fileBytes, by: 'nothing' }
}

/** Whether a mark stands there. */
export function isRoomAt(
  host: Host,
  file: FileHandle,
  { path, header }: RoomySegment,
  offset: number,
): boolean {
  const found = new Uint8Array(ROOM_MARK_BYTES)
  try {
    readFully(host, file, found, 0, found.length, offset)
  } catch (cause) {
    throw ioError('read a segment', path, cause)
  }
  return roomMark(header, offset).every((byte, i) => found[i] === byte)
}

/** What stands in a file between the end of the log and `end` and is no room; undefined where there is nothing. */
export function tornTailOf(
  host: Host,
  file: FileHandle,
  segment: RoomySegment,
  bytes: number,
  end: number,
): TornTail | undefined {
  const { path, header } = segment
  if (end <= bytes) return undefined
  const mayBeRoom = header.mayHaveRoom === true && bytes >= ROOM_BYTES && end - bytes <= TAIL_BYTES_MAX
  const written = mayBeRoom ? writtenEnd(host, file, path, bytes, end) : end
  if (written === bytes) return undefined
  if (mayBeRoom && written === bytes + ROOM_MARK_BYTES && isRoomAt(host, file, segment, bytes))
    return undefined
  return { path, offset: bytes, bytes: written - bytes }
}

/** Behind the last byte in [from, end) that is not zero; `from` where there is none. */
function writtenEnd(host: Host, file: FileHandle, path: string, from: number, end: number): number {
  try {
    let bytes = LOOK_BYTES
    for (let behind = end; behind > from; bytes = Math.min(bytes * 8, ROOM_BYTES)) {
      const begin = Math.max(from, behind - bytes)
      const last = lastWritten(host, file, begin, behind)
      if (last !== undefined) return last
      behind = begin
    }
  } catch (cause) {
    throw ioError('read a segment', path, cause)
  }
  return from
}

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
