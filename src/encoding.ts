// Between what callers hold and the bytes that are stored.
import { Buffer, isUtf8 } from 'node:buffer'
import { KEY_BYTES_MAX, KEY_ROWS_MAX, VALUE_BYTES_MAX } from '../assembly/layout'
import { asBytes } from './bytes'
import { CaskyError } from './errors'
import type { Kernels, Memory } from './kernels'
import type { ValueRef } from './reader'
import { describe } from './wording'

export type KeyEncoding = 'utf8' | 'bytes'

/** Turns values into bytes and back. `decode` gets bytes of its own; `encode`'s are copied before the call returns. */
export interface ValueCodec<T> {
  encode(value: T): Uint8Array
  decode(bytes: Uint8Array): T
}

// The codec's own type is checked where it is given; `never` and `unknown` let any codec in.
export type ValueEncoding =
  | 'utf8'
  | 'bytes'
  | 'json'
  | { encode(value: never): Uint8Array; decode(bytes: Uint8Array): unknown }

export type KeyIn<K extends KeyEncoding> = K extends 'bytes' ? Uint8Array : string | Uint8Array
export type KeyOut<K extends KeyEncoding> = K extends 'bytes' ? Uint8Array : string
export type ValueIn<V extends ValueEncoding> = V extends 'utf8'
  ? string | Uint8Array
  : V extends 'bytes'
    ? Uint8Array
    : V extends { encode(value: infer T): Uint8Array }
      ? T
      : unknown
export type ValueOut<V extends ValueEncoding> = V extends 'utf8'
  ? string
  : V extends 'bytes'
    ? Uint8Array
    : V extends { decode(bytes: Uint8Array): infer T }
      ? T
      : unknown

/** Up to here a loop over the characters beats the call into the runtime's encoder. */
const LOOP_CHARS_MAX = 20
/** And up to here one over the bytes the call that copies them. */
const LOOP_BYTES_MAX = 40
const LONE_SURROGATE = -1
const REPLACEMENT = '\ufffd'

const encoder = new TextEncoder()

function keyError(message: string, got: unknown, expected?: unknown): CaskyError {
  return new CaskyError('CASKY_INVALID_KEY', message, { expected, got })
}

function valueError(message: string, got: unknown, cause?: unknown): CaskyError {
  return new CaskyError('CASKY_INVALID_VALUE', message, { got, cause })
}

/** Writes text as UTF-8 to `at`; little more than `bytesMax` where it is longer. Returns its length, or LONE_SURROGATE. */
function writeText(kernels: Kernels, text: string, at: number, bytesMax: number): number {
  const { bytes } = kernels
  const { length } = text
  if (length <= LOOP_CHARS_MAX) {
    let i = 0
    for (; i < length; i++) {
      const char = text.charCodeAt(i)
      if (char > 0x7f) break
      bytes[at + i] = char
    }
    if (i === length) return length
  }
  // With room for one character more, what is too long can be told.
  const written = kernels.writeText(text, at, Math.min(length * 3, bytesMax + 3))
  // One byte a character: it is ASCII.
  return written === length || text.isWellFormed() ? written : LONE_SURROGATE
}

/** The text of what stands there; undefined where that is not UTF-8. Throws where no string is as long. */
function readText(from: Buffer, at: number, bytes: number): string | undefined {
  const text = from.toString('utf8', at, at + bytes)
  // Where bytes are no UTF-8 the decoder puts this character: it was there before if it is encoded as it was.
  if (!text.includes(REPLACEMENT) || isUtf8(from.subarray(at, at + bytes))) return text
  return undefined
}

function loneSurrogate(what: string): string {
  return `${what} contains a lone surrogate, which UTF-8 can't hold; clean it with toWellFormed(), or pass bytes`
}

function checkKeyBytes(bytes: number): number {
  if (bytes === 0) throw keyError('a key has at least one byte, and this one is empty', 0)
  if (bytes > KEY_BYTES_MAX) {
    throw keyError(
      `a key has at most ${KEY_BYTES_MAX} bytes, and this one has more; hash it, or shorten it`,
      bytes,
      KEY_BYTES_MAX,
    )
  }
  return bytes
}

export class KeyCodec {
  /** Kept, or the compiler might leave the reads out. */
  private touched = 0

  constructor(private readonly encoding: KeyEncoding) {}

  get isText(): boolean {
    return this.encoding === 'utf8'
  }

