// A batch of writes, checked and encoded before anything is touched, then appended whole or not at all.
import {
  FLAG_EXPIRES,
  FLAG_JOINED_TO_NEXT,
  FLAG_JOINED_TO_PREVIOUS,
  KIND_DELETE,
  KIND_PUT,
  RECORD_EXPIRY_BYTES,
  RECORD_HEADER_BYTES,
  WRITE_BYTES,
} from '../assembly/layout'
import type { KeyCodec, KeyEncoding, KeyIn, ValueEncoder, ValueEncoding, ValueIn } from './encoding'
import { CaskyError } from './errors'
import type { Kernels } from './kernels'
import { expiryOf, type PutOptions } from './options'
import { type RawRecord, rawBytes } from './oversize'
import { SEGMENT_BYTES_MAX } from './segment'
import { describe, guess } from './wording'
import type { Writer } from './writer'

/** One write of a batch. */
export type BatchOperation<K extends KeyEncoding = KeyEncoding, V extends ValueEncoding = ValueEncoding> =
  | ({ type: 'put'; key: KeyIn<K>; value: ValueIn<V> } & PutOptions)
  | { type: 'del'; key: KeyIn<K> }

/** A write, checked as far as it can be without encoding its text. */
export interface Prepared {
  kind: number
  key: string | Uint8Array
  stored: string | Uint8Array
  expiresAtMs: number | undefined
}

/** What all records of one append may take, header and slack included. */
const BATCH_BYTES_MAX = SEGMENT_BYTES_MAX - 2 ** 20
const NOTHING = new Uint8Array(0)
const OPERATION_NAMES = ['type', 'key', 'value', 'ttlMs', 'expiresAtMs']

function batchError(message: string, got: unknown): CaskyError {
  return new CaskyError('CASKY_INVALID_BATCH', message, { got })
}

/** Names the operation in what is wrong with it. */
function located(index: number, cause: unknown): unknown {
  if (!(cause instanceof CaskyError)) return cause
  const { code, message, expected, got, key } = cause
  const details = { expected, got, cause, ...(key === undefined ? {} : { key }) }
  return new CaskyError(code, `operation ${index} of the batch: ${message}`, details)
}

function prepareOperation(operation: unknown, keys: KeyCodec, values: ValueEncoder, nowMs: number): Prepared {
  if (typeof operation !== 'object' || operation === null) {
    throw batchError(`an operation is an object with a type and a key, not ${describe(operation)}`, operation)
  }
  const { type, key: givenKey, value, ttlMs, expiresAtMs } = operation as Record<string, unknown>
  for (const name of Object.keys(operation)) {
    if (!OPERATION_NAMES.includes(name)) {
      throw batchError(`an operation has no '${name}'; ${guess(name, OPERATION_NAMES)}`, name)
    }
  }
  if (type !== 'put' && type !== 'del') {
    const hint = typeof type === 'string' ? `; ${guess(type, ['put', 'del'])}` : ''
    throw batchError(`the type of an operation is 'put' or 'del', not ${describe(type)}${hint}`, type)
  }
  const key = keys.check(givenKey)
  if (type === 'del') {
    if (value !== undefined || ttlMs !== undefined || expiresAtMs !== undefined) {
      throw batchError("an operation of type 'del' has a key and nothing else", operation)
    }
    return { kind: KIND_DELETE, key, stored: NOTHING, expiresAtMs: undefined }
  }
  const expiry =
    ttlMs === undefined && expiresAtMs === undefined ? undefined : expiryOf({ ttlMs, expiresAtMs }, nowMs)
  return { kind: KIND_PUT, key, stored: values.prepareOwn(value), expiresAtMs: expiry }
}

export function prepareBatch(
  operations: unknown,
  keys: KeyCodec,
  values: ValueEncoder,
  nowMs: number,
): Prepared[] {
  if (!Array.isArray(operations)) {
    throw batchError(`a batch is an array of operations, not ${describe(operations)}`, operations)
  }
  // Not `map`, which would leave the holes of a sparse array in.
  return Array.from(operations, (operation: unknown, i) => {
    try {
      return prepareOperation(operation, keys, values, nowMs)
    } catch (cause) {
      throw located(i, cause)
    }
  })
}

