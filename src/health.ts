// What is known to be wrong with a store, from opening it, reading it and checking it.
import type { CaskyError } from './errors'

/** Acknowledged data that can't be read any more. */
export interface Damage {
  path: string
  /** Where it begins in the file, and how long it is. Of several places: where the first begins, and their sum. */
  offset: number
  bytes: number
  /** 1, or how many places this stands for: where there are very many, the first are listed, and the rest summed up. */
  places: number
  /** What is wrong, for a person to read. */
  reason: string
  /** What `casky repair` does about it, for a person to read. */
  remedy: string
  /** The sequence numbers of the writes that it hit; both undefined where none was, or where they can't be told. */
  firstSequence: number | undefined
  lastSequence: number | undefined
  /** The keys that it hit, as far as they can be read; of very many the first. */
  keys: Uint8Array[]
  /** How many more of them there are than `keys` lists. */
  moreKeys: number
  foundAtMs: number
}

/** Bytes that a crash left behind the last acknowledged write; nothing acknowledged is in them. */
export interface TornTail {
  path: string
  offset: number
  bytes: number
}

/** Damage as it is met: what it hit may be unknown. */
export type FoundDamage = Pick<Damage, 'path' | 'offset' | 'bytes' | 'reason' | 'foundAtMs'> & Partial<Damage>

/** What is listed one by one, of a file and in all, and the keys in all: a file can hold millions that are damaged. */
const PLACES_OF_FILE_MAX = 1000
const PLACES_MAX = 10_000
const KEYS_MAX = 10_000

const REMEDY = 'what can be read is kept, the rest left out'

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
  /** The same place is reported once, however often it is met. */
  private known = new Set<string>()
  private listedOfFile = new Map<string, number>()
  private listedKeys = 0
  private totals = new Map<string, Damage>()

  static of(damage: Iterable<Damage>, tornTails: Iterable<TornTail>): Health {
    const health = new Health()
    for (const each of damage) health.addDamage(each)
    for (const each of tornTails) health.addTornTail(each)
    return health
  }

  addDamage(found: FoundDamage): void {
    const damage = damageOf(found)
    if (!this.list(damage)) this.setTotal(totalOf(damage, undefined))
  }

  /** False where it is not known yet, and there are too many to list it: then it is to be summed up. */
  list(damage: Damage): boolean {
    const { path, offset, bytes, keys } = damage
    const place = `damage ${offset} ${bytes} ${path}`
    if (this.known.has(place)) return true
    const ofFile = this.listedOfFile.get(path) ?? 0
    // Each file is named at least.
    const hasRoom = ofFile === 0 || (ofFile < PLACES_OF_FILE_MAX && this.damage.length < PLACES_MAX)
    if (!hasRoom) return false
    this.known.add(place)
    this.listedOfFile.set(path, ofFile + 1)
    const listed = keys.slice(0, Math.max(0, KEYS_MAX - this.listedKeys))
    this.listedKeys += listed.length
    this.damage.push({ ...damage, keys: listed, moreKeys: damage.moreKeys + keys.length - listed.length })
    return true
  }

  /** What a pass over a file has found and not listed. One over the same file before it may have found as much. */
  setTotal(total: Damage): void {
    const kind = `${kindOf(total)} ${total.path}`
    const known = this.totals.get(kind)
    if (known === undefined) {
      this.totals.set(kind, total)
      this.damage.push(total)
    } else if (total.places > known.places) Object.assign(known, total)
  }

  /** Whether damage is known in this file. */
  isDamaged(path: string): boolean {
    return this.listedOfFile.has(path)
  }

  addTornTail(tail: TornTail): void {
    const place = `tail ${tail.offset} ${tail.bytes} ${tail.path}`
    if (this.known.has(place)) return
    this.known.add(place)
    this.tornTails.push(tail)
  }

  /** What lies behind the end of this file is known after all, and was not torn. */
  forgetTornTail(path: string): void {
    const at = this.tornTails.findIndex((tail) => tail.path === path)
    if (at >= 0) this.tornTails.splice(at, 1)
  }

  /** Has it say what `other` says. */
  become({ damage, tornTails, known, listedOfFile, listedKeys, totals }: Health): void {
    this.damage.splice(0, this.damage.length, ...damage)
    this.tornTails.splice(0, this.tornTails.length, ...tornTails)
    this.known = new Set(known)
    this.listedOfFile = new Map(listedOfFile)
    this.listedKeys = listedKeys
    this.totals = new Map(totals)
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

export function damageOf(found: FoundDamage): Damage {
  const unknown = { firstSequence: undefined, lastSequence: undefined }
  return { places: 1, remedy: REMEDY, ...unknown, keys: [], moreKeys: 0, ...found }
}

/** What is summed up together: it has the same remedy, and either all of it has cost writes or nothing of it has. */
export function kindOf({ remedy, firstSequence }: Damage): string {
  return firstSequence === undefined ? remedy : `${remedy}, writes`
}

/** `damage` and what was summed up before it; it lies behind that in the file. */
export function totalOf(damage: Damage, before: Damage | undefined): Damage {
  const { path, remedy, offset, bytes, foundAtMs, firstSequence, lastSequence } = damage
  const places = (before?.places ?? 0) + 1
  const end = offset + bytes
  return {
    path,
    offset: before?.offset ?? offset,
    bytes: (before?.bytes ?? 0) + bytes,
    places,
    reason: `${places} more, which end at byte ${end}: ${damage.reason}`,
    remedy,
    firstSequence: before?.firstSequence ?? firstSequence,
    lastSequence,
    keys: [],
    moreKeys: (before?.moreKeys ?? 0) + damage.moreKeys + damage.keys.length,
    foundAtMs,
  }
}
