// The keys in byte order, made when an order is first asked for and kept from then on: sorted runs that never change, each
// at least twice as long as the next, and behind them the keys that came since, unsorted until the next time. It says which
// keys there may be; whether one is still there the keydir knows.
import { compareRanges, GrowableBytes, GrowableWords } from './bytes'
import { emptyPlace, type Keydir } from './keydir/keydir'
import { OrderedView } from './ordered'
import { EVERYTHING, type Range } from './range'

/** So many entries more than twice those of the keydir, and it is made anew: most of it is of keys that are gone. */
const SPARE = 4096
const WORD_BITS = 32

/** Sorted keys, each once. */
export class Run {
  /** A bit for each key that is known to be gone; undefined where none is. */
  private gone: Uint32Array | undefined

  constructor(
    readonly bytes: Uint8Array,
    /** Where each key begins, and where the last one ends. */
    private readonly starts: Float64Array | Uint32Array,
    readonly count: number,
  ) {}

  keyAt(index: number): number {
    return this.starts[index]
  }

  keyBytes(index: number): number {
    return this.starts[index + 1] - this.starts[index]
  }

  /** The index of the first key that is not before this one; with `isBehind`, of the first behind it. */
  seek(key: Uint8Array, isBehind: boolean): number {
    let low = 0
    for (let high = this.count; low < high; ) {
      const middle = (low + high) >>> 1
      const order = compareRanges(this.bytes, this.keyAt(middle), this.keyBytes(middle), key, 0, key.length)
      if (order < 0 || (order === 0 && isBehind)) low = middle + 1
      else high = middle
    }
    return low
  }

  /** The indices of the keys in range: from the first on, up to the second. */
  within({ prefix, lower, upper }: Range): [number, number] {
    let from = 0
    let to = this.count
    if (lower !== undefined) from = this.seek(lower.key, !lower.isIncluded)
    if (upper !== undefined) to = this.seek(upper.key, upper.isIncluded)
    if (prefix !== undefined) {
      from = Math.max(from, this.seek(prefix, false))
      const behind = successor(prefix)
      if (behind !== undefined) to = Math.min(to, this.seek(behind, false))
    }
    return [from, Math.max(from, to)]
  }

  markGone(index: number): void {
    this.gone ??= new Uint32Array(Math.ceil(this.count / WORD_BITS))
    this.gone[index >>> 5] |= 1 << (index & (WORD_BITS - 1))
  }

  isGone(index: number): boolean {
    return this.gone !== undefined && (this.gone[index >>> 5] & (1 << (index & (WORD_BITS - 1)))) !== 0
  }

  /** The first index from this one on, by `step` of 1 or -1 up to `end`, that is not known to be gone; else `end`. */
  pass(index: number, step: number, end: number): number {
    const { gone } = this
    if (gone === undefined) return index
    let at = index
    while (at !== end && this.isGone(at)) {
      const isWhole = gone[at >>> 5] === 0xffff_ffff
      const left = step > 0 ? WORD_BITS - (at & (WORD_BITS - 1)) : (at & (WORD_BITS - 1)) + 1
      const most = Math.abs(end - at)
      at += step * (isWhole ? Math.min(left, most) : 1)
    }
    return at
  }

  get memoryBytes(): number {
    return this.bytes.byteLength + this.starts.byteLength + (this.gone?.byteLength ?? 0)
  }
}

/** The first key behind all that begin so; undefined where there is none. */
function successor(prefix: Uint8Array): Uint8Array | undefined {
  let length = prefix.length
  while (length > 0 && prefix[length - 1] === 0xff) length--
  if (length === 0) return undefined
  const key = prefix.slice(0, length)
  key[length - 1]++
  return key
}

/** Takes keys in their order. */
class RunBuilder {
  private readonly bytes: Uint8Array
  private readonly starts: Float64Array | Uint32Array
  private count = 0
  private used = 0

  constructor(countMax: number, bytesMax: number) {
    this.bytes = new Uint8Array(bytesMax)
    this.starts = bytesMax > 0xffff_ffff ? new Float64Array(countMax + 1) : new Uint32Array(countMax + 1)
  }

