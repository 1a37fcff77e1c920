// The keydir: for each key, where its newest record lies. Off the heap, in thousands of sub-tables that grow one at
// a time, so that no growth is long. It holds the keys' bytes: an answer is exact, and listing keys reads no disk.
import { invariant } from '../errors'
import { applyChanges, type Effects } from './apply'
import { Backlog } from './backlog'
import { Expiries } from './expiries'
import { type FoldedKeydir, type FoldedPiece, FoldedTables, PieceDamaged, type PieceSource } from './folded'
import { EntryHeap, emptyPlace, type Place, type Visit } from './heap'
import { exportTable, imageWords, importTable, type TableImage } from './image'
import type { KeyedHash } from './strain'
import { Table } from './table'
import { Touch } from './touch'

export type { FoldedKeydir, FoldedPiece, PieceSource } from './folded'
export { PieceDamaged } from './folded'
export type { Place, Visit } from './heap'
export { emptyPlace } from './heap'
export type { TableImage } from './image'
export type { KeyedHash } from './strain'
export { TOUCHED_AT_ONCE } from './touch'

const TABLE_BITS = 10
export const TABLE_SHIFT = 32 - TABLE_BITS
export const TABLES = 1 << TABLE_BITS

export class Keydir {
  private readonly tables: (Table | undefined)[] = new Array(TABLES).fill(undefined)
  private heap = new EntryHeap()
  /** Tables of a checkpoint that were not used yet. */
  private folded: FoldedTables | undefined
  /** What is to be made of them when they come in: changes that nobody has to see before. */
  backlog: Backlog | undefined
  private expiries = new Expiries()
  /** Of the entries, those that expire, or have expired. */
  private expiring = 0
  private slotBytes = 0
  /** While chunks of the heap are being emptied: the table whose turn is next. */
  private nextToMove = 0
  private entries = 0
  /** So many entries are likely to come into each table, which then grows in few steps. */
  expected = 0
  private readonly touching = new Touch()
  /** Makes a keydir of what belongs into the tables of these indexes; where none is set, damaged ones throw. */
  makeAnew: (indexes: ReadonlySet<number>) => Keydir = () => {
    throw new PieceDamaged()
  }
  /** Tables were made anew. */
  onMended: () => void = () => {}
  /** Changes that waited were applied: so many bytes more, or fewer, of the records in a segment count. */
  onApplied: (segment: number, liveBytes: number) => void = () => {}
  /** The place that `find` found, or that `put` and `remove` took out of use. */
  readonly found: Place = emptyPlace()

  /** `keyedHash`: for tables whose keys meet too often. */
  constructor(private readonly keyedHash: KeyedHash) {}

  /** Entries, those that have expired included. */
  get count(): number {
    this.settle()
    return this.entries
  }

  /** Whether there are entries that expire, or have. */
  get hasExpiring(): boolean {
    this.settle()
    return this.expiring > 0
  }

  /** The table of an index, 0 to TABLES - 1; undefined where there is none. */
  tableAt(index: number): Table | undefined {
    return this.tables[index] ?? this.unfold(index)
  }

  private unfold(index: number): Table | undefined {
    const piece = this.folded?.pieceOf(index) ?? -1
    if (piece < 0) return undefined
    if (!this.bringIn(piece)) this.mend()
    return this.tables[index]
  }

  private bringIn(piece: number): boolean {
    const { folded, backlog } = this
    if (folded === undefined) return true
    // Kept once all are whole: should there be no memory for one, the piece waits on, and nothing of it is there.
    const made = new Map<number, Table>()
    const isIn = folded.bringIn(piece, ({ index, count, isKeyed }, words) => {
      const table = new Table(this.heap, count)
      table.isKeyed = isKeyed
      table.isStrained = isKeyed
      importTable(words, table)
      made.set(index, table)
    })
    if (!isIn) return false
    const effects = backlog?.has(piece) === true ? this.applyTo(made, backlog, piece) : undefined
    for (const [index, table] of made) this.keep(index, table)
    this.pass(piece)
    if (effects !== undefined) this.take(effects)
    return true
  }

  private pass(piece: number): void {
    const { folded, backlog } = this
    backlog?.drop(piece)
    folded?.pass(piece)
    if (folded?.isEmpty !== true) return
    this.folded = undefined
    this.backlog = undefined
  }

  private applyTo(tables: ReadonlyMap<number, Table>, backlog: Backlog, piece: number): Effects {
    return applyChanges(
      backlog,
      piece,
      (hashHigh) => tables.get(hashHigh >>> TABLE_SHIFT),
      (table, hashLow, source, at, keyBytes) => this.hashFor(table, hashLow, source, at, keyBytes),
    )
  }

