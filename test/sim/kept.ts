// Cases that once broke a rule, and never may again.
import type { Trace } from './workload'

export interface Kept {
  /** What was wrong. */
  name: string
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
