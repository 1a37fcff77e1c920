// The segment that a merge writes: records in bulk, as the kernels encode them. Nothing is served from it, and it is
// garbage after a crash, until a manifest names it.
import {
  FLAG_JOINED_TO_NEXT,
  KIND_DELETE,
  READ_AT,
  READ_BYTES,
  RECORD_HEADER_BYTES,
  RECORD_HEADER_CRC_AT,
  RECORD_KIND_AT,
  RECORD_PREFIX_BYTES_MAX,
  RECORD_VALUE_CRC_AT,
  RESULT_AT,
  RESULT_LAST_RECORD,
  SCAN_AT,
} from '../../assembly/layout'
import { CaskyError, invariant, ioError } from '../errors'
import type { FileHandle, Host } from '../host/host'
import { clearName, readFully, shrinkSteps, tryRemove, writeFully } from '../io'
import type { Kernels } from '../kernels'
import type { ManifestEntry } from '../manifest'
import type { Pace } from '../pace'
import {
  encodeCopiesSeal,
  encodeSegmentHeader,
  recordBytes,
  recordFields,
  recordSeed,
  SEAL_BYTES,
  SEGMENT_BYTES_MAX,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
} from '../segment'

/** So much of a segment is taken at a time: it is scanned, looked up and copied in well under a millisecond. */
export const MERGE_WINDOW_BYTES = 0x1_0000
// The windows stand where a scan reads to, and leave most of it free.
const OUT_AT = SCAN_AT + 0x10_0000
const OUT_BYTES = 0x3_0000
/** Written, and not asked to disk yet, at most: a long sync at the end would hold up those of the writes. */
const UNSYNCED_BYTES_MAX = 0x100_0000
/** Nothing is certified until it is synced, and then all of it is, by the seal. */
const CERTIFIED_BYTES = SEGMENT_HEADER_BYTES

/** What is copied from. */
export interface MergeSource {
  readonly path: string
  readonly salt: number
  readonly firstSequence: number
  readonly file: FileHandle
}

export class MergeOutput {
  records = 0
  private file: FileHandle | undefined
  private isSyncing = false
  private writtenBytes = 0
  private filledBytes = 0
  private syncedBytes = 0
  private lastRecordAt = 0

  /** Makes the file; `kernels` are used for nothing else meanwhile. */
  constructor(
    private readonly host: Host,
    private readonly kernels: Kernels,
    private readonly pace: Pace,
    readonly path: string,
    readonly header: SegmentHeader,
    /** Throws where the merge is not wanted any more; asked after each wait, since the file is gone then. */
    private readonly check: () => void,
  ) {
    const bytes = encodeSegmentHeader(kernels, header)
    try {
      clearName(host, path)
      this.file = host.open(path, 'create')
      writeFully(host, this.file, bytes, 0, bytes.length, 0)
    } catch (cause) {
      if (this.file !== undefined) this.discard()
      throw ioError('write a merged segment', path, cause)
    }
    this.writtenBytes = bytes.length
  }

  /** The header comes first to disk, so that after a crash a file with records in it says whose they are. */
  async begin(): Promise<void> {
    await this.sync()
  }

  /** The segment's length so far. */
  get bytes(): number {
    return this.writtenBytes + this.filledBytes
  }

  /** Copies the marked ones of the first `rows` rows of the scan's table, whose records stand at `at`. */
  copy(rows: number, at: number, source: MergeSource, records: number): void {
    if (records === 0) return
    this.reserve(MERGE_WINDOW_BYTES + RECORD_PREFIX_BYTES_MAX)
    const { kernels, header } = this
    const out = OUT_AT + this.filledBytes
    const shift = source.firstSequence - header.firstSequence
    const bytes = kernels.call.copyRows(rows, at, out, this.bytes, header.salt, CERTIFIED_BYTES, shift)
    this.lastRecordAt = this.bytes + kernels.words[RESULT_AT / 4 + RESULT_LAST_RECORD] - out
    this.filledBytes += bytes
    this.records += records
  }

