// The ways in: open a store, look at its log, check or repair it, on this machine's host.
import { Restore, type RestoreReport } from './backup/restore'
import { type Casky, storeOf } from './casky'
import type { CheckProgress } from './check'
import { type DumpedRecord, dump as dumpOn } from './dump'
import type { KeyEncoding, ValueEncoding } from './encoding'
import { CaskyError, typed } from './errors'
import { type Beacon, nodeBeacon } from './host/beacon'
import type { Host } from './host/host'
import type { Evidence } from './host/machine'
import { nodeHost } from './host/node'
import { acquireLockAsync, type LockWait } from './lock'
import { makeDirectories, openSteps, storePath } from './open'
import { type OpenOptions, openSettings, type RestoreOptions, restoreCall } from './options'
import type { RepairProgress, RepairReport } from './repair'
import {
  type CheckOptions,
  type CheckReport,
  checkSteps,
  type RepairOptions,
  repairSteps,
  upkeepOptions,
} from './upkeep'

/** What a store stands on; tests put others in its place. */
export interface Ground {
  host: Host
  beacon: Beacon
}

const NODE: Ground = { host: nodeHost, beacon: nodeBeacon }

function checkSignal(signal: AbortSignal | undefined, doing: string): void {
  if (signal?.aborted !== true) return
  throw new CaskyError('CASKY_ABORTED', `${doing} was aborted by its signal`, { cause: signal.reason })
}

/** Runs steps that may take long, with the event loop turning in between. */
async function drive<P extends { phase: string }, T>(
  { host, beacon }: Ground,
  steps: Generator<LockWait | P, T, Evidence>,
  {
    onProgress,
    signal,
  }: { onProgress: ((progress: P) => void) | undefined; signal: AbortSignal | undefined },
  doing: string,
  path: string,
): Promise<T> {
  try {
    checkSignal(signal, doing)
    let step = steps.next()
    while (!step.done) {
      const wait = step.value
      if ('phase' in wait) {
        onProgress?.(wait)
        await new Promise<void>((resolve) => host.soon(resolve))
        checkSignal(signal, doing)
        step = steps.next()
      } else {
        step = steps.next(await beacon.answer(host, wait))
      }
    }
    return step.value
  } catch (error) {
    // What is done, but for what nobody needs, is done.
    const result = resultIn(steps, error)
    if (result !== undefined) return result.value
    throw typed('read or write the store', String(path), error)
  }
}

/**
 * Opens the store in a directory. Throws CASKY_LOCKED while another writer has it, CASKY_CORRUPT where its manifest is
 * damaged, or the store is and `strict` is set, and the codes of OpenOptions. Other damage is reported in `health()`.
 */
export async function open<K extends KeyEncoding = 'utf8', V extends ValueEncoding = 'utf8'>(
  path: string,
  options?: OpenOptions<K, V>,
): Promise<Casky<K, V>> {
  return await openOn<K, V>(NODE, path, options)
}

/** As `open`, done on return; this thread stands still meanwhile. */
export function openSync<K extends KeyEncoding = 'utf8', V extends ValueEncoding = 'utf8'>(
  path: string,
  options?: OpenOptions<K, V>,
): Casky<K, V> {
  return openSyncOn<K, V>(NODE, path, options)
}

export async function openOn<K extends KeyEncoding, V extends ValueEncoding>(
  ground: Ground,
  path: string,
  options: OpenOptions<K, V> | undefined,
): Promise<Casky<K, V>> {
  const settings = openSettings(options)
  const rooms = await drive(
    ground,
    openSteps(ground.host, ground.beacon, path, settings),
    settings,
    'opening',
    path,
  )
  return storeOf<K, V>(rooms, settings)
}

/** A failure between two steps makes them free the lock and the files; undefined where that is the end of it. */
function resultIn<S, T>(steps: Generator<S, T, Evidence>, error: unknown): { value: T } | undefined {
  try {
    const step = steps.throw(error)
    return step.done === true ? { value: step.value } : undefined
  } catch {
    // It throws the same error again, and is over.
    return undefined
  }
}

