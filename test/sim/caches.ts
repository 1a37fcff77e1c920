// Hints and checkpoints of a simulated store: told from its other files, put away as a trace goes on, and hurt in every way.
import { CHECKPOINT, hintedIdOf } from '../../src/files'
import type { SimDisk } from './disk'
import { cacheLengths } from './forging'
import type { Random } from './random'
import { cutAt, directoryOf, fileOf, flip, type Hurt, placed, removed, sectors, swapped } from './rot'

/** A cache as it stood when it was written. */
export interface PastCache {
  name: string
  bytes: Uint8Array
}

const PAST_MAX = 8
const FLIPS_PER_CACHE = 20
const CUTS_PER_CACHE = 5
const SECTORS_PER_CACHE = 4
const FORGED_PER_CACHE = 12

export function isCache(name: string): boolean {
  return name === CHECKPOINT || hintedIdOf(name) !== undefined
}

export function cachesIn(disk: SimDisk): string[] {
  return [...directoryOf(disk).live.keys()].filter(isCache)
}

export function forgetCaches(disk: SimDisk): void {
  const store = directoryOf(disk)
  for (const name of cachesIn(disk)) store.apply({ kind: 'remove', name })
  store.synced()
}

/** What was written under `path` and has just been renamed, where that is a cache. */
export function noteCache(past: PastCache[], disk: SimDisk, path: string): void {
  const name = path.slice(path.lastIndexOf('/') + 1).replace(/\.next$/, '')
  if (!isCache(name)) return
  past.push({ name, bytes: fileOf(disk, name).live.bytes.slice() })
  if (past.length > PAST_MAX) past.shift()
}

/** Those of an older moment, or of another store, in the place of each that there is. */
function strangers(names: string[], past: readonly PastCache[], whose: string): Hurt[] {
  return past.flatMap(({ name, bytes }) =>
    names
      .filter((mine) => (mine === CHECKPOINT) === (name === CHECKPOINT))
      .map((mine) => placed(mine, bytes, `${whose} ${name}`)),
  )
}

export interface CacheSources {
  /** What this store had earlier, and what another one has. */
  past: readonly PastCache[]
  foreign: readonly PastCache[]
}

/** What befalls each cache as a whole. */
export function cacheExchanges(disk: SimDisk, { past, foreign }: CacheSources): Hurt[] {
  const names = cachesIn(disk)
  const withCheckpoint = [...new Set([...names, CHECKPOINT])]
  return [
    ...names.map((name) => removed(name)),
    ...names.flatMap((name, i) => names.slice(i + 1).map((other) => swapped(name, other))),
    ...strangers(withCheckpoint, past, "an earlier moment's"),
    ...strangers(withCheckpoint, foreign, "another store's"),
  ]
}

/** Some of all that there is. */
export function cacheHurts(disk: SimDisk, sources: CacheSources, random: Random): Hurt[] {
  const times = (count: number, make: () => Hurt): Hurt[] => Array.from({ length: count }, make)
  return [
    ...cacheExchanges(disk, sources),
    ...cachesIn(disk).flatMap((name) => {
      const { bytes } = fileOf(disk, name).live
      if (bytes.length === 0) return []
      const forged = cacheLengths(name, bytes)
      return [
        ...times(FLIPS_PER_CACHE, () => flip(name, random.below(bytes.length * 8))),
        ...times(CUTS_PER_CACHE, () => cutAt(name, random.below(bytes.length))),
        ...times(SECTORS_PER_CACHE, () => sectors(name, bytes.length, random)),
        ...times(forged.length > 0 ? FORGED_PER_CACHE : 0, () => random.pick(forged)),
      ]
    }),
  ]
}
