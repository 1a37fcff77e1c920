// Holds a store that was hurt to the rule for bit rot.

import { CHECKPOINT } from '../../src/files'
import type { Casky } from '../../src/index'
import { openSyncOn } from '../../src/store'
import { cachesIn, isCache } from './caches'
import { wholeOf } from './crash'
import type { SimDisk } from './disk'
import { isLive, type State } from './model'
import { type Tally, Violation } from './oracle'
import type { Random } from './random'
import { copyOf, directoryOf, fileOf, type Hurt, removed } from './rot'
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
/** Enough for a hint of each segment, and a checkpoint. */
const IDLE_TURNS = 40
/** See EARLY_CACHES in bundle.ts. */
const HINTED_BYTES_MIN = 300
const CHECKPOINTED_BYTES_MIN = 500
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
  const where = `${hurt.path}: ${hurt.what}, as a ${role}${victim.caches.length > 0 ? ' by caches' : ''}`
  const world = worldOn(disk, victim, random)
  if (role === 'owner') {
    await own(victim, hurt, world, random, where)
    world.kill()
    return
  }
  hurt.apply(disk)
  // Records that count on one which was forged count no more, nor what they certify.
  const mayTear = isTearing(victim, disk) || (hurt.isForged === true && !victim.isEnded)
  // Where caches spare it the reading, it may write and merge before it has met what was done.
  const isBlind = role !== 'reader' && victim.caches.length > 0 && random.chance(0.5)
  const beside = isBlind ? worldOn(copyOf(disk, random), victim, random) : world
  const seen = openHurt(victim, beside, hurt, isBlind ? 'reader' : role, where)
  if (seen !== undefined) {
    await compare(victim, hurt, beside, seen, mayTear, where)
    if (role !== 'reader') {
      const db = isBlind ? openHurt(victim, world, hurt, role, where) : seen
      if (db !== undefined)
        await goOn(victim, hurt, world, db, random, where, role, sightAt(victim, hurt, seen))
    }
  }
  beside.kill()
  world.kill()
}

/** A store that is hurt while it is open, by anything but its manifest, and merged then. */
async function own(victim: Victim, hurt: Hurt, world: World, random: Random, where: string): Promise<void> {
  const db = openSyncOn<'utf8', 'utf8'>(world.ground, STORE, WRITER)
  const caches = cachesIn(world.disk)
  // One of a segment that is gone goes when the store is opened.
  const isGone = [hurt.path, hurt.other ?? hurt.path].some((name) => isCache(name) && !caches.includes(name))
  if (!isGone) hurt.apply(world.disk)
  await finish(world, db.merge(), `${where}: a merge`)
  db.closeSync()
  world.kill()
  const again = worldOn(copyOf(world.disk, random), victim, random)
  const reader = openSyncOn<'utf8', 'utf8'>(again.ground, STORE, { readOnly: true, cacheBytes: 0 })
  // What nobody needs any more may go with a merge, damaged or not.
  await compare(victim, { ...hurt, keysMax: undefined }, again, reader, false, `${where}, reopened`)
  again.kill()
}

/** Runs what is under way to its end. */
async function finish(world: World, promise: Promise<unknown>, what: string): Promise<void> {
  let isDone = false
  let failure: unknown
  promise.then(
    () => {
      isDone = true
    },
    (error) => {
      isDone = true
      failure = error
    },
  )
  for (let turns = 0; !isDone; turns++) {
    if (turns > TURNS_MAX) throw new Violation('D7 errors are typed', `${what} hangs`)
    await turn(world)
  }
  if (failure === undefined) return
  const isTyped = (failure as { code?: string }).code?.startsWith('CASKY_') === true
  if (!isTyped) throw new Violation('D7 errors are typed', `${what}: ${(failure as Error).stack}`)
}

async function turn(world: World): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve))
  world.turn()
  world.endSync()
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

function rightOf({ expected, nowMs }: Victim, key: string): string | undefined {
  const entry = expected.get(key)
  return entry !== undefined && isLive(entry, nowMs) ? entry.value : undefined
}