  /** The key, where it is one; what is left to check needs its bytes. */
  check(key: unknown): string | Uint8Array {
    if (typeof key === 'string') {
      if (this.encoding === 'bytes') {
        throw keyError("keyEncoding is 'bytes', so a key is a Uint8Array, not a string", key)
      }
      if (key.length > KEY_BYTES_MAX || key.length === 0) checkKeyBytes(key.length)
      return key
    }
    const bytes = asBytes(key)
    if (bytes === undefined) throw keyError(`a key is a string or a Uint8Array, not ${describe(key)}`, key)
    checkKeyBytes(bytes.length)
    return bytes
  }

  /** As `check`, of each. */
  checkAll(keys: readonly unknown[]): (string | Uint8Array)[] {
    const checked: unknown[] = []
    let { touched } = this
    for (let begin = 0; begin < keys.length; begin += KEY_ROWS_MAX) {
      const end = Math.min(begin + KEY_ROWS_MAX, keys.length)
      // Each is asked for once: the array may be made of getters.
      for (let i = begin; i < end; i++) checked.push(keys[i])
      for (let i = begin; i < end; i++) touched ^= typeof checked[i] === 'string' ? 1 : 0
      for (let i = begin; i < end; i++) checked[i] = this.check(checked[i])
    }
    this.touched = touched
    return checked as (string | Uint8Array)[]
  }

  /** Brings in the characters of keys, which often lie elsewhere than their strings: in short loops, as keydir/touch.ts. */
  touch(keys: readonly (string | Uint8Array)[], from: number, to: number): void {
    let { touched } = this
    for (let i = from; i < to; i++) {
      const key = keys[i]
      if (typeof key === 'string') touched ^= key.charCodeAt(0)
    }
    this.touched = touched
  }

  /** How many bytes `write` touches at most. */
  static bytesMaxOf(key: string | Uint8Array): number {
    return typeof key === 'string' ? Math.min(key.length * 3, KEY_BYTES_MAX + 3) : key.length
  }

  /** Writes the key to `at`, where there is room for three bytes a character; returns its length in bytes. */
  write(kernels: Kernels, given: unknown, at: number): number {
    const key = this.check(given)
    if (typeof key !== 'string') {
      const { length } = key
      if (length <= LOOP_BYTES_MAX) for (let i = 0; i < length; i++) kernels.bytes[at + i] = key[i]
      else kernels.bytes.set(key, at)
      return length
    }
    const bytes = writeText(kernels, key, at, KEY_BYTES_MAX)
    if (bytes === LONE_SURROGATE) throw keyError(loneSurrogate('the key'), key)
    return checkKeyBytes(bytes)
  }

  toBytes(given: unknown): Uint8Array {
    const key = this.check(given)
    if (typeof key !== 'string') return key
    if (!key.isWellFormed()) throw keyError(loneSurrogate('the key'), key)
    const bytes = encoder.encode(key)
    checkKeyBytes(bytes.length)
    return bytes
  }

  /** The key that stands at `at`, as the caller's own. */
  read(memory: Memory, at: number, keyBytes: number): string | Uint8Array {
    if (this.encoding === 'bytes') return memory.copyOut(at, keyBytes)
    return this.text(memory.text, at, keyBytes)
  }

  fromBytes(bytes: Uint8Array): string | Uint8Array {
    return this.encoding === 'bytes' ? bytes : this.text(bufferOf(bytes), 0, bytes.length)
  }

  private text(from: Buffer, at: number, keyBytes: number): string {
    const text = readText(from, at, keyBytes)
    if (text !== undefined) return text
    throw new CaskyError(
      'CASKY_INVALID_KEY',
      "a key in the store is not UTF-8; open it with keyEncoding: 'bytes'",
      { key: new Uint8Array(from.subarray(at, at + keyBytes)) },
    )
  }
}

export class ValueEncoder {
  constructor(private readonly encoding: ValueEncoding) {}

  /** Whether it is the caller's own. */
  get isForeign(): boolean {
    return typeof this.encoding === 'object'
  }

  get isText(): boolean {
    return this.encoding === 'utf8'
  }

  /** What will be stored, as text or bytes. A codec's `encode` runs here, before anything is touched. */
  prepare(value: unknown): string | Uint8Array {
    const { encoding } = this
    if (encoding === 'utf8' && typeof value === 'string') return value
    const stored = this.convert(value)
    if (stored.length > VALUE_BYTES_MAX) {
      throw valueError(
        `a value has at most ${VALUE_BYTES_MAX} bytes, and this one has more; split it`,
        stored.length,
      )
    }
    return stored
  }

