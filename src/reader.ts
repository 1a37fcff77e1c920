// Reads one record by its place: from the block cache or the segment, verified before anything is handed out.
import {
  CACHE_AT,
  KEY_AT,
  READ_AT,
  READ_BYTES,
  RECORD_PREFIX_BYTES_MAX,
  VERIFY_BAD_HEADER,
  VERIFY_BAD_VALUE,
  VERIFY_OK,
} from '../assembly/layout'
import { type BlockCache, blockOf, CACHE_BLOCK_BYTES } from './cache'
import type { Catalog, Segment } from './catalog'
import { CaskyError, ioError } from './errors'
import type { Health } from './health'
import type { Host } from './host/host'
import { readFully } from './io'
import type { Kernels } from './kernels'
import { KEYS_AT_ONCE } from './key-batch'
import type { Place } from './keydir/keydir'
import { recordFields, recordSeed } from './segment'
import { show } from './wording'

/** Where a verified value stands in the kernels' memory, until the next call; or its bytes, where it is too long. */
export interface ValueRef {
  at: number
  bytes: number
  large: Uint8Array | undefined
}

export interface ReaderRooms {
  host: Host
  kernels: Kernels
  catalog: Catalog
  health: Health
  cache: BlockCache
}

const LINE_BYTES = 64
/** Of a longer record the processor brings in what follows by itself. */
const TOUCHED_BYTES_MAX = 512

const FOUND_WRONG: Record<number, string> = {
  [VERIFY_BAD_HEADER]: 'its header does not match its CRC',
  [VERIFY_BAD_VALUE]: 'the value does not match its CRC',
}

export class Reader {
  private readonly ref: ValueRef = { at: 0, bytes: 0, large: undefined }
  private readonly addresses = new Uint32Array(KEYS_AT_ONCE)
  /** Kept, or the compiler might leave the reads out. */
  private touched = 0

  constructor(private readonly rooms: ReaderRooms) {}

  /** The value of the record at `place`, whose key stands at `keyAt`. Throws CASKY_CORRUPT where it is damaged. */
  read(place: Place, keyBytes: number, keyAt = KEY_AT): ValueRef {
    const segment = this.rooms.catalog.at(place.segment)
    if (place.isDamaged)
      throw this.damaged(segment, place, keyAt, keyBytes, 'found when the store was opened')
    const { ref } = this
    ref.bytes = place.valueBytes
    ref.large = undefined
    if (place.recordBytes > READ_BYTES) {
      ref.large = this.readLarge(segment, place, keyAt, keyBytes)
      return ref
    }
    const { cache } = this.rooms
    const at = this.load(segment, place)
    const isCached = at >= CACHE_AT
    if (isCached && cache.isVerified(at)) {
      ref.at = at + place.recordBytes - place.valueBytes
      return ref
    }
    const verdict = this.verify(segment, place, at, keyAt, keyBytes)
    if (verdict === VERIFY_OK) {
      if (isCached) cache.noteVerified(at)
      ref.at = at + place.recordBytes - place.valueBytes
      return ref
    }
    // The memory or the bus may have been at fault, and not the disk: ask it once more.
    if (isCached) cache.forget(at)
    this.readAt(segment, READ_AT, place.recordBytes, place.offset)
    const again = this.verify(segment, place, READ_AT, keyAt, keyBytes)
    if (again !== VERIFY_OK) {
      throw this.damaged(
        segment,
        place,
        keyAt,
        keyBytes,
        FOUND_WRONG[again] ?? 'it is the record of another key',
      )
    }
    ref.at = READ_AT + place.recordBytes - place.valueBytes
    return ref
  }

  /** Brings in the lines of the first so many records where their blocks are cached. */
  touch(places: readonly Place[], count: number): void {
    const { cache, kernels } = this.rooms
    if (!cache.isEnabled) return
    const { addresses } = this
    cache.locateAll(places, count, addresses)
    const { ints } = kernels
    let touched = 0
    for (let i = 0; i < count; i++) {
      const at = addresses[i]
      if (at === 0) continue
      // A record that goes on in another block is not read from here.
      const end = Math.min(
        at + Math.min(places[i].recordBytes, TOUCHED_BYTES_MAX) - 1,
        (at | (CACHE_BLOCK_BYTES - 1)) >>> 0,
      )
      for (let byte = at; byte < end; byte += LINE_BYTES) touched ^= ints[byte >>> 2]
      touched ^= ints[end >>> 2]
    }
    this.touched ^= touched
  }

