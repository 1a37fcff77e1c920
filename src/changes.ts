// What was written, in the order of the sequence numbers, for those who follow a store.

import type { LogItem, Loss } from './changes-cursor'
import { Feed, type Feeds } from './changes-feed'
import type { LogWrite } from './changes-window'
import type { KeyCodec, KeyEncoding, KeyOut, ValueEncoder, ValueEncoding, ValueOut } from './encoding'
import { CaskyError } from './errors'
import type { Kernels } from './kernels'
import type { Rooms } from './open'
import { booleanOption, checkNames, oneOf, progressAndSignal, type Settings } from './options'
import { describe } from './wording'

export interface ChangesOptions {
  /** Begins behind this sequence number: that of the last change that you have, or of a snapshot. Default 0: the begin. */
  since?: number
  /** Goes on with what is written later, until the store is closed. Default false: ends with what there is at the call. */
  live?: boolean
  /** Ends it with CASKY_ABORTED. */
  signal?: AbortSignal
  /** What to do where the log is damaged: `'throw'` (the default) CASKY_CORRUPT, or `'skip'` it with a `LostChanges`. */
  damaged?: 'throw' | 'skip'
}

/** A put as a change tells it. From `expiresAtMs` on, in milliseconds since 1970, it counts as deleted. */
export interface PutOperation<K extends KeyEncoding, V extends ValueEncoding> {
  type: 'put'
  key: KeyOut<K>
  value: ValueOut<V>
  expiresAtMs?: number
}

export interface DeleteOperation<K extends KeyEncoding> {
  type: 'del'
  key: KeyOut<K>
}

interface Written {
  /** Its place in the order of all writes; where to go on from, as `since`. */
  sequence: number
  /** When it was written, in milliseconds since 1970, by that machine's clock. */
  timeMs: number
}

/** A batch of two operations or more; that of one is told as a put or a delete. */
export interface BatchChange<K extends KeyEncoding, V extends ValueEncoding> extends Written {
  type: 'batch'
  /** Of its last operation; `sequence` is that of its first. Go on from this one. */
  lastSequence: number
  operations: (PutOperation<K, V> | DeleteOperation<K>)[]
}

/** One write of a store. */
export type Change<K extends KeyEncoding = 'utf8', V extends ValueEncoding = 'utf8'> =
  | (PutOperation<K, V> & Written)
  | (DeleteOperation<K> & Written)
  | BatchChange<K, V>

/** Writes that are lost, with `damaged: 'skip'`. */
export interface LostChanges {
  type: 'damage'
  path: string
  offset: number
  bytes: number
  firstSequence: number
  lastSequence: number
}

type AnyChange = Change<KeyEncoding, ValueEncoding> | LostChanges

/** One that nobody goes on with must not keep segments for ever. */
const leftFeeds = new FinalizationRegistry<() => void>((leave) => leave())

/** `opened` throws where the store is closed. */
export function changesOf(
  opened: () => Rooms,
  feeds: Feeds,
  keys: KeyCodec,
  values: ValueEncoder,
  settings: Settings,
  options: unknown,
): AsyncIterableIterator<AnyChange, undefined> {
  const { kernels, lastSequence, writing } = opened()
  const given = checkNames(options, ['since', 'live', 'signal', 'damaged'], 'changes')
  const { signal } = progressAndSignal({ signal: given.signal })
  const isLive = booleanOption(given, 'live', false)
  const skips = oneOf<'throw' | 'skip'>(given, 'damaged', ['throw', 'skip']) === 'skip'
  writing?.writer.tryCommit()
  const since = sinceOf(given, lastSequence())
  if (writing !== undefined) writing.writer.onAcknowledged = feeds.wake
  const decoder = { kernels, keys, values, isText: isText(settings.valueEncoding) }
  const decode = (item: LogItem): AnyChange => decodeItem(decoder, item, skips)
  const isStrict = settings.sync === 'always'
  const feed = new Feed(opened, feeds, { since, isLive, signal }, isStrict, decode)
  return iteratorOf(feed)
}

