// Keys that are looked up together, so that their cache misses overlap: their bytes in the kernels' memory, and a row for
// each in a table there, with its hash.
import {
  KEY_ROWS_MAX,
  KEY_TABLE_AT,
  KEYS_AT,
  KEYS_BYTES,
  ROW_AT,
  ROW_HASH_HIGH,
  ROW_HASH_LOW,
  ROW_KIND,
  ROW_WORDS,
} from '../assembly/layout'
import type { Kernels } from './kernels'

export const KEYS_AT_ONCE = KEY_ROWS_MAX
/** The word of the kernels' memory that the table begins at. */
export const KEY_TABLE = KEY_TABLE_AT / 4
const KEYS_END = KEYS_AT + KEYS_BYTES

export class KeyBatch {
  count = 0
  private end = KEYS_AT

  constructor(private readonly kernels: Kernels) {}

  clear(): void {
    this.count = 0
    this.end = KEYS_AT
  }

  /** Where a key is to be written, for which at most so many bytes are touched; 0 where there is no room for it. */
  room(bytesMax: number): number {
    return this.count < KEYS_AT_ONCE && this.end + bytesMax <= KEYS_END ? this.end : 0
  }

  /** Takes the key that was written to where there was room. */
  add(keyBytes: number): void {
    const { ints } = this.kernels
    const word = KEY_TABLE + this.count * ROW_WORDS
    ints[word + ROW_AT] = this.end
    ints[word + ROW_KIND] = keyBytes << 16
    this.end += keyBytes
    this.count++
  }

  /** Sees to the hashes of all of them. */
  hash(): void {
    this.kernels.call.hashKeys(this.count)
  }

  private word(index: number, word: number): number {
    return this.kernels.ints[KEY_TABLE + index * ROW_WORDS + word]
  }

  at(index: number): number {
    return this.word(index, ROW_AT)
  }

  keyBytes(index: number): number {
    return this.word(index, ROW_KIND) >>> 16
  }

  hashLow(index: number): number {
    return this.word(index, ROW_HASH_LOW)
  }

  hashHigh(index: number): number {
    return this.word(index, ROW_HASH_HIGH)
  }
}
