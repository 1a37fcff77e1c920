// Runs a trace on a simulated machine, step by step, and tries crashes at each call that changes the disk.
import type { Casky } from '../../src/index'
import { openSyncOn } from '../../src/store'
import { Aborts } from './aborts'
import { Books } from './books'
import { noteCache, type PastCache } from './caches'
import { Copies } from './copies'
import { choices, crashed, wholeOf } from './crash'
import { SimDisk } from './disk'
import { Following } from './following'
import { Glimpses } from './glimpses'
import { layCrashes } from './laying'
import { Machine, type Plan } from './machine'
import { Merging } from './merging'
import { type State, show } from './model'
import { live, Oracle, type Tally, Violation } from './oracle'
import { Random } from './random'
import { readBeside, strayIn } from './reading'
import { copyOf } from './rot'
import { Verdict } from './verdict'
import { type Victim, victimOf } from './victim'
import type { Step, Trace } from './workload'
import { type CallKind, STORE, World } from './world'

export type { Plan } from './machine'

/** Calls after which other files may be the store's. */
/** A follower of the store is asked after so many steps. */
const LOOKS_EVERY = 7
/** How much likelier a crash between two removals of segments is kept than one between other changes of names. */
const REMOVALS = 8
const NAMING = new Set<CallKind>(['rename', 'remove', 'create', 'syncDirectory'])
const STARTED_AT_MS = 1_700_000_000_000

export async function simulate(trace: Trace, plan: Plan, tally: Tally): Promise<Violation | undefined> {
  const run = new Simulation(trace, plan, tally)
  try {
    await run.all()
    return undefined
  } catch (error) {
    if (error instanceof Violation) return error
    return new Violation('D7 errors are typed', `out of nowhere: ${(error as Error).stack ?? error}`)
  }
}

export class Simulation {
  private readonly random: Random
  private readonly oracle: Oracle
  private readonly verdict = new Verdict()
  private readonly machine: Machine
  private readonly books: Books
  private readonly glimpses: Glimpses
  private readonly merging: Merging
  private readonly copies: Copies
  private readonly aborts = new Aborts()
  private readonly following: Following
  private midway: { disk: SimDisk; nowMs: number } | undefined
  private midwaysSeen = 0
  private readonly pastCaches: PastCache[] = []
  private db: Casky | undefined
  private step = 0

  constructor(
    private readonly trace: Trace,
    private readonly plan: Plan,
    private readonly tally: Tally,
  ) {
    this.random = new Random(trace.seed ^ 0x5eed)
    this.oracle = new Oracle(trace.settings, tally, this.random)
    const after = (kind: CallKind, path: string) => this.crashHere(kind, path)
    this.machine = new Machine(new SimDisk(), STARTED_AT_MS, this.random, plan, tally, after)
    this.books = new Books(trace.settings, this.verdict, () => this.machine.mayFail)
    this.glimpses = new Glimpses(() => this.machine.mayFail)
    this.following = new Following(new Random(trace.seed ^ 0xf0110))
    this.merging = new Merging(this.machine, this.books)
    this.copies = new Copies(this.books, this.verdict, tally, this.random, trace.steps)
  }

  private get world(): World {
    return this.machine.world
  }

  /** Never throws: this runs inside a host call. */
  private crashHere(kind: CallKind, path: string): void {
    const { crashesPerCall } = this.plan
    this.tally.calls++
    if (this.plan.keepsCaches === true && kind === 'rename') noteCache(this.pastCaches, this.world.disk, path)
    if (this.plan.keepsMidway === true && !path.includes('/LOCK')) this.keepMidway(kind, path)
    if (path.includes('/LOCK')) return
    const where = `a crash after ${kind} ${path} (call ${this.machine.calls}, step ${this.step})`
    if (this.plan.looksAtBackups === true) this.copies.note(this.world, path, where)
    if (crashesPerCall === undefined || this.machine.calls < (this.plan.crashesFrom ?? 0)) return
    if (this.verdict.isReached) return
    this.copies.note(this.world, path, where)
    try {
      layCrashes(this.world, this.books.history, this.oracle, crashesPerCall, this.random)
    } catch (error) {
      this.verdict.note(error, where, this.machine.mayFail)
    }
  }

  private stopIfDoubted(): Promise<void> {
    return this.verdict.passSettled(() => this.machine.drain())
  }