export function openSyncOn<K extends KeyEncoding, V extends ValueEncoding>(
  { host, beacon }: Ground,
  path: string,
  options: OpenOptions<K, V> | undefined,
): Casky<K, V> {
  const settings = openSettings(options)
  const steps = openSteps(host, beacon, path, settings)
  try {
    let step = steps.next()
    while (!step.done) {
      const wait = step.value
      if ('phase' in wait) {
        settings.onProgress?.(wait)
        step = steps.next()
      } else {
        step = steps.next(beacon.answerSync(host, wait))
      }
    }
    return storeOf<K, V>(step.value, settings)
  } catch (error) {
    resultIn(steps, error)
    throw typed('read or write the store', String(path), error)
  }
}

/**
 * The log of a store, or of one segment file, record by record as it lies on disk, damage included. Takes no lock and
 * changes nothing. A record counts as it lies: whether it is still the newest of its key is not said.
 */
export function dump(path: string): Generator<DumpedRecord, void> {
  return dumpOn(nodeHost, path)
}

/**
 * Verifies every byte of a store that need not be open, nor be able to: a manifest that is lost or damaged is a finding
 * as others are. Each finding says what `repair` would do about it. Takes no lock, changes nothing, and works beside a
 * live writer and on stores larger than memory.
 */
export function check(path: string, options?: CheckOptions): Promise<CheckReport> {
  return checkOn(NODE, path, options)
}

export async function checkOn(
  ground: Ground,
  path: string,
  options: CheckOptions | undefined,
): Promise<CheckReport> {
  const settings = upkeepOptions<CheckProgress>(options, 'check')
  return await drive(ground, checkSteps(ground.host, path), settings, 'the check', path)
}

/**
 * Makes a sound store of a damaged one, with all that can be read; what it replaces is kept in a directory beside it.
 * A key whose newest value is lost is deleted, so that no older one passes for it. Throws CASKY_LOCKED while a writer
 * has the store. A failure, an abort or a crash leaves the store as it was; running it again is always fine. In the last
 * phase (`'index'`) it is repaired already: an abort only ends the making of hints and a checkpoint.
 */
export function repair(path: string, options?: RepairOptions): Promise<RepairReport> {
  return repairOn(NODE, path, options)
}

export async function repairOn(
  ground: Ground,
  path: string,
  options: RepairOptions | undefined,
): Promise<RepairReport> {
  const settings = upkeepOptions<RepairProgress>(options, 'repair')
  return await drive(ground, repairSteps(ground.host, ground.beacon, path), settings, 'the repair', path)
}

/**
 * Makes a store of a backup that `db.backup` has made, in a directory that is empty or not there yet, and proves that
 * it is what the store was then: every byte, every entry, the last sequence number. Takes the latest, or the one with
 * `sequence`. Throws CASKY_EXISTS where there is anything in `target`, CASKY_NOT_FOUND where there is no such backup,
 * CASKY_CORRUPT where it is damaged; no failure leaves a store. One that was interrupted can be run again.
 */
export function restore(from: string, target: string, options?: RestoreOptions): Promise<RestoreReport> {
  return restoreOn(NODE, from, target, options)
}

export async function restoreOn(
  { host, beacon }: Ground,
  from: string,
  target: string,
  options: RestoreOptions | undefined,
): Promise<RestoreReport> {
  const call = restoreCall(options)
  const directory = storePath(target)
  try {
    const steps = new Restore(host, storePath(from, 'a backup'), directory, call)
    makeDirectories(host, directory)
    const lock = await acquireLockAsync(host, beacon, directory)
    try {
      return await steps.run()
    } finally {
      lock.release()
    }
  } catch (error) {
    throw typed('restore a backup', directory, error)
  }
}
