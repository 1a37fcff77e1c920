// The end of the log: the one segment that is written to. It is made at the first write, so that opening a store
// and reading it changes nothing; it is cut back when a write fails, sealed when it is full, and never reopened.
import { KIND_MARKER, KIND_SEAL, READ_AT, RECORD_HEADER_BYTES, SEAL_VALUE_BYTES } from '../assembly/layout'
import type { Catalog, Segment } from './catalog'
import { CaskyError, invariant, ioError } from './errors'
import { join, SEGMENT_ID_MAX, segmentName } from './files'
import type { Health } from './health'
import type { FileHandle, Host } from './host/host'
import { writeFully } from './io'
import type { Kernels } from './kernels'
import { type Manifest, publishManifest } from './manifest'
import type { RawRecord } from './oversize'
import {
  encodeSealValue,
  encodeSegmentHeader,
  recordBytes,
  recordSeed,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
} from './segment'

const SEQUENCES_PER_SEGMENT_MAX = 0xffff_ffff

interface Active {
  segment: Segment
  /** Written to, and synced by `syncLater`. */
  file: FileHandle
  /**
   * Synced by `sync`. The kernel reports a failed write-back once to each open file: with one handle for both, a
   * sync in flight and one in the foreground could hide each other's failure.
   */
  syncFile: FileHandle
  /** Bytes known to be on disk. */
  syncedBytes: number
  syncsInFlight: number
  isReleased: boolean
}

export interface LogRooms {
  host: Host
  kernels: Kernels
  catalog: Catalog
  health: Health
  manifest: Manifest
  maxSegmentBytes: number
}

export class Log {
  private active: Active | undefined
  /** Syncs done, for the statistics. */
  syncs = 0
  /** The next write's sequence number. */
  nextSequence: number

  constructor(
    private readonly rooms: LogRooms,
    lastSequence: number,
  ) {
    this.nextSequence = lastSequence + 1
  }

  /** The active segment; makes one where there is none. A failure leaves everything as it was. */
  segment(): Segment {
    if (this.active === undefined) this.active = this.start()
    return this.active.segment
  }

  get hasActive(): boolean {
    return this.active !== undefined
  }

  get writtenBytes(): number {
    return this.active?.segment.bytes ?? 0
  }

  /** How long the active segment is known to be on disk. */
  get syncedBytes(): number {
    return this.active?.syncedBytes ?? 0
  }

  get isDirty(): boolean {
    return this.syncedBytes < this.writtenBytes
  }

  /** Whether `bytes` more at the end of what will be `offset` bytes would pass the segment's bound. */
  needsRotation(offset: number, bytes: number): boolean {
    const { active } = this
    if (active === undefined || offset === SEGMENT_HEADER_BYTES) return false
    return (
      offset + bytes > this.rooms.maxSegmentBytes ||
      this.nextSequence - active.segment.header.firstSequence >= SEQUENCES_PER_SEGMENT_MAX
    )
  }

  private start(): Active {
    const { host, catalog, manifest } = this.rooms
    const id = manifest.nextSegmentId
    if (id > SEGMENT_ID_MAX)
      throw new CaskyError('CASKY_IO', 'the store has used up its segment ids; export and import it')
    const previous = catalog.segments.at(-1)
    const header: SegmentHeader = {
      storeId: manifest.storeId,
      id,
      salt: new DataView(host.random(4).buffer).getUint32(0),
      createdAtMs: host.nowMs(),
      firstSequence: this.nextSequence,
      previous: {
        id: previous?.header.id ?? 0,
        bytes: previous?.bytes ?? 0,
        lastSequence: previous?.lastSequence ?? 0,
        isSealed: previous?.state === 'sealed',
      },
    }
    const path = join(catalog.directory, segmentName(id))
    const files = this.createFile(path, header)
    const formerState = previous?.state
    if (previous?.state === 'active') previous.state = 'closed'
    const segment = catalog.add({
      header,
      state: 'active',
      bytes: 0,
      records: 0,
      lastSequence: this.nextSequence - 1,
    })
    try {
      this.publish(id + 1)
    } catch (error) {
      // After a failed directory sync either manifest may be in force: then the new segment has to stay.
      if ((error as CaskyError).code !== 'CASKY_POISONED') {
        if (previous !== undefined && formerState !== undefined) previous.state = formerState
        catalog.removeLast(segment)
        this.discard(files, path)
      } else {
        for (const file of files) host.close(file)
      }
      throw error
    }
    const [file, syncFile] = files
    return { segment, file, syncFile, syncedBytes: SEGMENT_HEADER_BYTES, syncsInFlight: 0, isReleased: false }
  }

