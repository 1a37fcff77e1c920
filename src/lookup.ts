// From a key to its newest record: in the filling group, or where the keydir says. The key stands at KEY_AT.
import { KEY_AT } from '../assembly/layout'
import type { Host } from './host/host'
import type { Kernels } from './kernels'
import { KEY_TABLE, KEYS_AT_ONCE, type KeyBatch } from './key-batch'
import { emptyPlace, type Place } from './keydir/keydir'
import type { Ledger } from './ledger'
import type { Memtable } from './memtable'
import type { Reader, ValueRef } from './reader'

export interface LookupRooms {
  host: Host
  kernels: Kernels
  ledger: Ledger
  reader: Reader
}

const ABSENT = -2
const IN_KEYDIR = -1

export class Lookup {
  private readonly ref: ValueRef = { at: 0, bytes: 0, large: undefined }
  /** Of the keys of a batch. */
  private readonly places = Array.from({ length: KEYS_AT_ONCE }, emptyPlace)
  private readonly located = new Int32Array(KEYS_AT_ONCE)

  /** `memtable`: undefined where the store is read-only. */
  constructor(
    private readonly rooms: LookupRooms,
    private readonly memtable: Memtable | undefined,
  ) {}

  /** Where the key's live record is: its index in the memtable, IN_KEYDIR with its place in `found`, or ABSENT. */
  private locate(keyBytes: number): number {
    const { kernels, ledger } = this.rooms
    kernels.call.hashKey(KEY_AT, keyBytes)
    return this.locateAt(kernels.hashLow, kernels.hashHigh, KEY_AT, keyBytes, ledger.keydir.found)
  }

  /** As `locate`, of a key that stands elsewhere; its place in the keydir is left in `place`. */
  private locateAt(hashLow: number, hashHigh: number, at: number, keyBytes: number, place: Place): number {
    const { host, kernels, ledger } = this.rooms
    const { memtable } = this
    const { bytes } = kernels
    if (memtable !== undefined && memtable.count > 0) {
      const index = memtable.find(hashLow, hashHigh, bytes, at, keyBytes)
      if (index >= 0) return this.isLive(memtable, index, host.nowMs()) ? index : ABSENT
    }
    if (!ledger.keydir.find(hashLow, hashHigh, bytes, at, keyBytes, place)) return ABSENT
    const { expiresAtMs } = place
    return expiresAtMs === undefined || expiresAtMs > host.nowMs() ? IN_KEYDIR : ABSENT
  }

  private isLive(memtable: Memtable, index: number, nowMs: number): boolean {
    if (memtable.isDelete(index)) return false
    const expiresAtMs = memtable.expiresAtMs(index)
    return expiresAtMs === undefined || expiresAtMs > nowMs
  }

  has(keyBytes: number): boolean {
    return this.locate(keyBytes) !== ABSENT
  }

  expiresAtMs(keyBytes: number): number | undefined {
    const index = this.locate(keyBytes)
    if (index === ABSENT) return undefined
    if (index === IN_KEYDIR || this.memtable === undefined) return this.rooms.ledger.keydir.found.expiresAtMs
    return this.memtable.expiresAtMs(index)
  }

  /** The key's verified value; undefined where it has none. */
  read(keyBytes: number): ValueRef | undefined {
    const { ledger, reader } = this.rooms
    const { memtable } = this
    const index = this.locate(keyBytes)
    if (index === ABSENT) return undefined
    if (index === IN_KEYDIR || memtable === undefined) return reader.read(ledger.keydir.found, keyBytes)
    return this.refOf(memtable, index)
  }

  private refOf(memtable: Memtable, index: number): ValueRef {
    this.ref.at = memtable.keyAt(index) + memtable.keyBytes(index)
    this.ref.bytes = memtable.valueBytes(index)
    return this.ref
  }

  /**
   * As `read` of each key of a batch, in order: slots, entries and records are each brought in for all of them before the
   * first is looked at. `take` must not read or write.
   */
  readMany(batch: KeyBatch, take: (ref: ValueRef | undefined) => void): void {
    const { kernels, ledger, reader } = this.rooms
    const { places, memtable } = this
    const { count } = batch
    batch.hash()
    ledger.keydir.touchRows(kernels.ints, KEY_TABLE, count)
    for (let i = 0; i < count; i++) {
      const low = batch.hashLow(i)
      const index = this.locateAt(low, batch.hashHigh(i), batch.at(i), batch.keyBytes(i), places[i])
      this.located[i] = index
      // There is no record to bring in.
      if (index !== IN_KEYDIR) places[i].recordBytes = 0
    }
    reader.touch(places, count)
    for (let i = 0; i < count; i++) {
      const index = this.located[i]
      if (index === ABSENT) take(undefined)
      else if (index === IN_KEYDIR || memtable === undefined)
        take(reader.read(places[i], batch.keyBytes(i), batch.at(i)))
      else take(this.refOf(memtable, index))
    }
  }

  /** Live entries: the keydir's, and what the filling group will make of them. */
  get size(): number {
    return this.sizeAt(this.rooms.host.nowMs())
  }

  /** Those that have not expired by then. */
  sizeAt(nowMs: number): number {
    const { kernels, ledger } = this.rooms
    const { memtable } = this
    const { keydir } = ledger
    let size = keydir.liveCount(nowMs)
    for (let i = 0; memtable !== undefined && i < memtable.count; i++) {
      if (!memtable.isNewest(i)) continue
      const low = memtable.hashLowOf(i)
      const high = memtable.hashHighOf(i)
      const isKnown = keydir.find(low, high, kernels.bytes, memtable.keyAt(i), memtable.keyBytes(i))
      const { expiresAtMs } = keydir.found
      const wasLive = isKnown && (expiresAtMs === undefined || expiresAtMs > nowMs)
      size += Number(this.isLive(memtable, i, nowMs)) - Number(wasLive)
    }
    return size
  }
}
