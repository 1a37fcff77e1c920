// Check and repair of a store that is not open, step by step: what they may be pointed at, and what they report.
import type { CheckProgress } from './check'
import { CaskyError, isCaskyError } from './errors'
import { isOwnName, join, MANIFEST, MANIFEST_NEXT, segmentIdOf } from './files'
import { REMEDIES_OF_NAMES } from './findings'
import { type Damage, Health, type TornTail } from './health'
import type { Beacon } from './host/beacon'
import type { Host } from './host/host'
import type { Evidence } from './host/machine'
import { Kernels } from './kernels'
import { acquireLock, type LockWait } from './lock'
import { listOrUndefined, notFound, storePath } from './open'
import { checkNames, progressAndSignal } from './options'
import { rebuildCaches } from './rebuild'
import { type RepairProgress, type RepairReport, repair } from './repair'
import type { ManifestState } from './rollcall'
import { retold } from './steps'
import { manifestStamp, survey } from './survey'

export interface CheckOptions {
  onProgress?: (progress: CheckProgress) => void
  signal?: AbortSignal
}

export interface RepairOptions {
  onProgress?: (progress: RepairProgress) => void
  signal?: AbortSignal
}

export interface CheckReport {
  /** No damage. Torn tails and leftovers don't count against it. */
  ok: boolean
  damage: Damage[]
  tornTails: TornTail[]
  /** What the store has, as far as it can be read. */
  segments: number
  records: number
  bytes: number
  /** older: it was put back from an earlier copy, and segments are there that it doesn't name */
  manifest: ManifestState
  /** Files that a crash left behind and that hold nothing of their own; the next writer removes them. */
  leftovers: string[]
}

/** A writer may change the list of segments while it is read, and what is missing then was never damaged. */
const ATTEMPTS = 5

export function* checkSteps(host: Host, path: unknown): Generator<CheckProgress, CheckReport> {
  const { report } = yield* surveySteps(host, path)
  return report
}

/** The same, with all that is known of the damage. */
export function* surveySteps(
  host: Host,
  path: unknown,
): Generator<CheckProgress, { report: CheckReport; health: Health }> {
  const directory = storeDirectory(host, path)
  const kernels = new Kernels()
  for (let attempt = 1; ; attempt++) {
    const stamp = manifestStamp(host, kernels, directory)
    const health = new Health()
    let found: CheckReport | undefined
    let failure: unknown
    try {
      found = yield* surveyOnce(host, kernels, directory, health)
    } catch (error) {
      // Whoever asks for an end gets it.
      if (!isCaskyError(error) || error.code === 'CASKY_ABORTED') throw error
      failure = error
    }
    if (found?.ok === true) return { report: found, health }
    const hasChanged = manifestStamp(host, kernels, directory) !== stamp
    if (hasChanged && attempt < ATTEMPTS) continue
    if (found === undefined) throw failure
    return hasChanged ? withoutNames(found) : { report: found, health }
  }
}

/** Without what the files seem to be: a writer changes that faster than it can be looked at. */
function withoutNames(found: CheckReport): { report: CheckReport; health: Health } {
  const damage = found.damage.filter(({ remedy }) => !REMEDIES_OF_NAMES.has(remedy))
  return {
    report: { ...found, damage, ok: damage.length === 0 },
    health: Health.of(damage, found.tornTails),
  }
}

function* surveyOnce(
  host: Host,
  kernels: Kernels,
  directory: string,
  health: Health,
): Generator<CheckProgress, CheckReport> {
  const steps = survey(host, kernels, directory, health, true)
  const told = retold(steps, (progress): CheckProgress => ({ phase: 'check', ...progress }))
  const { segments, leftovers, manifestState } = yield* told
  const next = join(directory, MANIFEST_NEXT)
  const { damage, tornTails } = health.report()
  return {
    ok: damage.length === 0,
    damage,
    tornTails,
    segments: segments.filter(({ file }) => file !== undefined).length,
    records: segments.reduce((sum, { read }) => sum + read.records, 0),
    bytes: segments.reduce((sum, { read }) => sum + read.bytes, 0),
    manifest: manifestState,
    leftovers: [
      ...leftovers.map((file) => file.path),
      ...(host.inspect(next)?.kind === 'file' ? [next] : []),
    ],
  }
}

export function* repairSteps(
  host: Host,
  beacon: Beacon,
  path: unknown,
): Generator<LockWait | RepairProgress, RepairReport, Evidence> {
  const directory = storeDirectory(host, path)
  const lock = yield* acquireLock(host, beacon, directory)
  try {
    const report = yield* repair(host, directory, new Health())
    if (!report.wasSound) yield* index(host, directory)
    return report
  } finally {
    lock.release()
  }
}

/** Never fails, since nobody needs it: whatever comes between leaves a sound store with less of it. */
function* index(host: Host, directory: string): Generator<RepairProgress, void> {
  try {
    const steps = rebuildCaches(host, directory)
    yield* retold(steps, (progress): RepairProgress => ({ ...progress, phase: 'index' }))
  } catch {
    // As said above.
  }
}

/** The path of a directory that a store is in, or what is left of one. */
function storeDirectory(host: Host, path: unknown): string {
  const directory = storePath(path)
  const names = listOrUndefined(host, directory)
  if (names?.some((name) => name === MANIFEST || segmentIdOf(name) !== undefined)) return directory
  const foreign = names?.find((name) => !isOwnName(name))
  if (foreign === undefined) throw notFound(directory)
  throw new CaskyError(
    'CASKY_NOT_A_STORE',
    `the directory belongs to something else (it holds '${foreign}' and no ${MANIFEST}): ${directory}`,
    { path: directory, got: foreign },
  )
}

/** The options that both take, checked. */
export function upkeepOptions<P>(
  options: unknown,
  of: string,
): { onProgress: ((progress: P) => void) | undefined; signal: AbortSignal | undefined } {
  return progressAndSignal<P>(checkNames(options, ['onProgress', 'signal'], of))
}
