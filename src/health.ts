// What is known to be wrong with a store, from opening it, reading it and checking it.
import type { CaskyError } from './errors'

/** Acknowledged data that can't be read any more. */
export interface Damage {
  path: string
  /** Where it begins in the file, and how long it is. */
  offset: number
  bytes: number
  /** What is wrong, for a person to read. */
  reason: string
  /** The sequence numbers of the writes that it hit; both undefined where none was, or where they can't be told. */
  firstSequence: number | undefined
  lastSequence: number | undefined
  /** The keys that it hit, as far as they can be read. */
  keys: Uint8Array[]
  foundAtMs: number
}

/** Bytes that a crash left behind the last acknowledged write; nothing acknowledged is in them. */
export interface TornTail {
  path: string
  offset: number
  bytes: number
}

/** Damage as it is met: what it hit may be unknown. */
export type FoundDamage = Omit<Damage, 'firstSequence' | 'lastSequence' | 'keys'> & Partial<Damage>

export interface HealthReport {
  /** No damage known and writes accepted. Torn tails don't count against it. */
  ok: boolean
  damage: Damage[]
  tornTails: TornTail[]
  /** Why writes are refused until the store is reopened. */
  poisoned: CaskyError | undefined
}

export class Health {
  readonly damage: Damage[] = []
  readonly tornTails: TornTail[] = []
  poisoned: CaskyError | undefined
  private readonly known = new Map<string, TornTail>()

  /** The same place is reported once, however often it is met: returns the report that stands. */
  private once<T extends TornTail>(list: T[], kind: string, found: T): T {
    const place = `${kind} ${found.offset} ${found.bytes} ${found.path}`
    const known = this.known.get(place)
    if (known !== undefined) return known as T
    this.known.set(place, found)
    list.push(found)
    return found
  }

  addDamage(found: FoundDamage): Damage {
    const unknown = { firstSequence: undefined, lastSequence: undefined }
    return this.once(this.damage, 'damage', { ...unknown, keys: [], ...found })
  }

  addTornTail(tail: TornTail): void {
    this.once(this.tornTails, 'tail', tail)
  }

  report(): HealthReport {
    return {
      ok: this.damage.length === 0 && this.poisoned === undefined,
      damage: this.damage.map((damage) => ({ ...damage, keys: damage.keys.map((key) => key.slice()) })),
      tornTails: this.tornTails.map((tail) => ({ ...tail })),
      poisoned: this.poisoned,
    }
  }
}
