// What can be read, of a store as it is now or of a snapshot.
import { KEY_AT } from '../assembly/layout'
import type { KeyCodec, KeyEncoding, KeyIn, KeyOut, ValueEncoder, ValueEncoding, ValueOut } from './encoding'
import { CaskyError } from './errors'
import type { Kernels } from './kernels'
import { KeyBatch } from './key-batch'
import type { OrderedView } from './ordered'
import type { Unpin } from './pins'
import { type Range, type RangeOptions, rangeOf } from './range'
import type { Reader, ValueRef } from './reader'
import { describe } from './wording'

/** Where reads go. The key of a call stands at KEY_AT. */
export interface Source {
  kernels: Kernels
  reader: Reader
  lookup: {
    has(keyBytes: number): boolean
    expiresAtMs(keyBytes: number): number | undefined
    read(keyBytes: number): ValueRef | undefined
    /** As `read` of each; undefined where that is no quicker. */
    readMany?(batch: KeyBatch, take: (ref: ValueRef | undefined) => void): void
    readonly size: number
  }
  /** What is in a range as of this call; it can be read from until it is unpinned. */
  view(range: Range): { view: OrderedView; unpin: Unpin }
  /** Counts the changes that come of themselves, in the middle of a call. */
  turn?: () => number
}

/** One that nobody goes on with must not keep segments for ever. */
const leftIterators = new FinalizationRegistry<Unpin>((unpin) => unpin())

let begin: (
  reading: Reading<KeyEncoding, ValueEncoding>,
  source: () => Source,
  keys: KeyCodec,
  values: ValueEncoder,
) => void

/**
 * Says where a new one reads; `source` throws where nothing can be read any more. Not by its constructor, which the
 * types for users would have to show.
 */
export function readFrom<K extends KeyEncoding, V extends ValueEncoding>(
  reading: Reading<K, V>,
  source: () => Source,
  keys: KeyCodec,
  values: ValueEncoder,
): void {
  begin(reading as unknown as Reading<KeyEncoding, ValueEncoding>, source, keys, values)
}

/** The calls that read: of an open store, and of a snapshot. */
export abstract class Reading<K extends KeyEncoding, V extends ValueEncoding> {
  #source!: () => Source
  #keys!: KeyCodec
  #values!: ValueEncoder

  static {
    begin = (reading, source, keys, values) => {
      reading.#source = source
      reading.#keys = keys
      reading.#values = values
    }
  }

