// Holds a store to the rules (docs/DURABILITY.md, "The rules") after a crash.

import type { Casky, Snapshot } from '../../src/index'
import { openSyncOn } from '../../src/store'
import { choices, crashed, imageOf } from './crash'
import type { SimDisk } from './disk'
import { type Entry, type History, isLive, type State, show } from './model'
import type { Random } from './random'
import type { Rule } from './rules'
import type { Settings } from './workload'
import { STORE, World } from './world'

export class Violation extends Error {
  constructor(
    readonly rule: Rule,
    message: string,
    public where = '',
    /** Whether it holds still, once those who wait for their writes have heard of them. */
    readonly isStill?: () => boolean,
  ) {
    super(`${rule}: ${message}`)
  }
}

export interface Tally {
  /** Distinct states of the disk that were judged. */
  states: number
  /** Crashes laid out, those that came to a state seen before included. */
  crashes: number
  /** Crashes inside the recovery from another crash. */
  nested: number
  calls: number
  faults: number
  flips: number
  traces: number
  /** Backups that were restored. */
  restores: number
}

export function newTally(): Tally {
  return { states: 0, crashes: 0, nested: 0, calls: 0, faults: 0, flips: 0, traces: 0, restores: 0 }
}

/** Everything that a store holds, by its own word. */
export function contentsOf(db: Casky | Snapshot): Map<string, Entry> {
  const found = new Map<string, Entry>()
  for (const [key, value] of db.entries({ order: 'any' })) {
    found.set(key, { value, expiresAtMs: db.expiresAtMs(key) })
  }
  return found
}

interface Judged {
  contents: State
}

/** How often a state is looked at more closely than by opening it: one in so many. */
const DEEPER = 8
const DEEPEST = 160
/** After a kill more can go wrong: what is read may not be on disk. */
const DEEPEST_KILLED = 50
const PROBE = { key: 'probe', value: 'p'.repeat(600) }

export class Oracle {
  private readonly known = new Map<string, Judged>()

  constructor(
    private readonly settings: Settings,
    private readonly tally: Tally,
    private readonly random: Random,
  ) {}

  /**
   * A disk as a power cut left it: rules 1 to 5. At least `from` operations have to be there, at most `to`. After a
   * kill, not all of it is durable: then `durable` operations are what a power cut has to leave.
   */
  judge(disk: SimDisk, nowMs: number, history: History, from: number, to: number, durable?: number): void {
    this.tally.crashes++
    const image = imageOf(disk, STORE)
    const known = this.known.get(image)
    const isKill = durable !== undefined
    let contents: State
    if (known === undefined) {
      this.tally.states++
      contents = this.recovered(isKill ? disk.clone() : disk, nowMs)
      this.known.set(image, { contents })
    } else {
      contents = live(known.contents, nowMs)
    }
    this.compare(contents, nowMs, history, from, to)
    if (known !== undefined && !isKill) return
    const mayLose = (found: State): boolean =>
      isKill && history.placeOf(found, durable, to, nowMs) !== undefined
    if (this.random.below(DEEPER) === 0) this.goesOn(disk, nowMs, contents, history.sequenceAfter(from))
    else if (this.random.below(isKill ? DEEPEST_KILLED : DEEPEST) === 0)
      this.crashesAgain(disk, nowMs, contents, mayLose)
  }

  private compare(contents: State, nowMs: number, history: History, from: number, to: number): void {
    if (history.placeOf(contents, from, to, nowMs) !== undefined) return
    const place = history.placeOf(contents, 0, history.issued, nowMs)
    const what =
      place === undefined
        ? `it is the state after no prefix of the operations: ${show(contents)}; expected one of ${from}: ${show(live(history.after(from), nowMs))} to ${to}: ${show(live(history.after(to), nowMs))}`
        : `it is the state after ${place} operations, and at least ${from} were vouched for (${to} issued)`
    const isStill = (): boolean => history.placeOf(contents, from, to, nowMs) === undefined
    throw new Violation(
      place === undefined ? 'D1 a prefix' : 'D2 nothing acknowledged is lost',
      what,
      undefined,
      isStill,
    )
  }

  /** Rules 1 and 2: what a process finds that opens the store after the crash. */
  private recovered(disk: SimDisk, nowMs: number): State {
    const world = this.worldOn(disk, nowMs)
    const db = world.disk.find(`${STORE}/MANIFEST`) === undefined ? this.open(world) : this.openToRead(world)
    try {
      return this.read(db)
    } finally {
      world.kill()
    }
  }

