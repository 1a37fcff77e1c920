// Runs a trace on a simulated machine, and tries crashes at each call that changes the disk.
import type { Casky } from '../../src/index'
import { openSyncOn } from '../../src/store'
import { choices, crashed, wholeOf } from './crash'
import { SimDisk } from './disk'
import { type Change, History, type State, show } from './model'
import { contentsOf, live, Oracle, type Tally, Violation } from './oracle'
import { Random } from './random'
import type { Victim } from './rot'
import type { Step, Trace } from './workload'
import { type CallKind, type Fault, STORE, World } from './world'

export interface Plan {
  /** Crashes by chance at each call, beside the plain ones; none at all where undefined. */
  crashesPerCall: number | undefined
  /** The first call at which there are crashes; from the first on where undefined. */
  crashesFrom?: number
  /** What befalls a call, counted from 1. */
  fault?: (call: number, kind: CallKind) => Fault | undefined
}

/** The codes with which a write may be refused, and what is known of it then. */
const REFUSED = new Set(['CASKY_NO_SPACE', 'CASKY_IO', 'CASKY_CLOSED'])
const UNKNOWN = 'CASKY_POISONED'
const TURNS_MAX = 10_000
/** After an error in one of these it may be unknown what is on disk. */
const POISONING: CallKind[] = ['sync', 'truncate', 'syncDirectory', 'status']

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

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

export class Simulation {
  private readonly random: Random
  private readonly oracle: Oracle
  private world: World
  private history = new History()
  private db: Casky | undefined
  private violation: Violation | undefined
  private doubts: Violation[] = []
  /** So many operations must be there when the store is next opened; undefined while it is open. */
  private owed: number | undefined = 0
  /** Every value that a key ever had. */
  readonly written = new Map<string, Set<string>>()
  private step = 0
  private values = 0
  private callsBefore = 0
  /** No more faults. */
  private isHealed = false
  /** The kinds of calls that faults have befallen since the process began. */
  private befallen = new Set<CallKind>()
  /** What a call of the disk was asked for before this process. */
  private get calls(): number {
    return this.callsBefore + this.world.calls
  }

  constructor(
    private readonly trace: Trace,
    private readonly plan: Plan,
    private readonly tally: Tally,
  ) {
    this.random = new Random(trace.seed ^ 0x5eed)
    this.oracle = new Oracle(trace.settings, tally, this.random)
    this.world = this.boot(new SimDisk(), 1_700_000_000_000)
  }

  private boot(disk: SimDisk, nowMs: number): World {
    const world = new World(disk, this.random)
    world.nowMs = nowMs
    world.watcher = {
      before: (kind) => this.befall(kind),
      after: (kind, path) => this.crashHere(kind, path),
    }
    return world
  }

  private befall(kind: CallKind): Fault | undefined {
    const fault = this.isHealed ? undefined : this.plan.fault?.(this.calls, kind)
    if (fault !== undefined) {
      this.tally.faults++
      this.befallen.add(kind)
    }
    return fault
  }

  private note(error: unknown, where: string): void {
    if (!(error instanceof Violation)) throw error
    error.where ||= where
    // A write may have been refused, and whoever waits for it not have heard of that yet.
    if (this.mayFail && error.isStill !== undefined) this.doubts.push(error)
    else this.violation ??= error
  }

  private async clearDoubts(): Promise<void> {
    if (this.doubts.length === 0) return
    await this.drain()
    this.violation ??= this.doubts.find(({ isStill }) => isStill?.() === true)
    this.doubts = []
  }

  /** Never throws: this runs inside a host call, and a store would take it for the system's error. */
  private crashHere(kind: CallKind, path: string): void {
    const { crashesPerCall } = this.plan
    this.tally.calls++
    if (crashesPerCall === undefined || this.calls < (this.plan.crashesFrom ?? 0)) return
    if (this.violation !== undefined || path.includes('/LOCK')) return
    const { history, world, oracle, random } = this
    const where = `a crash after ${kind} ${path} (call ${this.calls}, step ${this.step})`
    try {
      for (const choice of choices(world.disk, crashesPerCall, random)) {
        oracle.judge(
          crashed(world.disk, choice, random),
          world.nowMs,
          history,
          history.durable,
          history.issued,
        )
      }
      // What a kill leaves: all that is live, and nothing is lost that was kept.
      const { kept, issued, durable } = history
      oracle.judge(world.disk.clone(), world.nowMs, history, kept, issued, durable)
    } catch (error) {
      this.note(error, where)
    }
  }

