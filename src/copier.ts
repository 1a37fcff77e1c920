// Copies records, each of them verified, into a segment of its own. Nothing is served from it, and it is garbage after
// a crash, until a manifest names it.
import {
  KIND_DELETE,
  KIND_PUT,
  READ_AT,
  READ_BYTES,
  RECORD_HEADER_BYTES,
  RECORD_PREFIX_BYTES_MAX,
  RECORD_SEQUENCE_AT,
  RESULT_AT,
  RESULT_LAST_RECORD,
  SCAN_AT,
} from '../assembly/layout'
import { CaskyError, invariant, ioError } from './errors'
import type { FileHandle, Host } from './host/host'
import { readFully, tryRemove, writeFully } from './io'
import { Kernels } from './kernels'
import type { ManifestEntry } from './manifest'
import {
  encodeCopiesSeal,
  encodeSegmentHeader,
  JOINED,
  type RecordFields,
  recordBytes,
  recordFields,
  recordSeed,
  SEAL_BYTES,
  SEGMENT_BYTES_MAX,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
} from './segment'

/** A segment to copy from. One object for one open file: its bytes are kept for the records that follow. */
export interface CopySource {
  readonly file: FileHandle
  readonly path: string
  readonly salt: number
  readonly firstSequence: number
}

/** Where a record lies in its segment. */
export interface CopyPlace {
  readonly offset: number
  readonly recordBytes: number
}

export interface Tombstone {
  key: Uint8Array
  sequence: number
  timeMs: number
  /** FLAG_JOINED_TO_PREVIOUS and FLAG_JOINED_TO_NEXT, as wanted. */
  flags: number
}

/** At most so much is scanned at a time by who copies by `appendRows`; a longer record is one for `append`. */
export const COPY_WINDOW_BYTES = READ_BYTES
// A scan for a copy stands where scans read to, and leaves most of it free.
const OUT_AT = SCAN_AT + 0x10_0000
const OUT_BYTES = 0x10_0000
/** Nothing is certified until it is synced, and then all of it is, by the seal. */
const CERTIFIED_BYTES = SEGMENT_HEADER_BYTES
const SEQUENCE_OFFSET_MAX = 0xffff_ffff

export class SegmentCopy {
  /** Puts and deletes so far. */
  records = 0
  /** Of the last record; one less than the segment's first where there is none. */
  lastSequence: number
  private file: FileHandle | undefined
  private writtenBytes = SEGMENT_HEADER_BYTES
  /** Encoded and not written yet. */
  private filledBytes = 0
  private window: { source: CopySource; offset: number; bytes: number } | undefined

  private constructor(
    private readonly host: Host,
    private readonly kernels: Kernels,
    readonly path: string,
    readonly header: SegmentHeader,
  ) {
    this.lastSequence = header.firstSequence - 1
  }

  /**
   * Makes the file, with its header on disk; fails where the name is taken. `kernels`: used by nothing else meanwhile but
   * a scan for `appendRows`.
   */
  static create(host: Host, path: string, header: SegmentHeader, kernels = new Kernels()): SegmentCopy {
    const copy = new SegmentCopy(host, kernels, path, header)
    copy.attempt(() => {
      copy.file = host.open(path, 'create')
      const bytes = encodeSegmentHeader(kernels, header)
      writeFully(host, copy.file, bytes, 0, bytes.length, 0)
      // So that after a crash a file with records in it says whose they are.
      host.sync(copy.file)
    })
    return copy
  }

  /** The segment's length so far: where the next record will lie. */
  get bytes(): number {
    return this.writtenBytes + this.filledBytes
  }

  /**
   * Copies a put or delete; returns where it lies now. Kind, key, value, time, expiry and sequence number stay, and the
   * flags for its batch unless `keepsBatch` is false. Throws CASKY_CORRUPT, and has copied nothing, where the record is
   * damaged.
   */
  append(source: CopySource, place: CopyPlace, keepsBatch = true): number {
    if (place.recordBytes > READ_BYTES) return this.appendLarge(source, place, keepsBatch)
    const { bytes, call } = this.kernels
    const from = this.load(source, place)
    const fields = this.fieldsAt(from, source, place)
    const crc = call.crc32(
      recordSeed(source.salt, place.offset),
      from + fields.prefixBytes,
      fields.valueBytes,
    )
    if (crc >>> 0 !== fields.valueCrc) throw damaged(source, place)
    const at = this.reserve(place.recordBytes)
    bytes.copyWithin(at, from, from + place.recordBytes)
    const sequence = source.firstSequence + fields.sequenceOffset
    return this.encode(at, kindOf(fields, keepsBatch), fields, sequence)
  }