  /**
   * Copies one record that is longer than what is taken at a time, piece by piece, with `kind` for its kind and flags.
   * False where its value is damaged: then the output is no good.
   */
  async copyLarge(source: MergeSource, offset: number, kind: number): Promise<boolean> {
    this.flush()
    const { kernels, host, header } = this
    const { call, bytes } = kernels
    const headBytes = RECORD_PREFIX_BYTES_MAX
    const read = this.read(source, headBytes, offset)
    const fields = recordFields(kernels.view, READ_AT)
    const { prefixBytes, keyBytes, valueBytes, timeMs, expiresAtMs, valueCrc } = fields
    if (read < prefixBytes) return false
    bytes.copyWithin(OUT_AT, READ_AT, READ_AT + prefixBytes)
    const begin = this.bytes
    this.checkRoom(begin)
    const seed = recordSeed(header.salt, begin)
    let oldCrc = recordSeed(source.salt, offset)
    let newCrc = seed
    for (let done = 0; done < valueBytes; ) {
      const piece = Math.min(READ_BYTES, MERGE_WINDOW_BYTES * 2, valueBytes - done)
      if (this.read(source, piece, offset + prefixBytes + done) < piece) return false
      oldCrc = call.crc32(oldCrc, READ_AT, piece)
      newCrc = call.crc32(newCrc, READ_AT, piece)
      const at = begin + prefixBytes + done
      this.attempt(() => writeFully(host, this.opened(), bytes, READ_AT, piece, at))
      done += piece
      this.pace.moved(piece * 2)
      if (this.pace.isDue) await this.pace.rest()
      this.check()
    }
    if (oldCrc >>> 0 !== valueCrc) return false
    // The header comes last, since it holds the CRC of what it stands before.
    const sequence = source.firstSequence + fields.sequenceOffset - header.firstSequence
    const expiry = expiresAtMs ?? 0
    call.encodeHeader(
      OUT_AT,
      kind,
      keyBytes,
      valueBytes,
      sequence,
      timeMs,
      expiry,
      CERTIFIED_BYTES,
      seed,
      newCrc,
    )
    this.attempt(() => writeFully(host, this.opened(), bytes, OUT_AT, prefixBytes, begin))
    this.writtenBytes = begin + prefixBytes + valueBytes
    this.lastRecordAt = begin
    this.records++
    return true
  }

  /** Puts a delete in the place of a record that is longer than what is taken at a time; `joins`: its flags. */
  bury(source: MergeSource, offset: number, joins: number): void {
    this.flush()
    const { kernels, header } = this
    const { bytes, call, view } = kernels
    this.read(source, RECORD_PREFIX_BYTES_MAX, offset)
    const { prefixBytes, keyBytes, timeMs, sequenceOffset } = recordFields(view, READ_AT)
    const keyAt = READ_AT + prefixBytes - keyBytes
    bytes.copyWithin(OUT_AT + RECORD_HEADER_BYTES, keyAt, keyAt + keyBytes)
    const begin = this.bytes
    this.checkRoom(begin)
    const seed = recordSeed(header.salt, begin)
    const sequence = source.firstSequence + sequenceOffset - header.firstSequence
    call.encodeRecord(OUT_AT, KIND_DELETE | joins, keyBytes, 0, sequence, timeMs, 0, CERTIFIED_BYTES, seed)
    this.filledBytes = recordBytes(keyBytes, 0, false)
    this.lastRecordAt = begin
    this.records++
  }

  /** The last record turns out to be the last of its batch that is kept. */
  endBatch(): void {
    this.flush()
    const { host, kernels, lastRecordAt } = this
    const { bytes, view, call } = kernels
    this.attempt(() => readFully(host, this.opened(), bytes, READ_AT, RECORD_PREFIX_BYTES_MAX, lastRecordAt))
    const { prefixBytes } = recordFields(view, READ_AT)
    view.setUint8(READ_AT + RECORD_KIND_AT, view.getUint8(READ_AT + RECORD_KIND_AT) & ~FLAG_JOINED_TO_NEXT)
    const seed = recordSeed(this.header.salt, lastRecordAt)
    const crc = call.crc32(seed, READ_AT + RECORD_VALUE_CRC_AT, prefixBytes - RECORD_VALUE_CRC_AT)
    view.setUint32(READ_AT + RECORD_HEADER_CRC_AT, crc, true)
    this.attempt(() => writeFully(host, this.opened(), bytes, READ_AT, prefixBytes, lastRecordAt))
    this.syncedBytes = Math.min(this.syncedBytes, lastRecordAt)
  }

