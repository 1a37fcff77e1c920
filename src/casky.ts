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
import { appendAll, type BatchOperation, prepareBatch } from './batch'
import { type CheckProgress, check } from './check'
import {
  KeyCodec,
  type KeyEncoding,
  type KeyIn,
  type KeyOut,
  ValueEncoder,
  type ValueEncoding,
  type ValueIn,
  type ValueOut,
} from './encoding'
import { CaskyError, typed } from './errors'
import type { HealthReport } from './health'
import type { Rooms } from './open'
import { checkNames, expiryOf, type PutOptions, type Settings } from './options'
import { OrderedView } from './ordered'
import { type RangeOptions, rangeOf } from './range'
import { type Stats, statsOf } from './stats'
import { describe } from './wording'

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
export class Casky<K extends KeyEncoding = 'utf8', V extends ValueEncoding = 'utf8'> {
  readonly #rooms: Rooms
  readonly #keys: KeyCodec
  readonly #values: ValueEncoder
  #isOpen = true
  #isClosed = false
  #closing: Promise<void> | undefined

  static {
    construct = (rooms, settings) => new Casky(rooms, settings)
  }

  private constructor(rooms: Rooms, settings: Settings) {
    this.#rooms = rooms
    this.#keys = new KeyCodec(settings.keyEncoding)
    this.#values = new ValueEncoder(settings.valueEncoding)
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
      this.#put(key, value, options)
      return this.#writing().writer.acknowledge()
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** As `put`, as durable as `sync` asks on return. Throws what `put` rejects with. */
  putSync(key: KeyIn<K>, value: ValueIn<V>, options?: PutOptions): void {
    this.#put(key, value, options)
    this.#writing().writer.commitNow()
  }

  #put(givenKey: unknown, value: unknown, options: PutOptions | undefined): void {
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
      appendAll(kernels, writer, this.#keys, this.#values, [write])
      return
    }
    let at = writer.reserve(bound)
    const keyAt = at + RECORD_HEADER_BYTES + expiryBytes
    const keyBytes = this.#keys.write(kernels, key, keyAt)
    const valueBytes = this.#values.write(kernels, stored, keyAt + keyBytes)
    const bytes = RECORD_HEADER_BYTES + expiryBytes + keyBytes + valueBytes
    at = writer.settleSegment(at, bytes)
    const kind = expiresAtMs === undefined ? KIND_PUT : KIND_PUT | FLAG_EXPIRES
    writer.append(at, { kind, keyBytes, valueBytes, expiresAtMs: expiresAtMs ?? 0 }, bytes)
  }

