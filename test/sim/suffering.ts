// Holds a store that was hurt to the rule for bit rot.
import type { Casky } from '../../src/index'
import { openSyncOn } from '../../src/store'
import type { SimDisk } from './disk'
import { isLive, type State } from './model'
import { type Tally, Violation } from './oracle'
import type { Random } from './random'
import { copyOf, directoryOf, fileOf, type Hurt } from './rot'
import { tailName, type Victim } from './victim'
import { STORE, World } from './world'

/** Whether a hurt reached behind the certified part of a log that nobody has ended: that may pass for a torn tail. */
function isTearing({ disk, segments, isEnded }: Victim, hurt: SimDisk): boolean {
  const last = segments.at(-1)
  if (isEnded || last === undefined) return false
  const now = directoryOf(hurt).live.get(last.name)
  if (now?.kind !== 'file') return false
  const before = fileOf(disk, last.name).live.bytes.subarray(last.certifiedBytes)
  const after = now.live.bytes.subarray(last.certifiedBytes)
  return before.length !== after.length || before.some((byte, i) => byte !== after[i])
}

/**
 * Who has the store when it is found to be hurt: a reader; a writer, who writes on; one who has it merged; or one who had
 * it open before it was hurt, and has it merged then.
 */
const TURNS_MAX = 10_000
const WRITER = { cacheBytes: 0, maxSegmentBytes: 4096, merge: false } as const

export type Role = 'reader' | 'writer' | 'merger' | 'owner'

/** Rule 6: each key is right, or an error and reported; what is older or gone only with a report standing. */
export async function suffer(
  victim: Victim,
  hurt: Hurt,
  random: Random,
  tally: Tally,
  role: Role = 'reader',
): Promise<void> {
  tally.flips++
  const disk = copyOf(victim.disk, random)
  const where = `${hurt.path}: ${hurt.what}, as a ${role}`
  const world = worldOn(disk, victim, random)
  if (role === 'owner') {
    await own(victim, hurt, world, random, where)
    world.kill()
    return
  }
  hurt.apply(disk)
  // Records that count on one which was forged count no more, nor what they certify.
  const mayTear = isTearing(victim, disk) || (hurt.isForged === true && !victim.isEnded)
  const db = openHurt(victim, world, hurt, role, where)
  if (db === undefined) return
  compare(victim, hurt, db, mayTear, where)
  if (role !== 'reader') await goOn(victim, hurt, world, db, random, where, role)
  world.kill()
}

/** A store that is hurt while it is open, by anything but its manifest, and merged then. */
async function own(victim: Victim, hurt: Hurt, world: World, random: Random, where: string): Promise<void> {
  const db = openSyncOn<'utf8', 'utf8'>(world.ground, STORE, WRITER)
  hurt.apply(world.disk)
  await mergeIt(world, db, where)
  db.closeSync()
  world.kill()
  const again = worldOn(copyOf(world.disk, random), victim, random)
  const reader = openSyncOn<'utf8', 'utf8'>(again.ground, STORE, { readOnly: true, cacheBytes: 0 })
  // What nobody needs any more may go with a merge, damaged or not.
  compare(victim, { ...hurt, keysMax: undefined }, reader, false, `${where}, reopened`)
  again.kill()
}

/** Runs a merge of all there is to its end. */
async function mergeIt(world: World, db: Casky, where: string): Promise<void> {
  let isDone = false
  let failure: unknown
  db.merge().then(
    () => {
      isDone = true
    },
    (error) => {
      isDone = true
      failure = error
    },
  )
  for (let turns = 0; !isDone; turns++) {
    if (turns > TURNS_MAX) throw new Violation('D7 errors are typed', `${where}: a merge hangs`)
    await new Promise((resolve) => setImmediate(resolve))
    world.turn()
    world.endSync()
  }
  if (failure === undefined) return
  const isTyped = (failure as { code?: string }).code?.startsWith('CASKY_') === true
  if (!isTyped) throw new Violation('D7 errors are typed', `${where}: a merge: ${(failure as Error).stack}`)
}

function worldOn(disk: SimDisk, { nowMs }: Victim, random: Random): World {
  const world = new World(disk, random)
  world.nowMs = nowMs
  return world
}

/** A store whose numbers were set to their last takes no more. */
function isUsedUp(error: unknown): boolean {
  return /used up/.test((error as Error).message)
}

