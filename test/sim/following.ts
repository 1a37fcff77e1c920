// A store that another process has open read-only, beside the writers of a trace, and that follows them: after each
// refresh it shows what one that is opened just then shows, and until then what it showed.
import type { Casky } from '../../src/index'
import { openSyncOn } from '../../src/store'
import type { SimDisk } from './disk'
import { Glimpses } from './glimpses'
import { contentsOf, Violation } from './oracle'
import type { Random } from './random'
import { readBeside } from './reading'
import { type CallKind, STORE, World } from './world'

type Contents = ReturnType<typeof contentsOf>

const RULE = 'D13 a follower keeps up'
/** Calls that a refresh makes, about. */
const CALLS = 30
/** By which each step of a refresh fills a slice, so that others run behind it. */
const CLOCK_STEP_MS = 1
/** What fails in a reader without hurting the disk. */
const FAILING = new Set<CallKind>(['open', 'read', 'status', 'list', 'inspect'])

interface Process {
  disk: SimDisk
  world: World
  db: Casky
  glimpses: Glimpses
  shown: Contents
  /** A refresh that is under way. */
  pending: { isDone: boolean; error: unknown } | undefined
}

export class Following {
  private process: Process | undefined

  constructor(private readonly random: Random) {}

  /** The power is cut. */
  forget(): void {
    this.process?.world.leave()
    this.process = undefined
  }

  async look(disk: SimDisk, nowMs: number, step: number): Promise<void> {
    if (this.process !== undefined && this.process.disk !== disk) this.forget()
    if (this.process === undefined) {
      this.process = this.begin(disk, nowMs)
      return
    }
    const { process } = this
    process.world.nowMs = nowMs
    await this.goOn(process, nowMs)
    // It goes on while the writer does.
    if (process.pending !== undefined && this.random.chance(0.5)) return
    if (this.random.chance(0.2)) this.fail(process, nowMs)
    // Nobody writes from here on.
    const expected = this.freshly(disk, nowMs)
    if (expected === undefined) return
    const { db, glimpses } = process
    const report = attempt(() => db.refreshSync())
    expectSame(contentsOf(db), expected, `step ${step}: after a refresh`)
    const { ok, damage } = db.health()
    if (!ok) throw new Violation(RULE, `step ${step}: it finds damage: ${damage[0]?.reason}`)
    if (db.size !== expected.size) throw new Violation(RULE, `step ${step}: its size is ${db.size}`)
    if (report.sequence !== db.stats().lastSequence)
      throw new Violation(RULE, `step ${step}: its last number`)
    process.shown = expected
    glimpses.look()
    if (glimpses.count > 1) glimpses.release()
    else if (this.random.chance(0.3)) glimpses.take(db, expected.keys(), step)
    if (this.random.chance(0.5)) process.pending = started(db)
  }

  private begin(disk: SimDisk, nowMs: number): Process | undefined {
    const shown = this.freshly(disk, nowMs)
    if (shown === undefined) return undefined
    const world = this.worldOn(disk, nowMs)
    const db = openSyncOn<'utf8', 'utf8'>(world.ground, STORE, { readOnly: true, cacheBytes: 65_536 })
    return { disk, world, db, glimpses: new Glimpses(() => false), shown, pending: undefined }
  }

  private worldOn(disk: SimDisk, nowMs: number): World {
    const world = new World(disk, this.random)
    world.nowMs = nowMs
    world.clockStepMs = CLOCK_STEP_MS
    return world
  }

  /** What one shows that is opened now; undefined where there is no store to be opened. */
  private freshly(disk: SimDisk, nowMs: number): Contents | undefined {
    const world = this.worldOn(disk, nowMs)
    const { contents } = readBeside(world, true)
    world.leave()
    return contents
  }

  /** Lets a refresh that is under way come as far as it does: until its end, reads see what they saw. */
  private async goOn(process: Process, nowMs: number): Promise<void> {
    const { pending, world, db } = process
    if (pending === undefined) return
    const before = alive(process.shown, nowMs)
    for (let turns = this.random.below(8); turns > 0 && !pending.isDone; turns--) {
      world.turn()
      world.endSync()
      await new Promise((resolve) => setImmediate(resolve))
      if (!pending.isDone) expectSame(contentsOf(db), before, 'in the midst of a refresh')
    }
    if (!pending.isDone) return
    if (pending.error !== undefined) throw new Violation(RULE, `a refresh: ${(pending.error as Error).stack}`)
    process.shown = contentsOf(db)
    process.pending = undefined
  }

  /** With an error at one of its calls reads see what they saw, or all of it is there. */
  private fail(process: Process, nowMs: number): void {
    const { world, db } = process
    const before = alive(contentsOf(db), nowMs)
    let left = this.random.below(CALLS)
    world.watcher = { before: (kind) => (FAILING.has(kind) && left-- === 0 ? { code: 'EIO' } : undefined) }
    let error: unknown
    try {
      db.refreshSync()
    } catch (caught) {
      error = caught
    }
    world.watcher = {}
    if (error === undefined) return
    if ((error as { code?: string }).code !== 'CASKY_IO')
      throw new Violation('D7 errors are typed', `a refresh: ${(error as Error).stack}`)
    expectSame(contentsOf(db), before, 'after a refresh that failed')
  }
}

function started(db: Casky): NonNullable<Process['pending']> {
  const pending: NonNullable<Process['pending']> = { isDone: false, error: undefined }
  db.refresh().then(
    () => {
      pending.isDone = true
    },
    (error) => {
      Object.assign(pending, { isDone: true, error })
    },
  )
  return pending
}

function attempt<T>(run: () => T): T {
  try {
    return run()
  } catch (error) {
    throw new Violation(RULE, `a refresh: ${(error as Error).stack}`)
  }
}

function alive(contents: Contents, nowMs: number): Contents {
  return new Map(
    [...contents].filter(([, { expiresAtMs }]) => expiresAtMs === undefined || expiresAtMs > nowMs),
  )
}

function expectSame(found: Contents, expected: Contents, when: string): void {
  for (const key of new Set([...found.keys(), ...expected.keys()])) {
    const [is, should] = [found.get(key), expected.get(key)]
    if (is?.value === should?.value && is?.expiresAtMs === should?.expiresAtMs) continue
    throw new Violation(
      RULE,
      `${when} ${key} is ${is?.value?.slice(0, 12)}, and should be ${should?.value?.slice(0, 12)}`,
    )
  }
}
