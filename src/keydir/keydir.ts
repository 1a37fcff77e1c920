// The keydir: for each key, where its newest record lies. Off the heap, in thousands of sub-tables that grow one at
// a time, so that no growth is long. It holds the keys' bytes: an answer is exact, and listing keys reads no disk.
import { invariant } from '../errors'
import { Expiries } from './expiries'
import { type FoldedKeydir, type FoldedPiece, FoldedTables, PieceDamaged, type PieceSource } from './folded'
import type { KeyedHash } from './strain'
import { emptyPlace, type Place, Table } from './table'

export type { FoldedKeydir, FoldedPiece, FoldedTable, PieceSource } from './folded'
export { PieceDamaged } from './folded'
export type { KeyedHash } from './strain'
export type { Place } from './table'
export { emptyPlace } from './table'

const TABLE_BITS = 12
export const TABLE_SHIFT = 32 - TABLE_BITS
export const TABLES = 1 << TABLE_BITS

export class Keydir {
  private readonly tables: (Table | undefined)[] = new Array(TABLES).fill(undefined)
  /** Tables of a checkpoint that were not used yet. */
  private folded: FoldedTables | undefined
  private expiries = new Expiries()
  /** Of the entries, those that expire, or have expired. */
  private expiring = 0
  private tableBytes = 0
  /** Entries, those that have expired included. */
  count = 0
  /** Makes a keydir of what belongs into the tables of these indexes; where none is set, damaged ones throw. */
  makeAnew: (indexes: ReadonlySet<number>) => Keydir = () => {
    throw new PieceDamaged()
  }
  /** Tables were made anew. */
  onMended: () => void = () => {}
  /** The place that `find` found, or that `put` and `remove` took out of use. */
  readonly found: Place = emptyPlace()

  /** `keyedHash`: for tables whose keys meet too often. `tableWordsMax`: for tests, as Table has it. */
  constructor(
    private readonly keyedHash: KeyedHash,
    private readonly tableWordsMax?: number,
  ) {}

  /** Whether there are entries that expire, or have. */
  get hasExpiring(): boolean {
    return this.expiring > 0
  }

  private tableAt(index: number): Table | undefined {
    return this.tables[index] ?? this.unfold(index)
  }

  private unfold(index: number): Table | undefined {
    const piece = this.folded?.pieceOf(index) ?? -1
    if (piece < 0) return undefined
    if (!this.bringIn(piece)) this.mend()
    return this.tables[index]
  }

  private bringIn(piece: number): boolean {
    const { folded } = this
    const isIn = folded?.bringIn(piece, (index, table) => {
      this.tables[index] = table
    })
    if (folded?.isEmpty) this.folded = undefined
    return isIn ?? true
  }

  /** The hash by which a table knows the key. */
  private hashFor(table: Table, hashLow: number, source: Uint8Array, at: number, keyBytes: number): number {
    if (!table.isStrained) return hashLow >>> 8
    if (!table.isKeyed) table.rekey(this.keyedHash)
    return this.keyedHash(source, at, keyBytes)
  }

