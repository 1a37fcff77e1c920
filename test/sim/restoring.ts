// Restores of backups on a simulated machine: one by one, with a crash or an error at each call, and again after it.
import type { Casky } from '../../src/index'
import { openSyncOn, restoreOn } from '../../src/store'
import { choices, crashed, imageOf } from './crash'
import type { SimDisk } from './disk'
import { faultsFrom } from './faults'
import type { Entry } from './model'
import { contentsOf, Violation } from './oracle'
import type { Random } from './random'
import { copyOf } from './rot'
import { World } from './world'

const RULE = 'D12 a backup is whole'
const TARGET = '/restored'
const TURNS_MAX = 20_000
/** So many of the calls of a restore meet an error, one at a time. */
const FAULTS = 6
/** Of the crashes inside a restore one in so many is judged. */
const CRASHES = 3

export interface BackupPlace {
  disk: SimDisk
  nowMs: number
  directory: string
  sequence: number
}

export type Contents = Map<string, Entry>

function fail({ directory, sequence }: BackupPlace, what: string): never {
  throw new Violation(RULE, `${directory} at ${sequence}: ${what}`)
}

function codeOf(error: unknown): string | undefined {
  return (error as { code?: string } | undefined)?.code
}

function worldOn(disk: SimDisk, { nowMs }: BackupPlace, random: Random): World {
  const world = new World(disk, random)
  world.nowMs = nowMs
  return world
}

/** Restores with the library; throws what it rejects with. Nothing but this goes on in the machine. */
async function restoreIn(world: World, place: BackupPlace): Promise<void> {
  const { directory, sequence } = place
  let isDone = false
  let failure: unknown
  restoreOn(world.ground, directory, TARGET, { sequence }).then(
    () => {
      isDone = true
    },
    (error) => {
      isDone = true
      failure = error
    },
  )
  for (let turns = 0; !isDone; turns++) {
    if (turns > TURNS_MAX) fail(place, 'a restore hangs')
    await undefined
    world.turn()
    world.endSync()
  }
  if (world.openHandles.length > 0) fail(place, `a restore leaves open: ${world.openHandles.join(', ')}`)
  if (failure !== undefined) throw failure
}

/** What a restored store holds, which must be a sound one. */
function contentsIn(world: World, place: BackupPlace): Contents {
  let db: Casky
  try {
    db = openSyncOn<'utf8', 'utf8'>(world.ground, TARGET, { readOnly: true, cacheBytes: 0 })
  } catch (error) {
    return fail(place, `what was restored does not open: ${(error as Error).message}`)
  }
  const { damage, tornTails } = db.health()
  if (damage.length > 0) fail(place, `what was restored is damaged: ${damage[0].path}: ${damage[0].reason}`)
  if (tornTails.length > 0) fail(place, 'what was restored has a torn tail')
  if (db.stats().lastSequence !== place.sequence) fail(place, `it goes up to ${db.stats().lastSequence}`)
  const contents = contentsOf(db)
  db.closeSync()
  return contents
}

/** What comes out of a backup. A second restore to the same place is refused, and changes nothing. */
export async function restored(place: BackupPlace, random: Random): Promise<Contents> {
  const world = worldOn(copyOf(place.disk, random), place, random)
  try {
    await restoreIn(world, place)
  } catch (error) {
    fail(place, `restore fails: ${(error as Error).stack}`)
  }
  const contents = contentsIn(world, place)
  if (random.chance(0.2)) await expectRefusal(world, place)
  world.kill()
  return contents
}

async function expectRefusal(world: World, place: BackupPlace): Promise<void> {
  const before = imageOf(world.disk)
  const code = await restoreIn(world, place).then(() => 'no error', codeOf)
  if (code !== 'CASKY_EXISTS') fail(place, `over a store, it is restored with ${code}`)
  if (imageOf(world.disk) !== before) fail(place, 'a restore that is refused has changed something')
}

function isSame(a: Contents, b: Contents): boolean {
  return (
    a.size === b.size &&
    [...a].every(([key, { value, expiresAtMs }]) => {
      const other = b.get(key)
      return other?.value === value && other.expiresAtMs === expiresAtMs
    })
  )
}

/** What came before it is no store, or the whole one; where it is none, the next restore makes it. */
async function expectAgain(
  disk: SimDisk,
  place: BackupPlace,
  expected: Contents,
  random: Random,
  when: string,
): Promise<void> {
  const world = worldOn(disk, place, random)
  const isThere = disk.find(`${TARGET}/MANIFEST`) !== undefined
  const code = await restoreIn(world, place).then(() => undefined, codeOf)
  if (code !== (isThere ? 'CASKY_EXISTS' : undefined)) fail(place, `${when} it is restored with ${code}`)
  if (!isSame(contentsIn(world, place), expected)) fail(place, `${when} other contents are restored`)
  world.kill()
}

/** A power cut or a kill at calls of a restore. */
export async function crashRestores(place: BackupPlace, expected: Contents, random: Random): Promise<void> {
  const world = worldOn(copyOf(place.disk, random), place, random)
  const left: { disk: SimDisk; when: string }[] = []
  world.watcher = {
    after: (kind, path) => {
      // What is named counts more than what is written.
      if (path.includes('/LOCK') || random.below(kind === 'rename' ? 1 : CRASHES) > 0) return
      const cut = random.pick([...choices(world.disk, 6, random)])
      const disk = random.chance(0.2) ? world.disk.clone() : crashed(world.disk, cut, random)
      left.push({ disk, when: `after a crash at ${kind} ${path}` })
    },
  }
  await restoreIn(world, place)
  world.kill()
  for (const { disk, when } of left) await expectAgain(disk, place, expected, random, when)
}

/** An error at calls of a restore, one after the other. */
export async function errRestores(place: BackupPlace, expected: Contents, random: Random): Promise<void> {
  const count = worldOn(copyOf(place.disk, random), place, random)
  await restoreIn(count, place)
  count.kill()
  for (let i = 0; i < FAULTS; i++) {
    const befall = faultsFrom(1 + random.below(count.calls), random.fork())
    const world = worldOn(copyOf(place.disk, random), place, random)
    world.watcher = { before: (kind) => befall(world.calls, kind) }
    const error = await restoreIn(world, place).then(
      () => undefined,
      (failure) => failure,
    )
    world.watcher = {}
    if (error !== undefined && codeOf(error)?.startsWith('CASKY_') !== true)
      fail(place, `an error in a restore: ${(error as Error).stack}`)
    if (codeOf(error) === 'CASKY_CORRUPT') fail(place, `an error passes for damage: ${error.message}`)
    world.kill()
    await expectAgain(world.disk, place, expected, random, `after ${error?.message ?? 'errors'}`)
  }
}
