// Keys that are looked up together, so that their cache misses overlap: their bytes in the kernels' memory, and hashes.
import { KEYS_AT, KEYS_BYTES } from '../assembly/layout'
import type { Kernels } from './kernels'

export const KEYS_AT_ONCE = 64

export class KeyBatch {
  count = 0
  private readonly ats = new Uint32Array(KEYS_AT_ONCE)
  private readonly lengths = new Uint32Array(KEYS_AT_ONCE)
  private readonly lows = new Uint32Array(KEYS_AT_ONCE)
  private readonly highs = new Uint32Array(KEYS_AT_ONCE)

  clear(): void {
    this.count = 0
  }

  /** Takes the key that stands at `from`; false where there is no room for it. */
  add(kernels: Kernels, from: number, keyBytes: number): boolean {
    const { count, ats, lengths } = this
    if (count === KEYS_AT_ONCE) return false
    const at = count === 0 ? KEYS_AT : ats[count - 1] + lengths[count - 1]
    if (at + keyBytes > KEYS_AT + KEYS_BYTES) return false
    const { bytes } = kernels
    for (let i = 0; i < keyBytes; i++) bytes[at + i] = bytes[from + i]
    kernels.call.hashKey(at, keyBytes)
    ats[count] = at
    lengths[count] = keyBytes
    this.lows[count] = kernels.hashLow
    this.highs[count] = kernels.hashHigh
    this.count++
    return true
  }

  at(index: number): number {
    return this.ats[index]
  }

  keyBytes(index: number): number {
    return this.lengths[index]
  }

  hashLow(index: number): number {
    return this.lows[index]
  }

  hashHigh(index: number): number {
    return this.highs[index]
  }
}
