// The books of a trace: what was written and with what outcome, what the store owes once it is opened again, and which
// answers it may give instead.
import type { Casky } from '../../src/index'
import { type Change, History, putsIn, show } from './model'
import { contentsOf, live, Violation } from './oracle'
import type { Verdict } from './verdict'
import type { Settings } from './workload'

/** The codes with which a write may be refused, and what is known of it then. */
const REFUSED = new Set(['CASKY_NO_SPACE', 'CASKY_IO', 'CASKY_CLOSED'])
const UNKNOWN = 'CASKY_POISONED'

/** So many records at least: a delete of what was not there writes none. */
function recordsOf(changes: Change[], result: unknown): number {
  if (changes.length === 1 && changes[0].value === undefined) return result === true ? 1 : 0
  return putsIn(changes)
}

export class Books {
  history = new History()
  /** So many operations must be there when the store is next opened; undefined while it is open. */
  owed: number | undefined = 0
  /** Every value that a key ever had. */
  readonly written = new Map<string, Set<string>>()
  private values = 0

  constructor(
    private readonly settings: Settings,
    private readonly verdict: Verdict,
    /** Whether errors are to be expected now. */
    readonly mayFail: () => boolean,
  ) {}

  /** The store was opened and holds this: where the history goes on from. */
  adopt(contents: ReturnType<typeof contentsOf>, lastSequence: number, nowMs: number): void {
    const { history, owed } = this
    const place = history.placeOf(contents, owed ?? 0, history.issued, nowMs)
    if (place === undefined) {
      const expected = show(live(history.after(owed ?? 0), nowMs))
      throw new Violation(
        'D1 a prefix',
        `reopened: ${show(contents)} is not the state after ${owed} to ${history.issued} operations, from ${expected} on`,
      )
    }
    const least = history.sequenceAfter(owed ?? 0)
    if (lastSequence < least) {
      throw new Violation(
        'D2 nothing acknowledged is lost',
        `reopened: the last sequence number is ${lastSequence}, and was ${least} at least`,
      )
    }
    this.owed = undefined
    this.history = new History(live(history.after(place), nowMs), least, lastSequence)
  }

  /** The process has ended, and so many operations have to be found. */
  ended(owed: number): void {
    this.owed = Math.min(owed, this.owed ?? owed)
  }

  /** Each value is written once only, so that an old one is never taken for the right one. */
  valueOf(key: string, bytes: number): string {
    const head = `${++this.values}.${key.slice(0, 4)}.`
    // What ends in zeros looks like room.
    const last = this.values % 4 === 0 ? 0 : 97 + (this.values % 26)
    const value = head + String.fromCharCode(last).repeat(bytes)
    const known = this.written.get(key) ?? new Set()
    this.written.set(key, known.add(value))
    return value
  }

  write(
    changes: Change[],
    now: boolean | undefined,
    run: { later: () => Promise<unknown>; now: () => unknown },
  ): void {
    const { history } = this
    const place = history.issue(changes)
    const fulfilled = (result: unknown): void => {
      history.settle(place, 'acknowledged', recordsOf(changes, result))
      // A delete that found nothing rests on what was there before it, and vouches for no more.
      const count = result === false ? history.lastChangeOf(changes[0].key, place) : place + 1
      history.kept = Math.max(history.kept, count)
      if (this.settings.sync === 'always') history.durable = Math.max(history.durable, count)
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
    const isExpected = this.mayFail() || code === 'CASKY_CLOSED'
    if (isExpected && code === UNKNOWN) history.settle(place, 'unknown')
    else if (isExpected && code !== undefined && REFUSED.has(code)) history.settle(place, 'refused')
    else this.verdict.reach(new Violation('D7 errors are typed', `a write: ${(error as Error).stack}`))
  }

  /** `couldFail`: whether errors were to be expected when it began, for what takes its time to end. */
  expectTyped(what: string, error: unknown, couldFail = false): void {
    const { code } = error as { code?: string }
    if ((couldFail || this.mayFail()) && code?.startsWith('CASKY_') === true) return
    this.verdict.reach(new Violation('D7 errors are typed', `${what}: ${(error as Error).stack}`))
  }

  flush(db: Casky): void {
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

  /** Closes, `isNow` without a wait; what it is told when that fails is `expectTyped`'s. */
  async close(
    db: Casky,
    isNow: boolean | undefined,
    until: (promise: Promise<unknown>) => Promise<void>,
  ): Promise<void> {
    const { history } = this
    let failure: unknown
    const close = isNow === true ? async () => db.closeSync() : () => db.close()
    const closing = close().then(
      () => {
        history.durable = history.issued
        history.kept = history.issued
      },
      (error) => {
        failure = error
      },
    )
    await until(closing)
    if (failure !== undefined) this.expectTyped('close', failure)
  }

  /** What the store holds; undefined where an error was to be expected. */
  contents(db: Casky): ReturnType<typeof contentsOf> | undefined {
    try {
      return contentsOf(db)
    } catch (error) {
      if (this.mayFail() && (error as { code?: string }).code === 'CASKY_IO') return undefined
      throw new Violation('D3 a crash is no damage', `reading: ${(error as Error).message}`)
    }
  }
}
