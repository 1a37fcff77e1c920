// The backups of an open store, one after the other, and their end where it is closed.
import { CaskyError, typed } from '../errors'
import type { Rooms } from '../open'
import { Backup, type BackupCall, type BackupReport } from './backup'
import { Job } from './job'

/** Directories that something in this process backs up to. */
const underWay = new Set<string>()

export class Backups {
  private last: Promise<unknown> = Promise.resolve()
  private readonly jobs = new Set<Job>()
  private isStopped = false

  constructor(private readonly rooms: Rooms) {}

  /** One after the other. */
  run(directory: string, call: BackupCall): Promise<BackupReport> {
    const next = this.last.then(() => this.inPlace(directory, call))
    this.last = next.catch(() => {})
    return next
  }

  private check(signal: AbortSignal | undefined): void {
    const { catalog } = this.rooms
    const path = catalog.directory
    if (this.isStopped) {
      throw new CaskyError('CASKY_CLOSED', `the store was closed before its backup was done: ${path}`, {
        path,
      })
    }
    if (signal?.aborted !== true) return
    throw new CaskyError('CASKY_ABORTED', 'the backup was aborted by its signal; nothing of it was kept', {
      path,
      cause: signal.reason,
    })
  }

  private async inPlace(directory: string, call: BackupCall): Promise<BackupReport> {
    const { host } = this.rooms
    const isWanted = (): void => this.check(call.signal)
    isWanted()
    if (underWay.has(directory)) {
      const message = `another backup goes into this directory just now; wait for it: ${directory}`
      throw new CaskyError('CASKY_LOCKED', message, { path: directory })
    }
    const job = new Job(host, this.rooms.pace(call.maxBytesPerSecond), isWanted)
    underWay.add(directory)
    this.jobs.add(job)
    try {
      return await new Backup(this.rooms, job, directory, call).run()
    } catch (error) {
      throw typed('back up the store', directory, error)
    } finally {
      job.stop()
      this.jobs.delete(job)
      underWay.delete(directory)
    }
  }

  /** Ends what is under way: it fails, and closes its files at once. */
  stop(): void {
    this.isStopped = true
    for (const job of this.jobs) job.stop()
  }

  /** Resolves once nothing is under way. */
  async ended(): Promise<void> {
    await this.last
  }
}