/** In a scope of its own: what the feed knows must not lead to the iterator, or nobody ever finds that it was left. */
function iteratorOf<T>(feed: Feed<T>): AsyncIterableIterator<T, undefined> {
  const changes: AsyncIterableIterator<T, undefined> & AsyncDisposable = {
    next: () => feed.next(),
    return: async () => {
      feed.end()
      return { done: true, value: undefined }
    },
    [Symbol.asyncIterator]: () => changes,
    [Symbol.asyncDispose]: async () => feed.end(),
  }
  leftFeeds.register(changes, feed.leave)
  return changes
}

function sinceOf({ since = 0 }: Record<string, unknown>, last: number): number {
  if (Number.isSafeInteger(since) && Number(since) >= 0 && Number(since) <= last) return Number(since)
  throw new CaskyError(
    'CASKY_INVALID_OPTION',
    `option 'since' is a sequence number that was given, from 0 up to the last one, ${last}, not ${describe(since)}`,
    { expected: last, got: since },
  )
}

interface Decoder {
  kernels: Kernels
  keys: KeyCodec
  values: ValueEncoder
  /** Whether values come back as something that was made of their bytes at once. */
  isText: boolean
}

function isText(encoding: ValueEncoding): boolean {
  return encoding === 'utf8' || encoding === 'json'
}

function decodeItem(decoder: Decoder, item: LogItem, skips: boolean): AnyChange {
  if (item.kind === 'loss') {
    if (!skips) throw corrupt(item)
    const { path, offset, bytes, firstSequence, lastSequence } = item
    return { type: 'damage', path, offset, bytes, firstSequence, lastSequence }
  }
  if (item.kind === 'batch') {
    const { members } = item
    const [{ sequence, timeMs }] = members
    const lastSequence = members[members.length - 1].sequence
    const operations = members.map((member) => operationOf(decoder, member))
    return { type: 'batch', sequence, lastSequence, timeMs, operations }
  }
  const { sequence, timeMs, expiresAtMs } = item
  const key = decodeKey(decoder, item)
  if (item.kind === 'delete') return { type: 'del', key, sequence, timeMs }
  const value = decodeValue(decoder, item)
  // One literal each: to spread one into another takes ten times as long.
  return expiresAtMs === undefined
    ? { type: 'put', key, value, sequence, timeMs }
    : { type: 'put', key, value, expiresAtMs, sequence, timeMs }
}

type AnyOperation = PutOperation<KeyEncoding, ValueEncoding> | DeleteOperation<KeyEncoding>

function operationOf(decoder: Decoder, write: LogWrite): AnyOperation {
  const { kind, expiresAtMs } = write
  const key = decodeKey(decoder, write)
  if (kind === 'delete') return { type: 'del', key }
  const value = decodeValue(decoder, write)
  return expiresAtMs === undefined ? { type: 'put', key, value } : { type: 'put', key, value, expiresAtMs }
}

// What callers get is their own, and no part of what was read ahead.

function decodeKey({ keys }: Decoder, { key: bytes }: LogWrite): string | Uint8Array {
  const key = keys.fromBytes(bytes)
  return typeof key === 'string' ? key : key.slice()
}

function decodeValue({ kernels, values, isText }: Decoder, { value }: LogWrite): unknown {
  const large = isText ? value : value.slice()
  return values.read(kernels, { at: 0, bytes: large.length, large })
}

function corrupt({ path, offset, firstSequence, lastSequence }: Loss): CaskyError {
  const which =
    firstSequence === lastSequence
      ? `change ${firstSequence} is`
      : `changes ${firstSequence} to ${lastSequence} are`
  return new CaskyError(
    'CASKY_CORRUPT',
    `${which} damaged or gone; \`casky check\` lists all damage, and damaged: 'skip' goes on behind it: ${path} at byte ${offset}`,
    { path, offset, expected: firstSequence },
  )
}