  private verify(segment: Segment, place: Place, at: number, keyAt: number, keyBytes: number): number {
    const seed = recordSeed(segment.header.salt, place.offset)
    return this.rooms.kernels.call.verifyRecord(at, place.recordBytes, seed, keyAt, keyBytes)
  }

  /** Has the record in memory, from the cache where it can be. */
  private load(segment: Segment, place: Place): number {
    const { cache } = this.rooms
    const block = blockOf(place.offset)
    const inBlock = place.offset - block * CACHE_BLOCK_BYTES
    const fitsBlock = inBlock + place.recordBytes <= CACHE_BLOCK_BYTES
    const isWhole = (block + 1) * CACHE_BLOCK_BYTES <= segment.bytes
    const isCacheable = cache.isEnabled && fitsBlock && isWhole
    const cached = isCacheable ? cache.find(segment.slot, block) : 0
    if (cached !== 0) return cached + inBlock
    if (!isCacheable || !cache.admits(segment.slot, block)) {
      this.readAt(segment, READ_AT, place.recordBytes, place.offset)
      return READ_AT
    }
    const address = cache.make(segment.slot, block)
    this.readAt(segment, address, CACHE_BLOCK_BYTES, block * CACHE_BLOCK_BYTES)
    cache.keep(segment.slot, block, address)
    return address + inBlock
  }

  /** What the file doesn't have reads as zeros, which no CRC passes. */
  private readAt(segment: Segment, at: number, bytes: number, offset: number): void {
    const { host, kernels, catalog } = this.rooms
    const file = catalog.fileOf(segment)
    try {
      const read = readFully(host, file, kernels.bytes, at, bytes, offset)
      if (read < bytes) kernels.bytes.fill(0, at + read, at + bytes)
    } catch (cause) {
      throw ioError('read a record', segment.path, cause)
    }
  }

  private readLarge(segment: Segment, place: Place, keyAt: number, keyBytes: number): Uint8Array {
    const { host, kernels, catalog } = this.rooms
    const prefixBytes = place.recordBytes - place.valueBytes
    this.readAt(segment, READ_AT, Math.min(prefixBytes, RECORD_PREFIX_BYTES_MAX), place.offset)
    const verdict = this.verify(segment, { ...place, recordBytes: prefixBytes }, READ_AT, keyAt, keyBytes)
    if (verdict !== VERIFY_BAD_VALUE) {
      throw this.damaged(
        segment,
        place,
        keyAt,
        keyBytes,
        FOUND_WRONG[verdict] ?? 'it is the record of another key',
      )
    }
    const expected = recordFields(kernels.view, READ_AT).valueCrc
    const value = allocate(place.valueBytes)
    let crc = recordSeed(segment.header.salt, place.offset)
    for (let done = 0; done < value.length; done += READ_BYTES) {
      const bytes = Math.min(READ_BYTES, value.length - done)
      try {
        readFully(host, catalog.fileOf(segment), value, done, bytes, place.offset + prefixBytes + done)
      } catch (cause) {
        throw ioError('read a record', segment.path, cause)
      }
      kernels.bytes.set(value.subarray(done, done + bytes), READ_AT)
      crc = kernels.call.crc32(crc, READ_AT, bytes)
    }
    if (crc >>> 0 !== expected)
      throw this.damaged(segment, place, keyAt, keyBytes, FOUND_WRONG[VERIFY_BAD_VALUE])
    return value
  }

  private damaged(segment: Segment, place: Place, keyAt: number, keyBytes: number, what: string): CaskyError {
    const { kernels, health, host } = this.rooms
    const key = kernels.bytes.slice(keyAt, keyAt + keyBytes)
    if (!place.isDamaged) {
      // The same range as a scan reports, so that one place is reported once.
      const prefixBytes = what === FOUND_WRONG[VERIFY_BAD_VALUE] ? place.recordBytes - place.valueBytes : 0
      const range = { offset: place.offset + prefixBytes, bytes: place.recordBytes - prefixBytes }
      health.addDamage({
        path: segment.path,
        ...range,
        reason: what,
        keys: [key],
        foundAtMs: host.nowMs(),
      })
    }
    return new CaskyError(
      'CASKY_CORRUPT',
      `the record of key ${show(key)} is damaged (${what}); \`casky check\` lists all damage: ${segment.path} at byte ${place.offset}`,
      { path: segment.path, offset: place.offset, key },
    )
  }
}

function allocate(bytes: number): Uint8Array {
  try {
    return new Uint8Array(bytes)
  } catch (cause) {
    throw new CaskyError('CASKY_MEMORY', `no memory for a value of ${bytes} bytes`, { got: bytes, cause })
  }
}
