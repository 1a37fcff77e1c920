// Statistics that a service has written down, to be drawn elsewhere.
import { Buffer } from 'node:buffer'
import type { Stats } from '../index'
import { FAILED, Failure } from './exit'
import { openInput } from './files'
import { sizeOf } from './units'

/** Of 200,000 segments they take 40 MiB. */
const BYTES_MAX = 2 ** 28
const STATES = ['active', 'closed', 'sealed']

/** What the picture needs; there may be more, from a newer version. */
const SHAPE = {
  entries: 0,
  expired: 0,
  swept: 0,
  lastSequence: 0,
  segments: [
    {
      id: 0,
      state: STATES,
      bytes: 0,
      liveBytes: 0,
      deadBytes: 0,
      records: 0,
      firstSequence: 0,
      lastSequence: 0,
    },
  ],
  bytes: 0,
  liveBytes: 0,
  deadBytes: 0,
  keydir: { bytes: 0, bytesPerKey: 0 },
  cache: { bytes: 0, hits: 0, misses: 0 },
  writes: {
    records: 0,
    groups: 0,
    largestGroupRecords: 0,
    groupSizes: [{ minRecords: 0, maxRecords: 0, groups: 0 }],
    syncs: 0,
    syncTimes: {
      count: 0,
      totalMs: 0,
      p50Ms: 0,
      p99Ms: 0,
      maxMs: 0,
      buckets: [{ fromMs: 0, belowMs: 0, count: 0 }],
    },
  },
  merges: { count: 0, bytesRead: 0, bytesWritten: 0, freedBytes: 0 },
  snapshots: { count: 0, replacedBytes: 0 },
  recovery: { scanned: 0, durationMs: 0, bytesRead: 0 },
}

/** `-` is standard input. */
export async function readStats(path: string): Promise<{ stats: Stats; name: string }> {
  const input = await openInput(path)
  const refused = (why: string): Failure =>
    new Failure(FAILED, `${input.name} is not what stats() returns, as JSON: ${why}`)
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    for (let step = await input.chunks.next(); step.done !== true; step = await input.chunks.next()) {
      chunks.push(step.value)
      bytes += step.value.length
      if (bytes > BYTES_MAX) throw refused(`it is longer than ${sizeOf(BYTES_MAX)}`)
    }
  } finally {
    input.close()
  }
  let given: unknown
  try {
    given = JSON.parse(Buffer.concat(chunks).toString())
  } catch {
    throw refused('it is not JSON')
  }
  const misfit = misfitOf(given, SHAPE, '')
  if (misfit !== undefined) throw refused(misfit)
  return { stats: given as Stats, name: input.name }
}

/** The first thing that is not as in `shape`. */
function misfitOf(given: unknown, shape: unknown, at: string): string | undefined {
  const where = at === '' ? 'it' : at
  if (given === undefined) return `${where} is missing`
  if (typeof shape === 'number') {
    const isFit = typeof given === 'number' && given >= 0 && given <= Number.MAX_SAFE_INTEGER
    return isFit ? undefined : `${where} is no number, or none that can be`
  }
  if (shape === STATES) return STATES.includes(given as string) ? undefined : `${where} is no state`
  if (Array.isArray(shape)) {
    if (!Array.isArray(given)) return `${where} is no array`
    return firstOf(given.keys(), (i) => misfitOf(given[i], shape[0], `${at}[${i}]`))
  }
  if (typeof given !== 'object' || given === null) return `${where} is no object`
  return firstOf(Object.entries(shape as object), ([name, inner]) => {
    const value = Object.hasOwn(given, name) ? (given as Record<string, unknown>)[name] : undefined
    return misfitOf(value, inner, at === '' ? name : `${at}.${name}`)
  })
}

function firstOf<T>(items: Iterable<T>, find: (item: T) => string | undefined): string | undefined {
  for (const item of items) {
    const found = find(item)
    if (found !== undefined) return found
  }
  return undefined
}
