/**
 * The one door to the operating system. Everything casky does to the world goes through these methods, so that a
 * file system in memory can stand behind them in a test. Positions and lengths are in bytes. A method that fails
 * throws what the system threw, with its `code` (`ENOENT`, `ENOSPC`, …).
 */
export interface Host {
  /** Opens a regular file, never through a symbolic link. `create` fails where the name is taken. */
  open(path: string, mode: 'read' | 'write' | 'create'): FileHandle
  /** Gives the handle back. The system's errors are dropped: what has to last was synced before. */
  close(file: FileHandle): void
  /** As `close`, off the event loop's thread, since the last one of a large file without a name frees all of it. */
  closeLater(file: FileHandle): void
  /** May read less than asked; 0 is the end of the file. */
  read(file: FileHandle, into: Uint8Array, at: number, bytes: number, position: number): number
  /** May write less than asked, and may fail with a part written. */
  write(file: FileHandle, from: Uint8Array, at: number, bytes: number, position: number): number
  truncate(file: FileHandle, bytes: number): void
  /** On return the file's data and length are on disk. A failure may have dropped data for good: never retry it. */
  sync(file: FileHandle): void
  /** As `sync`, off the event loop's thread; `done` is called later, never within the call. */
  syncLater(file: FileHandle, done: (error: unknown) => void): void
  /** `links` is 0 once the file's name is gone. */
  status(file: FileHandle): { bytes: number; links: number }

  /** What a path is, without following a link in its last part; `undefined` if there is nothing. */
  inspect(path: string): { kind: 'file' | 'directory' | 'other'; bytes: number; identity: string } | undefined
  list(directory: string): string[]
  /** The text of a symbolic link. */
  readLink(path: string): string
  /** A handle on a directory, for `close` and for names under `/proc/self/fd`. */
  openDirectory(path: string): FileHandle
  /** The number that says what kind of file system holds a path (`statfs`). */
  fileSystemType(path: string): number
  /** Makes one directory in another; one that is there already is fine. */
  makeDirectory(path: string): void
  /** Replaces `to` atomically; lasting once its directory is synced. */
  rename(from: string, to: string): void
  /** A second name for the same file; fails where `to` is taken. Lasting once its directory is synced. */
  link(from: string, to: string): void
  /**
   * A second file that shares the first one's bytes until either is written to; fails where the file system can't, or
   * `to` is taken. Off the event loop's thread; `done` is called later, never within the call.
   */
  cloneLater(from: string, to: string, done: (error: unknown) => void): void
  remove(path: string): void
  /** As `remove`, off the event loop's thread, since of a large file it takes long; `done` is called later. */
  removeLater(path: string, done: (error: unknown) => void): void
  /** On return the directory's names are on disk. */
  syncDirectory(path: string): void
  /** As `syncDirectory`, off the event loop's thread; `done` is called later, never within the call. */
  syncDirectoryLater(path: string, done: (error: unknown) => void): void
  /** What a process may still write to the file system that holds a path. */
  freeBytes(path: string): number

  /** The time of day, in whole milliseconds; it may jump. */
  nowMs(): number
  /** For durations: counts from anywhere, with a fraction, and never runs back. */
  clockMs(): number
  random(bytes: number): Uint8Array
  /** Calls `run` after `delayMs`; keeps the process alive only where that is asked for. Returns a function that cancels. */
  later(delayMs: number, run: () => void, keepsAlive?: boolean): () => void
  /**
   * Calls `onChange` after something in a directory was written, made, renamed or removed, perhaps once for several
   * changes. Keeps the process alive. Returns a function that ends it. May miss changes, and say nothing of it.
   */
  watch(directory: string, onChange: () => void): () => void
  /** Has the runtime show a warning to whoever runs the process. */
  warn(message: string): void
  /** Calls `run` once the event loop has turned. */
  soon(run: () => void): void
}

export type FileHandle = number
