// The segment that is written to: appended, cut back when a write fails, synced, marked and sealed.
import { KIND_MARKER, KIND_SEAL, READ_AT, RECORD_HEADER_BYTES, SEAL_VALUE_BYTES } from '../assembly/layout'
import type { Segment } from './catalog'
import { CaskyError, invariant, ioError } from './errors'
import type { Health } from './health'
import type { TimeHistogram } from './histogram'
import type { FileHandle, Host } from './host/host'
import { clearName, tryRemove, writeFully } from './io'
import type { Kernels } from './kernels'
import { ROOM_BYTES, ROOM_MARK_BYTES, roomMark } from './room'
import {
  encodeSealValue,
  encodeSegmentHeader,
  recordBytes,
  recordSeed,
  SEAL_BYTES,
  SEGMENT_HEADER_BYTES,
} from './segment'

/** What goes into room is no longer: it takes several of them, and each is there in one go, or hardly later. */
const GROUP_BYTES_MAX = ROOM_BYTES / 4
/** Zeros but for the mark. */
const room = new Uint8Array(ROOM_BYTES)
const MARKER_BYTES = recordBytes(0, 0, false)

export interface ActiveRooms {
  host: Host
  kernels: Kernels
  health: Health
}

/** What the kernels need to know of a record beside its bytes. */
export interface RecordHead {
  /** Kind and flags. */
  kind: number
  keyBytes: number
  valueBytes: number
  /** 0 where it never expires. */
  expiresAtMs: number
}

/** Makes a segment's file with its header, which has to be synced, and so has its name. */
export function createSegmentFile(
  { host, kernels }: ActiveRooms,
  segment: Pick<Segment, 'path' | 'header'>,
): FileHandle {
  const { header, path } = segment
  let file: FileHandle | undefined
  try {
    clearName(host, path)
    file = host.open(path, 'create')
    const bytes = encodeSegmentHeader(kernels, header)
    writeFully(host, file, bytes, 0, bytes.length, 0)
    return file
  } catch (cause) {
    if (file !== undefined) discardSegmentFile(host, file, path)
    throw ioError('start a segment', path, cause)
  }
}

export function discardSegmentFile(host: Host, file: FileHandle, path: string): void {
  host.close(file)
  tryRemove(host, path)
}

export class ActiveSegment {
  /** Bytes known to be on disk. */
  syncedBytes = SEGMENT_HEADER_BYTES
  /** What the last record says of that. */
  private certifiedBytes = SEGMENT_HEADER_BYTES
  private isSyncing = false
  /** Who asked for a sync while one was under way. */
  private waiting: ((error: CaskyError | undefined) => void)[] = []
  /** Cuts made, and how many of them a sync has made last: after a power cut what an unsynced one took could be back. */
  private cuts = 0
  private syncedCuts = 0
  private isReleased = false
  /** Where the room ends that stands behind what is written; no further than that where there is none. */
  private roomEnd = 0
  private canMakeRoom = true

  /**
   * `file` is written to and synced by `syncLater`, `syncFile` is synced by `sync`. The kernel reports a failed
   * write-back once to each open file: with one handle for both, a sync in flight and one in the foreground could hide
   * each other's failure.
   */
  constructor(
    private readonly rooms: ActiveRooms,
    readonly segment: Segment,
    private readonly file: FileHandle,
    private readonly syncFile: FileHandle,
    /** How long the syncs took that ended well. */
    private readonly syncTimes: TimeHistogram,
  ) {}

  /** Written, and not known to be on disk. */
  get unsyncedBytes(): number {
    return this.segment.bytes - this.syncedBytes
  }

  get isDirty(): boolean {
    return this.syncedCuts < this.cuts || this.syncedBytes < this.segment.bytes
  }

  /** Appends. On failure the segment is cut back to what it was. */
  write(from: Uint8Array, at: number, bytes: number): void {
    const { segment } = this
    const isShort = bytes <= GROUP_BYTES_MAX && segment.bytes + bytes + ROOM_MARK_BYTES <= this.roomEnd
    // What is longer makes the file longer: only so can others tell when all of it is there.
    if (!isShort) this.giveRoomBack()
    try {
      writeFully(this.rooms.host, this.file, from, at, bytes, segment.bytes)
    } catch (cause) {
      this.cutBack(segment.bytes)
      throw ioError('write to the log', segment.path, cause)
    }
    segment.bytes += bytes
    if (segment.bytes + ROOM_MARK_BYTES <= this.roomEnd) this.markRoom()
  }