  /**
   * The value of `key`, or undefined. Verified; throws CASKY_CORRUPT, with file, offset and key, where it is damaged.
   * Bytes are the caller's own. Up to 1,024 of them may share their ArrayBuffer with other values, as those of Node's
   * Buffers do: `value.slice()` has one for itself.
   */
  get(key: KeyIn<K>): ValueOut<V> | undefined {
    const { kernels, lookup } = this.#source()
    const ref = lookup.read(this.#keys.write(kernels, key, KEY_AT))
    return ref === undefined ? undefined : (this.#values.read(kernels, ref) as ValueOut<V>)
  }

  /** The values of several keys, in their order, undefined where there is none. */
  getMany(keys: readonly KeyIn<K>[]): (ValueOut<V> | undefined)[] {
    if (Array.isArray(keys)) {
      const { turn } = this.#source()
      for (;;) {
        const before = turn?.()
        const values = this.#getAll([...keys])
        // What was refreshed half-way is not of one moment.
        if (turn?.() === before) return values
      }
    }
    throw new CaskyError('CASKY_INVALID_ARGUMENT', `getMany takes an array of keys, not ${describe(keys)}`, {
      got: keys,
    })
  }

  #getAll(keys: readonly KeyIn<K>[]): (ValueOut<V> | undefined)[] {
    const { kernels, lookup } = this.#source()
    // A codec of the caller's may call back, and look for other keys in between.
    if (lookup.readMany === undefined || this.#values.isForeign || keys.length === 1)
      return keys.map((key) => this.get(key))
    const values: (ValueOut<V> | undefined)[] = []
    const take = (ref: ValueRef | undefined): void => {
      values.push(ref === undefined ? undefined : (this.#values.read(kernels, ref) as ValueOut<V>))
    }
    const batch = new KeyBatch()
    for (const key of keys) {
      const keyBytes = this.#keys.write(kernels, key, KEY_AT)
      if (batch.add(kernels, KEY_AT, keyBytes)) continue
      lookup.readMany(batch, take)
      batch.clear()
      // One that is too long for any batch.
      if (!batch.add(kernels, KEY_AT, keyBytes)) take(lookup.read(keyBytes))
    }
    lookup.readMany(batch, take)
    return values
  }

  /** Whether `key` is there and has not expired. Reads no value, so it says nothing about damage. */
  has(key: KeyIn<K>): boolean {
    const { kernels, lookup } = this.#source()
    return lookup.has(this.#keys.write(kernels, key, KEY_AT))
  }

  /** When `key` expires, in milliseconds since 1970; undefined where it never does, or where it is not there. */
  expiresAtMs(key: KeyIn<K>): number | undefined {
    const { kernels, lookup } = this.#source()
    return lookup.expiresAtMs(this.#keys.write(kernels, key, KEY_AT))
  }

  /** How many entries there are that have not expired. */
  get size(): number {
    return this.#source().lookup.size
  }

  /**
   * The entries in a range, in byte order of their keys: a view as of this call, whatever is written meanwhile.
   * At a damaged entry the iteration throws CASKY_CORRUPT, or goes on with `damaged: 'skip'`.
   */
  entries(options?: RangeOptions<K>): IterableIterator<[KeyOut<K>, ValueOut<V>]> {
    return this.#iterate(options, 'entries', (view, position, keyBytes) => [
      this.#keyOf(keyBytes),
      this.#valueAt(view, position, keyBytes),
    ])
  }

  /** As `entries`, keys only: reads no disk, and lists damaged entries too. */
  keys(options?: RangeOptions<K>): IterableIterator<KeyOut<K>> {
    return this.#iterate(options, 'keys', (_view, _position, keyBytes) => this.#keyOf(keyBytes))
  }

  /** As `entries`, values only. */
  values(options?: RangeOptions<K>): IterableIterator<ValueOut<V>> {
    return this.#iterate(options, 'values', (view, position, keyBytes) =>
      this.#valueAt(view, position, keyBytes),
    )
  }

  [Symbol.iterator](): IterableIterator<[KeyOut<K>, ValueOut<V>]> {
    return this.entries()
  }

  #keyOf(keyBytes: number): KeyOut<K> {
    return this.#keys.read(this.#source().kernels, KEY_AT, keyBytes) as KeyOut<K>
  }

  #valueAt(view: OrderedView, position: number, keyBytes: number): ValueOut<V> {
    const { kernels, reader } = this.#source()
    return this.#values.read(kernels, reader.read(view.placeAt(position), keyBytes)) as ValueOut<V>
  }

  /** `take`: what an entry, whose key stands at KEY_AT, is told as. */
  #iterate<T>(
    options: unknown,
    call: string,
    take: (view: OrderedView, position: number, keyBytes: number) => T,
  ): Generator<T, undefined> {
    const source = this.#source()
    const range = rangeOf(options, this.#keys, call)
    const { view, unpin } = source.view(range)
    const items = this.#items(view, range.skipsDamaged, unpin, take)
    leftIterators.register(items, unpin)
    return items
  }

  *#items<T>(
    view: OrderedView,
    skipsDamaged: boolean,
    unpin: Unpin,
    take: (view: OrderedView, position: number, keyBytes: number) => T,
  ): Generator<T, undefined> {
    try {
      for (let position = 0; position < view.length; position++) {
        const { kernels } = this.#source()
        let item: T
        try {
          item = take(view, position, view.writeKey(position, kernels.bytes, KEY_AT))
        } catch (error) {
          if (skipsDamaged && error instanceof CaskyError && error.code === 'CASKY_CORRUPT') continue
          throw error
        }
        yield item
      }
      return undefined
    } finally {
      unpin()
    }
  }
}
