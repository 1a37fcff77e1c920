// A store that a trace has left, to be hurt: what it holds, and how much of it a reader can know to have been acknowledged.
import { Catalog } from '../../src/catalog'
import { Health } from '../../src/health'
import { Kernels } from '../../src/kernels'
import { Ledger } from '../../src/ledger'
import { readManifest } from '../../src/manifest'
import { recover } from '../../src/recovery'
import { cachesIn, forgetCaches, type PastCache } from './caches'
import type { SimDisk } from './disk'
import type { State } from './model'
import { Random } from './random'
import { copyOf, fileOf } from './rot'
import { STORE, World } from './world'

export interface VictimSegment {
  name: string
  /** Its length: behind it may be what an earlier crash has left. */
  bytes: number
  /** What is hurt below this is damage, and can't pass for a torn tail. */
  certifiedBytes: number
}

/** What the trace knows. */
export interface Remains {
  disk: SimDisk
  nowMs: number
  /** What the store holds. */
  expected: State
  /** Every value that a key ever had. */
  written: ReadonlyMap<string, ReadonlySet<string>>
  /** The keys of each batch none of which was written again since. */
  batches: ReadonlySet<string>[]
  /** Whether it is the state after some of the operations. */
  isPrefix(state: State): boolean
  /** Whether it is one, or what a merge may have made of it that knew what came later. */
  isThinned(state: State): boolean
  /** Caches that it had. */
  past: readonly PastCache[]
}

export interface Victim extends Remains {
  segments: VictimSegment[]
  /** Torn tails that it has before it is hurt, by `tailName`. */
  tornTails: ReadonlySet<string>
  /** Whether the manifest says where each segment ends: then nothing in it may pass for a torn tail. */
  isEnded: boolean
  /** Whether a merge has made some of it. */
  isMerged: boolean
  /** Its hints and its checkpoint. */
  caches: string[]
}

export function tailName({ path, offset, bytes }: { path: string; offset: number; bytes: number }): string {
  return `${path} ${offset}+${bytes}`
}

/** What spares an open the reading of the log keeps it from meeting what is done to the log: it stays where asked for. */
export function victimOf(remains: Remains, keepsCaches: boolean): Victim {
  if (!keepsCaches) forgetCaches(remains.disk)
  const random = new Random(1)
  const world = new World(copyOf(remains.disk, random), random)
  // What the log certifies by itself.
  forgetCaches(world.disk)
  world.nowMs = remains.nowMs
  const { host } = world.ground
  // Known to the pool from the first call on.
  host.list(STORE)
  const kernels = new Kernels()
  const catalog = new Catalog(host, STORE)
  const health = new Health()
  const manifest = readManifest(host, kernels, STORE)
  if (manifest === undefined) throw new Error('a victim has a manifest')
  for (const _ of recover(
    { host, kernels, catalog, ledger: new Ledger(kernels, catalog), health },
    manifest,
  ));
  const segments = catalog.segments.map(({ path, bytes, certifiedBytes, state }) => ({
    name: path.slice(STORE.length + 1),
    bytes,
    certifiedBytes: state === 'active' ? certifiedBytes : bytes,
  }))
  world.kill()
  return {
    ...remains,
    segments,
    tornTails: new Set(health.tornTails.map(tailName)),
    isEnded: manifest.segments.every(({ state }) => state !== 'active'),
    isMerged: manifest.segments.some(({ header }) => header.copies?.isFolded === true),
    caches: cachesIn(remains.disk),
  }
}

/** The files of a store, and how many bytes of each are its. */
export function filesOf({ disk, segments }: Victim): { name: string; bytes: number }[] {
  return [{ name: 'MANIFEST', bytes: fileOf(disk, 'MANIFEST').live.length }, ...segments]
}
