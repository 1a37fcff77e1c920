// From a path to an open store, step by step: lock, manifest, recovery. Each step that may take long yields.
import { BlockCache } from './cache'
import { Caretaker } from './caretaker'
import { Catalog, type Segment } from './catalog'
import { checkSegments } from './check'
import { durableBytes } from './durable'
import { CaskyError, ioError, isCaskyError, systemCode } from './errors'
import { isOwnName, join, MANIFEST, parentOf, resolve, segmentIdOf } from './files'
import { Health } from './health'
import type { Beacon } from './host/beacon'
import type { FileHandle, Host } from './host/host'
import type { Evidence } from './host/machine'
import { syncNames, syncPath } from './io'
import { Jobs } from './jobs'
import { Kernels } from './kernels'
import { PieceDamaged } from './keydir/keydir'
import { Ledger } from './ledger'
import { removeLeftovers, reportUnnamed } from './leftovers'
import { acquireLock, type Lock, type LockWait } from './lock'
import { Log } from './log'
import { Lookup } from './lookup'
import { type Manifest, publishManifest, readManifest, SECRET_BYTES } from './manifest'
import type { Memtable } from './memtable'
import { Merger } from './merge/merger'
import type { Settings } from './options'
import { Pace } from './pace'
import { STRIDE } from './pass'
import { Pins } from './pins'
import { directoryIdentity, Publisher } from './publisher'
import { Reader } from './reader'
import { type OpenProgress, type RecoveryReport, recover } from './recovery'
import { Replaced } from './replaced'
import { reread } from './reread'
import { DAMAGED } from './restore'
import { ROOM_BYTES } from './room'
import { SEGMENT_HEADER_BYTES, STORE_ID_BYTES } from './segment'
import { inTurns } from './steps'
import { Strangers } from './strangers'
import { manifestStamp } from './survey'
import { Writer } from './writer'

/** Everything an open store is made of. */
export interface Rooms {
  host: Host
  kernels: Kernels
  catalog: Catalog
  ledger: Ledger
  health: Health
  cache: BlockCache
  reader: Reader
  lookup: Lookup
  manifest: Manifest
  recovery: RecoveryReport
  /** undefined where the store was opened read-only */
  writing:
    | { lock: Lock; log: Log; writer: Writer; jobs: Jobs; merger: Merger; caretaker: Caretaker }
    | undefined
  /** Who still reads from segments that a merge may replace. */
  pins: Pins
  /** Segments that were merged, and are still read from. */
  replaced: Replaced
  /** The pace of work beside reads and writes, at so many bytes a second; 0: as many as there are. */
  pace(maxBytesPerSecond: number, isAwaited?: boolean): Pace
  /** Those that were not released. */
  snapshots: Set<{ readonly sequence: number; readonly takenAtMs: number }>
  /** The sequence number of the last write. */
  lastSequence(): number
}

export type OpenStep = LockWait | OpenProgress

export function* openSteps(
  host: Host,
  beacon: Beacon,
  path: unknown,
  settings: Settings,
): Generator<OpenStep, Rooms, Evidence> {
  const directory = storePath(path)
  prepareDirectory(host, directory, settings)
  if (settings.readOnly) return yield* openBeside(host, directory, settings)
  const lock = yield* acquireLock(host, beacon, directory)
  try {
    return yield* openToWrite(host, directory, settings, lock)
  } catch (error) {
    lock.release()
    throw error
  }
}

function* openToWrite(
  host: Host,
  directory: string,
  settings: Settings,
  lock: Lock,
): Generator<OpenProgress, Rooms> {
  try {
    return yield* openRooms(host, directory, settings, { lock })
  } catch (error) {
    // Met where what lies behind the checkpoint was applied to its tables: so all of the log is read.
    if (!(error instanceof PieceDamaged)) throw error
    return yield* openRooms(host, directory, settings, { lock, unfit: DAMAGED })
  }
}

/** A writer may merge or rotate while the segments are read, and what is missing then was never lost. */
const ATTEMPTS = 20

