// Brings segments from one directory to another: as a second name of the same file, as a clone, or byte by byte.
import { CaskyError, ioError, systemCode } from '../errors'
import type { FileHandle } from '../host/host'
import { freeBytesAt, readFully, tryRemove, writeFully } from '../io'
import type { Job } from './job'

const PIECE_BYTES = 0x1_0000
/** Written, and not asked to disk yet, at most: a long sync at the end would hold up those of others. */
const UNSYNCED_BYTES_MAX = 0x100_0000
/** Room that is left to others. */
const SPARE_BYTES = 0x10_0000
const NO_SPACE = new Set(['ENOSPC', 'EDQUOT'])

export interface TransferCounts {
  bytesLinked: number
  bytesCloned: number
  bytesCopied: number
}

export class Transfer {
  readonly counts: TransferCounts = { bytesLinked: 0, bytesCloned: 0, bytesCopied: 0 }
  private canClone = true
  private readonly piece = new Uint8Array(PIECE_BYTES)

  constructor(
    private readonly job: Job,
    /** Where to. */
    private readonly directory: string,
    private canLink: boolean,
    /** What to do where a segment is not there. */
    private readonly remedy: string,
    /** All that is to come, in one way or another. */
    private readonly bytesTotal: number,
    private readonly onBytes: (bytes: number) => void,
  ) {}

  /** So much is there already. */
  passOver(bytes: number): void {
    this.onBytes(bytes)
  }

  /**
   * Makes `to`, which is not there yet, of the first `bytes` of `from`; synced on return, but for its name. `isFinal`:
   * nothing is written to `from` any more.
   */
  async make(from: string, to: string, bytes: number, isFinal: boolean): Promise<void> {
    const found = this.inspect(from, bytes)
    // One that is longer holds what was never acknowledged, which a second name would pass on.
    const isWhole = isFinal && found.bytes === bytes
    const isMade = (isWhole && this.link(from, to, bytes)) || (await this.clone(from, to, bytes))
    if (!isMade) await this.copy(from, to, 0, bytes)
  }

  private inspect(from: string, bytes: number): { bytes: number } {
    let found: ReturnType<Job['host']['inspect']>
    try {
      found = this.job.host.inspect(from)
    } catch (cause) {
      throw ioError('look at a segment', from, cause)
    }
    if (found?.kind === 'file' && found.bytes >= bytes) return found
    const offset = found?.kind === 'file' ? found.bytes : 0
    throw this.missing(from, offset, found?.kind === 'file' ? `has no ${bytes} bytes` : 'is missing')
  }

  private link(from: string, to: string, bytes: number): boolean {
    if (!this.canLink) return false
    try {
      this.job.host.link(from, to)
    } catch (cause) {
      if (NO_SPACE.has(systemCode(cause) ?? '')) throw ioError('link a segment', to, cause)
      // One file may have all the names that it can have.
      if (systemCode(cause) !== 'EMLINK') this.canLink = false
      return false
    }
    this.counts.bytesLinked += bytes
    this.onBytes(bytes)
    return true
  }

  private async clone(from: string, to: string, bytes: number): Promise<boolean> {
    if (!this.canClone) return false
    const { host } = this.job
    try {
      await this.job.pace.wait((done) => host.cloneLater(from, to, done))
    } catch (cause) {
      if (NO_SPACE.has(systemCode(cause) ?? '')) throw ioError('clone a segment', to, cause)
      this.canClone = false
      // What a system leaves that fails half-way would be in the way of the copy.
      if (host.inspect(to) !== undefined) tryRemove(host, to)
      this.job.check()
      return false
    }
    this.job.check()
    await this.withFile(to, 'write', async (file) => {
      if (host.status(file).bytes > bytes) host.truncate(file, bytes)
      await this.job.sync(file, to)
    })
    this.counts.bytesCloned += bytes
    this.onBytes(bytes)
    return true
  }

  /** Brings `to`, which has the first `begin` bytes, or isn't there yet, to the first `end` ones; synced on return. */
  async copy(from: string, to: string, begin: number, end: number): Promise<void> {
    this.checkSpace(end - begin)
    const { host } = this.job
    await this.withFile(from, 'read', (source) =>
      this.withFile(to, begin === 0 ? 'create' : 'write', async (target) => {
        let unsyncedBytes = 0
        await this.job.rest()
        for (let done = begin; done < end; ) {
          const wanted = Math.min(PIECE_BYTES, end - done)
          const read = readFully(host, source, this.piece, 0, wanted, done)
          if (read < wanted) throw this.missing(from, done + read, `has no ${end} bytes`)
          writeFully(host, target, this.piece, 0, read, done)
          done += read
          unsyncedBytes += read
          this.counts.bytesCopied += read
          this.onBytes(read)
          this.job.pace.moved(read * 2)
          if (unsyncedBytes >= UNSYNCED_BYTES_MAX) {
            await this.job.sync(target, to)
            unsyncedBytes = 0
          }
          await this.job.rest()
          // Closed with the store, perhaps, since the rest was over.
          this.job.check()
        }
        await this.job.sync(target, to)
      }),
    )
  }

  private async withFile(
    path: string,
    mode: 'read' | 'write' | 'create',
    use: (file: FileHandle) => Promise<void>,
  ): Promise<void> {
    let file: FileHandle | undefined
    try {
      file = this.job.open(path, mode)
      await use(file)
    } catch (cause) {
      throw ioError(mode === 'read' ? 'read a segment' : 'write a copy of a segment', path, cause)
    } finally {
      if (file !== undefined) this.job.close(file)
    }
  }

  /**
   * Says so before it is written: a disk that it fills may be the store's own. Where neither links nor clones can be had
   * all that is left will be copied.
   */
  private checkSpace(bytes: number): void {
    const { bytesTotal, canClone, canLink, directory } = this
    const { bytesLinked, bytesCloned, bytesCopied } = this.counts
    const isAll = !canLink && !canClone
    const toCopy = isAll ? Math.max(bytes, bytesTotal - bytesLinked - bytesCloned - bytesCopied) : bytes
    const needed = toCopy + SPARE_BYTES
    const free = freeBytesAt(this.job.host, directory)
    if (free >= needed) return
    throw new CaskyError(
      'CASKY_NO_SPACE',
      `there is no room for what is to be copied: it needs ${needed} bytes, and ${free} are free; free some and try again: ${directory}`,
      { path: directory, expected: needed, got: free },
    )
  }

  private missing(path: string, offset: number, what: string): CaskyError {
    const { remedy } = this
    return new CaskyError('CASKY_CORRUPT', `a segment ${what}; ${remedy}: ${path}`, { path, offset })
  }
}
