// Bit rot and worse, laid over a store that a trace has left: every byte of every file is under a promise.

import type { Casky } from '../../src/index'
import { openSyncOn } from '../../src/store'
import { crashed } from './crash'
import { Content, SECTOR_BYTES, type SimDirectory, type SimDisk, type SimFile } from './disk'
import { isLive, type State } from './model'
import { type Tally, Violation } from './oracle'
import type { Random } from './random'
import { STORE, World } from './world'

export interface Victim {
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
  /** Closed in order: then nothing in it may pass for a torn tail. */
  isClosed: boolean
}

export interface Hurt {
  path: string
  what: string
  apply(disk: SimDisk): void
  /** So many keys at most may be lost by it; undefined: any number. */
  keysMax: number | undefined
  /** Another file that it takes part of. */
  other?: string
  /** It may leave a log that looks as if it had ended there. */
  shortens?: true
}

/** Members of a batch at most, as the workload makes them. */
const BATCH_MAX = 5

function directoryOf(disk: SimDisk): SimDirectory {
  const node = disk.find(STORE)
  if (node?.kind !== 'directory') throw new Error('a victim is a store')
  return node
}

function fileOf(disk: SimDisk, name: string): SimFile {
  const node = directoryOf(disk).live.get(name)
  if (node?.kind !== 'file') throw new Error(`a victim has ${name}`)
  return node
}

/** The files of a store, and how many bytes of each are its: behind them may be what an earlier crash has left. */
export function filesOf({ disk, nowMs }: Victim, random: Random): { name: string; bytes: number }[] {
  const world = new World(copyOf(disk, random), random)
  world.nowMs = nowMs
  const db = openSyncOn<'utf8', 'utf8'>(world.ground, STORE, { readOnly: true, cacheBytes: 0 })
  const segments = db.stats().segments.map(({ path, bytes }) => ({
    name: path.slice(STORE.length + 1),
    bytes,
  }))
  world.kill()
  return [{ name: 'MANIFEST', bytes: fileOf(disk, 'MANIFEST').live.length }, ...segments]
}

function rewrite(disk: SimDisk, name: string, change: (bytes: Uint8Array) => Uint8Array): void {
  const file = fileOf(disk, name)
  const content = new Content(change(file.live.bytes.slice()))
  file.live = content
  file.durable = content.share()
}

export function flip(name: string, bit: number): Hurt {
  return {
    path: name,
    what: `bit ${bit} flipped`,
    keysMax: BATCH_MAX,
    apply: (disk) =>
      rewrite(disk, name, (bytes) => {
        bytes[bit >>> 3] ^= 1 << (bit & 7)
        return bytes
      }),
  }
}

export function cutAt(name: string, bytes: number): Hurt {
  return {
    path: name,
    what: `cut to ${bytes} bytes`,
    keysMax: undefined,
    shortens: true,
    apply: (disk) => rewrite(disk, name, (content) => content.slice(0, bytes)),
  }
}

/** Sectors zeroed, filled with garbage, doubled over another, or swapped. */
export function sectors(name: string, bytes: number, random: Random): Hurt {
  const count = Math.max(1, Math.ceil(bytes / SECTOR_BYTES))
  const a = random.below(count) * SECTOR_BYTES
  const b = random.below(count) * SECTOR_BYTES
  const how = random.pick(['zeroed', 'garbage', 'doubled', 'swapped'] as const)
  return {
    path: name,
    what: `sector at ${a} ${how} (${b})`,
    keysMax: undefined,
    apply: (disk) =>
      rewrite(disk, name, (content) => {
        const at = content.slice(a, a + SECTOR_BYTES)
        const other = content.slice(b, b + SECTOR_BYTES)
        const length = Math.min(at.length, other.length)
        if (how === 'zeroed') content.fill(0, a, a + at.length)
        else if (how === 'garbage') content.set(random.bytes(at.length), a)
        else content.set(other.subarray(0, length), a)
        if (how === 'swapped') content.set(at.subarray(0, length), b)
        return content
      }),
  }
}

export function removed(name: string): Hurt {
  return {
    path: name,
    what: 'missing',
    keysMax: undefined,
    apply: (disk) => {
      const directory = directoryOf(disk)
      directory.live.delete(name)
      directory.durable.delete(name)
    },
  }
}

export function swapped(name: string, other: string): Hurt {
  return {
    path: name,
    what: `swapped with ${other}`,
    other,
    keysMax: undefined,
    apply: (disk) => {
      const directory = directoryOf(disk)
      const [a, b] = [fileOf(disk, name), fileOf(disk, other)]
      for (const names of [directory.live, directory.durable]) names.set(name, b).set(other, a)
    },
  }
}

