// The directory that backups are in: what stands there, and what of it is to be kept.
import { CaskyError, ioError, isCaskyError } from '../errors'
import { BACKUP_NEXT, backupName, isUnfinishedBackup, join, keptIdOf, keptName, nextKeptName } from '../files'
import { removeLater } from '../io'
import type { Kernels } from '../kernels'
import type { ManifestEntry } from '../manifest'
import { listOrUndefined } from '../open'
import { isSameSegment } from '../segment'
import { type Description, listed, readDescription, sequencesIn } from './description'
import type { Job } from './job'
import type { Transfer } from './transfer'

/** A segment of the store as it was at one moment. */
export interface CutSegment {
  path: string
  entry: ManifestEntry
  /** Whether nothing was written to it any more. */
  isFinal: boolean
}

/** A segment that backups name. */
interface Kept {
  header: ManifestEntry['header']
  /** The longest that one of them says. */
  bytes: number
  /** The backup that says so. */
  sequence: number
}

export class Shelf {
  /** The backups that there are, by their sequence numbers. */
  readonly descriptions = new Map<number, Description>()
  bytesReused = 0
  private readonly kept = new Map<number, Kept>()
  /** What was made here, and is not named by a backup yet. */
  private readonly made: string[] = []

  constructor(
    private readonly job: Job,
    private readonly kernels: Kernels,
    readonly directory: string,
  ) {}

  /** Looks at what there is; refuses a directory that the backup must not go into, and changes nothing. */
  async open(since: number | 'latest' | undefined, storeId: Uint8Array): Promise<number | undefined> {
    const { directory, job, kernels } = this
    const names = listOrUndefined(job.host, directory) ?? []
    const sequences = sequencesIn(names)
    const latest = sequences.at(-1)
    if (since === undefined) {
      this.checkEmpty(names, latest)
      return undefined
    }
    if (latest === undefined) {
      const message = `there is no backup to add to; make one without 'since' first: ${directory}`
      throw new CaskyError('CASKY_NOT_FOUND', message, { path: directory, expected: since })
    }
    const base = since === 'latest' ? latest : since
    if (!sequences.includes(base)) {
      throw new CaskyError(
        'CASKY_NOT_FOUND',
        `there is no backup with sequence number ${base} to add to; there is ${listed(sequences)}: ${directory}`,
        { path: directory, expected: sequences, got: base },
      )
    }
    for (const sequence of sequences) {
      const description = readDescription(job.host, kernels, directory, sequence)
      this.descriptions.set(sequence, description)
      this.keep(description, storeId)
      await job.rest()
    }
    return base
  }

  private checkEmpty(names: readonly string[], latest: number | undefined): void {
    const { directory } = this
    const stranger = names.find((name) => !isUnfinishedBackup(name) && keptIdOf(name) === undefined)
    if (stranger === undefined) return
    const why =
      latest === undefined
        ? `the directory is not empty (it holds '${stranger}'); a full backup needs one of its own`
        : `there are backups here, up to sequence number ${latest}; add to them with 'since', or give a full backup a directory of its own`
    throw new CaskyError('CASKY_EXISTS', `${why}: ${directory}`, { path: directory, got: stranger })
  }

  private keep({ manifest, segments, sequence }: Description, storeId: Uint8Array): void {
    if (!manifest.storeId.every((byte, i) => byte === storeId[i]))
      throw this.foreign(sequence, 'another store')
    for (const { header, bytes } of segments) {
      const known = this.kept.get(header.id)
      if (known !== undefined && !isSameSegment(known.header, header)) {
        throw this.foreign(sequence, `another history than number ${known.sequence} beside it`)
      }
      if (known === undefined || known.bytes < bytes) this.kept.set(header.id, { header, bytes, sequence })
    }
  }

  private foreign(sequence: number, whose: string): CaskyError {
    const path = join(this.directory, backupName(sequence))
    return new CaskyError(
      'CASKY_EXISTS',
      `the backup here is of ${whose}; make a full one in a directory of its own: ${path}`,
      { path, got: sequence },
    )
  }

