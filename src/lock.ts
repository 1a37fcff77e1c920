// The right to write: one holder at a time, over threads, processes, containers and runtimes, and free at once when
// the holder dies.
//
// LOCK is a directory of claims. Whoever wants to write lights a beacon, then puts its claim there, and only then
// lists the others. Of two, the one that lists last sees the other's claim, which stands until it is withdrawn; so
// both can't see nobody. A claim is never renamed while it stands: a listing may miss a name that moves under it.
// Two that see each other while still opening: the lower token waits, the higher withdraws. One always gets through.
import {
  type Claim,
  encodeClaim,
  holderOf,
  judge,
  type LockHolder,
  listTokens,
  lockedError,
  lockFileName,
  newToken,
  type Place,
  removeFiles,
  SUFFIXES,
  type Suffix,
  type Verdict,
  whereLies,
} from './claim'
import { CaskyError, ioError, isCaskyError, systemCode } from './errors'
import { join, LOCK, resolve } from './files'
import type { Beacon, Held, LockWait } from './host/beacon'
import type { Host } from './host/host'
import type { Evidence } from './host/machine'
import { writeFully } from './io'

export type { LockHolder } from './claim'
export type { LockWait } from './host/beacon'

export interface Lock {
  readonly holder: LockHolder
  /** Gives the right back, at once. May be called again, and after the directory is gone; never throws. */
  release(): void
}

const RIVAL_WAIT_MS = 5_000
const PAUSE_MS_MAX = 32
const STAKE_TRIES = 10

/**
 * Takes the right to write to the store in `directory`, which must exist. Yields what it waits for and is handed the
 * result; `runSync` and `runAsync` do that. Returning early (`.return()`) withdraws.
 *
 * Throws `CASKY_LOCKED`, with a `LockHolder` as `got`, when another holds it; `CASKY_NOT_A_STORE` when LOCK is no
 * directory; `CASKY_IO` or `CASKY_NO_SPACE` when the directory can't be written to.
 */
export function* acquireLock(
  host: Host,
  beacon: Beacon,
  directory: string,
): Generator<LockWait, Lock, Evidence> {
  const place = prepare(host, beacon, resolve(directory))
  const here = locksOfProcess()
  const known = here.get(place.identity)
  if (known !== undefined) throw lockedError(place.store, { ...known })
  const { pid, runtime, hostName } = place.self
  const holder: LockHolder = {
    pid,
    runtime,
    where: 'this-process',
    sinceMs: host.nowMs(),
    isOpen: false,
    isAlive: true,
  }
  if (hostName !== undefined) holder.hostName = hostName
  here.set(place.identity, holder)

  let stake: Stake | undefined
  let isWon = false
  try {
    stake = stakeClaim(place, holder)
    yield* outlastRivals(place, stake.token)
    createFile(place, stake.token, 'held')
    isWon = true
  } catch (error) {
    throw describeFailure(place, error)
  } finally {
    if (!isWon) {
      if (stake !== undefined) withdraw(place, stake)
      here.delete(place.identity)
    }
  }
  holder.isOpen = true
  let isReleased = false
  const won = stake
  return {
    holder,
    release: () => {
      if (isReleased) return
      isReleased = true
      withdraw(place, won)
      if (here.get(place.identity) === holder) here.delete(place.identity)
    },
  }
}

export function acquireLockSync(host: Host, beacon: Beacon, directory: string): Lock {
  return runSync(host, beacon, acquireLock(host, beacon, directory))
}

export function acquireLockAsync(host: Host, beacon: Beacon, directory: string): Promise<Lock> {
  return runAsync(host, beacon, acquireLock(host, beacon, directory))
}

/** Runs steps that wait for nothing but the lock's waits; this thread stands still meanwhile. */
export function runSync<T>(host: Host, beacon: Beacon, steps: Generator<LockWait, T, Evidence>): T {
  let step = steps.next()
  while (!step.done) step = steps.next(beacon.answerSync(host, step.value))
  return step.value
}

/** As `runSync`, without holding up the event loop. */
export async function runAsync<T>(
  host: Host,
  beacon: Beacon,
  steps: Generator<LockWait, T, Evidence>,
): Promise<T> {
  let step = steps.next()
  while (!step.done) step = steps.next(await beacon.answer(host, step.value))
  return step.value
}

/** Every copy of the package in this thread shares the list; other threads have their own, and beacons tell of them. */
function locksOfProcess(): Map<string, LockHolder> {
  const scope = globalThis as { [key: symbol]: Map<string, LockHolder> | undefined }
  const key = Symbol.for('casky.locks')
  const locks = scope[key] ?? new Map<string, LockHolder>()
  scope[key] = locks
  return locks
}

function prepare(host: Host, beacon: Beacon, store: string): Place {
  const directory = join(store, LOCK)
  try {
    if (host.inspect(directory) === undefined) host.makeDirectory(directory)
    const found = host.inspect(directory)
    if (found?.kind !== 'directory') {
      const message = `${LOCK} is not a directory, so no casky store is here: ${directory}`
      throw new CaskyError('CASKY_NOT_A_STORE', message, { path: directory })
    }
    const { identity } = found
    const shared = beacon.isShared(host, directory)
    return { host, beacon, self: beacon.describeSelf(host), store, directory, identity, shared }
  } catch (error) {
    throw describeFailure({ directory, store }, error)
  }
}