  private createFile(path: string, header: SegmentHeader): [FileHandle, FileHandle] {
    const { host, kernels } = this.rooms
    const files: FileHandle[] = []
    try {
      // A name that the manifest doesn't know is left from a crash in this very place.
      if (host.inspect(path)?.kind === 'file') host.remove(path)
      const file = host.open(path, 'create')
      files.push(file)
      const bytes = encodeSegmentHeader(kernels, header)
      writeFully(host, file, bytes, 0, bytes.length, 0)
      host.sync(file)
      const syncFile = host.open(path, 'write')
      files.push(syncFile)
      return [file, syncFile]
    } catch (cause) {
      this.discard(files, path)
      throw ioError('start a segment', path, cause)
    }
  }

  private discard(files: FileHandle[], path: string): void {
    const { host } = this.rooms
    for (const file of files) host.close(file)
    try {
      if (files.length > 0) host.remove(path)
    } catch {
      // It is in no manifest, so the next open removes it.
    }
  }

  private publish(nextSegmentId: number): void {
    const { host, kernels, catalog, manifest } = this.rooms
    const next: Manifest = {
      ...manifest,
      generation: manifest.generation + 1,
      nextSegmentId,
      segments: catalog.entries(),
    }
    try {
      publishManifest(host, kernels, catalog.directory, next)
    } catch (error) {
      if ((error as CaskyError).code === 'CASKY_POISONED') this.poison(error as CaskyError)
      throw error
    }
    Object.assign(manifest, next)
  }

  /** Appends bytes of the kernels' memory. On failure the segment is cut back to what it was. */
  write(from: Uint8Array, at: number, bytes: number): void {
    const { active } = this
    invariant(active !== undefined, 'a write has an active segment')
    const { segment } = active
    try {
      writeFully(this.rooms.host, active.file, from, at, bytes, segment.bytes)
    } catch (cause) {
      this.cutBack(segment.bytes)
      throw ioError('write to the log', segment.path, cause)
    }
    segment.bytes += bytes
  }

  /** Takes back what a failed write may have left behind the last good record. */
  cutBack(bytes: number): void {
    const { active } = this
    invariant(active !== undefined && bytes <= active.segment.bytes, 'a cut shortens')
    try {
      this.rooms.host.truncate(active.file, bytes)
      active.segment.bytes = bytes
    } catch (cause) {
      this.poison(
        new CaskyError(
          'CASKY_POISONED',
          `a failed write could not be cut back; writes are refused until the store is reopened: ${active.segment.path}`,
          { path: active.segment.path, offset: bytes, cause },
        ),
      )
    }
  }

  poison(reason: CaskyError): void {
    this.rooms.health.poisoned ??= reason
  }

  private syncFailed(active: Active, cause: unknown): CaskyError {
    const error = new CaskyError(
      'CASKY_POISONED',
      `a sync failed, so it is unknown which of the last writes are on disk; writes are refused until the store is reopened: ${active.segment.path}`,
      { path: active.segment.path, cause },
    )
    this.poison(error)
    return error
  }

  /** A deleted file takes writes and syncs without a word. */
  private checkName(active: Active): void {
    if (this.rooms.host.status(active.file).links > 0) return
    throw Object.assign(new Error('the file was deleted while the store was open'), { code: 'ENOENT' })
  }

  /** On return everything written is on disk. */
  sync(): void {
    const { active } = this
    if (active === undefined || !this.isDirty) return
    const { bytes } = active.segment
    try {
      this.checkName(active)
      this.rooms.host.sync(active.syncFile)
      this.syncs++
    } catch (cause) {
      throw this.syncFailed(active, cause)
    }
    active.syncedBytes = Math.max(active.syncedBytes, bytes)
  }

  /** Syncs what is written by now; `done` comes later, with an error or without. */
  syncLater(done: (error: CaskyError | undefined) => void): void {
    const { active } = this
    invariant(active !== undefined, 'a sync has an active segment')
    const { bytes } = active.segment
    active.syncsInFlight++
    const finish = (cause: unknown): void => {
      active.syncsInFlight--
      this.syncs++
      if (cause === null || cause === undefined) active.syncedBytes = Math.max(active.syncedBytes, bytes)
      const error = cause === null || cause === undefined ? undefined : this.syncFailed(active, cause)
      this.closeIfIdle(active)
      done(error)
    }
    try {
      this.checkName(active)
      this.rooms.host.syncLater(active.file, finish)
    } catch (cause) {
      this.rooms.host.soon(() => finish(cause))
    }
  }

  /** Where the CRCs of a record at `offset` of the active segment begin. */
  seedAt(offset: number): number {
    invariant(this.active !== undefined, 'a record has an active segment')
    return recordSeed(this.active.segment.header.salt, offset)
  }

