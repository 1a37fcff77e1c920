// How many of the entries that expire have done so by now, without looking at the entries: a min-heap of their
// expiry times, and a second one of those that were overwritten or deleted before their time.

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
  private pending = new MinHeap()
  private withdrawn = new MinHeap()
  private passedMs = Number.NEGATIVE_INFINITY
  private expired = 0

  add(expiresAtMs: number): void {
    if (expiresAtMs <= this.passedMs) this.expired++
    else this.pending.push(expiresAtMs)
  }

  remove(expiresAtMs: number): void {
    if (expiresAtMs <= this.passedMs) this.expired--
    else this.withdrawn.push(expiresAtMs)
  }

  /** Whether `countExpired` can answer: not when the clock went back, nor when most of the heap is withdrawn. */
  needsRebuild(nowMs: number): boolean {
    return (
      nowMs < this.passedMs || (this.withdrawn.length > 64 && this.withdrawn.length * 2 > this.pending.length)
    )
  }

  clear(): void {
    this.pending = new MinHeap()
    this.withdrawn = new MinHeap()
    this.passedMs = Number.NEGATIVE_INFINITY
    this.expired = 0
  }

  /** How many of those added and not removed have expired: the millisecond `expiresAtMs` itself counts. */
  countExpired(nowMs: number): number {
    for (; this.pending.length > 0 && this.pending.top <= nowMs; this.pending.pop()) this.expired++
    for (; this.withdrawn.length > 0 && this.withdrawn.top <= nowMs; this.withdrawn.pop()) this.expired--
    this.passedMs = Math.max(this.passedMs, nowMs)
    return this.expired
  }

  get memoryBytes(): number {
    return this.pending.memoryBytes + this.withdrawn.memoryBytes
  }
}