  /** One of all that crashes would leave between two changes of names, most likely while a merge's inputs go. */
  private keepMidway(kind: CallKind, path: string): void {
    if (!NAMING.has(kind) || this.world.disk.find(`${STORE}/MANIFEST`) === undefined) return
    const weight = kind === 'remove' && path.endsWith('.data') ? REMOVALS : 1
    this.midwaysSeen += weight
    if (this.random.below(this.midwaysSeen) >= weight) return
    const choice = this.random.pick([...choices(this.world.disk, 4, this.random)])
    const disk = crashed(this.world.disk, choice, this.random)
    if (disk.find(`${STORE}/MANIFEST`) !== undefined) this.midway = { disk, nowMs: this.world.nowMs }
  }

  private async steps(): Promise<void> {
    this.open()
    for (const [i, step] of this.trace.steps.entries()) {
      this.step = i + 1
      this.plan.onStep?.(i, this.machine.calls)
      this.aborts.reach(i)
      await this.run(step)
      await this.stopIfDoubted()
      await this.copies.look()
      // What a follower has seen of a write that was refused it can't read until the next refresh.
      const isFollowed = this.plan.fault === undefined && i % LOOKS_EVERY === 0
      if (isFollowed) await this.following.look(this.world.disk, this.world.nowMs, this.step)
    }
  }

  async all(): Promise<void> {
    this.tally.traces++
    await this.steps()
    this.step = this.trace.steps.length + 1
    await this.end()
    await this.stopIfDoubted()
    await this.copies.end(this.world)
  }

  /** Closed, and opened by a process that meets no errors. */
  private async end(): Promise<void> {
    const { machine, books, verdict } = this
    // A sync that is under way may fail still.
    await machine.settle()
    machine.isQuiet = true
    await machine.settle()
    await this.stopIfDoubted()
    machine.isHealed = true
    this.goOn()
    verdict.pass()
    machine.isHealed = this.db?.health().poisoned === undefined
    machine.isQuiet = machine.isHealed
    await this.close()
    await this.stopIfDoubted()
    await this.reader()
    if (this.plan.fault !== undefined) {
      machine.isHealed = true
      this.restart(this.world.disk, books.history.kept)
      if (this.db !== undefined) await this.check(this.db)
      await this.close()
    }
    this.world.kill()
  }

  /** Where all is well again, the process that met the errors writes on, unless it can't know what is on disk. */
  private goOn(): void {
    const { db, books } = this
    if (this.plan.fault === undefined || db === undefined) return
    const { poisoned } = db.health()
    if (poisoned === undefined) {
      const value = books.valueOf('last', 30)
      books.write([{ key: 'last', value, expiresAtMs: undefined }], true, {
        later: () => db.put('last', value),
        now: () => db.putSync('last', value),
      })
    } else if (!this.machine.mayBePoisoned) {
      throw new Violation('D7 errors are typed', `poisoned without a reason: ${poisoned.message}`)
    }
  }

  /** A store to be hurt: what the trace leaves, merged or not, closed or killed. */
  async victim({ isClosed, isMerged }: { isClosed: boolean; isMerged: boolean }): Promise<Victim> {
    await this.steps()
    await this.machine.settle()
    if (isMerged && this.db !== undefined) await this.until(this.db.merge())
    if (isClosed) await this.close()
    const { world } = this
    const { history, written } = this.books
    const { disk, nowMs } = world
    const expected = live(history.after(history.issued), nowMs)
    const batches = history.newestBatches()
    world.kill()
    if (this.midway !== undefined) return this.victimMidway(this.midway, written)
    const isPrefix = (state: State): boolean => history.placeOf(state, 0, history.issued, nowMs) !== undefined
    const isThinned = (state: State): boolean => history.isThinned(state, nowMs)
    const remains = {
      disk: wholeOf(disk, this.random),
      nowMs,
      expected,
      written,
      batches,
      isPrefix,
      isThinned,
    }
    return victimOf({ ...remains, past: this.pastCaches }, this.plan.keepsCaches === true)
  }

  /** As a crash left it: what it should hold is what it shows before it is hurt. */
  private victimMidway({ disk, nowMs }: { disk: SimDisk; nowMs: number }, written: Books['written']): Victim {
    const world = new World(copyOf(disk, this.random), this.random)
    world.nowMs = nowMs
    const { contents, message } = readBeside(world, false)
    world.kill()
    if (contents === undefined) throw new Violation('D3 a crash is no damage', `midway: ${message}`)
    const remains = {
      disk,
      nowMs,
      expected: contents,
      written,
      batches: [],
      isPrefix: () => false,
      isThinned: () => false,
    }
    return victimOf({ ...remains, past: [] }, false)
  }