  /**
   * Takes back what lies behind the first `bytes`, on disk too: whoever is told of a refusal must not meet the write
   * again after a power cut. Where that fails it is unknown what is there: poisons, and throws.
   */
  cutBack(bytes: number): void {
    const { segment } = this
    invariant(bytes <= segment.bytes, 'a cut shortens')
    // What others have seen of it must not look like room once it is cut.
    this.canMakeRoom = false
    this.roomEnd = 0
    try {
      this.rooms.host.truncate(this.file, bytes)
      segment.bytes = bytes
      this.syncedBytes = Math.min(this.syncedBytes, bytes)
      this.cuts++
    } catch (cause) {
      const error = new CaskyError(
        'CASKY_POISONED',
        `a failed write could not be cut back; writes are refused until the store is reopened: ${segment.path}`,
        { path: segment.path, offset: bytes, cause },
      )
      this.rooms.health.poisoned ??= error
      throw error
    }
    if (this.rooms.health.poisoned === undefined) this.sync()
  }

  /**
   * Has room stand behind what is written, so that the next syncs are quicker. `bytes`: of what was written last; where
   * that is much, it is the data that a sync takes its time for, and the room would be written for nothing.
   */
  makeRoom(bytes: number): void {
    const { segment } = this
    const isWorthIt = bytes <= GROUP_BYTES_MAX && segment.bytes >= ROOM_BYTES
    if (!isWorthIt || !this.canMakeRoom || segment.bytes < this.roomEnd) return
    try {
      this.roomEnd = segment.bytes + ROOM_BYTES
      room.set(roomMark(segment.header, segment.bytes))
      writeFully(this.rooms.host, this.file, room, 0, ROOM_BYTES, segment.bytes)
    } catch {
      // What is left of a disk goes to what is to be written.
      this.canMakeRoom = false
      this.giveRoomBack()
    }
  }

  /** Says where room begins now. Without it others wait a little before they believe what they see. */
  private markRoom(): void {
    const { segment } = this
    try {
      writeFully(
        this.rooms.host,
        this.file,
        roomMark(segment.header, segment.bytes),
        0,
        ROOM_MARK_BYTES,
        segment.bytes,
      )
    } catch {
      this.canMakeRoom = false
      this.giveRoomBack()
    }
  }

  /** Has the file end where the records do; where that fails the room stays, and does no harm. */
  private giveRoomBack(): void {
    if (this.roomEnd <= this.segment.bytes) return
    try {
      this.rooms.host.truncate(this.file, this.segment.bytes)
      this.roomEnd = 0
    } catch {
      this.canMakeRoom = false
    }
  }

  private syncFailed(cause: unknown): CaskyError {
    const { path } = this.segment
    const error = new CaskyError(
      'CASKY_POISONED',
      `a sync failed, so it is unknown which of the last writes are on disk; writes are refused until the store is reopened: ${path}`,
      { path, cause },
    )
    this.rooms.health.poisoned ??= error
    return error
  }

  /** A deleted file takes writes and syncs without a word. */
  private checkName(): void {
    if (this.rooms.host.status(this.file).links > 0) return
    throw Object.assign(new Error('the file was deleted while the store was open'), { code: 'ENOENT' })
  }

  /** Notes what a sync that began with so much written and cut has made last. */
  private synced(bytes: number, cuts: number, begunMs: number): void {
    this.syncTimes.add(this.rooms.host.clockMs() - begunMs)
    this.syncedBytes = Math.max(this.syncedBytes, Math.min(bytes, this.segment.bytes))
    this.syncedCuts = Math.max(this.syncedCuts, cuts)
  }

  /** On return everything written is on disk. A failure poisons the store. */
  sync(): void {
    if (!this.isDirty) return
    const { cuts } = this
    const { bytes } = this.segment
    const begunMs = this.rooms.host.clockMs()
    try {
      this.checkName()
      this.rooms.host.sync(this.syncFile)
    } catch (cause) {
      throw this.syncFailed(cause)
    }
    this.synced(bytes, cuts, begunMs)
  }