function flagsOf(write: Prepared, index: number, count: number): number {
  return (
    write.kind |
    (write.expiresAtMs === undefined ? 0 : FLAG_EXPIRES) |
    (index > 0 ? FLAG_JOINED_TO_PREVIOUS : 0) |
    (index < count - 1 ? FLAG_JOINED_TO_NEXT : 0)
  )
}

/** At most so many bytes, whatever the text turns out to be. */
function bytesBound({ key, stored }: Prepared): number {
  const keyBytes = typeof key === 'string' ? key.length * 3 : key.length
  const valueBytes = typeof stored === 'string' ? stored.length * 3 : stored.length
  return RECORD_HEADER_BYTES + RECORD_EXPIRY_BYTES + keyBytes + valueBytes
}

/**
 * Appends the writes as one: all become visible together, and none where it throws. `isNow`: whoever writes them waits on
 * the thread for them.
 */
export function appendAll(
  kernels: Kernels,
  writer: Writer,
  keys: KeyCodec,
  values: ValueEncoder,
  writes: readonly Prepared[],
  isNow: boolean,
): void {
  if (writes.length === 0) return
  const bound = writes.reduce((sum, write) => sum + bytesBound(write), 0)
  if (bound <= WRITE_BYTES) {
    appendBuffered(kernels, writer, keys, values, writes, bound, isNow)
    return
  }
  const records = writes.map((write, i): RawRecord => {
    const { key, stored, expiresAtMs } = write
    const kind = flagsOf(write, i, writes.length)
    return { kind, key: keys.toBytes(key), value: values.toBytes(stored), expiresAtMs }
  })
  const bytes = records.reduce((sum, record) => sum + rawBytes(record), 0)
  if (bytes > BATCH_BYTES_MAX) {
    throw batchError(
      `a batch takes at most ${BATCH_BYTES_MAX} bytes in the log, and this one ${bytes}; split it`,
      bytes,
    )
  }
  if (bytes > WRITE_BYTES) {
    writer.writeThrough(records)
    return
  }
  const exact = records.map(
    ({ key, value, expiresAtMs }, i): Prepared => ({ kind: writes[i].kind, key, stored: value, expiresAtMs }),
  )
  appendBuffered(kernels, writer, keys, values, exact, bytes, isNow)
}

function appendBuffered(
  kernels: Kernels,
  writer: Writer,
  keys: KeyCodec,
  values: ValueEncoder,
  writes: readonly Prepared[],
  bound: number,
  isNow: boolean,
): void {
  const begin = writer.reserve(bound)
  const keyBytes = new Uint16Array(writes.length)
  const recordBytes = new Uint32Array(writes.length)
  let at = begin
  writes.forEach(({ key, stored, expiresAtMs }, i) => {
    try {
      const keyAt = at + RECORD_HEADER_BYTES + (expiresAtMs === undefined ? 0 : RECORD_EXPIRY_BYTES)
      keyBytes[i] = keys.write(kernels, key, keyAt)
      const valueAt = keyAt + keyBytes[i]
      const valueBytes = values.write(kernels, stored, valueAt)
      recordBytes[i] = valueAt + valueBytes - at
      at += recordBytes[i]
    } catch (cause) {
      throw writes.length > 1 ? located(i, cause) : cause
    }
  })
  at = writer.settleSegment(begin, at - begin, isNow)
  for (let i = 0; i < writes.length; i++) {
    const { expiresAtMs } = writes[i]
    const prefixBytes =
      RECORD_HEADER_BYTES + (expiresAtMs === undefined ? 0 : RECORD_EXPIRY_BYTES) + keyBytes[i]
    const valueBytes = recordBytes[i] - prefixBytes
    const kind = flagsOf(writes[i], i, writes.length)
    writer.append(at, kind, keyBytes[i], valueBytes, expiresAtMs)
    at += recordBytes[i]
  }
}
