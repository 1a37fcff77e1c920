// What a simulated process has beside its files: locks that die with it, and nobody else who is alive.
import type { Beacon } from '../../src/host/beacon'
import type { SimDisk } from './disk'

/** A process's own list of its locks, which dies with it. */
export function forgetLocks(disk: SimDisk): void {
  const scope = globalThis as { [key: symbol]: Map<string, unknown> | undefined }
  const locks = scope[Symbol.for('casky.locks')]
  for (const identity of locks?.keys() ?? []) if (identity.startsWith(`${disk.id}:`)) locks?.delete(identity)
}

/** Nobody else is alive. */
export const lonelyBeacon: Beacon = {
  describeSelf: () => ({ pid: 1, runtime: 'node' }) as ReturnType<Beacon['describeSelf']>,
  testProcess: () => 'dead',
  isShared: () => false,
  lightAbstract: () => undefined,
  testAbstract: () => 'dead',
  light: () => ({ release: () => {} }),
  lockFile: () => undefined,
  testFile: () => 'dead',
  answer: () => Promise.resolve('dead'),
  answerSync: () => 'dead',
}