  /** A store that was restored from an older backup gives numbers anew. */
  checkHistory(segments: readonly ManifestEntry[], lastSequence: number): void {
    const behind = [...this.descriptions.keys()].find((sequence) => sequence > lastSequence)
    if (behind !== undefined) throw this.foreign(behind, `a later state than the store's, ${lastSequence}`)
    for (const { header } of segments) {
      const known = this.kept.get(header.id)
      if (known !== undefined && !isSameSegment(known.header, header))
        throw this.foreign(known.sequence, 'another history of the store')
    }
  }

  /** Removes what a backup has left that came to no end: no description names it. */
  async removeLeftovers(): Promise<void> {
    const { directory, job } = this
    this.made.push(join(directory, BACKUP_NEXT))
    const names = job.host.list(directory)
    // A description that was taken back could return with a power cut, and would name what is gone then.
    if (names.length > 0) await job.syncDirectory(directory)
    for (const name of names) {
      const id = keptIdOf(name)
      const isUnnamed = id !== undefined && !this.kept.has(id)
      if (!isUnnamed && !isUnfinishedBackup(name)) continue
      const path = join(directory, name)
      try {
        await job.remove(path)
      } catch (cause) {
        throw isCaskyError(cause) ? cause : ioError('remove what an interrupted backup left', path, cause)
      }
    }
  }

  pathOf(id: number): string {
    return join(this.directory, keptName(id))
  }

  /** Has the first `bytes` of a segment here. */
  async take(transfer: Transfer, { path: from, entry, isFinal }: CutSegment): Promise<void> {
    const { header, bytes } = entry
    const { host } = this.job
    const path = this.pathOf(header.id)
    const known = this.kept.get(header.id)
    const found = known && host.inspect(path)
    if (known !== undefined && found?.kind === 'file' && found.bytes >= known.bytes) {
      if (known.bytes >= bytes) {
        this.reuse(transfer, bytes)
        return
      }
      if (this.cutBack(path, known.bytes)) {
        await transfer.copy(from, path, known.bytes, bytes)
        this.reuse(transfer, known.bytes)
        return
      }
    }
    const next = join(this.directory, nextKeptName(header.id))
    this.made.push(next)
    await transfer.make(from, next, bytes, isFinal)
    host.rename(next, path)
    // Of two names of one file a rename leaves both.
    if (host.inspect(next) !== undefined) host.remove(next)
    if (known === undefined) this.made.push(path)
  }

  private reuse(transfer: Transfer, bytes: number): void {
    this.bytesReused += bytes
    transfer.passOver(bytes)
  }

  /** How much of these is not here yet. */
  missingBytesOf(segments: readonly ManifestEntry[]): number {
    return segments.reduce(
      (sum, { header, bytes }) => sum + Math.max(0, bytes - (this.kept.get(header.id)?.bytes ?? 0)),
      0,
    )
  }

  /** Takes off what an interrupted backup has added. False for a file that has other names: it is not ours alone. */
  private cutBack(path: string, bytes: number): boolean {
    const { host } = this.job
    const file = this.job.open(path, 'write')
    try {
      const status = host.status(file)
      if (status.links !== 1) return false
      if (status.bytes > bytes) host.truncate(file, bytes)
      return true
    } catch (cause) {
      throw ioError('cut a copy of a segment', path, cause)
    } finally {
      this.job.close(file)
    }
  }

  /** A backup may name what was made. */
  settle(): void {
    this.made.length = 0
  }

  /** Takes back what no backup names; what can't be removed goes when the next one is made. */
  async discard(): Promise<void> {
    const { host } = this.job
    for (const path of this.made) {
      try {
        if (host.inspect(path) !== undefined) await removeLater(host, path)
      } catch {
        // As said above.
      }
    }
  }
}