  /**
   * Copies, as `append` does, those of the first `rows` rows of the scan's table that are marked ROW_COPIED: `records` of
   * them, one at least, which stand at `at`, and which the scan has verified.
   */
  appendRows({ firstSequence }: CopySource, rows: number, at: number, records: number): void {
    const { kernels, header } = this
    const out = this.reserve(COPY_WINDOW_BYTES + RECORD_PREFIX_BYTES_MAX)
    const offset = this.bytes
    const shift = firstSequence - header.firstSequence
    const bytes = kernels.call.copyRows(rows, at, out, offset, header.salt, CERTIFIED_BYTES, shift)
    const last = kernels.words[RESULT_AT / 4 + RESULT_LAST_RECORD]
    const counted = kernels.view.getUint32(last + RECORD_SEQUENCE_AT, true)
    this.take(header.firstSequence + counted, offset + last - out, records)
    this.filledBytes += bytes
  }

  /** As `append` with a delete in the record's place; its value is not looked at, and may be damaged. */
  bury(source: CopySource, place: CopyPlace, keepsBatch: boolean): number {
    const from = this.load(source, {
      ...place,
      recordBytes: Math.min(place.recordBytes, RECORD_PREFIX_BYTES_MAX, READ_BYTES),
    })
    const { flags, timeMs, prefixBytes, keyBytes, sequenceOffset } = this.fieldsAt(from, source, place)
    const keyAt = from + prefixBytes - keyBytes
    const key = this.kernels.bytes.subarray(keyAt, keyAt + keyBytes)
    const sequence = source.firstSequence + sequenceOffset
    return this.tombstone({ key, sequence, timeMs, flags: keepsBatch ? flags : 0 })
  }

  /** Writes a delete with a sequence number of the caller's. */
  tombstone({ key, sequence, timeMs, flags }: Tombstone): number {
    const bytes = recordBytes(key.length, 0, false)
    const at = this.reserve(bytes)
    this.kernels.bytes.set(key, at + RECORD_HEADER_BYTES)
    const fields = { keyBytes: key.length, valueBytes: 0, timeMs, expiresAtMs: undefined }
    return this.encode(at, KIND_DELETE | (flags & JOINED), fields, sequence)
  }

  /**
   * Seals, syncs and closes; returns what a manifest says of it. `lastSequence` is higher than the last record's where
   * what had those numbers is lost. The name is as lasting as the directory's next sync.
   */
  finish(lastSequence = this.lastSequence): ManifestEntry {
    invariant(lastSequence >= this.lastSequence, 'a seal is behind the records')
    const { host, header, records } = this
    this.flush()
    const isSealed = records > 0
    if (isSealed) {
      this.sync()
      this.writeSeal(lastSequence)
    }
    this.sync()
    const file = this.opened()
    this.file = undefined
    host.close(file)
    return { header, state: isSealed ? 'sealed' : 'closed', bytes: this.bytes, records, lastSequence }
  }

  /** Closes the file, if it is open, and removes it. Never throws: it is in no manifest, so an open removes it too. */
  discard(): void {
    const { file, host, path } = this
    if (file === undefined) return
    this.file = undefined
    try {
      host.close(file)
    } finally {
      tryRemove(host, path)
    }
  }

  private opened(): FileHandle {
    invariant(this.file !== undefined, 'a copy is not used after its end')
    return this.file
  }

  /** What fails leaves no file. */
  private attempt(run: () => void): void {
    try {
      run()
    } catch (cause) {
      this.discard()
      throw ioError('write a copy of a segment', this.path, cause)
    }
  }

  private sync(): void {
    this.attempt(() => this.host.sync(this.opened()))
  }

  private flush(): void {
    this.write(OUT_AT, this.filledBytes)
    this.filledBytes = 0
  }

  private write(at: number, bytes: number): void {
    const file = this.opened()
    this.attempt(() => writeFully(this.host, file, this.kernels.bytes, at, bytes, this.writtenBytes))
    this.writtenBytes += bytes
  }

  /** Room in the buffer for a record, which `encode` then takes. */
  private reserve(bytes: number): number {
    if (this.filledBytes + bytes > OUT_BYTES) this.flush()
    return OUT_AT + this.filledBytes
  }

  private encode(
    at: number,
    kind: number,
    fields: Pick<RecordFields, 'keyBytes' | 'valueBytes' | 'timeMs' | 'expiresAtMs'>,
    sequence: number,
  ): number {
    const { keyBytes, valueBytes, timeMs, expiresAtMs } = fields
    const offset = this.bytes
    const counted = this.take(sequence)
    const seed = recordSeed(this.header.salt, offset)
    const { call } = this.kernels
    const expiry = expiresAtMs ?? 0
    call.encodeRecord(at, kind, keyBytes, valueBytes, counted, timeMs, expiry, CERTIFIED_BYTES, seed)
    this.filledBytes += recordBytes(keyBytes, valueBytes, expiresAtMs !== undefined)
    return offset
  }

  /** Counts records, of which the last one begins at `offset`; returns its sequence number as the segment counts it. */
  private take(sequence: number, offset = this.bytes, records = 1): number {
    const counted = sequence - this.header.firstSequence
    const hasRoom = offset < SEGMENT_BYTES_MAX && counted <= SEQUENCE_OFFSET_MAX
    if (sequence <= this.lastSequence || !hasRoom) {
      throw new CaskyError(
        'CASKY_CORRUPT',
        `records are out of order, or are more than one segment holds, and can't be copied; export the store: ${this.path}`,
        { path: this.path, offset },
      )
    }
    this.lastSequence = sequence
    this.records += records
    return counted
  }