  private async stopIfDoubted(): Promise<void> {
    await this.clearDoubts()
    this.stopIfViolated()
  }

  private stopIfViolated(): void {
    if (this.violation !== undefined) throw this.violation
  }

  async all(): Promise<void> {
    this.tally.traces++
    this.open()
    for (const [i, step] of this.trace.steps.entries()) {
      this.step = i + 1
      await this.run(step)
      await this.stopIfDoubted()
    }
    this.step = this.trace.steps.length + 1
    await this.end()
    await this.stopIfDoubted()
  }

  /** Closed, and opened by a process that meets no errors. */
  private async end(): Promise<void> {
    // A sync that is under way may fail still.
    await this.settle()
    await this.stopIfDoubted()
    this.isHealed = true
    this.goOn()
    this.stopIfViolated()
    this.isHealed = this.db?.health().poisoned === undefined
    await this.close()
    await this.stopIfDoubted()
    if (this.plan.fault !== undefined) {
      this.isHealed = true
      this.restart(this.world.disk, this.history.kept)
      if (this.db !== undefined) await this.check(this.db)
      await this.close()
    }
    this.world.kill()
  }

  /** Where all is well again, the process that met the errors writes on, unless it can't know what is on disk. */
  private goOn(): void {
    const { db } = this
    if (this.plan.fault === undefined || db === undefined) return
    const { poisoned } = db.health()
    if (poisoned === undefined) {
      const value = this.valueOf('last', 30)
      this.write([{ key: 'last', value, expiresAtMs: undefined }], true, {
        later: () => db.put('last', value),
        now: () => db.putSync('last', value),
      })
    } else if (!POISONING.some((kind) => this.befallen.has(kind))) {
      throw new Violation('D7 errors are typed', `poisoned without a reason: ${poisoned.message}`)
    }
  }

  /** A store to be hurt: what the trace leaves, closed or killed. */
  async victim(isClosed: boolean): Promise<Victim> {
    this.open()
    for (const [i, step] of this.trace.steps.entries()) {
      this.step = i + 1
      await this.run(step)
      await this.stopIfDoubted()
    }
    await this.settle()
    if (isClosed) await this.close()
    const { world, history, written } = this
    const { disk, nowMs } = world
    const expected = live(history.after(history.issued), nowMs)
    const batches = history.newestBatches()
    world.kill()
    const isPrefix = (state: State): boolean => history.placeOf(state, 0, history.issued, nowMs) !== undefined
    return { disk: wholeOf(disk, this.random), nowMs, expected, written, batches, isPrefix, isClosed }
  }

  /** Opens, where it can be; with an error under way it may not. What it finds is where the history goes on from. */
  private open(): void {
    let db: Casky
    try {
      db = openSyncOn<'utf8', 'utf8'>(this.world.ground, STORE, this.trace.settings)
    } catch (error) {
      const { code } = error as { code?: string }
      if (!this.mayFail || code === undefined || !code.startsWith('CASKY_') || code === 'CASKY_CORRUPT') {
        throw new Violation('D7 errors are typed', `open: ${(error as Error).stack}`)
      }
      if (this.world.openHandles.length > 0) {
        throw new Violation('D8 no handle leaks', `after a failed open: ${this.world.openHandles.join(', ')}`)
      }
      return
    }
    this.stopIfViolated()
    this.db = db
    this.adopt(db)
  }

  private adopt(db: Casky): void {
    const { history, owed } = this
    const { nowMs } = this.world
    // An error may befall the reading too, but not for ever.
    let contents = this.contents(db)
    while (contents === undefined) contents = this.contents(db)
    const place = history.placeOf(contents, owed ?? 0, history.issued, nowMs)
    if (place === undefined) {
      const expected = show(live(history.after(owed ?? 0), nowMs))
      throw new Violation(
        'D1 a prefix',
        `reopened: ${show(contents)} is not the state after ${owed} to ${history.issued} operations, from ${expected} on`,
      )
    }
    this.owed = undefined
    this.history = new History(live(history.after(place), nowMs))
  }

  private get mayFail(): boolean {
    return this.plan.fault !== undefined && !this.isHealed
  }

