// A claim is what a process leaves in LOCK while it writes, or wants to: who it is, and by what to tell whether it
// lives. Its files' names carry a random token and are never used again, so removing a dead claim can't hurt a live
// one. Names without a claim (`bind`, `tmp`) may vanish under a live process too: it then starts over.
import { CaskyError } from './errors'
import { join } from './files'
import type { Beacon, LockWait } from './host/beacon'
import type { Host } from './host/host'
import { type Evidence, isAllGranted, type ProcessFacts } from './host/machine'
import { readWhole } from './io'
import { printable } from './wording'

/** Who holds a store, as far as can be told: `got` of a `CASKY_LOCKED` error. */
export interface LockHolder {
  pid?: number
  /** As `node 20.20.2`. */
  runtime?: string
  hostName?: string
  sinceMs?: number
  where: 'this-process' | 'another-process' | 'another-container' | 'another-machine'
  /** False while it is still opening the store. */
  isOpen: boolean
  /** False if nothing here can tell whether it still runs. */
  isAlive: boolean
  /** The file to remove if it is certain that it does not. */
  claim?: string
}

export interface Claim extends Partial<ProcessFacts> {
  sinceMs?: number
  /** The inode of the LOCK that it was made in: a copy of the store has another, and nobody writes to it. */
  directory?: string
  /** Where that inode is; numbered anew with each start of the kernel. */
  device?: string
  abstractSocket: boolean
  socket: boolean
  fileLock: boolean
}

const CLAIM_FORMAT = 1
const CLAIM_BYTES_MAX = 65_536
const TEXT_FIELDS = [
  'runtime',
  'hostName',
  'bootId',
  'pidNamespace',
  'netNamespace',
  'startTicks',
  'directory',
  'device',
] as const

/** `bind` and `tmp` become `sock` and `claim`; `held` stands beside `claim` once the lock is won. */
export const SUFFIXES = ['held', 'tmp', 'bind', 'sock', 'claim'] as const
export type Suffix = (typeof SUFFIXES)[number]

export const newToken = (host: Host): string =>
  Array.from(host.random(16), (byte) => byte.toString(16).padStart(2, '0')).join('')

export const lockFileName = (token: string, suffix: Suffix): string => `${token}.${suffix}`

/** Everything that judging a claim takes to know of one's own side. */
export interface Place {
  host: Host
  beacon: Beacon
  self: ProcessFacts
  store: string
  /** LOCK itself. */
  directory: string
  identity: string
  /** Whether other machines may reach it. */
  shared: boolean
}

/** The files in LOCK by token; whatever else is in there is no business of the lock. */
export function listTokens({ host, directory }: Place): Map<string, Set<Suffix>> {
  const tokens = new Map<string, Set<Suffix>>()
  for (const name of host.list(directory)) {
    const [, token, suffix] = /^([0-9a-f]{32})\.(claim|held|sock|bind|tmp)$/.exec(name) ?? []
    if (token === undefined) continue
    const suffixes = tokens.get(token) ?? new Set()
    tokens.set(token, suffixes.add(suffix as Suffix))
  }
  return tokens
}