  /** Looks for the key at `source[at..]` with this 64-bit hash; fills `found` and says whether it is there. */
  find(hashLow: number, hashHigh: number, source: Uint8Array, at: number, keyBytes: number): boolean {
    let table = this.tableAt(hashHigh >>> TABLE_SHIFT)
    while (table !== undefined) {
      const slot = table.find(this.hashFor(table, hashLow, source, at, keyBytes), source, at, keyBytes)
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
    return this.tableAt(hashHigh >>> TABLE_SHIFT)?.touch(hashLow >>> 8) ?? 0
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
    if (place.expiresAtMs !== undefined) this.addExpiry(place.expiresAtMs)
    let replaces = false
    let table = this.tableAt(hashHigh >>> TABLE_SHIFT)
    for (; table !== undefined; table = table.next) {
      const slot = table.find(this.hashFor(table, hashLow, source, at, keyBytes), source, at, keyBytes)
      if (slot < 0) continue
      table.read(slot, this.found)
      if (this.found.expiresAtMs !== undefined) this.removeExpiry(this.found.expiresAtMs)
      if (table.update(slot, place)) return true
      table.remove(slot)
      replaces = true
      break
    }
    const roomy = this.tableWithRoom(hashHigh >>> TABLE_SHIFT, keyBytes)
    const hash24 = this.hashFor(roomy, hashLow, source, at, keyBytes)
    this.tableBytes += roomy.insert(hash24, source, at, keyBytes, place)
    if (!replaces) this.count++
    return replaces
  }

  private addExpiry(expiresAtMs: number): void {
    this.expiring++
    this.expiries.add(expiresAtMs)
  }

  private removeExpiry(expiresAtMs: number): void {
    this.expiring--
    this.expiries.remove(expiresAtMs)
  }

  private tableWithRoom(index: number, keyBytes: number): Table {
    let last: Table | undefined
    for (let table = this.tableAt(index); table !== undefined; table = table.next) {
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
    for (let table = this.tableAt(hashHigh >>> TABLE_SHIFT); table !== undefined; table = table.next) {
      const slot = table.find(this.hashFor(table, hashLow, source, at, keyBytes), source, at, keyBytes)
      if (slot < 0) continue
      table.read(slot, this.found)
      if (this.found.expiresAtMs !== undefined) this.removeExpiry(this.found.expiresAtMs)
      table.remove(slot)
      this.count--
      invariant(this.count >= 0, 'the keydir never counts below zero')
      return true
    }
    return false
  }

  /** Entries that never expire: of those, two looks at one store find as many, whatever the clock has done. */
  get lastingCount(): number {
    return this.count - this.expiring
  }

  /** Entries that have not expired at `nowMs`. */
  liveCount(nowMs: number): number {
    if (this.expiring === 0) return this.count
    if (this.expiries.needsStart(nowMs)) {
      this.unfoldExpiring()
      this.expiries.start()
      const place = emptyPlace()
      const add = ({ expiresAtMs }: Place): void => {
        if (expiresAtMs !== undefined) this.expiries.add(expiresAtMs)
      }
      for (const head of this.tables) {
        for (let table = head; table !== undefined; table = table.next) table.forEach(place, add)
      }
    }
    return this.count - this.expiries.countExpired(nowMs)
  }

  /** Calls `visit` for each entry, expired ones included, in no order; it must not change the keydir. */
  forEach(visit: (place: Place, keys: Uint8Array, keyAt: number, keyBytes: number) => void): void {
    for (let index = 0; index < TABLES; index++) this.forEachOf(index, visit)
  }

  /** As `forEach`, for the tables of one index, 0 to TABLES - 1. */
  forEachOf(
    index: number,
    visit: (place: Place, keys: Uint8Array, keyAt: number, keyBytes: number) => void,
  ): void {
    const place = emptyPlace()
    for (let table = this.tableAt(index); table !== undefined; table = table.next) table.forEach(place, visit)
  }

  /** Shows each entry's place to `change`, which may set its segment and its offset, and then says true. */
  repoint(change: (place: Place) => boolean): void {
    const place = emptyPlace()
    for (let index = 0; index < TABLES; index++) {
      for (let table = this.tableAt(index); table !== undefined; table = table.next)
        table.repoint(place, change)
    }
  }

  /** The tables of one index, 0 to TABLES - 1, without what is dead in them. */
  tablesAt(index: number): Table[] {
    const tables: Table[] = []
    for (let table = this.tableAt(index); table !== undefined; table = table.next) {
      this.tableBytes += table.compact()
      tables.push(table)
    }
    return tables
  }

  /** Takes over the tables of a checkpoint, each of which comes in when it is first used. There is nothing in it yet. */
  adopt(folded: FoldedKeydir, source: PieceSource): void {
    const tables = new FoldedTables(folded, source, this.tableWordsMax)
    if (tables.isEmpty) {
      tables.close()
      return
    }
    this.folded = tables
    this.tableBytes += folded.bytes
    this.count += folded.count
    this.expiring += folded.expiring
  }

  /** Whether there are tables that were adopted and did not come in yet. */
  get isFolded(): boolean {
    return this.folded !== undefined
  }

  /** Has a few more of the adopted tables come in; returns their bytes, or undefined where they are damaged. */
  unfoldNext(): number | undefined {
    const piece = this.folded?.nextPiece() ?? -1
    if (this.folded === undefined || piece < 0) return 0
    const { bytes } = this.folded.keydir.pieceAt(piece)
    return this.bringIn(piece) ? bytes : undefined
  }

  /** Nothing of what has not come in yet expires from now on. */
  private unfoldExpiring(): void {
    const { folded } = this
    for (let piece = 0; folded !== undefined && piece < folded.keydir.pieces; piece++) {
      if (!folded.isWaiting(piece)) continue
      const expires = folded.keydir.pieceAt(piece).tables.some(({ expiring }) => expiring > 0)
      if (!expires || this.bringIn(piece)) continue
      this.mend()
      return
    }
  }

  /** Gives the checkpoint's file back; what did not come in yet can't come in any more. */
  letGo(): void {
    this.folded?.close()
  }

  /** Adopted tables are damaged: has those that are sound come in, and all others made anew. */
  mend(): void {
    const { folded } = this
    if (folded === undefined) return
    const damaged: FoldedPiece[] = []
    const numbers: number[] = []
    for (let piece = 0; piece < folded.keydir.pieces; piece++) {
      if (folded.isWaiting(piece) && !this.bringIn(piece)) {
        damaged.push(folded.keydir.pieceAt(piece))
        numbers.push(piece)
      }
    }
    if (damaged.length === 0) return
    const lost = new Set(damaged.flatMap(({ tables }) => tables.map(({ index }) => index)))
    const made = this.makeAnew(lost)
    for (const { bytes, tables } of damaged) {
      this.tableBytes -= bytes
      for (const { count, expiring } of tables) {
        this.count -= count
        this.expiring -= expiring
      }
    }
    this.tableBytes += made.tableBytes
    this.count += made.count
    this.expiring += made.expiring
    this.expiries = new Expiries()
    for (const index of lost) this.tables[index] = made.tables[index]
    for (const piece of numbers) folded.pass(piece)
    this.folded = undefined
    this.onMended()
  }

  clear(): void {
    this.tables.fill(undefined)
    this.letGo()
    this.folded = undefined
    this.expiries = new Expiries()
    this.tableBytes = 0
    this.count = 0
    this.expiring = 0
  }

  /** Bytes of memory held, the keys' own among them. */
  get memoryBytes(): number {
    return this.tableBytes + this.expiries.memoryBytes + this.tables.length * 8
  }
}
