// What a simulated process does: a list of steps, drawn from a seed, plain enough to be printed and run again.

import type { SyncMode } from '../../src/group'
import type { MergePolicy } from '../../src/merge/policy'
import { Random } from './random'

export interface Settings {
  sync: SyncMode
  maxSegmentBytes: number
  cacheBytes: number
  merge?: MergePolicy | false
}

export type Step =
  | { do: 'put'; key: string; bytes: number; ttlMs?: number; now?: boolean }
  | { do: 'delete'; key: string; now?: boolean }
  | { do: 'batch'; changes: { key: string; bytes?: number }[]; now?: boolean }
  | { do: 'flush' | 'expire' | 'read' | 'turn' | 'endSync' | 'settle' | 'rival' | 'check' | 'reader' }
  /** Begun, and not waited for; after so many steps it is aborted. */
  | { do: 'merge'; abortsAfter?: number }
  /** Begun, and not waited for; in a directory of its own, or added to the latest backup or the first of a directory. */
  | { do: 'backup'; since?: 'latest' | 'first'; abortsAfter?: number }
  /** Asked for where the disk has next to no room. */
  | { do: 'mergeInNoRoom' }
  /** A snapshot and an iterator that are kept; a look at all of them, and the oldest let go. */
  | { do: 'snapshot' | 'look' }
  | { do: 'advance'; ms: number }
  /** An end and a new beginning: closed in order, killed, or the power cut. */
  | { do: 'reopen'; now?: boolean }
  | { do: 'kill' }
  | { do: 'cut'; seed: number }

export interface Trace {
  seed: number
  settings: Settings
  steps: Step[]
}

/** Whatever is dead calls for a merge of everything. */
const EAGER: MergePolicy = {
  triggerDeadRatio: 0.1,
  triggerSmallSegments: 2,
  deadRatio: 0.05,
  maxBytesPerSecond: 0,
}

/** Only segments with much that is dead take part, wherever they stand. */
const PICKY: MergePolicy = {
  triggerDeadRatio: 0.2,
  triggerSmallSegments: 1000,
  deadRatio: 0.3,
  smallBytes: 0,
  maxBytesPerSecond: 0,
}

/** It waits for the clock now and then. */
const SLOW: MergePolicy = { ...PICKY, triggerSmallSegments: 3, smallBytes: 1024, maxBytesPerSecond: 20_000 }

const SIZES = [0, 3, 20, 60, 150, 400, 800, 1600]
const LONG_KEY = `long-${'k'.repeat(300)}`

/** Which keys are written to: all alike; few, so that nothing may be left; or two again and again, beside others that stay. */
type Keys = 'alike' | 'few' | 'hot'

export interface Mix {
  steps: number
  /** Values larger than the write buffer. */
  hasLarge: boolean
  /** Whether it is about merges; drawn where undefined. */
  isMerging?: boolean
  /** Whether it is about backups. */
  isBackingUp?: boolean
}

interface Draw extends Mix {
  keys: Keys
  /** Merges, and what goes on while they run, more than all else. */
  isMerging: boolean
  /** How many of the values expire. */
  expiring: number
}

export function traceOf(seed: number, mix: Mix): Trace {
  const random = new Random(seed)
  const isMerging = random.chance(0.4) || mix.isMerging === true
  const settings: Settings = {
    sync: random.pick<SyncMode>(['always', 'always', 'always', 'never', { everyMs: 30 }]),
    maxSegmentBytes: random.pick([4096, 4096, 4096, 5000, 12_000]),
    cacheBytes: random.pick([0, 0, 65_536]),
    merge: isMerging ? random.pick<MergePolicy | false>([false, EAGER, PICKY, PICKY, SLOW]) : false,
  }
  const keys = isMerging ? random.pick<Keys>(['alike', 'few', 'hot', 'hot']) : 'alike'
  const expiring = isMerging ? random.pick([0.12, 0.4]) : 0.12
  const draw: Draw = { ...mix, keys, isMerging, expiring }
  const drawn = Array.from({ length: mix.steps }, () => stepOf(random, draw))
  // One that is asked for takes nearly everything, and leaves nothing to choose from.
  const isOwnChoice = settings.merge !== false && random.chance(0.6)
  const steps = isOwnChoice ? drawn.filter(({ do: what }) => what !== 'merge') : drawn
  return { seed, settings, steps: keys === 'hot' ? [...oldOnes(random), ...steps] : steps }
}