  /** As `prepare`, in bytes that stay as they are while other values are prepared: a codec may use its own again. */
  prepareOwn(value: unknown): string | Uint8Array {
    const stored = this.prepare(value)
    return typeof this.encoding === 'object' && typeof stored !== 'string' ? stored.slice() : stored
  }

  private convert(value: unknown): string | Uint8Array {
    const { encoding } = this
    if (encoding === 'utf8' || encoding === 'bytes') {
      const bytes = asBytes(value)
      if (bytes !== undefined) return bytes
      const expected = encoding === 'utf8' ? 'a string or a Uint8Array' : 'a Uint8Array'
      throw valueError(
        `with valueEncoding '${encoding}' a value is ${expected}, not ${describe(value)}`,
        value,
      )
    }
    try {
      if (encoding === 'json') return this.toJson(value)
      const encoded: unknown = encoding.encode(value as never)
      const bytes = asBytes(encoded)
      if (bytes !== undefined) return bytes
      throw valueError(`the codec's encode returns a Uint8Array, not ${describe(encoded)}`, encoded)
    } catch (cause) {
      if (cause instanceof CaskyError) throw cause
      throw valueError(
        `the value can't be encoded: ${cause instanceof Error ? cause.message : cause}`,
        value,
        cause,
      )
    }
  }

  private toJson(value: unknown): string {
    if (asBytes(value) !== undefined) {
      throw valueError("a Uint8Array is no JSON value; open the store with valueEncoding: 'bytes'", value)
    }
    const text = JSON.stringify(value)
    if (text === undefined) throw valueError(`JSON has no way to write ${describe(value)}`, value)
    return text
  }

  /** Writes a prepared value to `at`, where there is room for three bytes a character; returns its length in bytes. */
  write(kernels: Kernels, stored: string | Uint8Array, at: number): number {
    if (typeof stored !== 'string') {
      try {
        kernels.bytes.set(stored, at)
      } catch (cause) {
        throw valueError(
          'the bytes of the value can not be read: their buffer was detached, or shrank',
          stored,
          cause,
        )
      }
      return stored.length
    }
    const bytes = writeText(kernels, stored, at, VALUE_BYTES_MAX)
    if (bytes === LONE_SURROGATE) throw valueError(loneSurrogate('the value'), stored)
    return bytes
  }

  toBytes(stored: string | Uint8Array): Uint8Array {
    if (typeof stored !== 'string') return stored
    if (!stored.isWellFormed()) throw valueError(loneSurrogate('the value'), stored)
    const bytes = encoder.encode(stored)
    if (bytes.length > VALUE_BYTES_MAX) {
      throw valueError(
        `a value has at most ${VALUE_BYTES_MAX} bytes, and this one has more; split it`,
        bytes.length,
      )
    }
    return bytes
  }

  /** The value that stands in memory, as the caller's own. */
  read(memory: Memory, ref: ValueRef): unknown {
    const { encoding } = this
    if (encoding === 'utf8') return this.readText(memory, ref)
    if (encoding === 'bytes') return ref.large ?? memory.copyOut(ref.at, ref.bytes)
    try {
      if (encoding === 'json') return JSON.parse(this.readText(memory, ref))
      return encoding.decode(ref.large ?? memory.bytes.slice(ref.at, ref.at + ref.bytes))
    } catch (cause) {
      if (cause instanceof CaskyError) throw cause
      const codec = encoding === 'json' ? 'JSON' : 'the codec'
      throw valueError(
        `the stored value is not what ${codec} reads: ${cause instanceof Error ? cause.message : cause}`,
        undefined,
        cause,
      )
    }
  }

  private readText(memory: Memory, { large, at, bytes }: ValueRef): string {
    let text: string | undefined
    try {
      text = large === undefined ? readText(memory.text, at, bytes) : readText(bufferOf(large), 0, bytes)
    } catch (cause) {
      throw valueError(
        `the stored value is too long for a string (${bytes} bytes); open the store with valueEncoding: 'bytes'`,
        bytes,
        cause,
      )
    }
    if (text !== undefined) return text
    throw valueError("the stored value is not UTF-8; open the store with valueEncoding: 'bytes'", undefined)
  }
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
}