interface Stake {
  token: string
  beacons: Held[]
}

function stakeClaim(place: Place, holder: LockHolder): Stake {
  // Someone who tidies up may take a file that has no claim yet for a dead one's; that costs a try.
  for (let tries = 0; tries < STAKE_TRIES; tries++) {
    const stake = tryStake(place, holder)
    if (stake !== undefined) return stake
  }
  throw new CaskyError('CASKY_IO', `files in ${LOCK} vanish while they are made: ${place.directory}`, {
    path: place.directory,
  })
}

function tryStake(place: Place, holder: LockHolder): Stake | undefined {
  const { host, beacon, self, directory } = place
  const stake: Stake = { token: newToken(host), beacons: [] }
  const nameOf = (suffix: Suffix) => lockFileName(stake.token, suffix)
  const pathOf = (suffix: Suffix) => join(directory, nameOf(suffix))
  let isStaked = false
  try {
    const abstractSocket = beacon.lightAbstract(host, self, directory, stake.token)
    if (abstractSocket !== undefined) stake.beacons.push(abstractSocket)
    const socket =
      abstractSocket === undefined ? beacon.light(host, directory, nameOf('bind'), nameOf('sock')) : undefined
    if (socket === 'taken') return undefined
    if (socket !== undefined) stake.beacons.push(socket)
    createFile(place, stake.token, 'tmp')
    const lock = beacon.lockFile(pathOf('tmp'))
    if (lock === 'taken') return undefined
    if (lock !== undefined) stake.beacons.push(lock)
    writeClaim(place, pathOf('tmp'), stake.token, {
      ...self,
      sinceMs: holder.sinceMs!,
      ...whereLies(place),
      abstractSocket: abstractSocket !== undefined,
      socket: socket !== undefined,
      fileLock: lock !== undefined,
    })
    host.rename(pathOf('tmp'), pathOf('claim'))
    isStaked = true
    return stake
  } catch (error) {
    if (systemCode(error) === 'ENOENT' && host.inspect(directory) !== undefined) return undefined
    throw error
  } finally {
    if (!isStaked) withdraw(place, stake)
  }
}

function createFile(place: Place, token: string, suffix: Suffix): void {
  place.host.close(place.host.open(join(place.directory, lockFileName(token, suffix)), 'create'))
}

function writeClaim({ host }: Place, path: string, token: string, claim: Claim): void {
  const bytes = encodeClaim(token, claim)
  const file = host.open(path, 'write')
  try {
    writeFully(host, file, bytes, 0, bytes.length, 0)
  } finally {
    host.close(file)
  }
}

function* outlastRivals(place: Place, token: string): Generator<LockWait, void, Evidence> {
  let waitedMs = 0
  let pauseMs = 1
  for (;;) {
    const rival = yield* findRival(place, token)
    if (rival === undefined) return
    if (waitedMs >= RIVAL_WAIT_MS) throw lockedError(place.store, rival)
    yield { kind: 'sleep', ms: pauseMs }
    waitedMs += pauseMs
    pauseMs = Math.min(pauseMs * 2, PAUSE_MS_MAX)
  }
}

/** Tidies up after the dead. Returns a rival that has to withdraw; throws where that is for us to do. */
function* findRival(place: Place, token: string): Generator<LockWait, LockHolder | undefined, Evidence> {
  let rival: LockHolder | undefined
  let isOwnListed = false
  for (const [other, listed] of listTokens(place)) {
    if (other === token) {
      isOwnListed = listed.has('claim')
      continue
    }
    const verdict: Verdict = yield* judge(place, other, listed)
    // It may have got further since it was listed; but one without a claim in the list may be alive.
    if (verdict.evidence === 'dead') removeFiles(place, other, listed.has('claim') ? SUFFIXES : listed)
    if (!listed.has('claim') || verdict.evidence === 'dead' || verdict.evidence === 'gone') continue
    const isOpen = listed.has('held')
    const holder = holderOf(place, other, isOpen, verdict)
    if (isOpen || other < token || verdict.evidence === 'unknown') throw lockedError(place.store, holder)
    rival = holder
  }
  if (!isOwnListed) {
    const message = `the own claim was removed while the store was being opened: ${place.directory}`
    throw new CaskyError('CASKY_IO', message, { path: place.directory })
  }
  return rival
}

function withdraw(place: Place, { token, beacons }: Stake): void {
  removeFiles(place, token, ['held', 'tmp', 'claim'])
  for (const beacon of beacons) beacon.release()
  removeFiles(place, token, ['sock', 'bind'])
}

const NOT_WRITABLE = new Set(['EACCES', 'EPERM', 'EROFS'])

function describeFailure({ directory, store }: Pick<Place, 'directory' | 'store'>, error: unknown): unknown {
  const code = systemCode(error)
  if (code === undefined || isCaskyError(error)) return error
  if (!NOT_WRITABLE.has(code)) return ioError('take the lock', directory, error)
  const message = `the directory can't be written to (${code}); to read only, open with readOnly: true: ${store}`
  return new CaskyError('CASKY_IO', message, { path: directory, cause: error })
}
