// The store that users hold.
import {
  FLAG_EXPIRES,
  KEY_AT,
  KIND_DELETE,
  KIND_PUT,
  RECORD_EXPIRY_BYTES,
  RECORD_HEADER_BYTES,
  WRITE_BYTES,
} from '../assembly/layout'
import type { BackupReport } from './backup/backup'
import { Backups } from './backup/backups'
import { appendAll, type BatchOperation, prepareBatch } from './batch'
import { type Change, type ChangesOptions, changesOf, type LostChanges } from './changes'
import { Feeds } from './changes-feed'
import type { CheckProgress } from './check'
import { checkOpened } from './checking'
import {
  KeyCodec,
  type KeyEncoding,
  type KeyIn,
  ValueEncoder,
  type ValueEncoding,
  type ValueIn,
} from './encoding'
import { CaskyError } from './errors'
import { Follower, type RefreshReport, unchanged } from './follower'
import type { HealthReport } from './health'
import type { MergeProgress, MergeReport } from './merge/merger'
import { type Rooms, storePath } from './open'
import {
  type BackupOptions,
  backupCall,
  checkNames,
  expiryOf,
  type MergeOptions,
  type PutOptions,
  progressAndSignal,
  type Settings,
  wholeOption,
} from './options'
import { Reading, readFrom, type Source } from './reading'
import { type Snapshot, snapshotOf } from './snapshot'
import { sourceOf } from './source'
import { type Stats, statsOf } from './stats'
import { watch } from './watch'

let construct: (rooms: Rooms, settings: Settings) => Casky<KeyEncoding, ValueEncoding>

/** The store that these rooms make. Its types follow the settings, which the compiler can't see. */
export function storeOf<K extends KeyEncoding, V extends ValueEncoding>(
  rooms: Rooms,
  settings: Settings,
): Casky<K, V> {
  return construct(rooms, settings) as unknown as Casky<K, V>
}

/**
 * An open store; `open` and `openSync` make one. Reads are synchronous. A write is visible to reads at once, and its
 * promise resolves once it is as durable as the store's `sync` option asks; every error of a call that returns a
 * promise rejects it. After `close` every call fails with CASKY_CLOSED.
 */
export class Casky<K extends KeyEncoding = 'utf8', V extends ValueEncoding = 'utf8'> extends Reading<K, V> {
  readonly #rooms: Rooms
  readonly #keys: KeyCodec
  readonly #values: ValueEncoder
  readonly #settings: Settings
  readonly #backups: Backups
  readonly #feeds = new Feeds()
  /** undefined where it was opened to be written to. */
  readonly #follower: Follower | undefined
  readonly #stopWatching: () => void
  #isOpen = true
  #isClosed = false
  #closing: Promise<void> | undefined

  static {
    construct = (rooms, settings) => new Casky(rooms, settings)
  }

  private constructor(rooms: Rooms, settings: Settings) {
    super()
    const keys = new KeyCodec(settings.keyEncoding)
    const values = new ValueEncoder(settings.valueEncoding)
    this.#follower = rooms.writing === undefined ? new Follower(rooms, this.#feeds.wake) : undefined
    const source = this.#follower?.source ?? sourceOf(rooms)
    const opened = (): Source => {
      this.#opened()
      return source
    }
    readFrom(this, opened, keys, values)
    this.#rooms = rooms
    this.#keys = keys
    this.#values = values
    this.#settings = settings
    this.#backups = new Backups(rooms)
    const isWatching = this.#follower !== undefined && settings.follow
    this.#stopWatching = isWatching ? watch(rooms, () => this.refresh()) : () => {}
  }

  /** The store's directory, as an absolute path. */
  get path(): string {
    return this.#rooms.catalog.directory
  }

  get isOpen(): boolean {
    return this.#isOpen
  }

  #opened(): Rooms {
    if (this.#isOpen) return this.#rooms
    throw new CaskyError('CASKY_CLOSED', `the store is closed; open it again: ${this.path}`, {
      path: this.path,
    })
  }