  private take({ entries, liveBytes, expiring, unexpiring }: Effects): void {
    this.entries += entries
    for (const expiresAtMs of expiring) this.addExpiry(expiresAtMs)
    for (const expiresAtMs of unexpiring) this.removeExpiry(expiresAtMs)
    for (const [segment, bytes] of liveBytes) this.onApplied(segment, bytes)
  }

  /** Has those tables come in for which changes wait: what is counted here is exact only then. */
  settle(): void {
    const { folded, backlog } = this
    if (folded === undefined || backlog === undefined || backlog.isEmpty) return
    for (let piece = 0; piece < folded.keydir.pieces; piece++) {
      if (!backlog.has(piece) || this.bringIn(piece)) continue
      this.mend()
      return
    }
  }

  private newTable(index: number, entries = 0): Table {
    return this.keep(index, new Table(this.heap, entries))
  }

  private keep(index: number, table: Table): Table {
    this.tables[index] = table
    this.slotBytes += table.memoryBytes
    return table
  }

  /** The hash by which a table knows the key. */
  private hashFor(table: Table, hashLow: number, source: Uint8Array, at: number, keyBytes: number): number {
    if (!table.isStrained) return hashLow >>> 8
    if (!table.isKeyed) table.rekey(this.keyedHash)
    return this.keyedHash(source, at, keyBytes)
  }

  /** Looks for the key at `source[at..]` with this 64-bit hash; fills `into` and says whether it is there. */
  find(
    hashLow: number,
    hashHigh: number,
    source: Uint8Array,
    at: number,
    keyBytes: number,
    into = this.found,
  ): boolean {
    const table = this.tableAt(hashHigh >>> TABLE_SHIFT)
    if (table === undefined) return false
    const slot = table.find(this.hashFor(table, hashLow, source, at, keyBytes), source, at, keyBytes)
    if (slot < 0) return false
    table.read(slot, into)
    return true
  }

  /** Brings in the cache line that a later call for this hash begins at. */
  touch(hashLow: number, hashHigh: number): number {
    return this.tableAt(hashHigh >>> TABLE_SHIFT)?.touch(hashLow >>> 8) ?? 0
  }

  /** Brings in the lines that calls for the keys of so many rows, at most TOUCHED_AT_ONCE, look at, where their tables are in. */
  touchRows(rows: Int32Array, at: number, count: number): void {
    this.touching.rows(this.tables, TABLE_SHIFT, this.heap, rows, at, count)
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
    const index = hashHigh >>> TABLE_SHIFT
    const table = this.tableAt(index) ?? this.newTable(index)
    const hash24 = this.hashFor(table, hashLow, source, at, keyBytes)
    const slot = table.find(hash24, source, at, keyBytes)
    if (slot < 0) {
      this.slotBytes += table.insert(~slot, hash24, source, at, keyBytes, place, this.expected)
      this.entries++
      if (this.heap.wantsEmptying) this.emptySome()
      return false
    }
    table.read(slot, this.found)
    if (this.found.expiresAtMs !== undefined) this.removeExpiry(this.found.expiresAtMs)
    table.replace(slot, source, at, keyBytes, place)
    return true
  }

  /** Does a part of the work of emptying chunks of the heap that are mostly holes. */
  private emptySome(): void {
    if (this.nextToMove === 0) this.heap.beginEmptying()
    this.tables[this.nextToMove]?.moveOut()
    this.nextToMove++
    if (this.nextToMove < TABLES) return
    this.nextToMove = 0
    this.heap.endEmptying()
  }

  /** Nothing more is expected: gives back the room of what has not come. */
  fit(): void {
    this.expected = 0
    for (const table of this.tables) this.slotBytes += table?.fit() ?? 0
  }

  private addExpiry(expiresAtMs: number): void {
    this.expiring++
    this.expiries.add(expiresAtMs)
  }

  private removeExpiry(expiresAtMs: number): void {
    this.expiring--
    this.expiries.remove(expiresAtMs)
  }

  /** Removes the key; true where it was there, with its place in `found`. */
  remove(hashLow: number, hashHigh: number, source: Uint8Array, at: number, keyBytes: number): boolean {
    const table = this.tableAt(hashHigh >>> TABLE_SHIFT)
    if (table === undefined) return false
    const slot = table.find(this.hashFor(table, hashLow, source, at, keyBytes), source, at, keyBytes)
    if (slot < 0) return false
    table.read(slot, this.found)
    if (this.found.expiresAtMs !== undefined) this.removeExpiry(this.found.expiresAtMs)
    table.remove(slot)
    this.entries--
    invariant(this.entries >= 0, 'the keydir never counts below zero')
    if (this.heap.wantsEmptying) this.emptySome()
    return true
  }

  /** Entries that never expire: of those, two looks at one store find as many, whatever the clock has done. */
  get lastingCount(): number {
    this.settle()
    return this.entries - this.expiring
  }

