// From a key to its newest record: in the filling group, or where the keydir says. The key stands at KEY_AT.
import { KEY_AT } from '../assembly/layout'
import type { Host } from './host/host'
import type { Kernels } from './kernels'
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

  /** `memtable`: undefined where the store is read-only. */
  constructor(
    private readonly rooms: LookupRooms,
    private readonly memtable: Memtable | undefined,
  ) {}

  /** Where the key's live record is: its index in the memtable, IN_KEYDIR with its place in `found`, or ABSENT. */
  private locate(keyBytes: number): number {
    const { host, kernels, ledger } = this.rooms
    const { memtable } = this
    kernels.call.hashKey(KEY_AT, keyBytes)
    const { bytes, hashLow, hashHigh } = kernels
    if (memtable !== undefined && memtable.count > 0) {
      const index = memtable.find(hashLow, hashHigh, bytes, KEY_AT, keyBytes)
      if (index >= 0) return this.isLive(memtable, index, host.nowMs()) ? index : ABSENT
    }
    if (!ledger.keydir.find(hashLow, hashHigh, bytes, KEY_AT, keyBytes)) return ABSENT
    const { expiresAtMs } = ledger.keydir.found
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
    this.ref.at = memtable.keyAt(index) + keyBytes
    this.ref.bytes = memtable.valueBytes(index)
    return this.ref
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
