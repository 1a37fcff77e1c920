// What callers may pass, checked before anything is done: unknown names are refused with a guess at the right one.
import type { BackupCall, BackupProgress } from './backup/backup'
import type { RestoreCall, RestoreProgress } from './backup/restore'
import type { KeyEncoding, ValueEncoding } from './encoding'
import { CaskyError } from './errors'
import type { SyncMode } from './group'
import type { MergeProgress } from './merge/merger'
import { MERGE_DEFAULTS, type MergePolicy, type MergeSettings } from './merge/policy'
import type { OpenProgress } from './recovery'
import { describe, guess } from './wording'

export interface OpenOptions<K extends KeyEncoding = KeyEncoding, V extends ValueEncoding = ValueEncoding> {
  /**
   * When a write is acknowledged. `'always'` (the default): once it is on disk. `'never'`: once the operating system
   * has it, so it survives the process but not the machine. `{ everyMs }`: as `'never'`, with a sync on that beat
   * (1 to 86,400,000 milliseconds).
   */
  sync?: SyncMode
  /** How keys come back: `'utf8'` (the default) as strings, `'bytes'` as Uint8Arrays. A Uint8Array is always accepted. */
  keyEncoding?: K
  /** What values are: `'utf8'` (the default), `'bytes'`, `'json'`, or a codec of your own. */
  valueEncoding?: V
  /**
   * Opens without a lock and writes nothing, beside a writer or without one; sees what is on disk by now, and later what
   * `refresh()` brings. Default false.
   */
  readOnly?: boolean
  /**
   * With `readOnly`: calls `refresh()` by itself when the writer has written, some milliseconds later. Keeps the process
   * alive until the store is closed. Default false.
   */
  follow?: boolean
  /** Makes the store, and the directories that lead to it, where there is none. Default true. */
  createIfMissing?: boolean
  /** Refuses a store that exists already. Default false. */
  errorIfExists?: boolean
  /** Refuses a store in which opening finds damage, instead of reporting it in `health()`. Default false. */
  strict?: boolean
  /** A segment ends before it grows past this. 4 KiB to 2 GiB, in bytes; default 256 MiB. */
  maxSegmentBytes?: number
  /**
   * When dead bytes are given back by themselves (see `MergePolicy` for the units and defaults); false: only when
   * `merge()` is called.
   */
  merge?: MergePolicy | false
  /** Memory for recently read blocks, used as reads come: in whole 32 KiB; 0 (none) to 2 GiB, in bytes; default 64 MiB. */
  cacheBytes?: number
  /** Called with how far opening has come. */
  onProgress?: (progress: OpenProgress) => void
  /** Aborts an asynchronous open. */
  signal?: AbortSignal
}

export interface MergeOptions {
  /** Reads and writes at most so many bytes a second; default 0: as many as there are. */
  maxBytesPerSecond?: number
  /** Called with how far it has come. */
  onProgress?: (progress: MergeProgress) => void
  /** Aborts it; what was finished stays. */
  signal?: AbortSignal
}

export interface BackupOptions {
  /**
   * Adds to the backups that are in the directory, only what is new since the one with this sequence number, or the
   * latest. Without it a full backup is made, in a directory that is empty or not there yet.
   */
  since?: number | 'latest'
  /** Reads and writes at most so many bytes a second; default 0: as many as there are. */
  maxBytesPerSecond?: number
  /** Called with how far it has come. */
  onProgress?: (progress: BackupProgress) => void
  /** Aborts it; then there is no such backup. */
  signal?: AbortSignal
}

export interface RestoreOptions {
  /** Which backup, by its sequence number; the latest where none is given. */
  sequence?: number
  /** Called with how far it has come. */
  onProgress?: (progress: RestoreProgress) => void
  /** Aborts it; then there is no store. */
  signal?: AbortSignal
}

export interface Settings {
  sync: SyncMode
  keyEncoding: KeyEncoding
  valueEncoding: ValueEncoding
  readOnly: boolean
  follow: boolean
  createIfMissing: boolean
  errorIfExists: boolean
  strict: boolean
  maxSegmentBytes: number
  merge: MergeSettings | undefined
  cacheBytes: number
  onProgress: ((progress: OpenProgress) => void) | undefined
  signal: AbortSignal | undefined
}

const KIB = 1024
const MIB = KIB * KIB
const GIB = KIB * MIB
const DAY_MS = 86_400_000

const OPEN_NAMES = [
  'sync',
  'keyEncoding',
  'valueEncoding',
  'readOnly',
  'follow',
  'createIfMissing',
  'errorIfExists',
  'strict',
  'maxSegmentBytes',
  'merge',
  'cacheBytes',
  'onProgress',
  'signal',
]

