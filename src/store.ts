// The ways in: open a store, or look at its log, on this machine's host.
import { type Casky, storeOf } from './casky'
import { type DumpedRecord, dump as dumpOn } from './dump'
import type { KeyEncoding, ValueEncoding } from './encoding'
import { CaskyError } from './errors'
import { type Beacon, nodeBeacon } from './host/beacon'
import type { Host } from './host/host'
import { nodeHost } from './host/node'
import { type OpenStep, openSteps, type Rooms } from './open'
import { type OpenOptions, openSettings, type Settings } from './options'

/** What a store stands on; tests put others in its place. */
export interface Ground {
  host: Host
  beacon: Beacon
}

const NODE: Ground = { host: nodeHost, beacon: nodeBeacon }

function checkSignal({ signal }: Settings): void {
  if (signal?.aborted !== true) return
  throw new CaskyError('CASKY_ABORTED', 'opening was aborted by its signal', { cause: signal.reason })
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
  { host, beacon }: Ground,
  path: string,
  options: OpenOptions<K, V> | undefined,
): Promise<Casky<K, V>> {
  const settings = openSettings(options)
  checkSignal(settings)
  const steps = openSteps(host, beacon, path, settings)
  try {
    let step = steps.next()
    while (!step.done) {
      const wait: OpenStep = step.value
      if ('phase' in wait) {
        settings.onProgress?.(wait)
        await new Promise<void>((resolve) => host.soon(resolve))
        checkSignal(settings)
        step = steps.next()
      } else {
        step = steps.next(await beacon.answer(host, wait))
      }
    }
    return storeOf<K, V>(step.value, settings)
  } catch (error) {
    throw ended(steps, error)
  }
}

/** A failure between two steps makes them free the lock and the files. */
function ended(steps: Generator<OpenStep, Rooms>, error: unknown): unknown {
  try {
    steps.throw(error)
  } catch {
    // It throws the same error again, and is over.
  }
  return error
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
      const wait: OpenStep = step.value
      if ('phase' in wait) {
        settings.onProgress?.(wait)
        step = steps.next()
      } else {
        step = steps.next(beacon.answerSync(host, wait))
      }
    }
    return storeOf<K, V>(step.value, settings)
  } catch (error) {
    throw ended(steps, error)
  }
}

/**
 * The log of a store, or of one segment file, record by record as it lies on disk, damage included. Takes no lock and
 * changes nothing. A record counts as it lies: whether it is still the newest of its key is not said.
 */
export function dump(path: string): Generator<DumpedRecord, void> {
  return dumpOn(nodeHost, path)
}
