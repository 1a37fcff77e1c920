// What a store should hold: every operation in the order in which it was issued, and what is known of its outcome.

export interface Change {
  key: string
  /** undefined: a delete */
  value: string | undefined
  expiresAtMs: number | undefined
}

export interface Entry {
  value: string
  expiresAtMs: number | undefined
}

export type State = ReadonlyMap<string, Entry>

export type Outcome = 'open' | 'acknowledged' | 'refused' | 'unknown'

export interface Operation {
  changes: Change[]
  outcome: Outcome
  /** It wrote so many records at least; known once it is acknowledged. */
  records: number
}

export class History {
  private operations: Operation[] = []
  /** By how many operations are applied. */
  private states: State[]
  /** So many operations survive the machine. */
  durable = 0
  /** So many operations survive the process. */
  kept = 0

  constructor(
    base: State = new Map(),
    /** No sequence number up to this one was free before all of them. */
    private readonly baseSequence = 0,
    /** What was the last number then. */
    private readonly lastSequence = baseSequence,
  ) {
    this.states = [base]
  }

  get issued(): number {
    return this.operations.length
  }

  /** Notes an operation before it is done; returns its place. */
  issue(changes: Change[]): number {
    this.operations.push({ changes, outcome: 'open', records: 0 })
    return this.operations.length - 1
  }

  settle(place: number, outcome: Outcome, records = 0): void {
    Object.assign(this.operations[place], { outcome, records })
    // A refused one was never there: what comes behind it is built without it.
    if (outcome === 'refused') this.states.length = Math.min(this.states.length, place + 1)
  }

  /** No number up to this one is given again, once the first `count` operations are safe. */
  sequenceAfter(count: number): number {
    let last = this.baseSequence
    for (let i = 0; i < count; i++) last += this.operations[i].records
    return last
  }

  /** Whether the last of the first `count` operations can have this number. */
  mayEndAt(count: number, sequence: number): boolean {
    let [least, most] = [this.lastSequence, this.lastSequence]
    for (const { changes, outcome, records } of this.operations.slice(0, count)) {
      least += outcome === 'refused' ? 0 : Math.max(records, putsIn(changes))
      // A delete of what is not there has none.
      most += changes.length
    }
    return least <= sequence && sequence <= most
  }

  /** The state after the first `count` operations; those that were refused left nothing. */
  after(count: number): State {
    while (this.states.length <= count) {
      const { changes, outcome } = this.operations[this.states.length - 1]
      const before = this.states[this.states.length - 1]
      this.states.push(outcome === 'refused' ? before : applied(before, changes))
    }
    return this.states[count]
  }

  /** How many operations there were once `key` was last changed before the one at `place`. */
  lastChangeOf(key: string, place: number): number {
    for (let i = place - 1; i >= 0; i--) {
      const { changes, outcome } = this.operations[i]
      if (outcome !== 'refused' && changes.some((change) => change.key === key)) return i + 1
    }
    return 0
  }

  /** The keys of each batch of which no key was written again. */
  newestBatches(): Set<string>[] {
    const later = new Set<string>()
    const found: Set<string>[] = []
    for (const { changes } of this.operations.toReversed()) {
      const keys = new Set(changes.map(({ key }) => key))
      if (keys.size > 1 && [...keys].every((key) => !later.has(key))) found.push(keys)
      for (const key of keys) later.add(key)
    }
    return found
  }

  /** How many operations the state `found` is after, in [from, to]: the most, or undefined. */
  placeOf(found: State, from: number, to: number, nowMs: number): number | undefined {
    for (let count = to; count >= from; count--) if (isSameAt(this.after(count), found, nowMs)) return count
    return undefined
  }

  /** Whether `found` is such a state, with or without those of its entries that were overwritten or deleted later. */
  isThinned(found: State, nowMs: number): boolean {
    for (let count = this.issued; count >= 0; count--) {
      const state = new Map([...this.after(count)].filter(([, entry]) => isLive(entry, nowMs)))
      const isSame = ([key, { value, expiresAtMs }]: [string, Entry]): boolean =>
        state.get(key)?.value === value && state.get(key)?.expiresAtMs === expiresAtMs
      const stays = ([key, { value }]: [string, Entry]): boolean =>
        found.has(key) || this.after(this.issued).get(key)?.value !== value
      if ([...found].every(isSame) && [...state].every(stays)) return true
    }
    return false
  }
}

export function putsIn(changes: Change[]): number {
  return changes.filter(({ value }) => value !== undefined).length
}

function applied(before: State, changes: Change[]): State {
  const after = new Map(before)
  for (const { key, value, expiresAtMs } of changes) {
    if (value === undefined) after.delete(key)
    else after.set(key, { value, expiresAtMs })
  }
  return after
}

export function isLive({ expiresAtMs }: Entry, nowMs: number): boolean {
  return expiresAtMs === undefined || expiresAtMs > nowMs
}

/** `found` holds live entries only. */
function isSameAt(state: State, found: State, nowMs: number): boolean {
  let live = 0
  for (const [key, entry] of state) {
    if (!isLive(entry, nowMs)) continue
    live++
    const other = found.get(key)
    if (other === undefined || other.value !== entry.value || other.expiresAtMs !== entry.expiresAtMs)
      return false
  }
  return live === found.size
}

/** A state in one line. */
export function show(state: State): string {
  const parts = [...state]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, { value }]) => {
      return `${key}=${value.slice(0, 12)}${value.length > 12 ? `…(${value.length})` : ''}`
    })
  return `{${parts.join(' ')}}`
}