  /**
   * Syncs what is written by now; `done` comes later, with an error, which has poisoned the store, or without. One after
   * the other: of two at once through one handle only one would be told of a failure.
   */
  syncLater(done: (error: CaskyError | undefined) => void): void {
    if (this.isSyncing) {
      this.waiting.push(done)
      return
    }
    const { cuts } = this
    const { bytes } = this.segment
    const begunMs = this.rooms.host.clockMs()
    this.isSyncing = true
    const finish = (cause: unknown): void => {
      this.isSyncing = false
      const hasFailed = cause !== null && cause !== undefined
      // Another sync that failed meanwhile may have dropped what this one was asked to vouch for.
      const error = hasFailed ? this.syncFailed(cause) : this.rooms.health.poisoned
      if (error === undefined) this.synced(bytes, cuts, begunMs)
      const waiting = this.waiting.splice(0)
      const tell = (outcome: CaskyError | undefined): void => {
        for (const each of waiting) each(outcome)
      }
      // What failed is not tried again.
      if (waiting.length > 0 && error === undefined) this.syncLater(tell)
      this.closeIfIdle()
      done(error)
      if (error !== undefined) tell(error)
    }
    try {
      this.checkName()
      this.rooms.host.syncLater(this.file, finish)
    } catch (cause) {
      this.rooms.host.soon(() => finish(cause))
    }
  }

  /** Where the CRCs of a record at `offset` begin. */
  seedAt(offset: number): number {
    return recordSeed(this.segment.header.salt, offset)
  }

  private counted(sequence: number): number {
    const counted = sequence - this.segment.header.firstSequence
    invariant(counted >= 0, 'a record stands behind the first of its segment')
    return counted
  }

  /** Encodes the group of so many records that stands in the kernels' memory, and will be written next. */
  encodeGroup(records: number, sequence: number): void {
    const { host, kernels } = this.rooms
    const { bytes, header } = this.segment
    const counted = this.counted(sequence)
    this.certifiedBytes = this.syncedBytes
    kernels.call.encodeGroup(records, bytes, header.salt, counted, host.nowMs(), this.syncedBytes)
  }

  /**
   * Encodes a record whose key stands in its place in the kernels' memory, and its value behind it, or elsewhere if
   * `valueCrc` is given; it will lie at `offset`.
   */
  encode(at: number, head: RecordHead, sequence: number, offset: number, valueCrc?: number): void {
    const { kind, keyBytes, valueBytes, expiresAtMs } = head
    const { host, kernels } = this.rooms
    const { syncedBytes } = this
    this.certifiedBytes = syncedBytes
    const seed = this.seedAt(offset)
    const counted = this.counted(sequence)
    const nowMs = host.nowMs()
    const { call } = kernels
    if (valueCrc === undefined) {
      call.encodeRecord(at, kind, keyBytes, valueBytes, counted, nowMs, expiresAtMs, syncedBytes, seed)
    } else {
      call.encodeHeader(
        at,
        kind,
        keyBytes,
        valueBytes,
        counted,
        nowMs,
        expiresAtMs,
        syncedBytes,
        seed,
        valueCrc,
      )
    }
  }

  /** So much stands behind what is certified. */
  get uncertifiedBytes(): number {
    return this.segment.bytes - this.certifiedBytes
  }

  /** Writes a record that certifies all that is synced by now, so that damage to it can't pass for a torn tail. */
  mark(): void {
    this.writeOwn(KIND_MARKER, 0, MARKER_BYTES)
  }

  /** All before it must be on disk, or a seal would speak of what a power cut has taken. */
  writeSeal(): void {
    const { segment } = this
    invariant(!this.isDirty, 'only what is synced is sealed')
    const at = READ_AT + RECORD_HEADER_BYTES
    encodeSealValue(this.rooms.kernels.view, at, segment.records, segment.bytes, segment.lastSequence)
    this.writeOwn(KIND_SEAL, SEAL_VALUE_BYTES, SEAL_BYTES)
    // Behind it, so that on a full disk it has that place; it is looked for at the end of the file.
    this.canMakeRoom = false
    this.giveRoomBack()
  }

  /** The write buffer may hold the record that wants a rotation, so these are made beside it. */
  private writeOwn(kind: number, valueBytes: number, bytes: number): void {
    const { segment } = this
    this.encode(
      READ_AT,
      { kind, keyBytes: 0, valueBytes, expiresAtMs: 0 },
      segment.lastSequence,
      segment.bytes,
    )
    this.write(this.rooms.kernels.bytes, READ_AT, bytes)
  }

  /** Nothing more will be written. A handle stays open while a sync through it is under way. */
  release(): void {
    this.isReleased = true
    this.closeIfIdle()
  }

  private closeIfIdle(): void {
    if (!this.isReleased || this.isSyncing) return
    this.isReleased = false
    this.rooms.host.close(this.file)
    this.rooms.host.close(this.syncFile)
  }
}