  /** Asks what is written to disk, where much has come together. */
  async syncSome(): Promise<void> {
    if (this.bytes - this.syncedBytes < UNSYNCED_BYTES_MAX) return
    this.flush()
    await this.sync()
  }

  /**
   * Seals and syncs it, and says what a manifest says of it; the name is as lasting as the directory's next sync.
   * `lastSequence`: of what it was made of. The file stays open, for `close` or `discard`.
   */
  async finish(lastSequence: number): Promise<ManifestEntry> {
    this.flush()
    const { header, records } = this
    // The seal vouches for everything before it.
    await this.sync()
    // One that holds nothing says that what it was made of is to stay away; without a number there was nothing.
    const isSealed = records > 0 || lastSequence >= header.firstSequence
    if (isSealed) {
      this.writeSeal(lastSequence)
      await this.sync()
    }
    const state = isSealed ? 'sealed' : 'closed'
    return { header, state, bytes: this.bytes, records, lastSequence }
  }

  private writeSeal(lastSequence: number): void {
    const { host, kernels, header, records, bytes } = this
    encodeCopiesSeal(kernels, OUT_AT, header, { records, bytes, lastSequence }, host.nowMs())
    this.filledBytes = SEAL_BYTES
    this.flush()
  }

  private opened(): FileHandle {
    invariant(this.file !== undefined, 'an output is not used after its end')
    return this.file
  }

  private attempt(run: () => void): void {
    try {
      run()
    } catch (cause) {
      throw ioError('write a merged segment', this.path, cause)
    }
  }

  private reserve(bytes: number): void {
    if (this.filledBytes + bytes > OUT_BYTES) this.flush()
    this.checkRoom(this.bytes)
  }

  private checkRoom(offset: number): void {
    if (offset < SEGMENT_BYTES_MAX - OUT_BYTES) return
    throw new CaskyError('CASKY_IO', `more than one segment holds was to be merged into it: ${this.path}`, {
      path: this.path,
    })
  }

  private flush(): void {
    const { host, kernels, filledBytes, writtenBytes } = this
    if (filledBytes === 0) return
    this.attempt(() => writeFully(host, this.opened(), kernels.bytes, OUT_AT, filledBytes, writtenBytes))
    this.writtenBytes += filledBytes
    this.filledBytes = 0
  }

  private read(source: MergeSource, bytes: number, offset: number): number {
    try {
      return readFully(this.host, source.file, this.kernels.bytes, READ_AT, bytes, offset)
    } catch (cause) {
      throw ioError('read a segment', source.path, cause)
    }
  }

  private async sync(): Promise<void> {
    const { host, path, writtenBytes } = this
    const file = this.opened()
    this.isSyncing = true
    try {
      await this.pace.wait((done) => {
        host.syncLater(file, (error) => {
          this.isSyncing = false
          // It was given up meanwhile.
          if (this.file === undefined) host.close(file)
          done(error)
        })
      })
    } catch (cause) {
      throw ioError('sync a merged segment', path, cause)
    }
    this.check()
    this.syncedBytes = writtenBytes
  }

  /** Nothing more will be written. A handle stays open while a sync through it is under way. */
  close(): void {
    const { file } = this
    if (file === undefined) return
    this.file = undefined
    if (!this.isSyncing) this.host.close(file)
  }

  /** As `discard`, in slices; it may be discarded meanwhile. */
  async giveUp(): Promise<void> {
    const { file, host, pace } = this
    try {
      if (file !== undefined && !this.isSyncing) {
        for (const _ of shrinkSteps(host, file, this.writtenBytes)) {
          if (pace.isDue) await pace.rest()
          if (this.file === undefined) return
        }
      }
    } catch {
      // Then it goes at once.
    }
    this.discard()
  }

  /** Takes it back: at once, and never throws; it is in no manifest, so an open removes it too. */
  discard(): void {
    this.close()
    tryRemove(this.host, this.path)
  }
}