  /** Entries that have not expired at `nowMs`. */
  liveCount(nowMs: number): number {
    this.settle()
    if (this.expiring === 0) return this.entries
    if (this.expiries.needsStart(nowMs)) {
      this.unfoldExpiring()
      this.expiries.start()
      const place = emptyPlace()
      const add = ({ expiresAtMs }: Place): void => {
        if (expiresAtMs !== undefined) this.expiries.add(expiresAtMs)
      }
      for (const table of this.tables) table?.forEach(place, add)
    }
    return this.entries - this.expiries.countExpired(nowMs)
  }

  /** Calls `visit` for each entry, expired ones included, in no order; it must not change the keydir. */
  forEach(visit: Visit): void {
    for (let index = 0; index < TABLES; index++) this.forEachOf(index, visit)
  }

  /** As `forEach`, for the table of one index, 0 to TABLES - 1. */
  forEachOf(index: number, visit: Visit): void {
    this.tableAt(index)?.forEach(emptyPlace(), visit)
  }

  /** Where the records of those entries lie that have not expired by `nowMs`; `visit` must not change the keydir. */
  forEachPlace(nowMs: number, visit: (segment: number, offset: number, isDamaged: boolean) => void): void {
    this.forEach(({ segment, offset, isDamaged, expiresAtMs }) => {
      if (expiresAtMs === undefined || expiresAtMs > nowMs) visit(segment, offset, isDamaged)
    })
  }

  /**
   * Points what lies in the segment in slot `from` to that in slot `to`, where `movedTo` says that it has moved, and tells
   * how many bytes each record takes that is live. What waits in a checkpoint must not have moved; what waits for it may.
   */
  moveAll(
    from: number,
    to: number,
    movedTo: (offset: number) => number | undefined,
    onMoved: (recordBytes: number) => void,
  ): void {
    const place = emptyPlace()
    const change = (): boolean => {
      const offset = place.segment === from ? movedTo(place.offset) : undefined
      if (offset === undefined) return false
      place.segment = to
      place.offset = offset
      onMoved(place.recordBytes)
      return true
    }
    for (const table of this.tables) table?.repoint(place, change)
    this.backlog?.moveAll(from, to, movedTo)
  }

  /** The words that `exportOf` writes; 0 where there is no entry. */
  imageWordsOf(index: number): number {
    const table = this.tableAt(index)
    return table === undefined || table.count === 0 ? 0 : imageWords(table)
  }

  /** Writes the table of an index, which has entries, as `exportTable` does. */
  exportOf(
    index: number,
    into: Uint32Array,
    at: number,
    indexOfSlot: Int32Array,
    liveBytes: Float64Array,
  ): TableImage | undefined {
    const table = this.tableAt(index)
    invariant(table !== undefined, 'an empty table is not kept')
    const expiring = exportTable(table, into, at, indexOfSlot, liveBytes)
    if (expiring === undefined) return undefined
    return { index, count: table.count, words: imageWords(table), expiring, isKeyed: table.isKeyed }
  }

  /** Takes over the tables of a checkpoint, each of which comes in when it is first used. There is nothing in it yet. */
  adopt(folded: FoldedKeydir, source: PieceSource): void {
    const tables = new FoldedTables(folded, source)
    if (tables.isEmpty) {
      tables.close()
      return
    }
    this.folded = tables
    this.backlog = new Backlog(tables, TABLE_SHIFT)
    this.entries += folded.count
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
    for (const { tables } of damaged) {
      for (const { count, expiring } of tables) {
        this.entries -= count
        this.expiring -= expiring
      }
    }
    this.entries += made.count
    this.expiring += made.expiring
    this.expiries = new Expiries()
    for (const index of lost) {
      const table = made.tables[index]
      if (table !== undefined) this.newTable(index, table.count).takeFrom(table)
    }
    // What waited for them is in the log as well.
    for (const piece of numbers) this.pass(piece)
    this.onMended()
  }

  clear(): void {
    this.tables.fill(undefined)
    this.letGo()
    this.heap = new EntryHeap()
    this.folded = undefined
    this.backlog = undefined
    this.expiries = new Expiries()
    this.slotBytes = 0
    this.nextToMove = 0
    this.entries = 0
    this.expected = 0
    this.expiring = 0
  }

  /** Of the entries, those that are in memory; the others wait in a checkpoint until they are used. */
  get countInMemory(): number {
    return this.entries - (this.folded?.waitingCount ?? 0)
  }

  /** Bytes of memory held, the keys' own among them. */
  get memoryBytes(): number {
    const waitingBytes = this.backlog?.memoryBytes ?? 0
    return this.slotBytes + this.heap.memoryBytes + this.expiries.memoryBytes + waitingBytes + TABLES * 8
  }
}
