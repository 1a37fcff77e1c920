// How long things took: counted in buckets whose width grows with the time, so that a count takes no memory.

const UNITS_PER_MS = 1024
/** Buckets to each doubling: a bucket is at most a sixteenth of its time wide. */
const STEPS = 16
const STEP_BITS = 4
/** 70 minutes; what takes longer counts as that. */
const UNITS_MAX = 0xffff_ffff
const BUCKETS = (32 - STEP_BITS + 1) * STEPS

export interface TimeBucket {
  /** Of the times that are counted here, the least that can be. */
  fromMs: number
  /** All times here are shorter. */
  belowMs: number
  count: number
}

export interface TimeStats {
  count: number
  /** All of them together. */
  totalMs: number
  /** Half of them took at most so long; to 1/16, rounded up. */
  p50Ms: number
  /** 99 % of them took at most so long; to 1/16, rounded up. */
  p99Ms: number
  maxMs: number
  /** A bucket for each doubling, from the shortest time to the longest; empty where nothing was counted. */
  buckets: TimeBucket[]
}

export class TimeHistogram {
  count = 0
  private totalMs = 0
  private maxMs = 0
  private readonly counts = new Float64Array(BUCKETS)

  add(ms: number): void {
    this.count++
    this.totalMs += ms
    this.maxMs = Math.max(this.maxMs, ms)
    this.counts[bucketOf(Math.min(ms * UNITS_PER_MS, UNITS_MAX) >>> 0)]++
  }

  stats(): TimeStats {
    const { count, totalMs, maxMs } = this
    return {
      count,
      totalMs,
      p50Ms: this.atMost(0.5),
      p99Ms: this.atMost(0.99),
      maxMs,
      buckets: this.buckets(),
    }
  }

  /** What `share` of all did not exceed. */
  private atMost(share: number): number {
    const wanted = Math.ceil(share * this.count)
    let counted = 0
    for (let bucket = 0; bucket < BUCKETS && counted < wanted; bucket++) {
      counted += this.counts[bucket]
      if (counted >= wanted) return Math.min(this.maxMs, beginOf(bucket + 1) / UNITS_PER_MS)
    }
    return 0
  }

  private buckets(): TimeBucket[] {
    const all: TimeBucket[] = []
    for (let at = 0; at < BUCKETS; at += STEPS) {
      const count = this.counts.subarray(at, at + STEPS).reduce((sum, each) => sum + each, 0)
      all.push({ fromMs: beginOf(at) / UNITS_PER_MS, belowMs: beginOf(at + STEPS) / UNITS_PER_MS, count })
    }
    const isUsed = ({ count }: TimeBucket): boolean => count > 0
    return all.slice(Math.max(0, all.findIndex(isUsed)), all.findLastIndex(isUsed) + 1)
  }
}

function bucketOf(units: number): number {
  if (units < STEPS) return units
  const shift = 31 - Math.clz32(units) - STEP_BITS
  return (shift + 1) * STEPS + ((units >>> shift) & (STEPS - 1))
}

/** Where a bucket begins, in units. */
function beginOf(bucket: number): number {
  if (bucket < STEPS) return bucket
  return (STEPS + (bucket % STEPS)) * 2 ** (Math.floor(bucket / STEPS) - 1)
}
