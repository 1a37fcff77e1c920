// One sub-table of the keydir: slots that find entries of the heap by hash.
//
//   slot    word 0  24 bits of hash | high 8 bits of the entry's segment slot
//           word 1  where the entry is in the heap                         (0: the slot is empty)
//
// The hash stands in the slot, so a search looks at the heap once, and growing not at all. An entry's home slot is its
// hash scaled to the number of slots, so a table can have any length and need not double to grow. Where the keys of a
// table meet too often, it goes over to a keyed hash, for good.
import type { EntryHeap, Place, Visit } from './heap'
import { isStrained, type KeyedHash } from './strain'

const SLOTS_MIN = 4
export const SLOT_WORDS = 2
const TWO_24 = 0x100_0000
/** At most four fifths full: past that a search for what isn't there becomes long. After growing, so much of that. */
const LOAD_MAX = 0.8
const GROWTH = 1.7
/** Where many more are expected, for at most so many times as many as there are: they may replace each other. */
const GROWTH_MAX = 4

export class Table {
  slots: Uint32Array
  count = 0
  /** What its entries take in the heap. */
  heapWords = 0
  /** Whether its hashes are keyed ones. */
  isKeyed = false
  /** A search has cost too much: it is to be hashed by key before the next. */
  isStrained = false
  private touched = 0

  /** With room for so many entries. */
  constructor(
    private readonly heap: EntryHeap,
    entries = 0,
  ) {
    this.slots = new Uint32Array(slotsFor(entries) * SLOT_WORDS)
  }

  get slotCount(): number {
    return this.slots.length / SLOT_WORDS
  }

  /** Of the slots alone. */
  get memoryBytes(): number {
    return this.slots.byteLength
  }

  /** The slot that holds this key; where there is none, the complement (~) of the one that it would have. */
  find(hash24: number, source: Uint8Array, at: number, keyBytes: number): number {
    const { slots, heap } = this
    const { length } = slots
    const home = homeOf(this.slots, hash24)
    let slot = home
    let mistaken = 0
    let found = -1
    for (let entry = slots[slot + 1]; entry !== 0; entry = slots[slot + 1]) {
      if (slots[slot] >>> 8 === hash24) {
        if (heap.hasKey(entry, source, at, keyBytes)) {
          found = slot
          break
        }
        mistaken++
      }
      slot += SLOT_WORDS
      if (slot === length) slot = 0
    }
    const walked = (slot >= home ? slot - home : slot - home + length) >>> 1
    if (isStrained(walked, mistaken)) this.isStrained = true
    return found < 0 ? ~slot : found
  }

  /** Brings in the line that a search for this hash begins at. */
  touch(hash24: number): number {
    return this.slots[homeOf(this.slots, hash24) + 1] | 0
  }

  /** Hashes all keys anew, in place. */
  rekey(hash: KeyedHash): void {
    const { slots: old, heap } = this
    this.slots = new Uint32Array(old.length)
    for (let slot = 0; slot < old.length; slot += SLOT_WORDS) {
      const entry = old[slot + 1]
      if (entry === 0) continue
      const hash24 = hash(heap.bytes(entry), heap.keyAt(entry), heap.keyBytes(entry))
      this.link((hash24 << 8) | (old[slot] & 0xff), entry)
    }
    this.isKeyed = true
  }

  /** `word`: the slot's first. */
  private link(word: number, entry: number): void {
    const { slots } = this
    let slot = homeOf(this.slots, word >>> 8)
    while (slots[slot + 1] !== 0) {
      slot += SLOT_WORDS
      if (slot === slots.length) slot = 0
    }
    slots[slot] = word
    slots[slot + 1] = entry
  }

  read(slot: number, into: Place): void {
    this.heap.read(this.slots[slot + 1], this.slots[slot] & 0xff, into)
  }

  /** Points the entry in `slot` at another record of its key. */
  replace(slot: number, source: Uint8Array, at: number, keyBytes: number, place: Place): void {
    const { slots, heap } = this
    const entry = slots[slot + 1]
    slots[slot] = (slots[slot] & 0xffff_ff00) | (place.segment >>> 16)
    if (heap.update(entry, place)) return
    slots[slot + 1] = this.add(source, at, keyBytes, place)
    this.release(entry)
  }

  private release(entry: number): void {
    this.heapWords -= this.heap.sizeOf(entry)
    this.heap.release(entry)
  }

  private add(source: Uint8Array, at: number, keyBytes: number, place: Place): number {
    const entry = this.heap.add(source, at, keyBytes, place)
    this.heapWords += this.heap.sizeOf(entry)
    return entry
  }

  /**
   * Adds a key that is known to be absent, for which a search ended in the empty `slot`. Returns by how many bytes that
   * made the table larger. `expected`: how many entries are likely to come to be in it, or fewer where nothing is known.
   */
  insert(
    slot: number,
    hash24: number,
    source: Uint8Array,
    at: number,
    keyBytes: number,
    place: Place,
    expected = 0,
  ): number {
    const word = (hash24 << 8) | (place.segment >>> 16)
    const entry = this.add(source, at, keyBytes, place)
    this.count++
    if (this.isOverfull) {
      const grownBytes = this.resize(
        Math.max(this.count * GROWTH, Math.min(expected, this.count * GROWTH_MAX)),
      )
      this.link(word, entry)
      return grownBytes
    }
    this.slots[slot] = word
    this.slots[slot + 1] = entry
    return 0
  }

