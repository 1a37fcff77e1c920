// The keydir and the catalog kept in step: where each key is live, and how many live bytes each segment holds.
import { KEY_AT, KIND_DELETE, KIND_MASK, ROW_WORDS } from '../assembly/layout'
import { GrowableBytes, GrowableWords } from './bytes'
import type { Catalog } from './catalog'
import type { Kernels } from './kernels'
import type { KeyOrder } from './key-order'
import { emptyPlace, Keydir, type Place, TABLES, TOUCHED_AT_ONCE } from './keydir/keydir'
import { GROUP_TABLE, type Memtable } from './memtable'
import type { Overlay } from './overlay'
import type { RawRecord } from './oversize'
import type { Sink } from './replay'
import { recordBytes } from './segment'

export class Ledger {
  readonly keydir: Keydir
  /** Of the snapshots that are kept: they are told before a key changes. How many hold each of them. */
  private readonly overlays = new Map<Overlay, number>()
  /** How many groups of writes it has taken. */
  groups = 0
  /** Entries that had expired and were forgotten. */
  swept = 0
  /** The keys in their order, once somebody has asked for that. */
  order: KeyOrder | undefined

  constructor(
    kernels: Kernels,
    private readonly catalog: Catalog,
  ) {
    this.keydir = new Keydir(kernels.keyedHash)
    this.keydir.onApplied = (segment, liveBytes) => {
      this.catalog.at(segment).liveBytes += liveBytes
    }
  }

  put(
    hashLow: number,
    hashHigh: number,
    source: Uint8Array,
    at: number,
    keyBytes: number,
    place: Place,
  ): void {
    const replaces = this.keydir.put(hashLow, hashHigh, source, at, keyBytes, place)
    if (this.overlays.size > 0) this.note(hashLow, hashHigh, source, at, keyBytes, replaces)
    if (replaces) this.retire()
    else if (this.order?.add(source, at, keyBytes) === false) this.order = undefined
    this.catalog.at(place.segment).liveBytes += place.recordBytes
  }

  /** Has `makeAnew` stand in for tables of a checkpoint that turn out damaged, which changes who is live where. */
  mendBy(makeAnew: Keydir['makeAnew']): void {
    const { keydir, catalog } = this
    keydir.makeAnew = makeAnew
    keydir.onMended = () => {
      for (const segment of catalog.inUse()) segment.liveBytes = 0
      keydir.forEach((place) => {
        catalog.at(place.segment).liveBytes += place.recordBytes
      })
    }
  }

  /** The log as it is read while the store opens: what it says of tables that wait in a checkpoint waits for them. */
  readonly opening: Sink = {
    touch: (rows, at, count) => this.keydir.touchRows(rows, at, count),
    takesPuts: () => this.keydir.backlog !== undefined,
    puts: (rows) => this.keydir.backlog?.addPuts(rows) ?? 0,
    put: (low, high, source, at, keyBytes, place) => {
      const waits = this.keydir.backlog?.add(false, low, high, source, at, keyBytes, place) === true
      if (!waits) this.put(low, high, source, at, keyBytes, place)
    },
    remove: (low, high, source, at, keyBytes, place) => {
      const waits = this.keydir.backlog?.add(true, low, high, source, at, keyBytes, place) === true
      if (waits) this.bury(place.segment, keyBytes)
      else this.remove(low, high, source, at, keyBytes, place)
    },
  }

  /** From now on the overlay is told; it is let go as often as it was held. */
  hold(overlay: Overlay): void {
    this.overlays.set(overlay, (this.overlays.get(overlay) ?? 0) + 1)
  }

  letGo(overlay: Overlay): void {
    const left = (this.overlays.get(overlay) ?? 1) - 1
    if (left > 0) this.overlays.set(overlay, left)
    else this.overlays.delete(overlay)
  }

  /** What the keydir has just found and changed. */
  private note(
    hashLow: number,
    hashHigh: number,
    source: Uint8Array,
    at: number,
    keyBytes: number,
    wasThere: boolean,
  ): void {
    const place = wasThere ? this.keydir.found : undefined
    for (const overlay of this.overlays.keys()) overlay.note(hashLow, hashHigh, source, at, keyBytes, place)
  }

  /**
   * True where the key was there. `place`: the record that says so, a delete or what has expired, which has to stay as
   * long as older ones do.
   */
  remove(
    hashLow: number,
    hashHigh: number,
    source: Uint8Array,
    at: number,
    keyBytes: number,
    place?: Pick<Place, 'segment'>,
  ): boolean {
    if (place !== undefined) this.bury(place.segment, keyBytes)
    const wasThere = this.keydir.remove(hashLow, hashHigh, source, at, keyBytes)
    if (wasThere) {
      if (this.overlays.size > 0) this.note(hashLow, hashHigh, source, at, keyBytes, true)
      this.retire()
    }
    return wasThere
  }

  /** Of what has expired a merge keeps a delete. */
  private bury(segment: number, keyBytes: number): void {
    this.catalog.at(segment).tombstoneBytes += recordBytes(keyBytes, 0, false)
  }

