// Tables as a checkpoint keeps them (docs/FORMAT.md, "Checkpoint"): a heap of their own each, whose entries have the
// hash before them, and slots of one word.
import { recordBytes } from '../segment'
import { type EntryHeap, EXPIRY_WORDS, FIXED_WORDS } from './heap'
import type { Table } from './table'

const TOP_BIT = 0x8000_0000
const DEAD = 0xffff_ffff
/** A slot can't point further. */
const HEAP_WORDS_MAX = 0xff_fffe

/** What an image says of itself. */
export interface TableImage {
  index: number
  count: number
  heapWords: number
  /** Words of the heap that dead entries take. */
  deadWords: number
  slots: number
  expiring: number
  isKeyed: boolean
}

export function imageWords(table: Table): number {
  return table.heapWords + table.count + table.slotCount
}

/**
 * Writes heap and slots to `into` from word `at` on. The segment of each entry is written as `indexOfSlot` numbers it,
 * and its record counted in that one's `liveBytes`. Returns what the image says of itself; undefined where an entry is
 * not to be kept: a damaged one, or one of a segment without a number.
 */
export function exportTable(
  table: Table,
  heap: EntryHeap,
  into: Uint32Array,
  at: number,
  indexOfSlot: Int32Array,
  liveBytes: Float64Array,
): Omit<TableImage, 'index'> | undefined {
  const heapWords = table.heapWords + table.count
  if (heapWords > HEAP_WORDS_MAX) return undefined
  let expiring = 0
  let isKept = true
  let used = 0
  table.touchAll()
  table.forEachSlot((index, word, entry) => {
    const slot = at + heapWords + index
    into[slot] = 0
    if (entry === 0 || !isKept) return
    const to = at + used
    const size = heap.copyOut(entry, into, to + 1)
    const [offset, value, last] = [into[to + 1], into[to + 2], into[to + 3]]
    const segment = indexOfSlot[((word & 0xff) << 16) | (last >>> 16)] ?? -1
    isKept = value < TOP_BIT && segment >= 0
    const expires = offset >= TOP_BIT
    if (expires) expiring++
    if (isKept) liveBytes[segment] += recordBytes(last & 0xffff, value, expires)
    into[to] = (word & 0xffff_ff00) | (segment >>> 16)
    into[to + 3] = (segment << 16) | (last & 0xffff)
    into[slot] = ((word >>> 8) << 24) | (used + 1)
    used += size + 1
  })
  if (!isKept) return undefined
  return {
    count: table.count,
    heapWords,
    deadWords: 0,
    slots: table.slotCount,
    expiring,
    isKeyed: table.isKeyed,
  }
}

/** The words that an entry takes that begins at `entry`, its hash included. */
function sizeAt(words: Uint32Array, entry: number): number {
  const expiryWords = (words[entry + 1] >>> 31) * EXPIRY_WORDS
  return 1 + FIXED_WORDS + expiryWords + (((words[entry + 3] & 0xffff) + 3) >>> 2)
}

/**
 * Whether nothing in an image leads out of it, and it holds what it says: its CRC tells who wrote it, not that it was
 * sound. `segments`: how many there are that entries may point to.
 */
export function isImageSound(words: Uint32Array, image: TableImage, segments: number): boolean {
  const { heapWords, count, deadWords, expiring } = image
  let entries = 0
  let foundDeadWords = 0
  let foundExpiring = 0
  let entry = 0
  while (entry + 1 + FIXED_WORDS <= heapWords) {
    const last = words[entry + 3]
    const size = sizeAt(words, entry)
    if (words[entry + 2] === DEAD) {
      foundDeadWords += size
    } else {
      const segment = ((words[entry] & 0xff) << 16) | (last >>> 16)
      if (words[entry + 2] >= TOP_BIT || segment >= segments || (last & 0xffff) === 0) return false
      entries++
      foundExpiring += words[entry + 1] >>> 31
    }
    entry += size
  }
  if (entry !== heapWords || foundDeadWords !== deadWords) return false
  return entries === count && foundExpiring === expiring
}

/** Takes the entries of a sound image, whose keys are known to be absent, over to a table. */
export function importTable(words: Uint32Array, { heapWords }: TableImage, table: Table): void {
  for (let entry = 0, size = 0; entry < heapWords; entry += size) {
    size = sizeAt(words, entry)
    if (words[entry + 2] !== DEAD) table.adopt(words[entry], words, entry + 1, size - 1)
  }
}
