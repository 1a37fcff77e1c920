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
  private readonly known = new Set<string>()

  private isNew(kind: string, { path, offset, bytes }: TornTail): boolean {
    const place = `${kind} ${offset} ${bytes} ${path}`
    if (this.known.has(place)) return false
    this.known.add(place)
    return true
  }

  /** The same place is reported once, however often it is met. */
  addDamage(damage: Damage): void {
    if (this.isNew('damage', damage)) this.damage.push(damage)
  }

  addTornTail(tail: TornTail): void {
    if (this.isNew('tail', tail)) this.tornTails.push(tail)
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