  /**
   * Removes `key`. Resolves with whether it was there, once the removal (or the earlier one that makes it absent) is
   * as durable as `sync` asks. Rejects as `put` does.
   */
  delete(key: KeyIn<K>): Promise<boolean> {
    try {
      const wasThere = this.#delete(key)
      return this.#writing()
        .writer.acknowledge()
        .then(() => wasThere)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** As `delete`, as durable as `sync` asks on return. */
  deleteSync(key: KeyIn<K>): boolean {
    const wasThere = this.#delete(key)
    this.#writing().writer.commitNow()
    return wasThere
  }

  #delete(key: unknown): boolean {
    const { writer } = this.#writing()
    const { kernels, lookup } = this.#rooms
    const keyBytes = this.#keys.write(kernels, key, KEY_AT)
    // After poison nobody knows whether it is there.
    writer.checkPoison()
    if (!lookup.has(keyBytes)) return false
    const bytes = RECORD_HEADER_BYTES + keyBytes
    let at = writer.reserve(bytes)
    kernels.bytes.copyWithin(at + RECORD_HEADER_BYTES, KEY_AT, KEY_AT + keyBytes)
    at = writer.settleSegment(at, bytes)
    writer.append(at, { kind: KIND_DELETE, keyBytes, valueBytes: 0, expiresAtMs: 0 }, bytes)
    return true
  }

  /**
   * Applies all operations or none, in order, also after a crash. On resolution it is as durable as `sync` asks.
   * Rejects with CASKY_INVALID_BATCH, or as `put` does with the operation named, and nothing is applied then.
   */
  batch(operations: readonly BatchOperation<K, V>[]): Promise<void> {
    try {
      this.#batch(operations)
      return this.#writing().writer.acknowledge()
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** As `batch`, as durable as `sync` asks on return. */
  batchSync(operations: readonly BatchOperation<K, V>[]): void {
    this.#batch(operations)
    this.#writing().writer.commitNow()
  }

  #batch(operations: unknown): void {
    const { writer } = this.#writing()
    const { host, kernels } = this.#rooms
    const writes = prepareBatch(operations, this.#keys, this.#values, host.nowMs())
    this.#writing() // As in #put.
    appendAll(kernels, writer, this.#keys, this.#values, writes)
  }

  /** Resolves once everything written so far is on disk, whatever `sync` says. */
  async flush(): Promise<void> {
    await this.#writing().writer.flush()
  }

  /** Everything written so far is on disk on return, whatever `sync` says. */
  flushSync(): void {
    this.#writing().writer.syncNow()
  }

  // --- reading ---

  /** The value of `key`, or undefined. Verified; throws CASKY_CORRUPT, with file, offset and key, where it is damaged. */
  get(key: KeyIn<K>): ValueOut<V> | undefined {
    const { kernels, lookup } = this.#opened()
    const ref = lookup.read(this.#keys.write(kernels, key, KEY_AT))
    return ref === undefined ? undefined : (this.#values.read(kernels, ref) as ValueOut<V>)
  }

  /** The values of several keys, in their order, undefined where there is none. */
  getMany(keys: readonly KeyIn<K>[]): (ValueOut<V> | undefined)[] {
    if (Array.isArray(keys)) return keys.map((key) => this.get(key))
    throw new CaskyError('CASKY_INVALID_ARGUMENT', `getMany takes an array of keys, not ${describe(keys)}`, {
      got: keys,
    })
  }

  /** Whether `key` is there and has not expired. Reads no value, so it says nothing about damage. */
  has(key: KeyIn<K>): boolean {
    const { kernels, lookup } = this.#opened()
    return lookup.has(this.#keys.write(kernels, key, KEY_AT))
  }

  /** When `key` expires, in milliseconds since 1970; undefined where it never does, or where it is not there. */
  expiresAtMs(key: KeyIn<K>): number | undefined {
    const { kernels, lookup } = this.#opened()
    return lookup.expiresAtMs(this.#keys.write(kernels, key, KEY_AT))
  }

  /** How many entries there are that have not expired. */
  get size(): number {
    return this.#opened().lookup.size
  }

  #view(options: unknown, call: string): { view: OrderedView; skipsDamaged: boolean } {
    const { host, ledger, writing } = this.#opened()
    const range = rangeOf(options, this.#keys, call)
    // What the view points to must stay where it is: the filling group goes to its segment first.
    writing?.writer.tryCommit()
    return { view: new OrderedView(ledger.keydir, range, host.nowMs()), skipsDamaged: range.skipsDamaged }
  }

  #valueAt(view: OrderedView, position: number): ValueOut<V> {
    const { kernels, reader } = this.#opened()
    const key = view.keyAt(position)
    kernels.bytes.set(key, KEY_AT)
    return this.#values.read(kernels, reader.read(view.placeAt(position), key.length)) as ValueOut<V>
  }

  /**
   * The entries in a range, in byte order of their keys: a view as of this call, whatever is written meanwhile.
   * At a damaged entry the iteration throws CASKY_CORRUPT, or goes on with `damaged: 'skip'`.
   */
  entries(options?: RangeOptions<K>): IterableIterator<[KeyOut<K>, ValueOut<V>]> {
    const { view, skipsDamaged } = this.#view(options, 'entries')
    return this.#iterate(view, skipsDamaged, (key, position) => [key, this.#valueAt(view, position)])
  }

  /** As `entries`, keys only: reads no disk, and lists damaged entries too. */
  keys(options?: RangeOptions<K>): IterableIterator<KeyOut<K>> {
    const { view } = this.#view(options, 'keys')
    return this.#iterate(view, false, (key) => key)
  }

  /** As `entries`, values only. */
  values(options?: RangeOptions<K>): IterableIterator<ValueOut<V>> {
    const { view, skipsDamaged } = this.#view(options, 'values')
    return this.#iterate(view, skipsDamaged, (_key, position) => this.#valueAt(view, position))
  }

  [Symbol.iterator](): IterableIterator<[KeyOut<K>, ValueOut<V>]> {
    return this.entries()
  }

  *#iterate<T>(
    view: OrderedView,
    skipsDamaged: boolean,
    take: (key: KeyOut<K>, position: number) => T,
  ): Generator<T, undefined> {
    for (let position = 0; position < view.length; position++) {
      this.#opened()
      let item: T
      try {
        item = take(this.#keys.fromBytes(view.keyAt(position).slice()) as KeyOut<K>, position)
      } catch (error) {
        if (skipsDamaged && error instanceof CaskyError && error.code === 'CASKY_CORRUPT') continue
        throw error
      }
      yield item
    }
    return undefined
  }

  // --- looking after it ---

  /** Forgets the entries that have expired, and returns how many. They were invisible before; this frees their memory. */
  async expire(): Promise<number> {
    const { host, kernels, ledger, writing } = this.#opened()
    writing?.writer.tryCommit()
    return ledger.sweep(kernels, host.nowMs())
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
    const { host, catalog, health, manifest, writing } = this.#opened()
    const { onProgress } = checkNames(options, ['onProgress'], 'check')
    writing?.writer.tryCommit()
    try {
      for (const progress of check(host, catalog, health, manifest)) {
        if (typeof onProgress === 'function') onProgress(progress)
        await new Promise<void>((resolve) => host.soon(resolve))
        this.#opened()
      }
    } catch (error) {
      throw typed('check the store', catalog.directory, error)
    }
    return health.report()
  }

  /**
   * Puts everything on disk, whatever `sync` says, seals the log and frees the lock. Rejects with CASKY_POISONED
   * where an earlier sync had failed; the lock is free then too. Closing again is fine.
   */
  close(): Promise<void> {
    if (this.#closing === undefined) {
      this.#isOpen = false
      this.#closing = this.#close()
    }
    return this.#closing
  }

  async #close(): Promise<void> {
    try {
      await this.#rooms.writing?.writer.close()
    } finally {
      // Unless closeSync has overtaken it.
      if (!this.#isClosed) this.#release()
      this.#isClosed = true
    }
  }

  #release(): void {
    const { catalog, writing } = this.#rooms
    try {
      catalog.closeFiles()
    } finally {
      writing?.lock.release()
    }
  }

  /** As `close`, done on return. */
  closeSync(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#isOpen = false
    this.#closing ??= Promise.resolve()
    try {
      this.#rooms.writing?.writer.closeNow()
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
