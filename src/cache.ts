// The block cache: whole blocks of segments, in the kernels' memory, where records are verified and decoded in
// place. Eight-way sets, replaced by second chance. A block is cached only once all of it is written, and written
// bytes never change, so nothing here is ever stale.
//
// Once a set is full, a block comes in the second time that it is missed: what is read once pushes nothing out, and
// costs a read of one record instead of a block. It is the list of ghosts of 2Q (T. Johnson and D. Shasha, "2Q: A Low
// Overhead High Performance Buffer Management Replacement Algorithm", VLDB 1994), as a table of so many places.
import { CACHE_AT } from '../assembly/layout'
import { TWO_32 } from './bytes'
import type { Place } from './keydir/keydir'

const BLOCK_SHIFT = 12
export const CACHE_BLOCK_BYTES = 1 << BLOCK_SHIFT
const WAYS = 8
/** Records are longer, so no two of a block begin within the same. */
const GRAIN_SHIFT = 4
const GRAIN_BYTES = 1 << GRAIN_SHIFT
const WORD_SHIFT = 5
const GRAINS_PER_WORD = 1 << WORD_SHIFT
const WORDS_PER_BLOCK = CACHE_BLOCK_BYTES / (GRAIN_BYTES * GRAINS_PER_WORD)
const BLOCKS_PER_SEGMENT = 2 ** 20
const NOTHING = -1
/** For so many blocks that are cached there is one ghost, a block that was missed of late. */
const WAYS_PER_GHOST = 4

// Shifts, and no divisions: of numbers that don't fit into 31 bits V8 makes floating-point ones, and a remainder of such is,
// on x64, an instruction that stops everything else.
const grainOf = (address: number): number => (address - CACHE_AT) >>> GRAIN_SHIFT
const wordOf = (grain: number): number => grain >>> WORD_SHIFT
const bitOf = (grain: number): number => 1 << (grain & (GRAINS_PER_WORD - 1))
export const blockOf = (offset: number): number => offset >>> BLOCK_SHIFT

export class BlockCache {
  private readonly sets: number
  /** Which block stands where: segment slot * 2^20 + block. */
  private readonly tags: Float64Array
  private readonly wasUsed: Uint8Array
  private readonly hand: Uint8Array
  /** As `tags`, of blocks that were missed while their sets were full. */
  private readonly ghosts: Float64Array
  /** A bit for each grain: the record that begins there was verified since its block was read. */
  private readonly verified: Uint32Array
  /** Kept, or the compiler might leave the reads out. */
  private touched = 0
  hits = 0
  misses = 0

  constructor(readonly bytes: number) {
    this.sets = Math.floor(bytes / (CACHE_BLOCK_BYTES * WAYS))
    this.tags = new Float64Array(this.sets * WAYS).fill(NOTHING)
    this.wasUsed = new Uint8Array(this.sets * WAYS)
    this.hand = new Uint8Array(this.sets)
    this.ghosts = new Float64Array(Math.ceil((this.sets * WAYS) / WAYS_PER_GHOST)).fill(NOTHING)
    this.verified = new Uint32Array(this.sets * WAYS * WORDS_PER_BLOCK)
  }

  get isEnabled(): boolean {
    return this.sets > 0
  }

  /** One of so many, by the block. */
  private pick(segment: number, block: number, count: number): number {
    const mixed = Math.imul(block ^ Math.imul(segment + 1, 0x9e37_79b1), 0x85eb_ca6b)
    return (((mixed ^ (mixed >>> 15)) >>> 0) * (count / TWO_32)) | 0
  }

  private firstOf(segment: number, block: number): number {
    return this.pick(segment, block, this.sets) * WAYS
  }

  /** The address of the block, or 0. */
  find(segment: number, block: number): number {
    const way = this.wayOf(segment, block)
    if (way < 0) {
      this.misses++
      return 0
    }
    this.wasUsed[way] = 1
    this.hits++
    return CACHE_AT + way * CACHE_BLOCK_BYTES
  }

