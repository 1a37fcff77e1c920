// Work on files beside an open store, in slices between which the event loop turns. It can be ended at any moment, and
// then leaves no file open.
import { ioError } from '../errors'
import type { FileHandle, Host } from '../host/host'
import { writeFully } from '../io'
import type { Pace } from '../pace'

export class Job {
  /** What is open, and whether a sync through it is under way. */
  private readonly files = new Map<FileHandle, boolean>()
  private isStopped = false

  constructor(
    readonly host: Host,
    readonly pace: Pace,
    /** Throws where the work is not wanted any more. */
    private readonly isWanted: () => void,
  ) {}

  /** Asked after each wait: the files are closed where it throws. */
  check(): void {
    this.isWanted()
  }

  open(path: string, mode: 'read' | 'write' | 'create'): FileHandle {
    const file = this.host.open(path, mode)
    this.files.set(file, false)
    return file
  }

  /** Once it was stopped, the system may have given the handle to others. */
  close(file: FileHandle): void {
    if (!this.files.delete(file)) return
    this.host.close(file)
  }

  /** Lets others run, where it is time. */
  async rest(): Promise<void> {
    if (this.pace.isDue) await this.pace.rest()
    this.check()
  }

  /** Waits for what the system does meanwhile. */
  async wait(start: (done: (error: unknown) => void) => void): Promise<void> {
    await this.pace.wait(start)
    this.check()
  }

  async sync(file: FileHandle, path: string): Promise<void> {
    // It may have been stopped since the last look, and the file closed.
    this.check()
    this.files.set(file, true)
    try {
      await this.pace.wait((done) => {
        this.host.syncLater(file, (error) => {
          if (this.isStopped) this.close(file)
          else this.files.set(file, false)
          done(error)
        })
      })
    } catch (cause) {
      throw ioError('sync a file', path, cause)
    }
    this.check()
  }

  async syncDirectory(path: string): Promise<void> {
    try {
      await this.pace.wait((done) => this.host.syncDirectoryLater(path, done))
    } catch (cause) {
      throw ioError('sync the directory', path, cause)
    }
    this.check()
  }

  /** Of a long file that takes long, so it is done off the thread. */
  async remove(path: string): Promise<void> {
    await this.wait((done) => this.host.removeLater(path, done))
  }

  /** Makes a small file, on disk on return; its name is as lasting as its directory's next sync. */
  async writeFile(path: string, bytes: Uint8Array): Promise<void> {
    let file: FileHandle | undefined
    try {
      if (this.host.inspect(path) !== undefined) await this.remove(path)
      file = this.open(path, 'create')
      writeFully(this.host, file, bytes, 0, bytes.length, 0)
      await this.sync(file, path)
    } catch (cause) {
      throw ioError('write a file', path, cause)
    } finally {
      if (file !== undefined) this.close(file)
    }
  }

  /** Gives back what is open, at once; a handle stays open while a sync through it is under way. */
  stop(): void {
    this.isStopped = true
    for (const [file, isSyncing] of this.files) if (!isSyncing) this.close(file)
    this.pace.stop()
  }
}