  #writing(): NonNullable<Rooms['writing']> {
    const { writing } = this.#opened()
    if (writing !== undefined) return writing
    throw new CaskyError('CASKY_READ_ONLY', `the store was opened with readOnly: ${this.path}`, {
      path: this.path,
    })
  }

  // --- writing ---

  /**
   * Stores `value` under `key`, in place of what was there. On resolution it is as durable as `sync` asks.
   * Rejects with CASKY_INVALID_KEY, CASKY_INVALID_VALUE, CASKY_INVALID_TTL, CASKY_INVALID_OPTION for bad input, with
   * CASKY_NO_SPACE or CASKY_IO where the write was refused and taken back, and with CASKY_POISONED after a failed
   * sync, when its outcome is unknown.
   */
  put(key: KeyIn<K>, value: ValueIn<V>, options?: PutOptions): Promise<void> {
    try {
      this.#put(key, value, options, false)
      return this.#writing().writer.acknowledge()
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** As `put`, as durable as `sync` asks on return. Throws what `put` rejects with. */
  putSync(key: KeyIn<K>, value: ValueIn<V>, options?: PutOptions): void {
    this.#put(key, value, options, true)
    this.#writing().writer.commitNow()
  }

  #put(givenKey: unknown, value: unknown, options: PutOptions | undefined, isNow: boolean): void {
    const { writer } = this.#writing()
    const { host, kernels } = this.#rooms
    const expiresAtMs = options === undefined ? undefined : expiryOf(options, host.nowMs())
    const key = this.#keys.check(givenKey)
    const stored = this.#values.prepare(value)
    this.#writing() // A codec of the caller's may have closed the store meanwhile.
    const expiryBytes = expiresAtMs === undefined ? 0 : RECORD_EXPIRY_BYTES
    // A UTF-16 unit becomes at most three bytes of UTF-8; a Uint8Array's length is a third of that bound.
    const bound = RECORD_HEADER_BYTES + expiryBytes + (key.length + stored.length) * 3
    if (bound > WRITE_BYTES) {
      const write = { kind: KIND_PUT, key, stored, expiresAtMs }
      appendAll(kernels, writer, this.#keys, this.#values, [write], isNow)
      return
    }
    let at = writer.reserve(bound)
    const keyAt = at + RECORD_HEADER_BYTES + expiryBytes
    const keyBytes = this.#keys.write(kernels, key, keyAt)
    const valueBytes = this.#values.write(kernels, stored, keyAt + keyBytes)
    const bytes = RECORD_HEADER_BYTES + expiryBytes + keyBytes + valueBytes
    at = writer.settleSegment(at, bytes, isNow)
    const kind = expiresAtMs === undefined ? KIND_PUT : KIND_PUT | FLAG_EXPIRES
    writer.append(at, kind, keyBytes, valueBytes, expiresAtMs)
  }

  /**
   * Removes `key`. Resolves with whether it was there, once the removal (or the earlier one that makes it absent) is
   * as durable as `sync` asks. Rejects as `put` does.
   */
  delete(key: KeyIn<K>): Promise<boolean> {
    try {
      const wasThere = this.#delete(key, false)
      return this.#writing()
        .writer.acknowledge()
        .then(() => wasThere)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** As `delete`, as durable as `sync` asks on return. */
  deleteSync(key: KeyIn<K>): boolean {
    const wasThere = this.#delete(key, true)
    this.#writing().writer.commitNow()
    return wasThere
  }

  #delete(key: unknown, isNow: boolean): boolean {
    const { writer } = this.#writing()
    const { kernels, lookup } = this.#rooms
    const keyBytes = this.#keys.write(kernels, key, KEY_AT)
    // After poison nobody knows whether it is there.
    writer.checkPoison()
    if (!lookup.has(keyBytes)) return false
    const bytes = RECORD_HEADER_BYTES + keyBytes
    let at = writer.reserve(bytes)
    kernels.bytes.copyWithin(at + RECORD_HEADER_BYTES, KEY_AT, KEY_AT + keyBytes)
    at = writer.settleSegment(at, bytes, isNow)
    writer.append(at, KIND_DELETE, keyBytes, 0, undefined)
    return true
  }

  /**
   * Applies all operations or none, in order, also after a crash. On resolution it is as durable as `sync` asks.
   * Rejects with CASKY_INVALID_BATCH, or as `put` does with the operation named, and nothing is applied then.
   */
  batch(operations: readonly BatchOperation<K, V>[]): Promise<void> {
    try {
      this.#batch(operations, false)
      return this.#writing().writer.acknowledge()
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** As `batch`, as durable as `sync` asks on return. */
  batchSync(operations: readonly BatchOperation<K, V>[]): void {
    this.#batch(operations, true)
    this.#writing().writer.commitNow()
  }

  #batch(operations: unknown, isNow: boolean): void {
    const { writer } = this.#writing()
    const { host, kernels } = this.#rooms
    const writes = prepareBatch(operations, this.#keys, this.#values, host.nowMs())
    this.#writing() // As in #put.
    appendAll(kernels, writer, this.#keys, this.#values, writes, isNow)
  }

  /** Resolves once everything written so far is on disk, whatever `sync` says. */
  async flush(): Promise<void> {
    await this.#writing().writer.flush()
  }

  /** Everything written so far is on disk on return, whatever `sync` says. */
  flushSync(): void {
    this.#writing().writer.syncNow()
  }

  // --- reading, beside what `Reading` has ---

  /**
   * A read view of the store as it is now, which stays exact through later writes, deletes, expiry and merges, until it
   * is released. Taking it costs next to nothing.
   */
  snapshot(): Snapshot<K, V> {
    this.#opened().writing?.writer.tryCommit()
    return snapshotOf(() => this.#opened(), this.#keys, this.#values, this.#follower?.seen)
  }

  /**
   * Every put, delete and batch behind `since`, in the order of their sequence numbers, each once it is acknowledged. To
   * go on later, give the `sequence` of the last change that you have, of a batch its `lastSequence`; or the `sequence`
   * of a snapshot. From within a batch, all of it comes again.
   *
   * An expiry is no write: the put tells it, as `expiresAtMs`. With `live` it goes on with what is written later, at the
   * pace of whoever asks, and is done when the store closes. While it is asked, files that a merge has replaced stay as
   * long as they are needed; a minute without being asked, or the wait for more, lets them go.
   *
   * Throws CASKY_FOLDED where a merge has left out what comes next (`expected` is the first `since` that works),
   * CASKY_CORRUPT where it is damaged: never does it pass over anything. A read-only store tells what it sees, and goes
   * on with what `refresh` brings.
   */
  changes(options: ChangesOptions & { damaged: 'skip' }): AsyncIterableIterator<Change<K, V> | LostChanges>
  changes(options?: ChangesOptions): AsyncIterableIterator<Change<K, V>>
  changes(options?: ChangesOptions): AsyncIterableIterator<unknown> {
    const opened = (): Rooms => this.#opened()
    return changesOf(opened, this.#feeds, this.#keys, this.#values, this.#settings, options)
  }

  /**
   * Brings a store that was opened read-only up to what its writer has written since: whole batches, and only what is on
   * disk. Resolves once all that was there at the call can be seen, until when reads see what they saw before; snapshots
   * and iterators stay as they are. What is known is not read again, also where the writer has merged it meanwhile. A
   * store that was opened to be written to is always up to date, and this does nothing.
   *
   * Rejects with CASKY_NOT_FOUND where the store is gone, or another has its place; with CASKY_CORRUPT where its manifest
   * is damaged, with CASKY_IO where it can't be read: reads go on seeing what they saw.
   */
  async refresh(): Promise<RefreshReport> {
    const rooms = this.#opened()
    return this.#follower?.refresh() ?? unchanged(rooms)
  }

  /** As `refresh`, done on return. */
  refreshSync(): RefreshReport {
    const rooms = this.#opened()
    return this.#follower?.refreshNow() ?? unchanged(rooms)
  }

  // --- looking after it ---

  /** Forgets the entries that have expired, and returns how many. They were invisible before; this frees their memory. */
  async expire(): Promise<number> {
    const { host, kernels, ledger, writing, ...rooms } = this.#opened()
    writing?.writer.tryCommit()
    const pace = rooms.pace(0)
    let swept = 0
    for (const count of ledger.sweep(kernels, host.nowMs())) {
      swept += count
      if (pace.isDue) await pace.rest()
      // Closed meanwhile: then there is nothing left to sweep.
      if (!this.#isOpen) break
    }
    return swept
  }

  /**
   * Gives back the space of what was overwritten or deleted, or has expired, while reads and writes go on. Resolves
   * once it is on disk, with what was done. Rejects with CASKY_NO_SPACE, and has changed nothing, where there is no
   * room for the copies; with CASKY_ABORTED by `signal`, when what was finished stays.
   */
  async merge(options?: MergeOptions): Promise<MergeReport> {
    const { merger } = this.#writing()
    const given = checkNames(options, ['maxBytesPerSecond', 'onProgress', 'signal'], 'merge')
    const { onProgress, signal } = progressAndSignal<MergeProgress>(given)
    const maxBytesPerSecond = wholeOption(given, 'maxBytesPerSecond', 0, 0, Number.MAX_SAFE_INTEGER, 'bytes')
    return merger.merge({ maxBytesPerSecond, onProgress, signal, isAwaited: true })
  }

  /** Another name of `merge`, as LevelDB's users know it. */
  compact(options?: MergeOptions): Promise<MergeReport> {
    return this.merge(options)
  }

  /**
   * Copies the store as it is now into a directory of backups, from which `restore` makes a store again, while reads,
   * writes and merges go on: by second names for its files, or clones, where the file system has them. Resolves once
   * all of it is on disk and was read back, with what was done. Rejects with CASKY_EXISTS where the directory holds
   * anything else, with CASKY_NOT_FOUND where there is no such backup to add to, with CASKY_CORRUPT where the store is
   * damaged; no failure leaves a backup, or harms one that was there.
   */
  async backup(directory: string, options?: BackupOptions): Promise<BackupReport> {
    this.#writing()
    const call = backupCall(options)
    return this.#backups.run(storePath(directory, 'a backup'), call)
  }

  stats(): Stats {
    const rooms = this.#opened()
    rooms.writing?.writer.tryCommit()
    return statsOf(rooms, this.size)
  }

  /** What opening, reads and checks have found so far. */
  health(): HealthReport {
    return this.#opened().health.report()
  }

  /** Verifies every byte of the store, and returns what `health` then says. Reads and writes go on meanwhile. */
  async check(options?: { onProgress?: (progress: CheckProgress) => void }): Promise<HealthReport> {
    const { onProgress } = progressAndSignal<CheckProgress>(checkNames(options, ['onProgress'], 'check'))
    await checkOpened(() => this.#opened(), onProgress)
    return this.health()
  }

  /**
   * Puts everything on disk, whatever `sync` says, seals the log and frees the lock. Rejects with CASKY_POISONED
   * where an earlier sync had failed; the lock is free then too. Closing again is fine.
   */
  close(): Promise<void> {
    if (this.#closing === undefined) {
      this.#isOpen = false
      this.#feeds.wake()
      this.#closing = this.#close()
    }
    return this.#closing
  }

  async #close(): Promise<void> {
    try {
      this.#stop()
      await this.#backups.ended()
      await this.#rooms.writing?.jobs.ended()
      await this.#rooms.writing?.merger.removed
      await this.#rooms.writing?.writer.close()
      this.#rooms.writing?.caretaker.close()
    } finally {
      // Unless closeSync has overtaken it.
      if (!this.#isClosed) this.#release()
      this.#isClosed = true
    }
  }

  /** Ends what the store does by itself, at once. */
  #stop(): void {
    this.#stopWatching()
    this.#follower?.close()
    this.#backups.stop()
    this.#rooms.writing?.merger.stop()
    this.#rooms.writing?.caretaker.stop()
  }

  #release(): void {
    const { catalog, ledger, writing } = this.#rooms
    try {
      catalog.closeFiles()
      ledger.keydir.letGo()
    } finally {
      writing?.lock.release()
    }
  }

  /** As `close`, done on return. */
  closeSync(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#isOpen = false
    this.#feeds.wake()
    this.#closing ??= Promise.resolve()
    try {
      this.#stop()
      this.#rooms.writing?.writer.closeNow()
      this.#rooms.writing?.caretaker.close()
    } finally {
      this.#release()
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  [Symbol.dispose](): void {
    this.closeSync()
  }
}
