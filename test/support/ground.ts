// The ground that stores stand on in tests: the real file system, with a clock and failures of the test's own.
import type { Casky } from '../../src/casky'
import type { KeyEncoding, ValueEncoding } from '../../src/encoding'
import { nodeBeacon } from '../../src/host/beacon'
import type { Host } from '../../src/host/host'
import { nodeHost } from '../../src/host/node'
import type { OpenOptions } from '../../src/options'
import { type Ground, openOn, openSyncOn } from '../../src/store'

export function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: made by a test`), { code })
}

/** The real host with some of its methods replaced. */
export function groundWith(overrides: Partial<Host>): Ground {
  return { host: { ...nodeHost, ...overrides }, beacon: nodeBeacon }
}

export interface Clock {
  nowMs: number
}

export function groundWithClock(clock: Clock, overrides: Partial<Host> = {}): Ground {
  return groundWith({ nowMs: () => clock.nowMs, ...overrides })
}

export function openWith<K extends KeyEncoding = 'utf8', V extends ValueEncoding = 'utf8'>(
  ground: Ground,
  path: string,
  options?: OpenOptions<K, V>,
): Promise<Casky<K, V>> {
  return openOn<K, V>(ground, path, options)
}

export function openSyncWith<K extends KeyEncoding = 'utf8', V extends ValueEncoding = 'utf8'>(
  ground: Ground,
  path: string,
  options?: OpenOptions<K, V>,
): Casky<K, V> {
  return openSyncOn<K, V>(ground, path, options)
}

/** What a call threw or rejected with. */
export async function failure(
  run: () => unknown,
): Promise<Error & { code?: string; path?: string; offset?: number; key?: Uint8Array; got?: unknown }> {
  try {
    await run()
  } catch (error) {
    return error as Error & { code?: string }
  }
  throw new Error('it should have failed, and did not')
}

/** A generator of random numbers from a seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}