  /** Points the key to where its record was copied, if that is still its newest. */
  move(
    hashLow: number,
    hashHigh: number,
    source: Uint8Array,
    at: number,
    keyBytes: number,
    from: Pick<Place, 'segment' | 'offset'>,
    to: Pick<Place, 'segment' | 'offset'>,
  ): void {
    if (!this.keydir.find(hashLow, hashHigh, source, at, keyBytes)) return
    const { found } = this.keydir
    if (found.segment !== from.segment || found.offset !== from.offset) return
    // No change that a snapshot would have to hear of: the record is the same.
    const place = { ...found, ...to }
    this.keydir.put(hashLow, hashHigh, source, at, keyBytes, place)
    this.retire()
    this.catalog.at(place.segment).liveBytes += place.recordBytes
  }

  /**
   * As `move`, of all keys with a record in the segment in slot `from` that has moved: `movedTo` says where to. Nothing that
   * a checkpoint holds may have.
   */
  moveAll(from: number, to: number, movedTo: (offset: number) => number | undefined): void {
    const { catalog } = this
    this.keydir.moveAll(from, to, movedTo, (recordBytes) => {
      catalog.at(from).liveBytes -= recordBytes
      catalog.at(to).liveBytes += recordBytes
    })
  }

  private retire(): void {
    this.catalog.at(this.keydir.found.segment).liveBytes -= this.keydir.found.recordBytes
  }

  /** Moves a written group to the keydir; its first byte lies at `offset` of the segment in `slot`. */
  takeGroup(kernels: Kernels, memtable: Memtable, slot: number, offset: number): void {
    this.groups++
    const place = emptyPlace()
    place.segment = slot
    for (let begin = 0; begin < memtable.count; begin += TOUCHED_AT_ONCE) {
      const end = Math.min(begin + TOUCHED_AT_ONCE, memtable.count)
      this.keydir.touchRows(kernels.ints, GROUP_TABLE + begin * ROW_WORDS, end - begin)
      for (let i = begin; i < end; i++) this.takeRecord(kernels, memtable, i, place, offset)
    }
  }

  private takeRecord(
    kernels: Kernels,
    memtable: Memtable,
    index: number,
    place: Place,
    offset: number,
  ): void {
    const low = memtable.hashLowOf(index)
    const high = memtable.hashHighOf(index)
    const keyAt = memtable.keyAt(index)
    const keyBytes = memtable.keyBytes(index)
    if (memtable.isDelete(index)) {
      this.remove(low, high, kernels.bytes, keyAt, keyBytes, place)
      return
    }
    place.offset = offset + memtable.offsetOf(index)
    place.valueBytes = memtable.valueBytes(index)
    place.expiresAtMs = memtable.expiresAtMs(index)
    place.recordBytes = recordBytes(keyBytes, place.valueBytes, place.expiresAtMs !== undefined)
    this.put(low, high, kernels.bytes, keyAt, keyBytes, place)
  }

  /** Takes a record that was written without passing through the memtable. */
  takeRaw(kernels: Kernels, record: RawRecord, place: Place): void {
    const { key } = record
    kernels.bytes.set(key, KEY_AT)
    kernels.call.hashKey(KEY_AT, key.length)
    if ((record.kind & KIND_MASK) === KIND_DELETE) {
      this.remove(kernels.hashLow, kernels.hashHigh, kernels.bytes, KEY_AT, key.length, place)
    } else {
      this.put(kernels.hashLow, kernels.hashHigh, kernels.bytes, KEY_AT, key.length, place)
    }
  }

  /**
   * Forgets what has expired, part by part of the keydir, and yields how many entries of each that were; their records go
   * on shadowing older ones on disk.
   */
  *sweep(kernels: Kernels, nowMs: number): Generator<number, void> {
    const isExpired = ({ expiresAtMs }: Place): boolean => expiresAtMs !== undefined && expiresAtMs <= nowMs
    yield* this.forget(kernels, isExpired, (keyBytes) => {
      // A delete will take the place of the record in a merge.
      this.catalog.at(this.keydir.found.segment).tombstoneBytes += recordBytes(keyBytes, 0, false)
      this.swept++
    })
  }

  /** As `sweep`, of what `isGone` says is; `onForgotten` finds each in `keydir.found`. */
  *forget(
    kernels: Kernels,
    isGone: (place: Place) => boolean,
    onForgotten: (keyBytes: number) => void = () => {},
  ): Generator<number, void> {
    for (let part = 0; part < TABLES; part++) yield this.forgetOf(kernels, part, isGone, onForgotten)
  }

  private forgetOf(
    kernels: Kernels,
    part: number,
    isGone: (place: Place) => boolean,
    onForgotten: (keyBytes: number) => void,
  ): number {
    const keys = new GrowableBytes()
    const lengths = new GrowableWords()
    this.keydir.forEachOf(part, (place, source, at, keyBytes) => {
      if (!isGone(place)) return
      keys.append(source, at, keyBytes)
      lengths.push(keyBytes)
    })
    let at = 0
    for (let i = 0; i < lengths.length; i++) {
      const keyBytes = lengths.at(i)
      kernels.bytes.set(keys.bytes.subarray(at, at + keyBytes), KEY_AT)
      kernels.call.hashKey(KEY_AT, keyBytes)
      this.remove(kernels.hashLow, kernels.hashHigh, kernels.bytes, KEY_AT, keyBytes)
      onForgotten(keyBytes)
      at += keyBytes
    }
    return lengths.length
  }
}
