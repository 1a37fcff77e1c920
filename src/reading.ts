// What can be read, of a store as it is now or of a snapshot.
import { KEY_AT } from '../assembly/layout'
import {
  KeyCodec,
  type KeyEncoding,
  type KeyIn,
  type KeyOut,
  type ValueEncoder,
  type ValueEncoding,
  type ValueOut,
} from './encoding'
import { CaskyError } from './errors'
import type { Kernels } from './kernels'
import { KEYS_AT_ONCE, KeyBatch } from './key-batch'
import { type Range, type RangeOptions, rangeOf } from './range'
import type { ValueRef } from './reader'
import { Entries, type Walk } from './walk'
import type { Begun } from './walks'
import { describe } from './wording'

/** Where reads go. The key of a call stands at KEY_AT. */
export interface Source {
  kernels: Kernels
  lookup: {
    has(keyBytes: number): boolean
    expiresAtMs(keyBytes: number): number | undefined
    read(keyBytes: number): ValueRef | undefined
    /** As `read` of each; undefined where that is no quicker. */
    readMany?(batch: KeyBatch, take: (ref: ValueRef | undefined) => void): void
    readonly size: number
  }
  /** Goes through what is in a range as of this call, or through its keys only, until it is unpinned. */
  walk(range: Range, isOfKeys: boolean): Begun
  /** Counts the changes that come of themselves, in the middle of a call. */
  turn?: () => number
}

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
  #batch: KeyBatch | undefined

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
      // First all of them, since a key may be an object of the caller's, which calls back.
      const checked = this.#keys.checkAll(keys)
      for (;;) {
        const before = turn?.()
        const values = this.#getAll(checked)
        // What was refreshed half-way is not of one moment.
        if (turn?.() === before) return values
      }
    }
    throw new CaskyError('CASKY_INVALID_ARGUMENT', `getMany takes an array of keys, not ${describe(keys)}`, {
      got: keys,
    })
  }

  #getAll(keys: readonly (string | Uint8Array)[]): (ValueOut<V> | undefined)[] {
    const { kernels, lookup } = this.#source()
    // A codec of the caller's may call back, and look for other keys in between.
    if (lookup.readMany === undefined || this.#values.isForeign || keys.length === 1)
      return keys.map((key) => this.get(key as KeyIn<K>))
    const values: (ValueOut<V> | undefined)[] = []
    const take = (ref: ValueRef | undefined): void => {
      values.push(ref === undefined ? undefined : (this.#values.read(kernels, ref) as ValueOut<V>))
    }
    this.#batch ??= new KeyBatch(kernels)
    const batch = this.#batch
    batch.clear()
    for (let i = 0; i < keys.length; i++) {
      if (i % KEYS_AT_ONCE === 0) this.#keys.touch(keys, i, Math.min(i + KEYS_AT_ONCE, keys.length))
      const key = keys[i]
      const bytesMax = KeyCodec.bytesMaxOf(key)
      let at = batch.room(bytesMax)
      if (at === 0) {
        lookup.readMany(batch, take)
        batch.clear()
        at = batch.room(bytesMax)
      }
      if (at !== 0) batch.add(this.#keys.write(kernels, key, at))
      // One that may be too long for any batch.
      else take(lookup.read(this.#keys.write(kernels, key, KEY_AT)))
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
    return this.#iterate(options, 'entries', (walk) => [this.#keyOf(walk), this.#valueOf(walk)])
  }

  /** As `entries`, keys only: reads no disk, and lists damaged entries too. */
  keys(options?: RangeOptions<K>): IterableIterator<KeyOut<K>> {
    return this.#iterate(options, 'keys', (walk) => this.#keyOf(walk))
  }

  /** As `entries`, values only. */
  values(options?: RangeOptions<K>): IterableIterator<ValueOut<V>> {
    return this.#iterate(options, 'values', (walk) => this.#valueOf(walk))
  }

  [Symbol.iterator](): IterableIterator<[KeyOut<K>, ValueOut<V>]> {
    return this.entries()
  }

  #keyOf(walk: Walk): KeyOut<K> {
    return walk.key(this.#keys) as KeyOut<K>
  }

  #valueOf(walk: Walk): ValueOut<V> {
    return walk.value(this.#values) as ValueOut<V>
  }

  /** `take`: what an entry is told as. */
  #iterate<T>(
    options: unknown,
    call: 'entries' | 'keys' | 'values',
    take: (walk: Walk) => T,
  ): IterableIterator<T> {
    const source = this.#source()
    const range = rangeOf(options, this.#keys, call)
    const { walk, unpin } = source.walk(range, call === 'keys')
    return new Entries(walk, this.#source, take, range.skipsDamaged, unpin)
  }
}