/** undefined where it is refused for a reason. */
function openHurt(
  { segments, disk }: Victim,
  world: World,
  hurt: Hurt,
  role: Role,
  where: string,
): Casky | undefined {
  try {
    return openSyncOn<'utf8', 'utf8'>(
      world.ground,
      STORE,
      role === 'reader' ? { readOnly: true, cacheBytes: 0 } : WRITER,
    )
  } catch (error) {
    if (world.openHandles.length > 0) {
      throw new Violation('D8 no handle leaks', `${where}: ${world.openHandles.join(', ')}`)
    }
    const { code } = error as { code?: string }
    // A manifest can't be done without.
    const isRefusal = code === 'CASKY_CORRUPT' || code === 'CASKY_NOT_FOUND' || code === 'CASKY_NOT_A_STORE'
    if (isRefusal && hurt.path === 'MANIFEST') return undefined
    if (hurt.isForged === true && isUsedUp(error)) return undefined
    // What a crash left of a merge may be all that there is of a segment that is gone.
    const names = [...directoryOf(disk).live.keys()].filter((name) => name.endsWith('.data'))
    if (role !== 'reader' && names.length > segments.length && /does(n't| not) name it/.test(String(error)))
      return undefined
    throw new Violation('D6 bit rot is reported', `${where}: open fails with ${(error as Error).message}`)
  }
}

/** Those that the store should have, and those that it says it has. */
function keysOf({ expected }: Victim, hurt: Hurt, db: Casky): string[] {
  const keys = new Set(expected.keys())
  try {
    for (const key of db.keys()) keys.add(key)
  } catch (error) {
    // A key that ends within a value need not be text.
    if (hurt.isForged !== true || (error as { code?: string }).code !== 'CASKY_INVALID_KEY') throw error
  }
  return [...keys]
}

/** What each key reads as, an error included. */
function sightOf(db: Casky, keys: Iterable<string>): Map<string, string | undefined> {
  const sight = new Map<string, string | undefined>()
  for (const key of keys) {
    try {
      sight.set(key, db.get(key))
    } catch (error) {
      sight.set(key, (error as { code?: string }).code)
    }
  }
  return sight
}

/** A writer leaves everything as it has shown it, and what it was given; so does a merge. */
async function goOn(
  victim: Victim,
  hurt: Hurt,
  world: World,
  db: Casky,
  random: Random,
  where: string,
  role: Role,
): Promise<void> {
  const fail = (what: string): never => {
    throw new Violation('D6 bit rot is reported', `${where}: ${what}`)
  }
  const keys = keysOf(victim, hurt, db)
  const before = sightOf(db, keys)
  const damaged = db.health().damage.length > 0
  const expectSame = (now: Casky, when: string): void => {
    const after = sightOf(now, keys)
    const changed = keys.filter((key) => after.get(key) !== before.get(key))
    if (changed.length > 0) fail(`${when} ${changed.join(', ')} read differently`)
    if (damaged && now.health().damage.length === 0) fail(`${when} the damage is forgotten`)
  }
  try {
    if (role === 'merger') {
      await mergeIt(world, db, where)
      expectSame(db, 'after a merge')
    }
    db.putSync('probe', 'probe')
    db.closeSync()
  } catch (error) {
    if (error instanceof Violation) throw error
    if ((error as { code?: string }).code?.startsWith('CASKY_') !== true) throw error
    if (hurt.isForged !== true || !isUsedUp(error)) fail(`it takes no write: ${(error as Error).message}`)
    return
  }
  if (world.openHandles.length > 0) fail(`left open: ${world.openHandles.join(', ')}`)
  world.kill()
  const again = worldOn(copyOf(world.disk, random), victim, random)
  const reader = openSyncOn<'utf8', 'utf8'>(again.ground, STORE, { readOnly: true, cacheBytes: 0 })
  if (reader.get('probe') !== 'probe') fail('what was written to it is lost')
  expectSame(reader, role === 'merger' ? 'after a merge, a write and a close' : 'after a write and a close')
  again.kill()
}

function readable(db: Casky): State {
  const found = new Map<string, { value: string; expiresAtMs: number | undefined }>()
  for (const [key, value] of db.entries({ damaged: 'skip' })) {
    found.set(key, { value, expiresAtMs: db.expiresAtMs(key) })
  }
  return found
}

function compare(victim: Victim, hurt: Hurt, db: Casky, mayTear: boolean, where: string): void {
  const { expected, written, nowMs } = victim
  let wrong = 0
  const older = new Set<string>()
  const intact = new Set<string>()
  for (const key of keysOf(victim, hurt, db)) {
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
  // A delete under a mended CRC may be one of another key, and nothing of its batch is missing.
  for (const batch of hurt.isForged === true ? [] : victim.batches) {
    const keys = [...batch]
    if (keys.some((key) => intact.has(key)) && keys.some((key) => older.has(key))) {
      throw new Violation(
        'D6 bit rot is reported',
        `${where}: of ${keys.join(', ')} ${[...older].join(', ')} are older`,
      )
    }
  }
  const { damage, tornTails } = db.health()
  const isTorn = tornTails.some((tail) => !victim.tornTails.has(tailName(tail)))
  // A log that nobody ended may end anywhere, as far as anyone can tell.
  const isShortened = hurt.shortens === true && wrong > 0 && victim.isPrefix(readable(db))
  const isReported = damage.length > 0 || (mayTear && (isTorn || isShortened))
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