  /** Encodes a record whose key and value stand in their places in the kernels' memory; it will lie at `offset`. */
  encode(
    at: number,
    kind: number,
    keyBytes: number,
    valueBytes: number,
    expiresAtMs: number,
    offset: number,
  ): void {
    const seed = this.seedAt(offset)
    const sequence = this.takeSequence(keyBytes > 0)
    const { kernels, host } = this.rooms
    const nowMs = host.nowMs()
    kernels.call.encodeRecord(
      at,
      kind,
      keyBytes,
      valueBytes,
      sequence,
      nowMs,
      expiresAtMs,
      this.syncedBytes,
      seed,
    )
  }

  /** As `encode`, for a record whose value does not stand behind its key. */
  encodePrefix(at: number, record: RawRecord, valueCrc: number, offset: number): void {
    const sequence = this.takeSequence(true)
    this.rooms.kernels.call.encodeHeader(
      at,
      record.kind,
      record.key.length,
      record.value.length,
      sequence,
      this.rooms.host.nowMs(),
      record.expiresAtMs ?? 0,
      this.syncedBytes,
      this.seedAt(offset),
      valueCrc,
    )
  }

  /** A write takes the next sequence number; a marker or seal repeats the last. Counted from the segment's first. */
  private takeSequence(isWrite: boolean): number {
    invariant(
      this.active !== undefined && this.nextSequence <= Number.MAX_SAFE_INTEGER,
      'sequence numbers end at 2^53',
    )
    const sequence = this.nextSequence - this.active.segment.header.firstSequence
    if (!isWrite) return sequence - 1
    this.nextSequence++
    return sequence
  }

  /** Notes that the segment now holds `records` more, up to the sequence number before the next. */
  count(records: number): void {
    const { active } = this
    invariant(active !== undefined, 'records have an active segment')
    active.segment.records += records
    active.segment.lastSequence = this.nextSequence - 1
  }

  /** Syncs and seals the active segment and starts the next. A failure leaves the old one active and unsealed. */
  rotate(): void {
    const former = this.active
    if (former === undefined) return
    this.seal(former)
    try {
      this.active = this.start()
    } catch (error) {
      if (this.rooms.health.poisoned === undefined) this.unseal(former)
      throw error
    }
    this.release(former)
  }

  private seal(active: Active): void {
    const { kernels } = this.rooms
    const { segment } = active
    this.sync()
    // The write buffer may hold the record that wants the rotation, so the seal is made beside it.
    encodeSealValue(
      kernels.view,
      READ_AT + RECORD_HEADER_BYTES,
      segment.records,
      segment.bytes,
      segment.lastSequence,
    )
    this.encode(READ_AT, KIND_SEAL, 0, SEAL_VALUE_BYTES, 0, segment.bytes)
    this.write(kernels.bytes, READ_AT, recordBytes(0, SEAL_VALUE_BYTES, false))
    this.sync()
    segment.state = 'sealed'
  }

  /** Writes a record that certifies all that is synced by now, so that damage to it can't pass for a torn tail. */
  mark(): void {
    const { kernels } = this.rooms
    this.encode(READ_AT, KIND_MARKER, 0, 0, 0, this.writtenBytes)
    this.write(kernels.bytes, READ_AT, recordBytes(0, 0, false))
  }

  private unseal(active: Active): void {
    active.segment.state = 'active'
    const bytes = active.segment.bytes - recordBytes(0, SEAL_VALUE_BYTES, false)
    this.cutBack(bytes)
    active.syncedBytes = Math.min(active.syncedBytes, bytes)
  }

  private release(active: Active): void {
    active.isReleased = true
    this.closeIfIdle(active)
  }

  /** A handle stays open while a sync through it is under way. */
  private closeIfIdle(active: Active): void {
    if (!active.isReleased || active.syncsInFlight > 0) return
    active.isReleased = false
    this.rooms.host.close(active.file)
    this.rooms.host.close(active.syncFile)
  }

  /** Seals the log and lets it go. After poison it only lets it go. */
  close(): void {
    const { active } = this
    if (active === undefined) return
    this.active = undefined
    try {
      if (this.rooms.health.poisoned === undefined) this.end(active)
    } finally {
      this.release(active)
    }
  }

  private end(active: Active): void {
    this.active = active
    try {
      this.sync()
      if (active.segment.records > 0) this.seal(active)
      else active.segment.state = 'closed'
      this.publish(this.rooms.manifest.nextSegmentId)
    } catch (error) {
      // Without room for the seal all data is on disk still: the next open reads the segment instead.
      if ((error as CaskyError).code !== 'CASKY_NO_SPACE') throw error
    } finally {
      this.active = undefined
    }
  }
}