/** `options` as an object of known names only. */
export function checkNames(options: unknown, known: readonly string[], of: string): Record<string, unknown> {
  if (options === undefined) return {}
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw new CaskyError(
      'CASKY_INVALID_ARGUMENT',
      `the options of ${of} are an object, not ${describe(options)}`,
      {
        expected: 'object',
        got: options,
      },
    )
  }
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) {
      throw new CaskyError('CASKY_INVALID_OPTION', `${of} has no option '${name}'; ${guess(name, known)}`, {
        expected: known,
        got: name,
      })
    }
  }
  return options as Record<string, unknown>
}

function invalid(name: string, expected: string, got: unknown): CaskyError {
  return new CaskyError('CASKY_INVALID_OPTION', `option '${name}' is ${expected}, not ${describe(got)}`, {
    expected,
    got,
  })
}

export function booleanOption(options: Record<string, unknown>, name: string, fallback: boolean): boolean {
  const value = options[name]
  if (value === undefined) return fallback
  if (typeof value !== 'boolean') throw invalid(name, 'true or false', value)
  return value
}

export function wholeOption(
  options: Record<string, unknown>,
  name: string,
  fallback: number,
  min: number,
  max: number,
  unit: string,
  /** What it is a part of, with a dot behind it. */
  within = '',
): number {
  const value = options[name]
  if (value === undefined) return fallback
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    throw invalid(within + name, `a whole number of ${unit} from ${min} to ${max}`, value)
  }
  return value
}

export function oneOf<T extends string>(
  options: Record<string, unknown>,
  name: string,
  known: readonly T[],
): T {
  const value = options[name]
  if (value === undefined) return known[0]
  if (typeof value === 'string' && (known as readonly string[]).includes(value)) return value as T
  const hint = typeof value === 'string' ? `; ${guess(value, known)}` : ''
  const names = known.map((each) => `'${each}'`).join(' or ')
  throw new CaskyError(
    'CASKY_INVALID_OPTION',
    `option '${name}' is ${names}, not ${describe(value)}${hint}`,
    {
      expected: known,
      got: value,
    },
  )
}

function syncOption(options: Record<string, unknown>): SyncMode {
  const value = options.sync
  if (typeof value !== 'object' || value === null)
    return oneOf<'always' | 'never'>(options, 'sync', ['always', 'never'])
  const inner = checkNames(value, ['everyMs'], "option 'sync'")
  if (inner.everyMs === undefined) throw invalid('sync', "'always', 'never' or { everyMs }", value)
  return { everyMs: wholeOption(inner, 'everyMs', 0, 1, DAY_MS, 'milliseconds', 'sync.') }
}

function valueEncodingOption(options: Record<string, unknown>): ValueEncoding {
  const value = options.valueEncoding
  if (typeof value === 'object' && value !== null) {
    const codec = value as { encode?: unknown; decode?: unknown }
    if (typeof codec.encode === 'function' && typeof codec.decode === 'function')
      return value as ValueEncoding
    throw invalid(
      'valueEncoding',
      "'utf8', 'bytes', 'json' or an object with encode and decode functions",
      value,
    )
  }
  return oneOf<'utf8' | 'bytes' | 'json'>(options, 'valueEncoding', ['utf8', 'bytes', 'json'])
}

function followOption(options: Record<string, unknown>): boolean {
  const follows = booleanOption(options, 'follow', false)
  if (follows && options.readOnly !== true)
    throw invalid('follow', 'for stores that are opened with readOnly: true', true)
  return follows
}

const MERGE_NAMES = Object.keys(MERGE_DEFAULTS)
const OF_MERGE = "option 'merge'"
const WITHIN_MERGE = 'merge.'

function ratioOption(options: Record<string, unknown>, name: string, fallback: number): number {
  const value = options[name]
  if (value === undefined) return fallback
  if (typeof value !== 'number' || !(value > 0 && value <= 1))
    throw invalid(WITHIN_MERGE + name, 'a number above 0 and up to 1', value)
  return value
}

function windowOption(options: Record<string, unknown>): readonly [number, number] {
  const value = options.windowHours
  if (value === undefined) return MERGE_DEFAULTS.windowHours
  const isHour = (hour: unknown): boolean => Number.isInteger(hour) && Number(hour) >= 0 && Number(hour) <= 24
  if (!Array.isArray(value) || value.length !== 2 || !value.every(isHour) || value[0] === value[1])
    throw invalid(
      `${WITHIN_MERGE}windowHours`,
      'two different whole hours from 0 to 24, such as [2, 5]',
      value,
    )
  return [value[0], value[1]]
}

