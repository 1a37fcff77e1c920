// How many of the entries that expire have done so by now, without looking at the entries: a min-heap of their
// expiry times, and a second one of those that were overwritten or deleted before their time.
import { invariant } from '../errors'

const WITHDRAWN_MIN = 64

class MinHeap {
  private items = new Float64Array(16)
  length = 0

  get top(): number {
    return this.items[0]
  }

  push(value: number): void {
    if (this.length === this.items.length) {
      const grown = new Float64Array(this.length * 2)
      grown.set(this.items)
      this.items = grown
    }
    const items = this.items
    let at = this.length++
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (items[parent] <= value) break
      items[at] = items[parent]
      at = parent
    }
    items[at] = value
  }

  pop(): void {
    const items = this.items
    const value = items[--this.length]
    let at = 0
    for (;;) {
      let child = at * 2 + 1
      if (child >= this.length) break
      if (child + 1 < this.length && items[child + 1] < items[child]) child++
      if (items[child] >= value) break
      items[at] = items[child]
      at = child
    }
    items[at] = value
  }

  get memoryBytes(): number {
    return this.items.byteLength
  }
}

export class Expiries {
  /** undefined until somebody asks: who never does pays nothing. */
  private heaps: { pending: MinHeap; withdrawn: MinHeap } | undefined
  private passedMs = Number.NEGATIVE_INFINITY
  private expired = 0

  add(expiresAtMs: number): void {
    if (this.heaps === undefined) return
    if (expiresAtMs <= this.passedMs) this.expired++
    else this.heaps.pending.push(expiresAtMs)
  }

  remove(expiresAtMs: number): void {
    if (this.heaps === undefined) return
    const { pending, withdrawn } = this.heaps
    if (expiresAtMs <= this.passedMs) this.expired--
    else withdrawn.push(expiresAtMs)
    // Mostly withdrawn: cheaper to count anew when next asked than to go on carrying it.
    if (withdrawn.length > WITHDRAWN_MIN && withdrawn.length * 2 > pending.length) this.heaps = undefined
  }

  /** Whether `countExpired` needs all expiry times first: `start`, then an `add` for each. */
  needsStart(nowMs: number): boolean {
    return this.heaps === undefined || nowMs < this.passedMs
  }

  start(): void {
    this.heaps = { pending: new MinHeap(), withdrawn: new MinHeap() }
    this.passedMs = Number.NEGATIVE_INFINITY
    this.expired = 0
  }

  /** How many of those added and not removed have expired: the millisecond `expiresAtMs` itself counts. */
  countExpired(nowMs: number): number {
    invariant(this.heaps !== undefined, 'counting begins with all expiry times')
    const { pending, withdrawn } = this.heaps
    for (; pending.length > 0 && pending.top <= nowMs; pending.pop()) this.expired++
    for (; withdrawn.length > 0 && withdrawn.top <= nowMs; withdrawn.pop()) this.expired--
    this.passedMs = Math.max(this.passedMs, nowMs)
    return this.expired
  }

  get memoryBytes(): number {
    return this.heaps === undefined ? 0 : this.heaps.pending.memoryBytes + this.heaps.withdrawn.memoryBytes
  }
}
