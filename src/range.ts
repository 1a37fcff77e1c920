// Which keys an iteration covers, and in which order.
import { asBytes, compareRanges } from './bytes'
import type { KeyCodec, KeyEncoding, KeyIn } from './encoding'
import { CaskyError } from './errors'
import { booleanOption, checkNames, oneOf, wholeOption } from './options'

export interface RangeOptions<K extends KeyEncoding = KeyEncoding> {
  /** Only keys that begin with this. An empty prefix is every key. */
  prefix?: KeyIn<K>
  gt?: KeyIn<K>
  gte?: KeyIn<K>
  lt?: KeyIn<K>
  lte?: KeyIn<K>
  /** From the last key to the first. Default false. */
  reverse?: boolean
  /** At most so many, from 0 on; default: all. */
  limit?: number
  /** `'key'` (the default): in byte order of the keys. `'any'`: in whatever order is fastest. */
  order?: 'key' | 'any'
  /** What `entries` and `values` do at a damaged entry: `'throw'` (the default) CASKY_CORRUPT, or `'skip'` it. */
  damaged?: 'throw' | 'skip'
}

export interface Range {
  prefix: Uint8Array | undefined
  lower: { key: Uint8Array; isIncluded: boolean } | undefined
  upper: { key: Uint8Array; isIncluded: boolean } | undefined
  reverse: boolean
  limit: number
  isOrdered: boolean
  skipsDamaged: boolean
}

export const EVERYTHING: Range = {
  prefix: undefined,
  lower: undefined,
  upper: undefined,
  reverse: false,
  limit: Number.POSITIVE_INFINITY,
  isOrdered: true,
  skipsDamaged: false,
}

const NAMES = ['prefix', 'gt', 'gte', 'lt', 'lte', 'reverse', 'limit', 'order', 'damaged']

const NO_BYTES = new Uint8Array(0)

/** An empty bound is no key, but a place: before every key. */
function isEmpty(value: unknown): boolean {
  return value === '' || asBytes(value)?.length === 0
}

function bound(
  options: Record<string, unknown>,
  codec: KeyCodec,
  excluded: string,
  included: string,
): Range['lower'] {
  if (options[excluded] !== undefined && options[included] !== undefined) {
    throw new CaskyError('CASKY_INVALID_OPTION', `give '${excluded}' or '${included}', not both`)
  }
  const name = options[included] !== undefined ? included : excluded
  const value = options[name]
  if (value === undefined) return undefined
  return { key: isEmpty(value) ? NO_BYTES : codec.toBytes(value).slice(), isIncluded: name === included }
}

export function rangeOf(given: unknown, codec: KeyCodec, call: string): Range {
  const options = checkNames(given, NAMES, call)
  const { prefix } = options
  return {
    prefix: prefix === undefined || isEmpty(prefix) ? undefined : codec.toBytes(prefix).slice(),
    lower: bound(options, codec, 'gt', 'gte'),
    upper: bound(options, codec, 'lt', 'lte'),
    reverse: booleanOption(options, 'reverse', false),
    limit:
      options.limit === Number.POSITIVE_INFINITY
        ? Number.POSITIVE_INFINITY
        : wholeOption(options, 'limit', Number.POSITIVE_INFINITY, 0, Number.MAX_SAFE_INTEGER, 'entries'),
    isOrdered: oneOf<'key' | 'any'>(options, 'order', ['key', 'any']) === 'key',
    skipsDamaged: oneOf<'throw' | 'skip'>(options, 'damaged', ['throw', 'skip']) === 'skip',
  }
}

/** Whether every key is in range. */
export function isUnbounded({ prefix, lower, upper }: Range): boolean {
  return prefix === undefined && lower === undefined && upper === undefined
}

export function isInRange(range: Range, keys: Uint8Array, at: number, keyBytes: number): boolean {
  const { prefix, lower, upper } = range
  if (prefix !== undefined) {
    if (keyBytes < prefix.length) return false
    for (let i = 0; i < prefix.length; i++) if (keys[at + i] !== prefix[i]) return false
  }
  if (lower !== undefined) {
    const order = compareRanges(keys, at, keyBytes, lower.key, 0, lower.key.length)
    if (order < 0 || (order === 0 && !lower.isIncluded)) return false
  }
  if (upper !== undefined) {
    const order = compareRanges(keys, at, keyBytes, upper.key, 0, upper.key.length)
    if (order > 0 || (order === 0 && !upper.isIncluded)) return false
  }
  return true
}
