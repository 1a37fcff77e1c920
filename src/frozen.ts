// The store as it was at one moment: the keydir, less what has changed since.
import { KEY_AT } from '../assembly/layout'
import type { Kernels } from './kernels'
import { type Place, TABLES } from './keydir/keydir'
import type { Ledger } from './ledger'
import type { Overlay } from './overlay'
import type { Reader, ValueRef } from './reader'

export interface FrozenRooms {
  kernels: Kernels
  ledger: Ledger
  reader: Reader
}

export class FrozenLookup {
  /** `size`: how many entries there were, for who asks. What had expired by `nowMs` is not there. */
  constructor(
    private readonly rooms: FrozenRooms,
    private readonly overlay: Overlay,
    private readonly nowMs: () => number,
    readonly size = 0,
  ) {}

  private locate(keyBytes: number): Place | undefined {
    const { kernels } = this.rooms
    kernels.call.hashKey(KEY_AT, keyBytes)
    return this.placeOf(kernels.hashLow, kernels.hashHigh, kernels.bytes, KEY_AT, keyBytes)
  }

  /** Where the record of a key lay, if it had not expired. */
  placeOf(
    hashLow: number,
    hashHigh: number,
    source: Uint8Array,
    at: number,
    keyBytes: number,
  ): Place | undefined {
    const { keydir } = this.rooms.ledger
    let place = this.overlay.find(hashLow, hashHigh, source, at, keyBytes)
    if (place === 'unchanged') {
      place = keydir.find(hashLow, hashHigh, source, at, keyBytes) ? keydir.found : undefined
    }
    return place !== undefined && this.isLive(place) ? place : undefined
  }

  /** As a keydir's. */
  touch(hashLow: number, hashHigh: number): number {
    return this.rooms.ledger.keydir.touch(hashLow, hashHigh)
  }

  /** Whether the keydir as it is now does not have the key. */
  isGone(hashLow: number, hashHigh: number, source: Uint8Array, at: number, keyBytes: number): boolean {
    return !this.rooms.ledger.keydir.find(hashLow, hashHigh, source, at, keyBytes)
  }

  private isLive({ expiresAtMs }: Place): boolean {
    return expiresAtMs === undefined || expiresAtMs > this.nowMs()
  }

  has(keyBytes: number): boolean {
    return this.locate(keyBytes) !== undefined
  }

  expiresAtMs(keyBytes: number): number | undefined {
    return this.locate(keyBytes)?.expiresAtMs
  }

  read(keyBytes: number): ValueRef | undefined {
    const place = this.locate(keyBytes)
    return place === undefined ? undefined : this.rooms.reader.read(place, keyBytes)
  }

  /** How many entries there are that have not expired by then; looks at each. */
  countAt(nowMs: number): number {
    let count = 0
    this.forEach(({ expiresAtMs }) => {
      if (expiresAtMs === undefined || expiresAtMs > nowMs) count++
    })
    return count
  }

  /** As a keydir's. */
  forEachPlace(nowMs: number, visit: (segment: number, offset: number, isDamaged: boolean) => void): void {
    if (this.overlay.count === 0) {
      this.rooms.ledger.keydir.forEachPlace(nowMs, visit)
      return
    }
    this.forEach(({ segment, offset, isDamaged, expiresAtMs }) => {
      if (expiresAtMs === undefined || expiresAtMs > nowMs) visit(segment, offset, isDamaged)
    })
  }

  /** As a keydir's, of the entries that were there; `visit` must not change the keydir. */
  forEach(visit: (place: Place, keys: Uint8Array, keyAt: number, keyBytes: number) => void): void {
    for (let part = 0; part < TABLES; part++) this.forEachOf(part, visit)
  }

  /** Those of one part of the keydir: whenever it is asked, all parts together are the store of that one moment. */
  forEachOf(
    part: number,
    visit: (place: Place, keys: Uint8Array, keyAt: number, keyBytes: number) => void,
  ): void {
    const { kernels, ledger } = this.rooms
    const { overlay } = this
    const { bytes, call } = kernels
    const hasChanged = (keys: Uint8Array, at: number, keyBytes: number): boolean => {
      bytes.set(keys.subarray(at, at + keyBytes), KEY_AT)
      call.hashKey(KEY_AT, keyBytes)
      return overlay.find(kernels.hashLow, kernels.hashHigh, bytes, KEY_AT, keyBytes) !== 'unchanged'
    }
    ledger.keydir.forEachOf(part, (place, keys, at, keyBytes) => {
      if (overlay.count === 0 || !hasChanged(keys, at, keyBytes)) visit(place, keys, at, keyBytes)
    })
    overlay.forEachOf(part, visit)
  }
}