function* openBeside(host: Host, directory: string, settings: Settings): Generator<OpenProgress, Rooms> {
  const kernels = new Kernels()
  const strangers = new Strangers(host, kernels)
  for (let attempt = 1; ; attempt++) {
    const stamp = manifestStamp(host, kernels, directory)
    let rooms: Rooms | undefined
    let failure: unknown
    try {
      rooms = yield* openRooms(host, directory, settings, { strangers })
      if (rooms.health.damage.length === 0) return rooms
    } catch (error) {
      if (!isCaskyError(error) || error.code !== 'CASKY_CORRUPT') throw error
      failure = error
    }
    const isSame = manifestStamp(host, kernels, directory) === stamp
    if (attempt < ATTEMPTS && (!isSame || strangers.trust())) {
      rooms?.catalog.closeFiles()
      continue
    }
    if (rooms === undefined) throw failure
    return rooms
  }
}

export function storePath(path: unknown, of = 'a store'): string {
  if (typeof path !== 'string' || path === '' || path.includes('\0')) {
    throw new CaskyError('CASKY_INVALID_PATH', `the path of ${of} is a string that names a directory`, {
      expected: 'string',
      got: path,
    })
  }
  return resolve(path)
}

/** Makes sure that there is a directory, and that it is casky's or may become so. */
function prepareDirectory(host: Host, directory: string, settings: Settings): void {
  const names = listOrUndefined(host, directory)
  if (names === undefined) {
    if (settings.readOnly || !settings.createIfMissing) throw notFound(directory)
    makeDirectories(host, directory)
    return
  }
  if (names.includes(MANIFEST)) {
    if (settings.errorIfExists) throw exists(directory)
    return
  }
  // A crash while the store was made may have left the header of its first segment, and not the manifest.
  if (names.some((name) => holdsData(host, directory, name))) {
    throw new CaskyError(
      'CASKY_CORRUPT',
      `the manifest is missing beside its segments; run \`casky repair\` on it: ${join(directory, MANIFEST)}`,
      { path: join(directory, MANIFEST) },
    )
  }
  const foreign = names.find((name) => !isOwnName(name))
  if (foreign !== undefined) {
    throw new CaskyError(
      'CASKY_NOT_A_STORE',
      `the directory belongs to something else (it holds '${foreign}' and no ${MANIFEST}); give a store a directory of its own: ${directory}`,
      { path: directory, got: foreign },
    )
  }
  if (settings.readOnly || !settings.createIfMissing) throw notFound(directory)
}

function holdsData(host: Host, directory: string, name: string): boolean {
  if (segmentIdOf(name) === undefined) return false
  const found = host.inspect(join(directory, name))
  return found !== undefined && (found.kind !== 'file' || found.bytes > SEGMENT_HEADER_BYTES)
}

function exists(directory: string): CaskyError {
  return new CaskyError('CASKY_EXISTS', `a store is here already, and errorIfExists is set: ${directory}`, {
    path: directory,
  })
}

export function notFound(directory: string): CaskyError {
  return new CaskyError('CASKY_NOT_FOUND', `there is no store here: ${directory}`, { path: directory })
}

/** What is wrong with the machine, and not with the path. */
const IN_THE_WAY = new Set(['EMFILE', 'ENFILE', 'EIO', 'ENOMEM'])

export function listOrUndefined(host: Host, directory: string): string[] | undefined {
  try {
    return host.list(directory)
  } catch (cause) {
    const code = systemCode(cause)
    if (code === 'ENOENT') return undefined
    // The path may be fine.
    if (code !== undefined && IN_THE_WAY.has(code)) throw ioError('read the directory', directory, cause)
    const why =
      code === 'ENOTDIR' ? 'a store is a directory, and this is not one' : `it can't be read (${code})`
    throw new CaskyError('CASKY_INVALID_PATH', `${why}: ${directory}`, { path: directory, cause })
  }
}

// May not be read, or has nothing that could be pending.
export const NOT_TO_BE_SYNCED = new Set(['EACCES', 'EPERM', 'EROFS'])