  private async drain(): Promise<void> {
    await nextTurn()
    this.world.turn()
    await nextTurn()
  }

  /** Lets the machine run until the promise settles. */
  private async until(promise: Promise<unknown>): Promise<void> {
    let isDone = false
    const end = (): void => {
      isDone = true
    }
    promise.then(end, end)
    for (let turns = 0; !isDone; turns++) {
      if (turns > TURNS_MAX) throw new Violation('D7 errors are typed', `step ${this.step}: a promise hangs`)
      await this.drain()
      this.world.endSync()
    }
  }

  private async settle(): Promise<void> {
    await this.drain()
    while (this.world.syncsInFlight > 0) {
      this.world.endSync()
      await this.drain()
    }
  }

  private async run(step: Step): Promise<void> {
    if (this.db === undefined) this.open()
    this.stopIfViolated()
    switch (step.do) {
      case 'turn':
        return this.drain()
      case 'endSync':
        await this.drain()
        this.world.endSync()
        return this.drain()
      case 'settle':
        return this.settle()
      case 'advance':
        this.world.advance(step.ms)
        return this.drain()
      case 'reopen':
        await this.close()
        this.stopIfViolated()
        if (this.mayFail) return this.restart(this.world.disk, this.history.kept)
        // In the same process, which must have given back all that it held.
        this.owed = this.history.kept
        return this.open()
      case 'kill':
        await this.drain()
        return this.restart(this.world.disk, this.history.kept)
      case 'cut': {
        await this.drain()
        const random = new Random(step.seed)
        const all = [...choices(this.world.disk, 4, random)]
        const disk = crashed(this.world.disk, random.pick(all), random)
        this.history.kept = this.history.durable
        return this.restart(disk, this.history.durable)
      }
    }
    if (this.db === undefined) return
    switch (step.do) {
      case 'read':
        return this.read(this.db)
      case 'check':
        return this.check(this.db)
      case 'expire':
        await this.db.expire().catch((error) => this.expectTyped('expire', error))
        return
      case 'rival':
        return this.rival()
      case 'flush':
        return this.flush(this.db)
      case 'put': {
        const value = this.valueOf(step.key, step.bytes)
        const expiresAtMs = step.ttlMs === undefined ? undefined : this.world.nowMs + step.ttlMs
        const options = step.ttlMs === undefined ? undefined : { ttlMs: step.ttlMs }
        const { db } = this
        const change = { key: step.key, value, expiresAtMs }
        return this.write([change], step.now, {
          later: () => db.put(step.key, value, options),
          now: () => db.putSync(step.key, value, options),
        })
      }
      case 'delete': {
        const { db } = this
        return this.write([{ key: step.key, value: undefined, expiresAtMs: undefined }], step.now, {
          later: () => db.delete(step.key),
          now: () => db.deleteSync(step.key),
        })
      }
      case 'batch': {
        const { db } = this
        const changes = step.changes.map(({ key, bytes }) => ({
          key,
          value: bytes === undefined ? undefined : this.valueOf(key, bytes),
          expiresAtMs: undefined,
        }))
        const operations = changes.map(({ key, value }) =>
          value === undefined ? ({ type: 'del', key } as const) : ({ type: 'put', key, value } as const),
        )
        return this.write(changes, step.now, {
          later: () => db.batch(operations),
          now: () => db.batchSync(operations),
        })
      }
    }
  }

  /** Each value is written once only, so that an old one is never taken for the right one. */
  private valueOf(key: string, bytes: number): string {
    const head = `${++this.values}.${key.slice(0, 4)}.`
    const value = head + String.fromCharCode(97 + (this.values % 26)).repeat(bytes)
    const known = this.written.get(key) ?? new Set()
    this.written.set(key, known.add(value))
    return value
  }

  private write(
    changes: Change[],
    now: boolean | undefined,
    run: { later: () => Promise<unknown>; now: () => unknown },
  ): void {
    const { history } = this
    const place = history.issue(changes)
    const fulfilled = (result: unknown): void => {
      history.settle(place, 'acknowledged')
      // A delete that found nothing rests on what was there before it, and vouches for no more.
      const count = result === false ? history.lastChangeOf(changes[0].key, place) : place + 1
      history.kept = Math.max(history.kept, count)
      if (this.trace.settings.sync === 'always') history.durable = Math.max(history.durable, count)
    }
    const rejected = (error: unknown): void => this.refused(history, place, error)
    if (now === true) {
      let result: unknown
      try {
        result = run.now()
      } catch (error) {
        rejected(error)
        return
      }
      fulfilled(result)
    } else {
      run.later().then(fulfilled, rejected)
    }
  }