  /** A key that it has is not taken again. */
  add(from: Uint8Array, at: number, keyBytes: number): void {
    const { bytes, starts, used, count } = this
    if (count > 0) {
      const last = starts[count - 1]
      if (compareRanges(bytes, last, used - last, from, at, keyBytes) === 0) return
    }
    for (let i = 0; i < keyBytes; i++) bytes[used + i] = from[at + i]
    this.used = used + keyBytes
    this.count = count + 1
    starts[this.count] = this.used
  }

  run(): Run {
    const isFull = this.used === this.bytes.length
    const bytes = isFull ? this.bytes : this.bytes.slice(0, this.used)
    return new Run(bytes, this.starts.slice(0, this.count + 1), this.count)
  }
}

export type KeysOf = Pick<Keydir, 'forEach'>

/** The keys in range of what `forEach` goes through, sorted. */
export function sortedRun(keys: KeysOf, range: Range = EVERYTHING): Run {
  const view = new OrderedView(keys, range, Number.NEGATIVE_INFINITY)
  const builder = new RunBuilder(view.length, view.keysBytes)
  view.forEachKey((bytes, at, keyBytes) => builder.add(bytes, at, keyBytes))
  return builder.run()
}

function merged(a: Run, b: Run): Run {
  const builder = new RunBuilder(a.count + b.count, a.bytes.length + b.bytes.length)
  let i = a.pass(0, 1, a.count)
  let j = b.pass(0, 1, b.count)
  while (i < a.count || j < b.count) {
    const isOfA =
      j === b.count ||
      (i < a.count &&
        compareRanges(a.bytes, a.keyAt(i), a.keyBytes(i), b.bytes, b.keyAt(j), b.keyBytes(j)) <= 0)
    if (isOfA) {
      builder.add(a.bytes, a.keyAt(i), a.keyBytes(i))
      i = a.pass(i + 1, 1, a.count)
    } else {
      builder.add(b.bytes, b.keyAt(j), b.keyBytes(j))
      j = b.pass(j + 1, 1, b.count)
    }
  }
  return builder.run()
}

export class KeyOrder {
  private runs: readonly Run[]
  /** Keys in them, those that are there more than once counted as often. */
  private inRuns: number
  private readonly fresh = new GrowableBytes()
  private readonly freshBytes = new GrowableWords()
  /** How many go through runs of it. */
  readers = 0

  constructor(private readonly keydir: KeysOf & { readonly count: number }) {
    this.runs = [sortedRun(keydir)]
    this.inRuns = this.runs[0].count
  }

  /** A key that was not in the keydir before. False where there is more of what is gone than this is worth. */
  add(keys: Uint8Array, at: number, keyBytes: number): boolean {
    this.fresh.append(keys, at, keyBytes)
    this.freshBytes.push(keyBytes)
    return !this.isStale
  }

  private get isStale(): boolean {
    return this.inRuns + this.freshBytes.length > this.keydir.count * 2 + SPARE
  }

  /** Runs that hold all keys of the keydir as it is now, some of them more than once, and some that it has not. */
  current(): readonly Run[] {
    if (!this.isStale && this.freshBytes.length === 0) return this.runs
    if (this.isStale) this.runs = [sortedRun(this.keydir)]
    else this.runs = this.withFresh()
    this.inRuns = this.runs.reduce((sum, { count }) => sum + count, 0)
    this.fresh.used = 0
    this.freshBytes.clear()
    return this.runs
  }

  /** Whether the runs that `current` has just returned hold the keys of the keydir and no other, each once. */
  get isExact(): boolean {
    // They hold all of them.
    return this.inRuns === this.keydir.count
  }

  private withFresh(): Run[] {
    const { fresh, freshBytes } = this
    const place = emptyPlace()
    const forEach: KeysOf['forEach'] = (visit) => {
      let at = 0
      for (let i = 0; i < freshBytes.length; i++) {
        visit(place, fresh.bytes, at, freshBytes.at(i))
        at += freshBytes.at(i)
      }
    }
    const runs = [...this.runs, sortedRun({ forEach })]
    for (let last = runs.length - 1; last > 0 && runs[last].count * 2 >= runs[last - 1].count; last--) {
      runs.splice(last - 1, 2, merged(runs[last - 1], runs[last]))
    }
    return runs
  }

  get memoryBytes(): number {
    return this.runs.reduce((sum, run) => sum + run.memoryBytes, this.fresh.bytes.length)
  }
}
