// Tables as a checkpoint keeps them (docs/FORMAT.md, "Checkpoint"): entries, one behind the other, each with the first
// word of its slot before it.
import { recordBytes } from '../segment'
import { EXPIRY_WORDS, FIXED_WORDS } from './heap'
import type { Table } from './table'

const TOP_BIT = 0x8000_0000

/** What an image says of itself. */
export interface TableImage {
  index: number
  count: number
  /** Of all its entries. */
  words: number
  /** Of its entries, those that have an expiry. */
  expiring: number
  isKeyed: boolean
}

/** How many words `exportTable` writes. */
export function imageWords(table: Table): number {
  return table.heapWords + table.count
}

/**
 * Writes a table's entries to `into` from word `at` on. The segment of each is written as `indexOfSlot` numbers it, and
 * its record counted in that one's `liveBytes`. Returns how many of them expire; undefined where an entry is not to be
 * kept: a damaged one, or one of a segment without a number.
 */
export function exportTable(
  table: Table,
  into: Uint32Array,
  at: number,
  indexOfSlot: Int32Array,
  liveBytes: Float64Array,
): number | undefined {
  let expiring = 0
  let isKept = true
  let to = at
  table.touchAll()
  table.forEachSlot((_slot, word, entry) => {
    if (entry === 0 || !isKept) return
    const size = table.copyOut(entry, into, to + 1)
    const value = into[to + 2]
    const last = into[to + 3]
    const segment = indexOfSlot[((word & 0xff) << 16) | (last >>> 16)] ?? -1
    isKept = value < TOP_BIT && segment >= 0
    if (!isKept) return
    const expires = into[to + 1] >= TOP_BIT
    if (expires) expiring++
    liveBytes[segment] += recordBytes(last & 0xffff, value, expires)
    into[to] = (word & 0xffff_ff00) | (segment >>> 16)
    into[to + 3] = (segment << 16) | (last & 0xffff)
    to += size + 1
  })
  return isKept ? expiring : undefined
}

/** The words that an entry of an image takes, that before it included. */
function sizeAt(words: Uint32Array, entry: number): number {
  const expiryWords = (words[entry + 1] >>> 31) * EXPIRY_WORDS
  return 1 + FIXED_WORDS + expiryWords + (((words[entry + 3] & 0xffff) + 3) >>> 2)
}

/**
 * Whether nothing in an image leads out of it, and it holds what it says: its CRC tells that it is as it was written,
 * not that it was sound. `segments`: how many there are that entries may point to.
 */
export function isImageSound(words: Uint32Array, image: TableImage, segments: number): boolean {
  let entries = 0
  let expiring = 0
  let entry = 0
  while (entry + 1 + FIXED_WORDS < words.length) {
    const last = words[entry + 3]
    const segment = ((words[entry] & 0xff) << 16) | (last >>> 16)
    if (words[entry + 2] >= TOP_BIT || segment >= segments || (last & 0xffff) === 0) return false
    entries++
    expiring += words[entry + 1] >>> 31
    entry += sizeAt(words, entry)
  }
  return entry === words.length && entries === image.count && expiring === image.expiring
}

/** Takes the entries of a sound image over to a table that has none of their keys. */
export function importTable(words: Uint32Array, table: Table): void {
  for (let entry = 0, size = 0; entry < words.length; entry += size) {
    size = sizeAt(words, entry)
    table.adopt(words[entry], words, entry + 1, size - 1)
  }
}
