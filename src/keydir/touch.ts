// Brings in the cache lines that searches for several keys will look at. A processor goes on past a read that waits for
// memory, as far as some 300 instructions, so what it reads in loops as short as these it waits for together: of the lines
// of 64 keys for ten at a time, and 25 ns for each instead of 180. What it takes to get there is done in passes of their
// own. (Asking early is what hash joins do: S. Chen, A. Ailamaki, P. Gibbons, T. Mowry, "Improving Hash Join Performance
// through Prefetching", ICDE 2004. There is no prefetch instruction here, so they are reads.)
import { ROW_HASH_HIGH, ROW_HASH_LOW, ROW_WORDS } from '../../assembly/layout'
import { type EntryHeap, FIXED_WORDS } from './heap'
import { homeOf, SLOT_WORDS, type Table } from './table'

/** More keys at once would push each other out of the caches. */
export const TOUCHED_AT_ONCE = 64
const NO_SLOTS = new Uint32Array(SLOT_WORDS)
/** An entry as long as this often reaches into a second line. */
const ENTRY_WORDS = FIXED_WORDS + 3

export class Touch {
  private readonly slotsOf = new Array<Uint32Array>(TOUCHED_AT_ONCE).fill(NO_SLOTS)
  private readonly hashes = new Int32Array(TOUCHED_AT_ONCE)
  private readonly places = new Int32Array(TOUCHED_AT_ONCE)
  /** Kept, or the compiler might leave the reads out. */
  private touched = 0

  /**
   * For the keys of so many rows, at most TOUCHED_AT_ONCE: `words[first]` begins the first, in the layout of the kernels'
   * tables. `tables` are found by the bits of a hash from `shift` on.
   */
  rows(
    tables: readonly (Table | undefined)[],
    shift: number,
    heap: EntryHeap,
    words: Int32Array,
    first: number,
    count: number,
  ): void {
    const { slotsOf, hashes, places } = this
    for (let i = 0, row = first; i < count; i++, row += ROW_WORDS) {
      const slots = tables[words[row + ROW_HASH_HIGH] >>> shift]?.slots ?? NO_SLOTS
      const hash24 = words[row + ROW_HASH_LOW] >>> 8
      slotsOf[i] = slots
      hashes[i] = hash24
      places[i] = homeOf(slots, hash24)
    }
    let touched = 0
    for (let i = 0; i < count; i++) touched ^= slotsOf[i][places[i]]
    for (let i = 0; i < count; i++) places[i] = entryIn(slotsOf[i], places[i], hashes[i])
    this.touched ^= touched ^ heap.touchAll(places, count, ENTRY_WORDS)
    // Slots that a table has grown out of are not to be kept.
    slotsOf.fill(NO_SLOTS, 0, count)
  }
}

/** The entry that a search for this hash is likely to look at, or 0. */
function entryIn(slots: Uint32Array, home: number, hash24: number): number {
  for (let slot = home; slot < slots.length; slot += SLOT_WORDS) {
    const entry = slots[slot + 1] | 0
    if (entry === 0 || slots[slot] >>> 8 === hash24) return entry
  }
  return 0
}