export function encodeClaim(token: string, claim: Claim): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify({ format: CLAIM_FORMAT, token, ...claim })}\n`)
}

/** `undefined` for what nobody can have written whole. Of a later format's claim, what is understood. */
/** The last moment that a Date can name. */
const DATE_MS_MAX = 8.64e15

export function parseClaim(bytes: Uint8Array): Claim | undefined {
  let fields: Record<string, unknown>
  try {
    fields = JSON.parse(new TextDecoder().decode(bytes))
    if (typeof fields !== 'object' || fields === null) return undefined
  } catch {
    return undefined
  }
  const claim: Claim = {
    abstractSocket: fields.abstractSocket === true,
    socket: fields.socket === true,
    fileLock: fields.fileLock === true,
  }
  for (const name of ['pid', 'sinceMs'] as const) {
    const value = fields[name]
    if (Number.isSafeInteger(value) && (value as number) >= 0) claim[name] = value as number
  }
  if ((claim.sinceMs ?? 0) > DATE_MS_MAX) claim.sinceMs = undefined
  for (const name of TEXT_FIELDS) {
    const value = fields[name]
    if (typeof value === 'string') claim[name] = value
  }
  return claim
}

/** Says `gone` of a file that was listed and is no longer there: withdrawn, or renamed since. */
function readClaim(place: Place, token: string, suffix: Suffix): Claim | 'gone' | 'unreadable' | 'garbage' {
  try {
    const bytes = readWhole(place.host, join(place.directory, lockFileName(token, suffix)), CLAIM_BYTES_MAX)
    return bytes === undefined ? 'gone' : (parseClaim(bytes) ?? 'garbage')
  } catch (error) {
    return (error as { code?: string }).code === 'ENOENT' ? 'gone' : 'unreadable'
  }
}

export interface Verdict {
  evidence: Evidence | 'gone'
  claim?: Claim
}

/** Judges what is listed under a token. `dead` is certain, and stays so. */
export function* judge(
  place: Place,
  token: string,
  listed: Set<Suffix>,
): Generator<LockWait, Verdict, Evidence> {
  const suffix = listed.has('claim') ? 'claim' : listed.has('tmp') ? 'tmp' : undefined
  if (suffix === undefined) {
    // `held` alone is no claim, and says nothing.
    const socket = listed.has('sock') ? 'sock' : listed.has('bind') ? 'bind' : undefined
    return { evidence: socket === undefined ? 'unknown' : yield probe(place, token, socket) }
  }
  const claim = readClaim(place, token, suffix)
  if (claim === 'gone') return { evidence: 'gone' }
  if (claim === 'garbage' || claim === 'unreadable') {
    if (listed.has('sock')) return { evidence: yield probe(place, token, 'sock') }
    // It may be about to be written.
    if (place.beacon.testAbstract(place.host, token) === 'alive') return { evidence: 'alive' }
    return { evidence: claim === 'garbage' ? 'dead' : 'unknown' }
  }
  return { claim, evidence: yield* judgeClaim(place, token, suffix, claim) }
}

function* judgeClaim(
  place: Place,
  token: string,
  suffix: Suffix,
  claim: Claim,
): Generator<LockWait, Evidence, Evidence> {
  const { host, beacon, self } = place
  const bothBooted = claim.bootId !== undefined && self.bootId !== undefined
  const isSameBoot = bothBooted && claim.bootId === self.bootId
  // From another machine, a live socket looks just as a dead one does from this.
  if (place.shared && !isSameBoot) return 'unknown'
  if (claim.abstractSocket) {
    // It would answer for the claim's copies, too.
    if (isCopy(place, claim, isSameBoot)) return 'dead'
    // From another namespace it can't be seen. A killed one may then be told from its pid, or stays in the way until
    // its claim is removed by hand: so it is where one on the machine itself is followed by one in a container.
    if (isSameBoot && claim.netNamespace !== undefined && claim.netNamespace === self.netNamespace) {
      const evidence = beacon.testAbstract(host, token)
      if (evidence !== 'unknown') return evidence
    }
  }
  if (claim.socket) {
    const evidence: Evidence = yield probe(place, token, 'sock')
    if (evidence !== 'unknown') return evidence
  }
  if (claim.fileLock) {
    const evidence = beacon.testFile(host, join(place.directory, lockFileName(token, suffix)))
    if (evidence !== 'unknown') return evidence
  }
  if (isCopy(place, claim, isSameBoot)) return 'dead'
  if (bothBooted && !isSameBoot) return 'dead'
  return beacon.testProcess(host, self, claim)
}

/** Where a store is: a later look tells as much as the last one did, for as long as the inode is in use. */
export function whereLies({ host, directory }: Place): { directory?: string; device?: string } {
  const [device, inode] = host.inspect(directory)?.identity.split(':') ?? []
  return inode === undefined ? {} : { directory: inode, device: device! }
}

function isCopy(place: Place, claim: Claim, isSameBoot: boolean): boolean {
  const here = whereLies(place)
  const differs = (name: 'directory' | 'device') =>
    claim[name] !== undefined && here[name] !== undefined && claim[name] !== here[name]
  // A shared file system may be there twice. Of a local one, that is a snapshot, or another where the number is taken.
  return differs('directory') || (isSameBoot && !place.shared && differs('device'))
}

function probe(place: Place, token: string, suffix: Suffix): LockWait {
  return { kind: 'probe', directory: place.directory, name: lockFileName(token, suffix) }
}

/**
 * Removes files of a dead token. The claim goes last, so that a crash in between leaves it for the next one to finish.
 * What can't be removed stays: it is dead all the same.
 */
export function removeFiles(place: Place, token: string, which: Iterable<Suffix>): void {
  const suffixes = new Set(which)
  for (const suffix of SUFFIXES) {
    if (!suffixes.has(suffix)) continue
    try {
      place.host.remove(join(place.directory, lockFileName(token, suffix)))
    } catch {}
  }
}

export function holderOf(place: Place, token: string, isOpen: boolean, verdict: Verdict): LockHolder {
  const { claim, evidence } = verdict
  const holder: LockHolder = {
    where: whereIs(place.self, claim, evidence === 'alive'),
    isOpen,
    isAlive: evidence === 'alive',
    claim: join(place.directory, lockFileName(token, 'claim')),
  }
  if (claim?.pid !== undefined) holder.pid = claim.pid
  // Whoever can write to the directory may have put anything there.
  if (claim?.runtime !== undefined) holder.runtime = printable(claim.runtime)
  if (claim?.hostName !== undefined) holder.hostName = printable(claim.hostName)
  if (claim?.sinceMs !== undefined) holder.sinceMs = claim.sinceMs
  return holder
}

function whereIs(self: ProcessFacts, claim: Claim | undefined, isAlive: boolean): LockHolder['where'] {
  const differs = (name: 'bootId' | 'pidNamespace' | 'hostName') =>
    claim?.[name] !== undefined && self[name] !== undefined && claim[name] !== self[name]
  if (differs('bootId') && !isAlive) return 'another-machine'
  if (differs('pidNamespace') || differs('bootId')) return 'another-container'
  if (claim?.pidNamespace === undefined && differs('hostName')) return 'another-container'
  const isSelf =
    claim?.pidNamespace !== undefined && claim.pid === self.pid && claim.startTicks === self.startTicks
  return isSelf ? 'this-process' : 'another-process'
}

/** One line: who holds it, since when, and what to do. */
export function lockedError(store: string, holder: LockHolder): CaskyError {
  const { pid, runtime, hostName, sinceMs, where, isOpen, isAlive, claim } = holder
  const process = `process ${pid ?? 'unknown'}${runtime === undefined ? '' : ` (${runtime})`}`
  const machine = hostName === undefined ? '' : ` ${hostName}`
  const since = sinceMs === undefined ? '' : ` since ${new Date(sinceMs).toISOString()}`
  const who = {
    'this-process': `this very process, ${pid}${runtime === undefined ? '' : ` (${runtime})`}`,
    'another-process': `${process}${machine === '' ? '' : ` on${machine}`}`,
    'another-container': `${process} in another container${machine}`,
    'another-machine': `${process} on another machine${machine}`,
  }[where]
  const hint = isAllGranted() ? '' : ' (Deno could with --allow-all)'
  const state = isOpen ? 'is open for writing' : 'is being opened for writing'
  const advice = isAlive
    ? where === 'this-process'
      ? 'use that handle or close it first'
      : 'close it there first'
    : `whether that still runs can't be told from here${hint}; if it certainly does not, remove ${claim}`
  const message = `the store ${state} in ${who}${since}; ${advice}, or open with readOnly: true: ${store}`
  return new CaskyError('CASKY_LOCKED', message, { path: store, got: holder })
}