  /**
   * Fills in the addresses of the first so many records, 0 where they are not here or have no bytes, and brings in what
   * `find` and `isVerified` look at, in short loops (see keydir/touch.ts). It counts neither as hits nor as misses.
   */
  locateAll(places: readonly Place[], count: number, addresses: Uint32Array): void {
    const { tags, verified } = this
    let touched = 0
    for (let i = 0; i < count; i++) addresses[i] = this.firstOf(places[i].segment, blockOf(places[i].offset))
    for (let i = 0; i < count; i++) touched ^= tags[addresses[i]]
    for (let i = 0; i < count; i++) {
      const { segment, offset, recordBytes } = places[i]
      const way = recordBytes === 0 ? -1 : this.wayFrom(addresses[i], segment, blockOf(offset))
      addresses[i] = way < 0 ? 0 : CACHE_AT + way * CACHE_BLOCK_BYTES + (offset & (CACHE_BLOCK_BYTES - 1))
    }
    for (let i = 0; i < count; i++) if (addresses[i] !== 0) touched ^= verified[wordOf(grainOf(addresses[i]))]
    this.touched ^= touched
  }

  private wayOf(segment: number, block: number): number {
    return this.wayFrom(this.firstOf(segment, block), segment, block)
  }

  private wayFrom(first: number, segment: number, block: number): number {
    const { tags } = this
    const tag = segment * BLOCKS_PER_SEGMENT + block
    for (let way = first; way < first + WAYS; way++) if (tags[way] === tag) return way
    return -1
  }

  /** Whether a block that isn't here may come in: else it is to be read past the cache. */
  admits(segment: number, block: number): boolean {
    const first = this.firstOf(segment, block)
    if (this.tags[first + this.hand[first / WAYS]] === NOTHING) return true
    const tag = segment * BLOCKS_PER_SEGMENT + block
    const ghost = this.pick(segment, block, this.ghosts.length)
    if (this.ghosts[ghost] === tag) return true
    this.ghosts[ghost] = tag
    return false
  }

  /** The address to read the block to; `keep` must follow once it is there. What stood there is forgotten. */
  make(segment: number, block: number): number {
    const first = this.firstOf(segment, block)
    const set = first / WAYS
    let way = this.hand[set]
    while (this.wasUsed[first + way] !== 0) {
      this.wasUsed[first + way] = 0
      way = (way + 1) % WAYS
    }
    this.hand[set] = (way + 1) % WAYS
    this.tags[first + way] = NOTHING
    this.verified.fill(0, (first + way) * WORDS_PER_BLOCK, (first + way + 1) * WORDS_PER_BLOCK)
    return CACHE_AT + (first + way) * CACHE_BLOCK_BYTES
  }

  keep(segment: number, block: number, address: number): void {
    this.tags[(address - CACHE_AT) / CACHE_BLOCK_BYTES] = segment * BLOCKS_PER_SEGMENT + block
  }

  /** Whether the record at this address has been verified where it stands. */
  isVerified(address: number): boolean {
    const grain = grainOf(address)
    return (this.verified[wordOf(grain)] & bitOf(grain)) !== 0
  }

  noteVerified(address: number): void {
    const grain = grainOf(address)
    this.verified[wordOf(grain)] |= bitOf(grain)
  }

  /** Forgets all blocks of segments whose slots others will have. */
  forgetSegments(segments: ReadonlySet<number>): void {
    const { tags } = this
    // Of as many blocks as a large cache has, asking a set for each takes long.
    const isGone = new Uint8Array(Math.max(0, ...segments) + 1)
    for (const segment of segments) isGone[segment] = 1
    for (let way = 0; way < tags.length; way++) {
      const segment = Math.floor(tags[way] / BLOCKS_PER_SEGMENT)
      if (isGone[segment] === 1) tags[way] = NOTHING
    }
  }

  /** Forgets the block at this address, so that the next read asks the disk again. */
  forget(address: number): void {
    this.tags[Math.floor((address - CACHE_AT) / CACHE_BLOCK_BYTES)] = NOTHING
  }
}