  private refused(history: History, place: number, error: unknown): void {
    const { code } = error as { code?: string }
    const isExpected = this.mayFail || code === 'CASKY_CLOSED'
    if (isExpected && code === UNKNOWN) history.settle(place, 'unknown')
    else if (isExpected && code !== undefined && REFUSED.has(code)) history.settle(place, 'refused')
    else this.violation ??= new Violation('D7 errors are typed', `a write: ${(error as Error).stack}`)
  }

  private expectTyped(what: string, error: unknown): void {
    const { code } = error as { code?: string }
    if (this.mayFail && code?.startsWith('CASKY_') === true) return
    this.violation ??= new Violation('D7 errors are typed', `${what}: ${(error as Error).stack}`)
  }

  private flush(db: Casky): void {
    const { history } = this
    const count = history.issued
    db.flush().then(
      () => {
        history.durable = Math.max(history.durable, count)
        history.kept = Math.max(history.kept, count)
      },
      (error) => {
        if (error.code !== 'CASKY_CLOSED') this.expectTyped('flush', error)
      },
    )
  }

  private async close(): Promise<void> {
    const { db, history } = this
    if (db === undefined) return
    this.db = undefined
    let failure: unknown
    const closing = db.close().then(
      () => {
        history.durable = history.issued
        history.kept = history.issued
      },
      (error) => {
        failure = error
      },
    )
    await this.until(closing)
    if (failure !== undefined) this.expectTyped('close', failure)
    if (this.world.openHandles.length > 0) {
      throw new Violation('D8 no handle leaks', `after close: ${this.world.openHandles.join(', ')}`)
    }
  }

  /** A new process on what is left of the disk. */
  private restart(disk: SimDisk, owed: number): void {
    const { nowMs } = this.world
    this.callsBefore += this.world.calls
    this.befallen = new Set()
    this.world.kill()
    this.world = this.boot(disk, nowMs)
    this.db = undefined
    this.owed = Math.min(owed, this.owed ?? owed)
    this.open()
  }

  /** undefined where an error was to be expected. */
  private contents(db: Casky): State | undefined {
    try {
      return contentsOf(db)
    } catch (error) {
      if (this.mayFail && (error as { code?: string }).code === 'CASKY_IO') return undefined
      throw new Violation('D3 a crash is no damage', `reading: ${(error as Error).message}`)
    }
  }

  private async read(db: Casky): Promise<void> {
    const contents = this.contents(db)
    const { size } = db
    // Reading writes the group that is filling; where that fails, those who wait for it hear of it a turn later.
    if (this.mayFail) await this.drain()
    if (contents === undefined || db.health().poisoned !== undefined) return
    const { history, world } = this
    if (history.placeOf(contents, history.issued, history.issued, world.nowMs) === undefined) {
      throw new Violation(
        'D0 reads see what was written',
        `step ${this.step}: ${[...contents.keys()].join(' ')}`,
      )
    }
    const odd = db.stats().segments.find(({ bytes, liveBytes }) => liveBytes > bytes)
    if (odd !== undefined) {
      throw new Violation('D0 reads see what was written', `${odd.path} has more live bytes than bytes`)
    }
    if (size !== contents.size) throw new Violation('D0 reads see what was written', 'size is wrong')
  }

  private async check(db: Casky): Promise<void> {
    const checking = db.check()
    await this.until(checking)
    const report = await checking.catch((error) => this.expectTyped('check', error))
    const [damage] = report?.damage ?? []
    if (damage !== undefined && !this.mayFail) {
      throw new Violation(
        'D3 a crash is no damage',
        `check: ${damage.reason} at ${damage.offset} of ${damage.path}`,
      )
    }
  }

  private rival(): void {
    try {
      openSyncOn(this.world.ground, STORE, this.trace.settings).closeSync()
    } catch (error) {
      if ((error as { code?: string }).code === 'CASKY_LOCKED' || this.mayFail) return
      throw new Violation('D9 one writer', `a second one fails with ${(error as Error).stack}`)
    }
    throw new Violation('D9 one writer', 'a second writer got in')
  }
}