/**
 * Makes the names of a directory and of all above it durable. Which of them this process has made doesn't matter: one
 * before it may have died in between.
 */
function syncWayTo(host: Host, directory: string): void {
  const above = parentOf(directory)
  if (above === directory) return
  syncWayTo(host, above)
  try {
    host.syncDirectory(above)
  } catch (cause) {
    const code = systemCode(cause)
    // Deno's refusal has no code.
    if (code !== undefined && !NOT_TO_BE_SYNCED.has(code)) throw ioError('sync the directory', above, cause)
  }
}

/** Makes the directory and those above it. */
export function makeDirectories(host: Host, directory: string): void {
  try {
    const missing = [directory]
    for (let above = parentOf(directory); host.inspect(above) === undefined; above = parentOf(above)) {
      missing.push(above)
    }
    for (const each of missing.reverse()) host.makeDirectory(each)
  } catch (cause) {
    const code = systemCode(cause)
    if (code === 'ENOTDIR' || code === 'EEXIST') {
      throw new CaskyError('CASKY_INVALID_PATH', `a part of this path is a file: ${directory}`, {
        path: directory,
        cause,
      })
    }
    throw ioError('make the directory', directory, cause)
  }
}

function* openRooms(
  host: Host,
  directory: string,
  settings: Settings,
  { lock, strangers, unfit }: { lock?: Lock; strangers?: Strangers; unfit?: string },
): Generator<OpenProgress, Rooms> {
  const cache = new BlockCache(settings.cacheBytes)
  const kernels = new Kernels(settings.cacheBytes)
  const catalog = new Catalog(host, directory)
  const health = new Health()
  const ledger = new Ledger(kernels, catalog)
  const pins = new Pins()
  const replaced = new Replaced({ catalog, cache, pins })
  // What a merge would keep waiting: reads, and groups of writes.
  const operations = (): number => cache.hits + cache.misses + ledger.groups
  const pace = (maxBytesPerSecond: number, isAwaited?: boolean): Pace =>
    new Pace(host, maxBytesPerSecond, operations, isAwaited)
  const rooms = { host, kernels, catalog, ledger, health, cache, pins, replaced, pace }
  try {
    const found = readManifest(host, kernels, directory)
    // Looked at again under the lock: another process may have been first.
    if (found !== undefined && settings.errorIfExists) throw exists(directory)
    const manifest = found ?? create(host, kernels, directory, lock)
    kernels.keepSecret(manifest.secret)
    if (strangers !== undefined) catalog.besideWriter(strangers)
    const lengthOf = (segment: Segment, file: FileHandle) => durableBytes(host, segment, file)
    const isLazy = lock !== undefined
    const recovery = yield* recover(
      { ...rooms, lengthOf: isLazy ? undefined : lengthOf, isLazy, unfit },
      manifest,
    )
    mendLater(rooms, manifest, recovery)
    if (lock === undefined) {
      catalog.withHandles(() => reportUnnamed(host, kernels, directory, manifest, health))
    }
    checkStrict(settings, health)
    const reader = new Reader(rooms)
    const lookupOf = (memtable: Memtable | undefined) =>
      new Lookup({ host, kernels, ledger, reader }, memtable)
    if (lock === undefined)
      return {
        ...rooms,
        reader,
        lookup: lookupOf(undefined),
        manifest,
        recovery,
        writing: undefined,
        snapshots: new Set(),
        lastSequence: () => catalog.lastSequence,
      }
    // The manifest may have its name in memory only, from a process that died before it synced the directory.
    catalog.withHandles(() => syncNames(host, directory))
    catalog.withHandles(() => removeLeftovers(host, kernels, directory, manifest))
    const { maxSegmentBytes, sync } = settings
    const identity = directoryIdentity(host, directory)
    const publisher = new Publisher({ host, kernels, catalog, health, manifest, identity })
    const makesRoom = sync === 'always' && maxSegmentBytes >= 2 * ROOM_BYTES
    const log = new Log(
      { host, kernels, catalog, health, ledger, publisher, maxSegmentBytes, makesRoom },
      catalog.lastSequence,
    )
    catalog.withHandles(() => secureTail(log, host, catalog))
    const writer = new Writer({ host, kernels, ledger, health, log, sync })
    const lookup = lookupOf(writer.memtable)
    const jobs = new Jobs()
    let ofJobs: Kernels | undefined
    // Made when first needed, and kept: fresh memory costs a slice more than what is done in it.
    const jobKernels = (): Kernels => {
      ofJobs ??= new Kernels()
      return ofJobs
    }
    const care = {
      ...rooms,
      manifest,
      jobKernels,
      isWriting: () => log.writtenBytes > 0,
      flush: () => writer.flush(),
      sweep: () => ledger.sweep(kernels, host.nowMs()),
    }
    const caretaker = new Caretaker(care, jobs, recovery)
    const merging = {
      ...rooms,
      publisher,
      jobKernels,
      maxSegmentBytes,
      certify: () => writer.certify(),
      allIn: () => caretaker.allIn(),
      endSegment: () => writer.endSegment(),
      onMerged: () => caretaker.consider(),
      examine: (segment: Segment) =>
        inTurns(
          checkSegments({ host, kernels: jobKernels(), health, stride: STRIDE }, catalog, [segment]),
          host.soon,
        ),
    }
    const merger = new Merger(merging, settings.merge, jobs)
    log.onSegmentEnd = () => {
      merger.consider()
      caretaker.consider()
    }
    // First what opening has left to do.
    caretaker.consider()
    merger.consider()
    const writing = { lock, log, writer, jobs, merger, caretaker }
    const lastSequence = (): number => log.nextSequence - 1
    return { ...rooms, reader, lookup, manifest, recovery, writing, snapshots: new Set(), lastSequence }
  } catch (error) {
    catalog.closeFiles()
    ledger.keydir.letGo()
    throw error
  }
}

