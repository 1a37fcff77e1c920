// Snapshots and iterators that a trace keeps while it goes on, and what each of them has to show until it is let go.
import type { Casky, Snapshot } from '../../src/index'
import type { Entry } from './model'
import { contentsOf, Violation } from './oracle'

/** More would hold on to every segment there ever was. */
const KEPT_MAX = 4

interface Glimpse {
  /** Each of them alone must hold on to what it reads. */
  snapshot: Snapshot | undefined
  /** The rest of it, in the order of the keys. */
  rest: IterableIterator<[string, string]> | undefined
  expected: Map<string, Entry>
  /** Keys that were not there. */
  absent: string[]
  takenAt: number
}

const RULE = 'D11 a snapshot stays'

function isIo(error: unknown): boolean {
  return (error as { code?: string }).code === 'CASKY_IO'
}

export class Glimpses {
  private kept: Glimpse[] = []

  /** `mayFail`: whether reading may. */
  constructor(private readonly mayFail: () => boolean) {}

  get count(): number {
    return this.kept.length
  }

  /** Takes a snapshot and begins an iterator; returns what they show, or undefined where an error came in the way. */
  take(db: Casky, keys: Iterable<string>, step: number): ReturnType<typeof contentsOf> | undefined {
    if (this.kept.length >= KEPT_MAX) letGo(this.kept.shift())
    const snapshot = db.snapshot()
    // The first item is taken, the rest later.
    const rest = db.entries()
    try {
      const first = rest.next()
      const expected = contentsOf(snapshot)
      const [least] = [...expected.keys()].sort()
      if (first.value?.[0] !== least) {
        throw new Violation(RULE, `at step ${step} an iterator begins with ${first.value?.[0]}, not ${least}`)
      }
      const absent = [...keys].filter((key) => !expected.has(key))
      const glimpse: Glimpse = { snapshot, rest, expected, absent, takenAt: step }
      if (step % 3 === 1) {
        letGo({ snapshot: undefined, rest })
        glimpse.rest = undefined
      } else if (step % 3 === 2) {
        snapshot.release()
        glimpse.snapshot = undefined
      }
      this.kept.push(glimpse)
      return expected
    } catch (error) {
      letGo({ snapshot, rest })
      if (this.mayFail() && isIo(error)) return undefined
      throw error
    }
  }

  /** Each shows what it did. */
  look(): void {
    for (const glimpse of this.kept) this.attempt(() => lookAt(glimpse))
  }

  private attempt(run: () => void): void {
    try {
      run()
    } catch (error) {
      if (error instanceof Violation) throw error
      if (this.mayFail() && isIo(error)) return
      throw new Violation(RULE, `reading: ${(error as Error).stack}`)
    }
  }

  /** Lets the oldest go, its iterator to the end or not. */
  release(): void {
    const oldest = this.kept.shift()
    if (oldest === undefined) return
    this.attempt(() => finish(oldest))
    letGo(oldest)
    if (oldest.snapshot !== undefined) expectClosed(() => oldest.snapshot?.size)
  }

  /** The store is closed: nothing can be read any more. */
  closed(): void {
    for (const { snapshot, rest } of this.kept.splice(0)) {
      if (snapshot !== undefined) expectClosed(() => snapshot.get('k0'))
      snapshot?.release()
      let isAtEnd = false
      const goOn = (): void => {
        isAtEnd = rest?.next().done === true
      }
      if (rest !== undefined) expectClosed(goOn, () => isAtEnd)
    }
  }

  /** The process is dead, and they with it. */
  forget(): void {
    this.kept = []
  }
}

/** At once, and not when the garbage is collected. */
function letGo(glimpse: Pick<Glimpse, 'snapshot' | 'rest'> | undefined): void {
  glimpse?.rest?.return?.()
  glimpse?.snapshot?.release()
}

function expectClosed(run: () => unknown, isFine = () => false): void {
  try {
    run()
  } catch (error) {
    if ((error as { code?: string }).code === 'CASKY_CLOSED') return
    throw new Violation(RULE, `after its end: ${(error as Error).stack}`)
  }
  if (!isFine()) throw new Violation(RULE, 'it can be read after its end')
}

function lookAt({ snapshot, expected, absent, takenAt }: Glimpse): void {
  if (snapshot === undefined) return
  const fail = (what: string): never => {
    throw new Violation(RULE, `the snapshot of step ${takenAt}: ${what}`)
  }
  const found = contentsOf(snapshot)
  for (const [key, { value, expiresAtMs }] of expected) {
    if (found.get(key)?.value !== value) fail(`${key} is another than it was`)
    if (found.get(key)?.expiresAtMs !== expiresAtMs) fail(`${key} expires at another time`)
    if (snapshot.get(key) !== value) fail(`get of ${key} gives another value`)
    if (!snapshot.has(key)) fail(`it has no ${key}`)
  }
  if (found.size !== expected.size) fail('it has more than it had')
  if (snapshot.size !== expected.size) fail(`its size is ${snapshot.size}, and was ${expected.size}`)
  const come = absent.find((key) => snapshot.has(key) || snapshot.get(key) !== undefined)
  if (come !== undefined) fail(`${come} was not there`)
}

/** Takes what an iterator still has. */
function finish({ rest, expected, takenAt }: Glimpse): void {
  if (rest === undefined) return
  const [, ...keys] = [...expected.keys()].sort()
  for (const key of keys) {
    const { value: item } = rest.next()
    if (item?.[0] !== key || item[1] !== expected.get(key)?.value) {
      throw new Violation(
        RULE,
        `an iterator of step ${takenAt}: ${item?.[0]} instead of ${key}, or an older value`,
      )
    }
  }
  if (rest.next().done !== true)
    throw new Violation(RULE, `an iterator of step ${takenAt} has more than there was`)
}