  private worldOn(disk: SimDisk, nowMs: number): World {
    const world = new World(disk, this.random)
    world.nowMs = nowMs
    return world
  }

  private open(world: World): Casky {
    try {
      return openSyncOn<'utf8', 'utf8'>(world.ground, STORE, this.settings)
    } catch (error) {
      throw new Violation('D3 a crash is no damage', `the store does not open: ${(error as Error).message}`)
    }
  }

  private openToRead(world: World): Casky {
    try {
      return openSyncOn<'utf8', 'utf8'>(world.ground, STORE, { cacheBytes: 0, readOnly: true })
    } catch (error) {
      throw new Violation('D3 a crash is no damage', `the store does not open: ${(error as Error).message}`)
    }
  }

  private read(db: Casky): State {
    const { damage } = db.health()
    if (damage.length > 0) {
      const { path, offset, bytes, reason } = damage[0]
      throw new Violation('D3 a crash is no damage', `${path} at ${offset}, ${bytes} bytes: ${reason}`)
    }
    try {
      return contentsOf(db)
    } catch (error) {
      throw new Violation('D3 a crash is no damage', `reading failed: ${(error as Error).message}`)
    }
  }

  /** Rules 3 and 4: it takes a write, which survives the next power cut, and opens the same again. */
  private goesOn(disk: SimDisk, nowMs: number, contents: State, leastSequence: number): void {
    const world = this.worldOn(disk.clone(), nowMs)
    const db = this.open(world)
    const { lastSequence } = db.stats()
    if (lastSequence < leastSequence) {
      throw new Violation(
        'D2 nothing acknowledged is lost',
        `the last sequence number is ${lastSequence}, and was ${leastSequence} at least`,
      )
    }
    db.putSync(PROBE.key, PROBE.value)
    if (this.settings.sync !== 'always') db.flushSync()
    const isClosed = this.random.chance(0.5)
    if (isClosed) db.closeSync()
    if (isClosed && world.openHandles.length > 0) {
      throw new Violation('D8 no handle leaks', `left open: ${world.openHandles.join(', ')}`)
    }
    world.kill()
    // The power fails, and nothing that no sync has vouched for has reached the disk.
    const [worst] = choices(world.disk, 0, this.random)
    const after = crashed(world.disk, worst, this.random)
    const expected = new Map(contents)
    expected.set(PROBE.key, { value: PROBE.value, expiresAtMs: undefined })
    this.expectSame(
      this.recovered(after, nowMs),
      expected,
      'D4 recovery goes on',
      'after a write and a power cut',
    )
  }

  /**
   * Rule 5: a crash at every call of the recovery, and of the first write after it, changes nothing. Until the store
   * is open, it may lose what `mayLose` says.
   */
  private crashesAgain(
    disk: SimDisk,
    nowMs: number,
    contents: State,
    mayLose: (found: State) => boolean,
  ): void {
    const world = this.worldOn(disk.clone(), nowMs)
    const withProbe = new Map(contents)
    withProbe.set(PROBE.key, { value: PROBE.value, expiresAtMs: undefined })
    let found: unknown
    let isOpen = false
    const seen = new Set<string>()
    world.watcher = {
      after: (kind, path) => {
        if (path.includes('/LOCK') || found !== undefined) return
        try {
          for (const choice of choices(world.disk, 3, this.random)) {
            const image = crashed(world.disk, choice, this.random)
            const name = imageOf(image, STORE)
            if (seen.has(name)) continue
            seen.add(name)
            this.tally.nested++
            const after = this.recovered(image, nowMs)
            if (!isOpen && mayLose(after)) continue
            const expected = after.has(PROBE.key) ? withProbe : contents
            this.expectSame(after, expected, 'D5 recovery may crash', `at ${kind} ${path} of a recovery`)
          }
        } catch (error) {
          found = error
        }
      },
    }
    const db = this.open(world)
    isOpen = true
    db.putSync(PROBE.key, PROBE.value)
    world.watcher = {}
    world.kill()
    if (found !== undefined) throw found
  }

  private expectSame(found: State, expected: State, rule: Rule, when: string): void {
    const isSame =
      found.size === expected.size &&
      [...found].every(([key, { value, expiresAtMs }]) => {
        const other = expected.get(key)
        return other !== undefined && other.value === value && other.expiresAtMs === expiresAtMs
      })
    if (!isSame) throw new Violation(rule, `${when}: ${show(found)} instead of ${show(expected)}`)
  }
}

export function live(state: State, nowMs: number): State {
  return new Map([...state].filter(([, entry]) => isLive(entry, nowMs)))
}