/** From now on what is damaged in the checkpoint's tables, and was not met yet, is read from the log instead. */
function mendLater(
  { host, catalog, health, ledger }: Pick<Rooms, 'host' | 'catalog' | 'health' | 'ledger'>,
  { secret }: Manifest,
  { checkpoint }: RecoveryReport,
): void {
  const { lastSequence } = catalog
  ledger.mendBy((indexes) => {
    const made = reread({ host, catalog, health, secret, lastSequence }, indexes)
    checkpoint.reason = 'a part of it is damaged, and was read from the log instead'
    return made
  })
}

function create(host: Host, kernels: Kernels, directory: string, lock: Lock | undefined): Manifest {
  if (lock === undefined) throw notFound(directory)
  const manifest: Manifest = {
    storeId: host.random(STORE_ID_BYTES),
    generation: 1,
    createdAtMs: host.nowMs(),
    nextSegmentId: 1,
    secret: host.random(SECRET_BYTES),
    segments: [],
  }
  // First, so that where there is a manifest there is a way to it.
  syncWayTo(host, directory)
  publishManifest(host, kernels, directory, manifest)
  return manifest
}

function checkStrict(settings: Settings, health: Health): void {
  const [damage] = health.damage
  if (!settings.strict || damage === undefined) return
  throw new CaskyError(
    'CASKY_CORRUPT',
    `the store is damaged and strict is set: ${damage.reason}, at byte ${damage.offset} of ${damage.path}`,
    { path: damage.path, offset: damage.offset },
  )
}

/** What recovery read may have reached memory only, not the disk: what is served must be there to stay. */
function secureTail(log: Log, host: Host, catalog: Catalog): void {
  try {
    log.secureTail()
  } catch (error) {
    // A full disk can still be read from; the first write that there is room for tries again.
    if ((error as CaskyError).code !== 'CASKY_NO_SPACE') throw error
  }
  syncTail(host, catalog)
}

/** A cut that was made and not synced would be undone by a power cut, and bring back what was refused. */
function syncTail(host: Host, catalog: Catalog): void {
  const tail = catalog.segments.at(-1)
  if (tail === undefined || tail.state !== 'active' || host.inspect(tail.path) === undefined) return
  syncPath(host, tail.path, 'sync the recovered segment')
}