/** An error, or what the key had once. */
function isKnown({ written }: Victim, key: string, found: string | undefined): boolean {
  return found === undefined || found === 'CASKY_CORRUPT' || written.get(key)?.has(found) === true
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

/** What a store showed of itself. */
interface Sight {
  keys: string[]
  values: Map<string, string | undefined>
  isDamaged: boolean
}

function sightAt(victim: Victim, hurt: Hurt, db: Casky): Sight {
  const keys = keysOf(victim, hurt, db)
  return { keys, values: sightOf(db, keys), isDamaged: db.health().damage.length > 0 }
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
  before: Sight,
): Promise<void> {
  const fail = (what: string): never => {
    throw new Violation('D6 bit rot is reported', `${where}: ${what}`)
  }
  const expectSame = async (on: World, now: Casky, when: string): Promise<void> => {
    const { keys, values, isDamaged } = before
    const byCaches = victim.caches.length > 0
    const after = sightOf(now, keys)
    const changed = keys.filter((key) => after.get(key) !== values.get(key))
    const isSilent = () => now.health().damage.length === 0
    if (byCaches && isSilent() && (isDamaged || changed.length > 0))
      await finish(on, now.check(), `${where}: a check`)
    // Read anew without them, a store shows what the log shows.
    const mayShowLog = byCaches && !isSilent() && changed.every((key) => isKnown(victim, key, after.get(key)))
    if (changed.length > 0 && !mayShowLog) fail(`${when} ${changed.join(', ')} read differently`)
    if (!isDamaged || !isSilent()) return
    // What nobody had met and nobody needs may go with a merge.
    const isRight = keys.every((key) => after.get(key) === rightOf(victim, key))
    const isHealed = role === 'merger' && byCaches && isRight
    if (!isHealed) fail(`${when} the damage is forgotten`)
  }
  const unfit = new Set(unfitHints(db).map(({ id }) => id))
  try {
    if (role === 'merger') {
      await finish(world, db.merge(), `${where}: a merge`)
      await expectSame(world, db, 'after a merge')
    }
    db.putSync('probe', 'probe')
    // Time for what is done beside reads and writes.
    if (isCache(hurt.path) || random.chance(0.3)) for (let i = 0; i < IDLE_TURNS; i++) await turn(world)
    db.closeSync()
  } catch (error) {
    if (error instanceof Violation) throw error
    if ((error as { code?: string }).code?.startsWith('CASKY_') !== true) throw error
    if (hurt.isForged !== true || !isUsedUp(error)) fail(`it takes no write: ${(error as Error).message}`)
    return
  }
  if (world.openHandles.length > 0) fail(`left open: ${world.openHandles.join(', ')}`)
  world.kill()
  // A power cut may leave nothing of the caches that it has written.
  const left = random.chance(0.5) ? copyOf(world.disk, random) : wholeOf(world.disk, random)
  const again = worldOn(left, victim, random)
  const reader = openSyncOn<'utf8', 'utf8'>(again.ground, STORE, { readOnly: true, cacheBytes: 0 })
  if (reader.get('probe') !== 'probe') fail('what was written to it is lost')
  const when = role === 'merger' ? 'after a merge, a write and a close' : 'after a write and a close'
  await expectSame(again, reader, when)
  again.kill()
  if (!isCache(hurt.path)) return
  expectCaches(worldOn(wholeOf(world.disk, random), victim, random), where)
  // What the checkpoint spares now is looked at without it.
  const bare = wholeOf(world.disk, random)
  if (cachesIn(bare).includes(CHECKPOINT)) removed(CHECKPOINT).apply(bare)
  expectHints(worldOn(bare, victim, random), unfit, where)
}

/** Hints of segments that should have one, tried and of no use. */
function unfitHints(db: Casky): { id: number; hintReason: string | undefined }[] {
  const { recovery, segments } = db.stats()
  const short = new Set(segments.filter(({ bytes }) => bytes < HINTED_BYTES_MIN).map(({ id }) => id))
  return recovery.bySegment.filter(({ id, hintReason }) => hintReason !== undefined && !short.has(id))
}

/** Those that were found to be unfit are not any more. */
function expectHints(world: World, ids: ReadonlySet<number>, where: string): void {
  const db = openSyncOn<'utf8', 'utf8'>(world.ground, STORE, { readOnly: true, cacheBytes: 0 })
  world.kill()
  const unfit = unfitHints(db).find(({ id }) => ids.has(id))
  if (unfit === undefined) return
  throw new Violation('D6 bit rot is reported', `${where}: the unfit hint of ${unfit.id} was left as it was`)
}

/** What was hurt of its caches has been written again; a power cut may undo that, as nothing of it is synced. */
function expectCaches(world: World, where: string): void {
  const db = openSyncOn<'utf8', 'utf8'>(world.ground, STORE, { readOnly: true, cacheBytes: 0 })
  const { recovery, bytes } = db.stats()
  world.kill()
  const [unfit] = unfitHints(db)
  const what = `${where}: after a write and a close`
  if (unfit !== undefined)
    throw new Violation(
      'D6 bit rot is reported',
      `${what} the hint of ${unfit.id} is unfit: ${unfit.hintReason}`,
    )
  if (!recovery.checkpoint.used && bytes >= CHECKPOINTED_BYTES_MIN)
    throw new Violation(
      'D6 bit rot is reported',
      `${what} no checkpoint is used: ${recovery.checkpoint.reason}`,
    )
}

function readable(db: Casky): State {
  const found = new Map<string, { value: string; expiresAtMs: number | undefined }>()
  for (const [key, value] of db.entries({ damaged: 'skip' })) {
    found.set(key, { value, expiresAtMs: db.expiresAtMs(key) })
  }
  return found
}

/** A cache may be anything: the store is what it is without. */
function expectUnharmed(victim: Victim, db: Casky, where: string): void {
  const { expected, nowMs, tornTails } = victim
  const fail = (what: string): never => {
    throw new Violation('D6 bit rot is reported', `${where}: ${what}`)
  }
  const right = [...expected].filter(([, entry]) => isLive(entry, nowMs))
  for (const [key, { value, expiresAtMs }] of right) {
    if (db.get(key) !== value) fail(`${key} reads differently`)
    if (db.expiresAtMs(key) !== expiresAtMs) fail(`${key} expires at another time`)
  }
  const more = [...db.keys()].find((key) => !right.some(([known]) => known === key))
  if (more !== undefined) fail(`${more} is there`)
  if (db.size !== right.length) fail(`its size is ${db.size} and not ${right.length}`)
  const { damage, tornTails: tails } = db.health()
  if (damage.length > 0) fail(`damage is made up: ${damage[0].path}: ${damage[0].reason}`)
  const tail = tails.find((each) => !tornTails.has(tailName(each)))
  if (tail !== undefined) fail(`a torn tail is made up: ${tailName(tail)}`)
}

async function compare(
  victim: Victim,
  hurt: Hurt,
  world: World,
  db: Casky,
  mayTear: boolean,
  where: string,
): Promise<void> {
  if (isCache(hurt.path)) {
    try {
      return expectUnharmed(victim, db, where)
    } catch (error) {
      if (error instanceof Violation) throw error
      throw new Violation(
        'D6 bit rot is reported',
        `${where}: reading fails with ${(error as Error).message}`,
      )
    }
  }
  const { written } = victim
  let wrong = 0
  const older = new Set<string>()
  const intact = new Set<string>()
  for (const key of keysOf(victim, hurt, db)) {
    const right = rightOf(victim, key)
    let value: string | undefined
    try {
      value = db.get(key)
      if (value === right) {
        intact.add(key)
        continue
      }
      older.add(key)
    } catch (error) {
      if ((error as { code?: string }).code !== 'CASKY_CORRUPT') {
        throw new Violation('D6 bit rot is reported', `${where}: get of ${key} fails with ${error}`)
      }
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
  // What caches have spared it to read.
  if (victim.caches.length > 0 && db.health().damage.length === 0)
    await finish(world, db.check(), `${where}: a check`)
  const { damage, tornTails } = db.health()
  const isTorn = tornTails.some((tail) => !victim.tornTails.has(tailName(tail)))
  // A log that nobody ended may end anywhere, as far as anyone can tell: what certified more of it is cut off too.
  const isShorter = (state: State): boolean =>
    victim.isPrefix(state) || (victim.isMerged && victim.isThinned(state))
  const isShortened = hurt.shortens === true && wrong > 0 && isShorter(readable(db))
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
