// Opens what a backup or a restored store is made of: every record is read from its file and verified, and goes into a
// keydir as it does when a store is opened. Nothing that spares an opening its reading is looked at.
import { READ_AT, READ_BYTES } from '../../assembly/layout'
import { invariant, ioError, isCaskyError } from '../errors'
import { Health } from '../health'
import type { FileHandle } from '../host/host'
import { readFully } from '../io'
import type { Kernels } from '../kernels'
import { Keydir } from '../keydir/keydir'
import type { ManifestEntry } from '../manifest'
import { checkHeader } from '../pass'
import { Replay, type Sink } from '../replay'
import { SegmentScan } from '../scanner'
import { recordFields, recordSeed, SEGMENT_HEADER_BYTES } from '../segment'
import type { Job } from './job'

/** So much is taken at a time: it is verified, and in the keydir, in well under a millisecond. */
const WINDOW_BYTES = 0x4000
const PIECE_BYTES = READ_BYTES / 4

/** A segment, and the file that is to hold it. */
export interface Exhibit {
  path: string
  entry: ManifestEntry
}

export interface Fault {
  exhibit: Exhibit
  offset: number
  reason: string
}

export interface Proof {
  /** Those that had not expired at the moment that was asked for. */
  entries: number
  /** Those of them that never expire. */
  lastingEntries: number
  /** CRC-32 of each segment. */
  crcs: number[]
}

/** What the segments hold, read from these files; or the first thing found that is wrong with them. */
export async function prove(
  job: Job,
  /** Used by nothing else meanwhile. */
  kernels: Kernels,
  exhibits: readonly Exhibit[],
  nowMs: number,
  onBytes: (bytes: number) => void,
): Promise<Proof | Fault> {
  const keydir = new Keydir(kernels.keyedHash)
  const sink: Sink = {
    put: (low, high, source, at, keyBytes, place) => keydir.put(low, high, source, at, keyBytes, place),
    remove: (low, high, source, at, keyBytes) => keydir.remove(low, high, source, at, keyBytes),
  }
  const crcs: number[] = []
  for (const exhibit of exhibits) {
    const reading = new Reading(job, kernels, exhibit, sink, nowMs, onBytes)
    const fault = await reading.run()
    if (fault !== undefined) return { exhibit, ...fault }
    crcs.push(reading.crc)
    await job.rest()
  }
  return { entries: keydir.count, lastingEntries: keydir.lastingCount, crcs }
}

class Reading {
  crc = 0
  private readonly health = new Health()

  constructor(
    private readonly job: Job,
    private readonly kernels: Kernels,
    private readonly exhibit: Exhibit,
    private readonly sink: Sink,
    private readonly nowMs: number,
    private readonly onBytes: (bytes: number) => void,
  ) {}

  async run(): Promise<Omit<Fault, 'exhibit'> | undefined> {
    const { job } = this
    const { path } = this.exhibit
    let file: FileHandle | undefined
    try {
      if (job.host.inspect(path) === undefined) return { offset: 0, reason: 'the file is missing' }
      file = job.open(path, 'read')
      return (await this.read(file)) ?? this.found()
    } catch (cause) {
      throw isCaskyError(cause) ? cause : ioError('read a segment', path, cause)
    } finally {
      if (file !== undefined) job.close(file)
    }
  }

  private found(): Omit<Fault, 'exhibit'> | undefined {
    const [damage] = this.health.damage
    return damage && { offset: damage.offset, reason: damage.reason }
  }

  private async read(file: FileHandle): Promise<Omit<Fault, 'exhibit'> | undefined> {
    const { host } = this.job
    const { health, kernels, nowMs, sink } = this
    const { path, entry } = this.exhibit
    const { header, bytes } = entry
    checkHeader({ host, kernels, health }, { path, header }, file, nowMs)
    this.crc = this.crcOf(file, 0, Math.min(SEGMENT_HEADER_BYTES, bytes), 0)
    this.onBytes(SEGMENT_HEADER_BYTES)
    const segment = { slot: 0, path, header, records: 0, lastSequence: 0 }
    const replay = new Replay(kernels, sink, health, segment, nowMs)
    const { bytes: fileBytes } = host.status(file)
    const target = { file, path, salt: header.salt, fileBytes, decidedBytes: bytes }
    const scan = new SegmentScan(host, kernels, { ...target, windowBytes: WINDOW_BYTES, skims: true })
    let doneBytes = SEGMENT_HEADER_BYTES
    for (const event of scan.events()) {
      if (event.kind !== 'rows') return { offset: event.offset, reason: 'no valid record can be read here' }
      invariant(event.offset === doneBytes, 'a scan leaves nothing out')
      doneBytes = scan.validBytes
      replay.rows(event.count, event.at, event.offset)
      if (event.isUnread === true) {
        const offset = await this.readLarge(file, event.at, event.offset, doneBytes)
        if (offset !== undefined) return { offset, reason: 'the value does not match its CRC' }
      } else {
        const { at, offset } = event
        this.crc = kernels.crc(kernels.bytes.subarray(at, at + doneBytes - offset), this.crc)
      }
      if (health.damage.length > 0) return undefined
      this.job.pace.moved(doneBytes - event.offset)
      this.onBytes(doneBytes - event.offset)
      await this.job.rest()
      // Closed with the store, perhaps, since the rest was over.
      this.job.check()
    }
    replay.end(entry.lastSequence)
    if (doneBytes !== bytes) return { offset: doneBytes, reason: `ends before byte ${bytes}` }
    if (segment.records !== entry.records)
      return { offset: 0, reason: `holds ${segment.records} records and not ${entry.records}` }
    if (segment.lastSequence > entry.lastSequence)
      return { offset: 0, reason: `holds a write later than number ${entry.lastSequence}` }
    return undefined
  }

  private crcOf(file: FileHandle, offset: number, bytes: number, seed: number): number {
    const { kernels } = this
    const read = readFully(this.job.host, file, kernels.bytes, READ_AT, bytes, offset)
    return kernels.crc(kernels.bytes.subarray(READ_AT, READ_AT + read), seed)
  }

  /**
   * The record at `offset`, up to `end`, whose header stands at `at`, and whose value the scan has left unread. Returns
   * where damage begins.
   */
  private async readLarge(
    file: FileHandle,
    at: number,
    offset: number,
    end: number,
  ): Promise<number | undefined> {
    const { kernels, job } = this
    const { salt } = this.exhibit.entry.header
    const { prefixBytes, valueCrc } = recordFields(kernels.view, at)
    this.crc = this.crcOf(file, offset, prefixBytes, this.crc)
    let valueSum = recordSeed(salt, offset)
    for (let done = offset + prefixBytes; done < end; ) {
      const bytes = Math.min(PIECE_BYTES, end - done)
      const read = readFully(job.host, file, kernels.bytes, READ_AT, bytes, done)
      if (read < bytes) return done + read
      const piece = kernels.bytes.subarray(READ_AT, READ_AT + bytes)
      valueSum = kernels.crc(piece, valueSum)
      this.crc = kernels.crc(piece, this.crc)
      done += bytes
      await job.rest()
      job.check()
    }
    return valueSum >>> 0 === valueCrc ? undefined : offset + prefixBytes
  }
}