/** What another segment has at the same place, from `at` on: a stale tail, or a write gone astray. */
export function overlaid(name: string, other: string, at: number, bytes: number): Hurt {
  return {
    path: name,
    what: `${bytes} bytes from ${at} on are those of ${other}`,
    other,
    keysMax: undefined,
    // Of a segment without a record there is nothing.
    shortens: true,
    apply: (disk) => {
      const stray = fileOf(disk, other).live.bytes.slice(at, at + bytes)
      rewrite(disk, name, (content) => {
        const whole = new Uint8Array(Math.max(content.length, at + stray.length))
        whole.set(content)
        whole.set(stray, at)
        return bytes === Number.POSITIVE_INFINITY ? whole.slice(0, at + stray.length) : whole
      })
    },
  }
}

/** A copy that can be hurt. */
function copyOf(disk: SimDisk, random: Random): SimDisk {
  return crashed(disk, { files: new Map(), directories: new Map() }, random)
}

/** Rule 6: each key is right, or an error and reported; what is older or gone only with a report standing. */
export function suffer(victim: Victim, hurt: Hurt, random: Random, tally: Tally): void {
  tally.flips++
  const disk = copyOf(victim.disk, random)
  hurt.apply(disk)
  const world = new World(disk, random)
  world.nowMs = victim.nowMs
  const where = `${hurt.path}: ${hurt.what}`
  let db: Casky
  try {
    db = openSyncOn<'utf8', 'utf8'>(world.ground, STORE, { readOnly: true, cacheBytes: 0 })
  } catch (error) {
    if (world.openHandles.length > 0) {
      throw new Violation('D8 no handle leaks', `${where}: ${world.openHandles.join(', ')}`)
    }
    const { code } = error as { code?: string }
    // A manifest can't be done without.
    const isRefusal = code === 'CASKY_CORRUPT' || code === 'CASKY_NOT_FOUND' || code === 'CASKY_NOT_A_STORE'
    if (isRefusal && hurt.path === 'MANIFEST') return
    throw new Violation('D6 bit rot is reported', `${where}: open fails with ${(error as Error).message}`)
  }
  compare(victim, hurt, db, where)
  world.kill()
}

function readable(db: Casky): State {
  const found = new Map<string, { value: string; expiresAtMs: number | undefined }>()
  for (const [key, value] of db.entries({ damaged: 'skip' })) {
    found.set(key, { value, expiresAtMs: db.expiresAtMs(key) })
  }
  return found
}

function compare(victim: Victim, hurt: Hurt, db: Casky, where: string): void {
  const { expected, written, nowMs, isClosed } = victim
  let wrong = 0
  const older = new Set<string>()
  const intact = new Set<string>()
  for (const key of new Set([...expected.keys(), ...db.keys()])) {
    const entry = expected.get(key)
    const right = entry !== undefined && isLive(entry, nowMs) ? entry.value : undefined
    let value: string | undefined
    try {
      value = db.get(key)
      if (value === right) {
        intact.add(key)
        continue
      }
      older.add(key)
    } catch (error) {
      if ((error as { code?: string }).code !== 'CASKY_CORRUPT') throw error
      value = undefined
      if (db.health().damage.length === 0) {
        throw new Violation('D6 bit rot is reported', `${where}: get of ${key} throws, and health is silent`)
      }
    }
    wrong++
    if (value !== undefined && written.get(key)?.has(value) !== true) {
      throw new Violation('D6 bit rot is reported', `${where}: ${key} has a value that nobody wrote`)
    }
  }
  for (const batch of victim.batches) {
    const keys = [...batch]
    if (keys.some((key) => intact.has(key)) && keys.some((key) => older.has(key))) {
      throw new Violation(
        'D6 bit rot is reported',
        `${where}: of ${keys.join(', ')} ${[...older].join(', ')} are older`,
      )
    }
  }
  const { damage, tornTails } = db.health()
  // A log that nobody ended may end anywhere, as far as anyone can tell.
  const isShortened = hurt.shortens === true && !isClosed && wrong > 0 && victim.isPrefix(readable(db))
  const isReported = damage.length > 0 || (!isClosed && tornTails.length > 0) || isShortened
  if (wrong > 0 && !isReported) {
    throw new Violation(
      'D6 bit rot is reported',
      `${where}: ${wrong} keys are not what they were, in silence`,
    )
  }
  if (hurt.keysMax !== undefined && damage.length > 0 && wrong > hurt.keysMax) {
    throw new Violation('D6 bit rot is reported', `${where}: ${wrong} keys are lost`)
  }
  if (hurt.keysMax !== undefined && !isReported) {
    throw new Violation('D6 bit rot is reported', `${where}: nobody noticed`)
  }
}