  private writeSeal(lastSequence: number): void {
    const { host, kernels, header, records, bytes } = this
    encodeCopiesSeal(kernels, OUT_AT, header, { records, bytes, lastSequence }, host.nowMs())
    this.write(OUT_AT, SEAL_BYTES)
  }

  /** Has the record in the read area, and what follows it; returns its address. */
  private load(source: CopySource, place: CopyPlace): number {
    const { window } = this
    const { offset, recordBytes } = place
    const isThere =
      window?.source === source &&
      offset >= window.offset &&
      offset + recordBytes <= window.offset + window.bytes
    if (isThere) return READ_AT + offset - window.offset
    const bytes = this.read(source, READ_BYTES, offset)
    if (bytes < recordBytes) throw damaged(source, place)
    this.window = { source, offset, bytes }
    return READ_AT
  }

  private read(source: CopySource, bytes: number, offset: number): number {
    this.window = undefined
    try {
      return readFully(this.host, source.file, this.kernels.bytes, READ_AT, bytes, offset)
    } catch (cause) {
      throw ioError('read a segment', source.path, cause)
    }
  }

  /** The header at `at`, verified. */
  private fieldsAt(at: number, source: CopySource, place: CopyPlace): RecordFields {
    const { call, view } = this.kernels
    const seed = recordSeed(source.salt, place.offset)
    if (call.isHeaderValid(at, Math.min(place.recordBytes, RECORD_PREFIX_BYTES_MAX), seed) !== 1)
      throw damaged(source, place)
    const fields = recordFields(view, at)
    const isWrite = fields.kind === 'put' || fields.kind === 'delete'
    if (!isWrite || fields.prefixBytes + fields.valueBytes !== place.recordBytes) throw damaged(source, place)
    return fields
  }

  /** In two passes over the value, piece by piece: the first verifies it, and learns its CRC in its new place. */
  private appendLarge(source: CopySource, place: CopyPlace, keepsBatch: boolean): number {
    this.flush()
    const offset = this.bytes
    const { bytes, call } = this.kernels
    const headBytes = Math.min(RECORD_PREFIX_BYTES_MAX, place.recordBytes)
    if (this.read(source, headBytes, place.offset) < headBytes) throw damaged(source, place)
    const fields = this.fieldsAt(READ_AT, source, place)
    const { prefixBytes, keyBytes, valueBytes, timeMs, expiresAtMs, valueCrc } = fields
    // The pieces of the value need the read area.
    bytes.copyWithin(OUT_AT, READ_AT, READ_AT + prefixBytes)
    const seed = recordSeed(this.header.salt, offset)
    let newCrc = seed
    const crc = this.eachPiece(source, place, fields, (piece) => {
      newCrc = call.crc32(newCrc, READ_AT, piece)
    })
    if (crc !== valueCrc) throw damaged(source, place)
    const counted = this.take(source.firstSequence + fields.sequenceOffset)
    const kind = kindOf(fields, keepsBatch)
    const expiry = expiresAtMs ?? 0
    call.encodeHeader(
      OUT_AT,
      kind,
      keyBytes,
      valueBytes,
      counted,
      timeMs,
      expiry,
      CERTIFIED_BYTES,
      seed,
      newCrc,
    )
    try {
      this.write(OUT_AT, prefixBytes)
      const again = this.eachPiece(source, place, fields, (piece) => this.write(READ_AT, piece))
      if (again !== valueCrc) throw damaged(source, place)
    } catch (error) {
      // A disk that tells two stories: part of this record is written, so the copy is no good.
      this.discard()
      throw error
    }
    return offset
  }

  /** Reads the value through the read area; returns its CRC as the source has it. */
  private eachPiece(
    source: CopySource,
    place: CopyPlace,
    { prefixBytes, valueBytes }: RecordFields,
    use: (bytes: number) => void,
  ): number {
    let crc = recordSeed(source.salt, place.offset)
    for (let done = 0; done < valueBytes; ) {
      const bytes = Math.min(READ_BYTES, valueBytes - done)
      if (this.read(source, bytes, place.offset + prefixBytes + done) < bytes) throw damaged(source, place)
      crc = this.kernels.call.crc32(crc, READ_AT, bytes)
      use(bytes)
      done += bytes
    }
    return crc >>> 0
  }
}

function kindOf({ kind, flags }: RecordFields, keepsBatch: boolean): number {
  return (kind === 'put' ? KIND_PUT : KIND_DELETE) | (keepsBatch ? flags : flags & ~JOINED)
}

export function damaged({ path }: CopySource, { offset }: Pick<CopyPlace, 'offset'>): CaskyError {
  return new CaskyError('CASKY_CORRUPT', `a damaged record is not copied: byte ${offset} of ${path}`, {
    path,
    offset,
  })
}