  /** Opens, where it can be; with an error under way it may not. What it finds is where the history goes on from. */
  private open(): void {
    let db: Casky
    try {
      db = openSyncOn<'utf8', 'utf8'>(this.world.ground, STORE, this.trace.settings)
    } catch (error) {
      const { code } = error as { code?: string }
      if (!this.machine.mayFail || code?.startsWith('CASKY_') !== true || code === 'CASKY_CORRUPT') {
        throw new Violation('D7 errors are typed', `open: ${(error as Error).stack}`)
      }
      this.expectNoHandles('after a failed open')
      return
    }
    this.verdict.pass()
    this.db = db
    // An error may befall the reading too, but not for ever.
    let contents = this.books.contents(db)
    while (contents === undefined) contents = this.books.contents(db)
    this.books.adopt(contents, db.stats().lastSequence, this.world.nowMs)
  }

  private expectNoHandles(when: string): void {
    const { openHandles } = this.world
    if (openHandles.length > 0) {
      throw new Violation('D8 no handle leaks', `${when}: ${openHandles.join(', ')}`)
    }
  }

  private async run(step: Step): Promise<void> {
    if (this.db === undefined) this.open()
    this.verdict.pass()
    const { machine, books } = this
    switch (step.do) {
      case 'turn':
        return machine.drain()
      case 'endSync':
        await machine.drain()
        this.world.endSync()
        return machine.drain()
      case 'settle':
        return machine.settle()
      case 'advance':
        this.world.advance(step.ms)
        return machine.drain()
      case 'reopen':
        await this.close(step.now)
        this.verdict.pass()
        if (machine.mayFail) return this.restart(this.world.disk, books.history.kept)
        // In the same process, which must have given back all that it held.
        books.owed = books.history.kept
        return this.open()
      case 'kill':
        await machine.drain()
        return this.restart(this.world.disk, books.history.kept)
      case 'cut': {
        await machine.drain()
        const random = new Random(step.seed)
        const all = [...choices(this.world.disk, 4, random)]
        const disk = crashed(this.world.disk, random.pick(all), random)
        books.history.kept = books.history.durable
        return this.restart(disk, books.history.durable)
      }
    }
    if (this.db !== undefined) return this.use(this.db, step)
  }

  /** A step of one who has the store open. */
  private async use(db: Casky, step: Step): Promise<void> {
    const { books } = this
    switch (step.do) {
      case 'read':
        return this.read(db)
      case 'check':
        return this.check(db)
      case 'expire':
        return this.until(db.expire().catch((error) => books.expectTyped('expire', error)))
      case 'rival':
        return this.rival()
      case 'merge':
        return this.merging.begin(db, this.signalFor(step), step.abortsAfter !== undefined)
      case 'mergeInNoRoom':
        return this.merging.inNoRoom(db, `step ${this.step}`)
      case 'backup':
        return this.copies.begin(db, this.world.disk, step, this.signalFor(step))
      case 'snapshot':
        return this.takeGlimpse(db)
      case 'look':
        this.glimpses.look()
        this.glimpses.release()
        return this.expectNothingHeld(db)
      case 'reader':
        return this.reader()
      case 'flush':
        return books.flush(db)
      case 'put': {
        const value = books.valueOf(step.key, step.bytes)
        const expiresAtMs = step.ttlMs === undefined ? undefined : this.world.nowMs + step.ttlMs
        const options = step.ttlMs === undefined ? undefined : { ttlMs: step.ttlMs }
        return books.write([{ key: step.key, value, expiresAtMs }], step.now, {
          later: () => db.put(step.key, value, options),
          now: () => db.putSync(step.key, value, options),
        })
      }
      case 'delete':
        return books.write([{ key: step.key, value: undefined, expiresAtMs: undefined }], step.now, {
          later: () => db.delete(step.key),
          now: () => db.deleteSync(step.key),
        })
      case 'batch': {
        const changes = step.changes.map(({ key, bytes }) => ({
          key,
          value: bytes === undefined ? undefined : books.valueOf(key, bytes),
          expiresAtMs: undefined,
        }))
        const operations = changes.map(({ key, value }) =>
          value === undefined ? ({ type: 'del', key } as const) : ({ type: 'put', key, value } as const),
        )
        return books.write(changes, step.now, {
          later: () => db.batch(operations),
          now: () => db.batchSync(operations),
        })
      }
    }
  }

  private signalFor({ abortsAfter }: { abortsAfter?: number }): AbortSignal {
    return this.aborts.signalFor(abortsAfter === undefined ? undefined : this.step + abortsAfter)
  }

  /** Once nobody reads by them any more, segments that were replaced are gone. */
  private expectNothingHeld(db: Casky): void {
    if (this.glimpses.count > 0 || this.copies.isUnderWay) return
    const { merges, snapshots } = db.stats()
    if (merges.isRunning || snapshots.replacedBytes === 0) return
    throw new Violation('D11 a snapshot stays', `${snapshots.replacedBytes} bytes are held for nobody`)
  }

