// Cases that once broke a rule, and never may again.
import type { Trace } from './workload'

export interface Kept {
  /** What was wrong. */
  name: string
  /** Where the store that the trace leaves is hurt, or repaired: what is done to it comes from the trace's seed. */
  kind?: 'rot' | 'repair'
  trace: Trace
  /** Crashes by chance at each call. */
  crashesPerCall?: number
  fault?: FaultPlace
}

/** The first call that an error befalls, and the seed of what it is. */
export interface FaultPlace {
  call: number
  draws: number
}

export const KEPT: Kept[] = []
