// The keydir: for each key, where its newest record lies. Off the heap, in thousands of sub-tables that grow one at
// a time, so that no growth is long. It holds the keys' bytes: an answer is exact, and listing keys reads no disk.
import { invariant } from '../errors'
import { Expiries } from './expiries'
import { emptyPlace, type Place, Table } from './table'

export type { Place } from './table'
export { emptyPlace } from './table'

const TABLE_BITS = 12
const TABLE_SHIFT = 32 - TABLE_BITS

export class Keydir {
  private readonly tables: (Table | undefined)[] = new Array(1 << TABLE_BITS).fill(undefined)
  private readonly expiries = new Expiries()
  private tableBytes = 0
  /** Entries, those that have expired included. */
  count = 0
  /** The place that `find` found, or that `put` and `remove` took out of use. */
  readonly found: Place = emptyPlace()

  /** `tableWordsMax`: for tests, as Table has it. */
  constructor(private readonly tableWordsMax?: number) {}

  /** Looks for the key at `source[at..]` with this 64-bit hash; fills `found` and says whether it is there. */
  find(hashLow: number, hashHigh: number, source: Uint8Array, at: number, keyBytes: number): boolean {
    let table = this.tables[hashHigh >>> TABLE_SHIFT]
    while (table !== undefined) {
      const slot = table.find(hashLow >>> 8, source, at, keyBytes)
      if (slot >= 0) {
        table.read(slot, this.found)
        return true
      }
      table = table.next
    }
    return false
  }

  /** Brings in the cache line that a later call for this hash begins at. */
  touch(hashLow: number, hashHigh: number): number {
    return this.tables[hashHigh >>> TABLE_SHIFT]?.touch(hashLow >>> 8) ?? 0
  }

  /** Points the key at `place`; true where it replaces another, which is then in `found`. */
  put(
    hashLow: number,
    hashHigh: number,
    source: Uint8Array,
    at: number,
    keyBytes: number,
    place: Place,
  ): boolean {
    const hash24 = hashLow >>> 8
    if (place.expiresAtMs !== undefined) this.expiries.add(place.expiresAtMs)
    let replaces = false
    let table = this.tables[hashHigh >>> TABLE_SHIFT]
    for (; table !== undefined; table = table.next) {
      const slot = table.find(hash24, source, at, keyBytes)
      if (slot < 0) continue
      table.read(slot, this.found)
      if (this.found.expiresAtMs !== undefined) this.expiries.remove(this.found.expiresAtMs)
      if (table.update(slot, place)) return true
      table.remove(slot)
      replaces = true
      break
    }
    const roomy = this.tableWithRoom(hashHigh >>> TABLE_SHIFT, keyBytes)
    this.tableBytes += roomy.insert(hash24, source, at, keyBytes, place)
    if (!replaces) this.count++
    return replaces
  }

  private tableWithRoom(index: number, keyBytes: number): Table {
    let last: Table | undefined
    for (let table = this.tables[index]; table !== undefined; table = table.next) {
      if (table.hasRoom(keyBytes)) return table
      last = table
    }
    const table = new Table(this.tableWordsMax)
    this.tableBytes += table.memoryBytes
    if (last === undefined) this.tables[index] = table
    else last.next = table
    return table
  }

  /** Removes the key; true where it was there, with its place in `found`. */
  remove(hashLow: number, hashHigh: number, source: Uint8Array, at: number, keyBytes: number): boolean {
    for (let table = this.tables[hashHigh >>> TABLE_SHIFT]; table !== undefined; table = table.next) {
      const slot = table.find(hashLow >>> 8, source, at, keyBytes)
      if (slot < 0) continue
      table.read(slot, this.found)
      if (this.found.expiresAtMs !== undefined) this.expiries.remove(this.found.expiresAtMs)
      table.remove(slot)
      this.count--
      invariant(this.count >= 0, 'the keydir never counts below zero')
      return true
    }
    return false
  }

  /** Entries that have not expired at `nowMs`. */
  liveCount(nowMs: number): number {
    if (this.expiries.needsStart(nowMs)) {
      this.expiries.start()
      this.forEach((place) => {
        if (place.expiresAtMs !== undefined) this.expiries.add(place.expiresAtMs)
      })
    }
    return this.count - this.expiries.countExpired(nowMs)
  }

  /** Calls `visit` for each entry, expired ones included, in no order; it must not change the keydir. */
  forEach(visit: (place: Place, keys: Uint8Array, keyAt: number, keyBytes: number) => void): void {
    const place = emptyPlace()
    for (const head of this.tables) {
      for (let table = head; table !== undefined; table = table.next) table.forEach(place, visit)
    }
  }

  /** Bytes of memory held, the keys' own among them. */
  get memoryBytes(): number {
    return this.tableBytes + this.expiries.memoryBytes + this.tables.length * 8
  }
}