  private async takeGlimpse(db: Casky): Promise<void> {
    const contents = this.glimpses.take(db, this.books.written.keys(), this.step)
    if (this.machine.mayFail) await this.machine.drain()
    if (contents !== undefined) this.expectNow(contents, db, 'a snapshot shows')
  }

  private async close(isNow?: boolean): Promise<void> {
    const { db } = this
    if (db === undefined) return
    this.db = undefined
    this.glimpses.look()
    // Looking writes what is pending, and closing is to find something pending too.
    const isQuiet = () => !db.stats().merges.isRunning && !this.copies.isUnderWay
    const isIdle = this.plan.fault === undefined && this.random.chance(0.3) && isQuiet()
    await this.books.close(db, isNow, (closing) => this.until(closing))
    this.glimpses.closed()
    // A handle stays open as long as a sync through it is under way.
    if (isNow === true) await this.machine.settle()
    this.expectNoHandles('after close')
    // What an error kept from being removed, or what a merge had just replaced, the next open removes.
    if (!isIdle) return
    const stray = strayIn(this.world.disk)
    if (stray.length > 0)
      throw new Violation('D8 no handle leaks', `after close: ${stray.join(', ')} lie about`)
  }

  private until(promise: Promise<unknown>): Promise<void> {
    return this.machine.until(promise, `step ${this.step}`)
  }

  /** A new process on what is left of the disk. */
  private restart(disk: SimDisk, owed: number): void {
    this.machine.reboot(disk)
    this.glimpses.forget()
    this.aborts.forget()
    this.copies.forget()
    this.db = undefined
    this.books.ended(owed)
    this.open()
  }

  private async read(db: Casky): Promise<void> {
    const contents = this.books.contents(db)
    const { size } = db
    // Reading writes the group that is filling; where that fails, those who wait for it hear of it a turn later.
    if (this.machine.mayFail) await this.machine.drain()
    if (contents === undefined) return
    this.expectNow(contents, db, 'it reads')
    const odd = db.stats().segments.find(({ bytes, liveBytes }) => liveBytes > bytes)
    if (odd !== undefined) {
      throw new Violation('D0 reads see what was written', `${odd.path} has more live bytes than bytes`)
    }
    if (size !== contents.size) throw new Violation('D0 reads see what was written', 'size is wrong')
  }

  /** What reads give is the state after all that was issued. */
  private expectNow(contents: State, db: Casky, what: string): void {
    const { history } = this.books
    const isPoisoned = db.health().poisoned !== undefined
    // Of writes with an unknown outcome any may be shown that all before them are.
    const from = isPoisoned ? history.kept : history.issued
    if (history.placeOf(contents, from, history.issued, this.world.nowMs) !== undefined) return
    const state = isPoisoned ? 'poisoned, ' : ''
    throw new Violation(
      'D0 reads see what was written',
      `step ${this.step}: ${what} ${state}${show(contents)}`,
    )
  }

  private async check(db: Casky): Promise<void> {
    const checking = db.check()
    await this.until(checking)
    const report = await checking.catch((error) => this.books.expectTyped('check', error))
    const [damage] = report?.damage ?? []
    if (damage !== undefined && !this.machine.mayFail) {
      throw new Violation(
        'D3 a crash is no damage',
        `check: ${damage.reason} at ${damage.offset} of ${damage.path}`,
      )
    }
  }

  /** One who reads beside the writer, or where there is none: changes nothing, and sees what was acknowledged. */
  private async reader(): Promise<void> {
    const { world, books, machine } = this
    await machine.drain()
    const { changes, openHandles } = world
    machine.isReading = true
    const { contents, message } = readBeside(world, machine.mayFail)
    machine.isReading = false
    if (world.changes !== changes) {
      throw new Violation('D9 one writer', `step ${this.step}: a reader changes the disk`)
    }
    if (world.openHandles.length !== openHandles.length) {
      throw new Violation('D8 no handle leaks', `after a reader: ${world.openHandles.join(', ')}`)
    }
    if (message !== undefined) throw new Violation('D3 a crash is no damage', `a reader: ${message}`)
    const { history } = books
    if (contents === undefined) return
    if (history.placeOf(contents, history.kept, history.issued, world.nowMs) !== undefined) return
    throw new Violation('D0 reads see what was written', `step ${this.step}: a reader sees ${show(contents)}`)
  }

  private rival(): void {
    try {
      openSyncOn(this.world.ground, STORE, this.trace.settings).closeSync()
    } catch (error) {
      if ((error as { code?: string }).code === 'CASKY_LOCKED' || this.machine.mayFail) return
      throw new Violation('D9 one writer', `a second one fails with ${(error as Error).stack}`)
    }
    throw new Violation('D9 one writer', 'a second writer got in')
  }
}