/** What stands at the beginning of the log, and lives. */
function oldOnes(random: Random): Step[] {
  return Array.from({ length: 8 }, (_, i) => ({
    do: 'put',
    key: `k${i % 7}`,
    bytes: random.pick([150, 400, 800]),
    now: true,
  }))
}

function keyOf(random: Random, keys: Keys): string {
  if (keys === 'few') return `k${random.below(2)}`
  if (keys === 'hot' && random.chance(0.8)) return `k${random.below(2)}`
  return random.chance(0.04) ? LONG_KEY : `k${random.below(7)}`
}

function sizeOf(random: Random, { hasLarge }: Mix): number {
  return hasLarge && random.chance(0.08) ? random.pick([5000, 9000, 20_000]) : random.pick(SIZES)
}

type Make = (random: Random, draw: Draw) => Step

function put(random: Random, draw: Draw): Step {
  const ttlMs = random.chance(draw.expiring) ? random.pick([1, 40, 200, 5000]) : undefined
  const key = keyOf(random, draw.keys)
  return { do: 'put', key, bytes: sizeOf(random, draw), ttlMs, now: isNow(random) }
}

function remove(random: Random, { keys }: Draw): Step {
  return { do: 'delete', key: keyOf(random, keys), now: isNow(random) }
}

function batch(random: Random, draw: Draw): Step {
  const count = 1 + random.below(5)
  const changes = Array.from({ length: count }, () => ({
    key: keyOf(random, draw.keys),
    bytes: random.chance(0.3) ? undefined : sizeOf(random, draw),
  }))
  return { do: 'batch', changes, now: isNow(random) }
}

/** Deletes all that there can be, so that a merge finds nothing to keep. */
function clear(random: Random): Step {
  const keys = Array.from({ length: 7 }, (_, i) => `k${i}`)
  return { do: 'batch', changes: [...keys, LONG_KEY].map((key) => ({ key })), now: isNow(random) }
}

function isNow(random: Random): true | undefined {
  return random.chance(0.15) || undefined
}

function abortsAfter(random: Random): number | undefined {
  return random.chance(0.1) ? 1 + random.below(6) : undefined
}

function merge(random: Random): Step {
  return { do: 'merge', abortsAfter: abortsAfter(random) }
}

function backup(random: Random): Step {
  const since = random.pick([undefined, 'latest', 'latest', 'first'] as const)
  return { do: 'backup', since, abortsAfter: abortsAfter(random) }
}

/** Steps by how often they are drawn: usually, and in traces that are about merges. */
const STEPS: [usual: number, merging: number, make: Make][] = [
  [32, 26, put],
  [8, 9, remove],
  [9, 7, batch],
  [0, 1, clear],
  [14, 14, () => ({ do: 'turn' })],
  [12, 18, () => ({ do: 'endSync' })],
  [1, 6, merge],
  [0, 0.5, () => ({ do: 'mergeInNoRoom' })],
  [0.3, 1, backup],
  [1, 3, () => ({ do: 'snapshot' })],
  [1, 3, () => ({ do: 'look' })],
  [4, 3, () => ({ do: 'settle' })],
  [3, 1.5, () => ({ do: 'flush' })],
  [6, 4, (random) => ({ do: 'advance', ms: random.pick([1, 20, 60, 120, 250]) })],
  [2, 1, () => ({ do: 'read' })],
  [0.2, 1, () => ({ do: 'expire' })],
  [0.2, 0.2, () => ({ do: 'rival' })],
  [0.2, 0.3, () => ({ do: 'check' })],
  [0.4, 0.4, () => ({ do: 'reader' })],
  [3, 1.5, (random) => ({ do: 'reopen', now: random.chance(0.3) || undefined })],
  [1.5, 0.8, () => ({ do: 'kill' })],
  [2, 1, (random) => ({ do: 'cut', seed: random.below(2 ** 31) })],
]

/** Of backups and merges in traces that are about backups. */
const BACKUPS_WEIGHT = 12

function stepOf(random: Random, draw: Draw): Step {
  const weightOf = ([usual, merging, make]: (typeof STEPS)[number]): number => {
    if (draw.isBackingUp === true && (make === backup || make === merge)) return BACKUPS_WEIGHT
    return draw.isMerging ? merging : usual
  }
  let left = random.next() * STEPS.reduce((sum, each) => sum + weightOf(each), 0)
  for (const each of STEPS) {
    left -= weightOf(each)
    if (left < 0) return each[2](random, draw)
  }
  return { do: 'settle' }
}

/** A trace as it is written into a list of kept cases. */
export function printTrace(trace: Trace): string {
  return JSON.stringify(trace)
}
