// What a simulated process does: a list of steps, drawn from a seed, plain enough to be printed and run again.
import type { SyncMode } from '../../src/writer'
import { Random } from './random'

export interface Settings {
  sync: SyncMode
  maxSegmentBytes: number
  cacheBytes: number
}

export type Step =
  | { do: 'put'; key: string; bytes: number; ttlMs?: number; now?: boolean }
  | { do: 'delete'; key: string; now?: boolean }
  | { do: 'batch'; changes: { key: string; bytes?: number }[]; now?: boolean }
  | { do: 'flush' | 'expire' | 'read' | 'turn' | 'endSync' | 'settle' | 'rival' | 'check' }
  | { do: 'advance'; ms: number }
  /** An end and a new beginning: closed in order, killed, or the power cut. */
  | { do: 'reopen' | 'kill' }
  | { do: 'cut'; seed: number }

export interface Trace {
  seed: number
  settings: Settings
  steps: Step[]
}

const SIZES = [0, 3, 20, 60, 150, 400, 800, 1600]
const LONG_KEY = `long-${'k'.repeat(300)}`

export interface Mix {
  steps: number
  /** Values larger than the write buffer. */
  hasLarge: boolean
}

export function traceOf(seed: number, mix: Mix): Trace {
  const random = new Random(seed)
  const settings: Settings = {
    sync: random.pick<SyncMode>(['always', 'always', 'always', 'never', { everyMs: 30 }]),
    maxSegmentBytes: random.pick([4096, 4096, 4096, 5000, 12_000]),
    cacheBytes: random.pick([0, 0, 65_536]),
  }
  const steps = Array.from({ length: mix.steps }, () => stepOf(random, mix))
  return { seed, settings, steps }
}

function keyOf(random: Random): string {
  return random.chance(0.04) ? LONG_KEY : `k${random.below(7)}`
}

function sizeOf(random: Random, { hasLarge }: Mix): number {
  return hasLarge && random.chance(0.08) ? random.pick([5000, 9000, 20_000]) : random.pick(SIZES)
}

function stepOf(random: Random, mix: Mix): Step {
  const now = random.chance(0.15) || undefined
  const draw = random.below(100)
  if (draw < 32) {
    const ttlMs = random.chance(0.12) ? random.pick([1, 40, 200, 5000]) : undefined
    return { do: 'put', key: keyOf(random), bytes: sizeOf(random, mix), ttlMs, now }
  }
  if (draw < 40) return { do: 'delete', key: keyOf(random), now }
  if (draw < 49) {
    const count = 1 + random.below(5)
    const changes = Array.from({ length: count }, () => ({
      key: keyOf(random),
      bytes: random.chance(0.3) ? undefined : sizeOf(random, mix),
    }))
    return { do: 'batch', changes, now }
  }
  if (draw < 66) return { do: 'turn' }
  if (draw < 78) return { do: 'endSync' }
  if (draw < 82) return { do: 'settle' }
  if (draw < 85) return { do: 'flush' }
  if (draw < 91) return { do: 'advance', ms: random.pick([1, 20, 60, 120, 250]) }
  if (draw < 93) return { do: 'read' }
  if (draw < 94) return random.pick<Step>([{ do: 'expire' }, { do: 'rival' }, { do: 'check' }])
  if (draw < 97) return { do: 'reopen' }
  if (draw < 98.5) return { do: 'kill' }
  return { do: 'cut', seed: random.below(2 ** 31) }
}

/** A trace as it is written into a list of kept cases. */
export function printTrace(trace: Trace): string {
  return JSON.stringify(trace)
}