  /** Takes over copies of all entries of a table of another keydir; it has none of its own. */
  takeFrom(other: Table): void {
    this.isKeyed = other.isKeyed
    this.isStrained = other.isStrained
    other.forEachSlot((_slot, word, entry) => {
      if (entry === 0) return
      const words = new Uint32Array(other.heap.sizeOf(entry))
      this.adopt(word, words, 0, other.heap.copyOut(entry, words, 0))
    })
  }

  /** Copies the words of one of its entries to `into`; returns how many. */
  copyOut(entry: number, into: Uint32Array, at: number): number {
    return this.heap.copyOut(entry, into, at)
  }

  /** Takes over an entry that stands at `from[begin]`, `size` words long, of a key that is known to be absent. */
  adopt(word: number, from: Uint32Array, begin: number, size: number): void {
    const entry = this.heap.copy(from, begin, size)
    this.heapWords += size
    this.count++
    if (this.isOverfull) this.resize(this.count * GROWTH)
    this.link(word, entry)
  }

  private get isOverfull(): boolean {
    return this.count * SLOT_WORDS > this.slots.length * LOAD_MAX
  }

  /** Gives back the room of what was expected and has not come; returns by how many bytes the table is larger: fewer. */
  fit(): number {
    const entries = this.count * GROWTH
    return slotsFor(entries) < this.slotCount ? this.resize(entries) : 0
  }

  /** To have room for so many entries. */
  private resize(entries: number): number {
    const { slots: old } = this
    this.slots = new Uint32Array(slotsFor(entries) * SLOT_WORDS)
    for (let slot = 0; slot < old.length; slot += SLOT_WORDS) {
      if (old[slot + 1] !== 0) this.link(old[slot], old[slot + 1])
    }
    return this.slots.byteLength - old.byteLength
  }

  /** Removes the entry in `slot`, and moves back those that probed past it, so that no search meets a gap. */
  remove(slot: number): void {
    const { slots } = this
    const { length } = slots
    this.release(slots[slot + 1])
    this.count--
    const after = (each: number): number => (each + SLOT_WORDS === length ? 0 : each + SLOT_WORDS)
    const distance = (from: number, to: number): number => (to >= from ? to - from : to - from + length)
    let gap = slot
    for (let next = after(slot); slots[next + 1] !== 0; next = after(next)) {
      const home = homeOf(this.slots, slots[next] >>> 8)
      if (distance(home, next) >= distance(gap, next)) {
        slots[gap] = slots[next]
        slots[gap + 1] = slots[next + 1]
        gap = next
      }
    }
    slots[gap + 1] = 0
  }

  /** Moves its entries out of the chunks that the heap is emptying. */
  moveOut(): void {
    const { slots, heap } = this
    for (let slot = 1; slot < slots.length; slot += SLOT_WORDS) {
      if (slots[slot] !== 0 && heap.isToMove(slots[slot])) slots[slot] = heap.move(slots[slot])
    }
  }

  /** Brings in the lines of all entries, so that their cache misses overlap. */
  touchAll(): void {
    const { slots, heap } = this
    let { touched } = this
    for (let slot = 1; slot < slots.length; slot += SLOT_WORDS)
      if (slots[slot] !== 0) touched ^= heap.touch(slots[slot])
    // Kept, or the compiler might leave the reads out.
    this.touched = touched
  }

  /** Calls `visit` for each entry, in no order; `place` is used for all of them. */
  forEach(place: Place, visit: Visit): void {
    const { slots, heap } = this
    this.touchAll()
    for (let slot = 0; slot < slots.length; slot += SLOT_WORDS) {
      const entry = slots[slot + 1]
      if (entry === 0) continue
      heap.read(entry, slots[slot] & 0xff, place)
      visit(place, heap.bytes(entry), heap.keyAt(entry), heap.keyBytes(entry))
    }
  }

  /** Writes each place anew that `change` has changed: it says so. */
  repoint(place: Place, change: (place: Place) => boolean): void {
    const { slots, heap } = this
    this.touchAll()
    for (let slot = 0; slot < slots.length; slot += SLOT_WORDS) {
      const entry = slots[slot + 1]
      if (entry === 0) continue
      heap.read(entry, slots[slot] & 0xff, place)
      if (!change(place)) continue
      slots[slot] = (slots[slot] & 0xffff_ff00) | (place.segment >>> 16)
      heap.update(entry, place)
    }
  }

  /** Calls `visit` for each slot: its first word, and where its entry is, 0 where it is empty. */
  forEachSlot(visit: (index: number, word: number, entry: number) => void): void {
    const { slots } = this
    for (let i = 0; i < slots.length; i += SLOT_WORDS) visit(i / SLOT_WORDS, slots[i], slots[i + 1])
  }
}

/** The word of the slot at which a search begins. */
export function homeOf(slots: Uint32Array, hash24: number): number {
  // The product has at most 52 bits, so this is exact.
  return (((hash24 * (slots.length >>> 1)) / TWO_24) | 0) * SLOT_WORDS
}

/** For so many entries. */
function slotsFor(entries: number): number {
  return Math.max(SLOTS_MIN, Math.ceil(entries / LOAD_MAX))
}