function mergeOption(options: Record<string, unknown>): MergeSettings | undefined {
  const value = options.merge
  if (value === false) return undefined
  if (value !== undefined && (typeof value !== 'object' || value === null || Array.isArray(value)))
    throw invalid('merge', 'false or an object', value)
  const policy = checkNames(value, MERGE_NAMES, OF_MERGE)
  const bytes = (name: keyof MergeSettings, min: number): number =>
    wholeOption(
      policy,
      name,
      MERGE_DEFAULTS[name] as number,
      min,
      Number.MAX_SAFE_INTEGER,
      'bytes',
      WITHIN_MERGE,
    )
  const { triggerDeadRatio, triggerSmallSegments, deadRatio } = MERGE_DEFAULTS
  return {
    triggerDeadRatio: ratioOption(policy, 'triggerDeadRatio', triggerDeadRatio),
    triggerDeadBytes: bytes('triggerDeadBytes', 1),
    triggerSmallSegments: wholeOption(
      policy,
      'triggerSmallSegments',
      triggerSmallSegments,
      2,
      1000,
      'segments',
      WITHIN_MERGE,
    ),
    deadRatio: ratioOption(policy, 'deadRatio', deadRatio),
    deadBytes: bytes('deadBytes', 1),
    smallBytes: bytes('smallBytes', 0),
    windowHours: windowOption(policy),
    maxBytesPerSecond: bytes('maxBytesPerSecond', 0),
  }
}

export function progressAndSignal<P>({ onProgress, signal }: Record<string, unknown>): {
  onProgress: ((progress: P) => void) | undefined
  signal: AbortSignal | undefined
} {
  if (onProgress !== undefined && typeof onProgress !== 'function')
    throw invalid('onProgress', 'a function', onProgress)
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw invalid('signal', 'an AbortSignal', signal)
  return { onProgress: onProgress as ((progress: P) => void) | undefined, signal }
}

function sequenceOption(options: Record<string, unknown>, name: string): number | undefined {
  if (options[name] === undefined) return undefined
  return wholeOption(options, name, 0, 0, Number.MAX_SAFE_INTEGER, 'writes')
}

export function backupCall(given: unknown): BackupCall {
  const options = checkNames(given, ['since', 'maxBytesPerSecond', 'onProgress', 'signal'], 'backup')
  const since = options.since === 'latest' ? 'latest' : sequenceOption(options, 'since')
  const maxBytesPerSecond = wholeOption(options, 'maxBytesPerSecond', 0, 0, Number.MAX_SAFE_INTEGER, 'bytes')
  return { since, maxBytesPerSecond, ...progressAndSignal<BackupProgress>(options) }
}

export function restoreCall(given: unknown): RestoreCall {
  const options = checkNames(given, ['sequence', 'onProgress', 'signal'], 'restore')
  return { sequence: sequenceOption(options, 'sequence'), ...progressAndSignal<RestoreProgress>(options) }
}

export function openSettings(given: unknown): Settings {
  const options = checkNames(given, OPEN_NAMES, 'open')
  const { onProgress, signal } = progressAndSignal<OpenProgress>(options)
  return {
    sync: syncOption(options),
    keyEncoding: oneOf<KeyEncoding>(options, 'keyEncoding', ['utf8', 'bytes']),
    valueEncoding: valueEncodingOption(options),
    readOnly: booleanOption(options, 'readOnly', false),
    follow: followOption(options),
    createIfMissing: booleanOption(options, 'createIfMissing', true),
    errorIfExists: booleanOption(options, 'errorIfExists', false),
    strict: booleanOption(options, 'strict', false),
    merge: mergeOption(options),
    maxSegmentBytes: wholeOption(options, 'maxSegmentBytes', 256 * MIB, 4 * KIB, 2 * GIB, 'bytes'),
    cacheBytes: wholeOption(options, 'cacheBytes', 64 * MIB, 0, 2 * GIB, 'bytes'),
    onProgress,
    signal,
  }
}

/** How long a written entry lives. Give one of the two; both count from the wall clock. */
export interface PutOptions {
  /** Milliseconds from now, a whole number from 1 on. */
  ttlMs?: number
  /** Milliseconds since 1970; the entry is expired from that very millisecond on. */
  expiresAtMs?: number
}

const PUT_NAMES = ['ttlMs', 'expiresAtMs']

function expiryError(message: string, got: unknown): CaskyError {
  return new CaskyError('CASKY_INVALID_TTL', message, {
    expected: 'a whole number of milliseconds from 1 on',
    got,
  })
}

function isWholeMs(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0
}

/** When an entry put with these options expires; undefined: never. */
export function expiryOf(given: unknown, nowMs: number): number | undefined {
  if (given === undefined) return undefined
  const { ttlMs, expiresAtMs } = checkNames(given, PUT_NAMES, 'put')
  if (ttlMs !== undefined && expiresAtMs !== undefined) {
    throw expiryError('give ttlMs or expiresAtMs, not both', given)
  }
  if (ttlMs !== undefined) {
    if (!isWholeMs(ttlMs))
      throw expiryError(`ttlMs is a whole number of milliseconds from 1 on, not ${describe(ttlMs)}`, ttlMs)
    if (!isWholeMs(nowMs + ttlMs)) throw expiryError(`ttlMs reaches past the year 287396: ${ttlMs}`, ttlMs)
    return nowMs + ttlMs
  }
  if (expiresAtMs !== undefined && !isWholeMs(expiresAtMs)) {
    throw expiryError(
      `expiresAtMs is a whole number of milliseconds since 1970, from 1 on, not ${describe(expiresAtMs)}`,
      expiresAtMs,
    )
  }
  return expiresAtMs
}
