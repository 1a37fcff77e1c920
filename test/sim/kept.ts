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

export const KEPT: Kept[] = [
  {
    name: 'a merge begins while the manifest is written, which counts the id of its output as free',
    crashesPerCall: 12,
    trace: {
      seed: 140,
      settings: {
        sync: 'always',
        maxSegmentBytes: 4096,
        cacheBytes: 65536,
        merge: {
          triggerDeadRatio: 0.2,
          triggerSmallSegments: 1000,
          deadRatio: 0.3,
          smallBytes: 0,
          maxBytesPerSecond: 0,
        },
      },
      steps: [
        { do: 'put', key: 'k0', bytes: 800, now: true },
        { do: 'put', key: 'k1', bytes: 150, now: true },
        { do: 'put', key: 'k0', bytes: 400, now: true },
        { do: 'cut', seed: 696466505 },
        { do: 'delete', key: 'k1', now: true },
        { do: 'endSync' },
        {
          do: 'batch',
          changes: [
            { key: 'k3', bytes: 400 },
            { key: 'k0', bytes: 800 },
            { key: 'k0', bytes: 60 },
          ],
        },
        { do: 'backup', since: 'first' },
        { do: 'put', key: 'k0', bytes: 400, ttlMs: 200, now: true },
        {
          do: 'batch',
          changes: [
            { key: 'k1', bytes: 400 },
            { key: 'k5', bytes: 1600 },
            { key: 'k0', bytes: 150 },
            { key: 'k1', bytes: 0 },
            { key: 'k0' },
          ],
        },
      ],
    },
  },
  {
    name: 'the manifest of a merge is being written while a segment that it names is taken back',
    crashesPerCall: 12,
    trace: {
      seed: 496670817,
      settings: { sync: 'always', maxSegmentBytes: 12000, cacheBytes: 65536, merge: false },
      steps: [
        { do: 'batch', changes: [{ key: 'k1' }, { key: 'k4' }] },
        { do: 'reopen', now: true },
        { do: 'put', key: 'k1', bytes: 0, ttlMs: 1, now: true },
        {
          do: 'batch',
          changes: [
            { key: 'k2', bytes: 0 },
            { key: 'k2', bytes: 400 },
            { key: 'k5', bytes: 0 },
          ],
        },
        { do: 'settle' },
        { do: 'read' },
        { do: 'put', key: 'k0', bytes: 20, now: true },
        { do: 'put', key: 'k3', bytes: 60 },
        { do: 'endSync' },
        {
          do: 'batch',
          changes: [
            { key: 'k6', bytes: 150 },
            { key: 'k3', bytes: 1600 },
            { key: 'k0', bytes: 800 },
            { key: 'k5', bytes: 3 },
          ],
        },
        { do: 'put', key: 'k3', bytes: 1600, now: true },
        { do: 'put', key: 'k3', bytes: 150 },
        { do: 'reopen' },
        { do: 'merge' },
        { do: 'endSync' },
        { do: 'read' },
        { do: 'put', key: 'k5', bytes: 400 },
      ],
    },
    fault: { call: 207, draws: 1293937112 },
  },
]
