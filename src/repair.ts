// Makes a sound store of one that is damaged. Nothing of the old state is touched before the new one is whole on disk:
// damaged segments are copied, as far as they can be read, the originals are given a second name, and then one
// manifest puts the new in the place of the old. A crash before it leaves the old state, one after it the new.
import { type CopySource, SegmentCopy } from './copier'
import { CaskyError } from './errors'
import { join, MANIFEST, SEGMENT_ID_MAX, segmentName } from './files'
import { REMEDY_BATCH, REMEDY_MISSING, REMEDY_UNKNOWN, REMEDY_UNREADABLE, REMEDY_VALUE } from './findings'
import type { Damage, Health, TornTail } from './health'
import type { Host } from './host/host'
import { syncPath, tryRemove } from './io'
import { Kernels } from './kernels'
import type { Place } from './keydir/keydir'
import { type Manifest, type ManifestEntry, publishManifest, SECRET_BYTES } from './manifest'
import { keepOriginals, type Originals } from './originals'
import { openToRead, readRecords } from './pass'
import type { Sink } from './replay'
import { SEGMENT_HEADER_BYTES, type SegmentHeader, STORE_ID_BYTES } from './segment'
import { retold } from './steps'
import { type Survey, type Surveyed, type SurveyProgress, survey } from './survey'

/**
 * How far a repair has come: first it reads everything, then it copies what is damaged. In the end, when the store is
 * sound again, it makes hints and a checkpoint of it.
 */
export interface RepairProgress extends SurveyProgress {
  phase: 'check' | 'copy' | 'index'
}

export interface RewrittenSegment {
  from: string
  /** undefined where nothing of it could be read. */
  to: string | undefined
  records: number
}

export interface RepairReport {
  /** Nothing was wrong, and nothing was changed. */
  wasSound: boolean
  /** What was found that cost data: writes that are not in the store any more. */
  lost: Damage[]
  /** What was found besides, and cost nothing. */
  mended: Damage[]
  tornTails: TornTail[]
  rewritten: RewrittenSegment[]
  /** Rebuilt from what the segments say of themselves. */
  isManifestRebuilt: boolean
  /** The directory in which everything that was replaced stands as it was; undefined where nothing was. */
  originals: string | undefined
  /** In the store as it is now. */
  segments: number
  records: number
  bytes: number
}

const NO_PREVIOUS = { id: 0, bytes: 0, lastSequence: 0, isSealed: false }
const LOSSES = new Set([REMEDY_VALUE, REMEDY_UNREADABLE, REMEDY_BATCH, REMEDY_MISSING, REMEDY_UNKNOWN])

/** Where the numbers tell that no write was hit, none was lost. */
function isLoss({ remedy, firstSequence, lastSequence }: Damage): boolean {
  if (!LOSSES.has(remedy)) return false
  if (remedy === REMEDY_UNREADABLE && firstSequence === undefined) return false
  return firstSequence === undefined || lastSequence === undefined || lastSequence >= firstSequence
}

/** Its end may be in memory only, and syncing it prove nothing: it is copied (see relog). */
function isUncertified({ expected, read }: Surveyed): boolean {
  return expected.bytes === undefined && (read.certifiedBytes ?? read.bytes) < read.bytes
}

export function* repair(
  host: Host,
  directory: string,
  health: Health,
): Generator<RepairProgress, RepairReport> {
  return yield* new Repair(host, directory, health).run()
}

/** Copies what is whole; what is known to be damaged leaves a delete in its place. */
class CopySink implements Sink {
  constructor(
    private readonly copy: SegmentCopy,
    private readonly source: CopySource,
  ) {}

  put(_low: number, _high: number, _key: Uint8Array, _at: number, _bytes: number, place: Place): void {
    if (place.isDamaged) this.copy.bury(this.source, place, true)
    else this.copy.append(this.source, place)
  }

  remove(low: number, high: number, key: Uint8Array, at: number, bytes: number, place: Place): void {
    this.put(low, high, key, at, bytes, place)
  }

  broken(_low: number, _high: number, _key: Uint8Array, _at: number, _bytes: number, place: Place): void {
    this.copy.bury(this.source, place, false)
  }
}

class Repair {
  private readonly kernels = new Kernels()
  /** The copies' own: one of them is made at a time. */
  private readonly copyKernels = new Kernels()
  private readonly copies: SegmentCopy[] = []
  private readonly rewritten: RewrittenSegment[] = []
  private nextSegmentId = 0
  private storeId = new Uint8Array(STORE_ID_BYTES)

  constructor(
    private readonly host: Host,
    private readonly directory: string,
    private readonly health: Health,
  ) {}

  *run(): Generator<RepairProgress, RepairReport> {
    const { host, kernels, directory, health } = this
    const found = yield* this.look()
    if (health.damage.length === 0) return this.report(found.segments.map(entryOf), true, false, undefined)
    for (const segment of found.segments) segment.isDamaged ||= isUncertified(segment)
    if (found.storeId === undefined && !found.segments.some(({ file }) => file !== undefined)) {
      throw new CaskyError(
        'CASKY_CORRUPT',
        `nothing here can be read as a part of a store, so nothing was changed: ${directory}`,
        { path: directory },
      )
    }
    this.nextSegmentId = found.nextSegmentId
    this.storeId = new Uint8Array(found.storeId ?? host.random(STORE_ID_BYTES))
    const generation = found.manifest?.generation ?? lostGeneration(found)
    let originals: Originals | undefined
    let manifest: Manifest
    try {
      const segments = yield* this.replace(found, generation)
      manifest = {
        storeId: this.storeId,
        generation: generation + 1,
        createdAtMs: found.manifest?.createdAtMs ?? createdAtMs(found, host.nowMs()),
        nextSegmentId: this.nextSegmentId,
        // Another one: who follows the store sees by it that what was known may not hold any more.
        secret: host.random(SECRET_BYTES),
        segments,
      }
      // Which syncs the names of the copies too.
      originals = keepOriginals(host, directory, this.replacedNames(found))
      publishManifest(host, kernels, directory, manifest)
    } catch (error) {
      // After a failed directory sync either manifest may be in force: both must find what they name.
      if ((error as CaskyError).code !== 'CASKY_POISONED') {
        this.takeBack()
        originals?.discard()
      }
      throw error
    }
    this.removeReplaced(found)
    return this.report(manifest.segments, false, found.manifest === undefined, originals.path)
  }

  private *look(): Generator<RepairProgress, Survey> {
    const { host, kernels, directory, health } = this
    const steps = survey(host, kernels, directory, health)
    return yield* retold(steps, (progress): RepairProgress => ({ phase: 'check', ...progress }))
  }

  /** The segments as they will be: those that are whole as they are, the others copied. */
  private *replace(found: Survey, generation: number): Generator<RepairProgress, ManifestEntry[]> {
    const { host } = this
    const { segments } = found
    const entries: ManifestEntry[] = []
    const damaged = segments.filter(({ isDamaged, file }) => isDamaged && file !== undefined)
    const bytesTotal = damaged.reduce((sum, { file }) => sum + (file?.bytes ?? 0), 0)
    let bytesDone = 0
    for (const segment of segments) {
      if (segment.file === undefined) {
        this.keepEndBefore(segment, entries, generation)
        continue
      }
      if (!segment.isDamaged) {
        // What a crash left unsynced must be on disk before a manifest says how long it is.
        if (segment.expected.bytes === undefined) syncPath(host, segment.read.path, 'sync a segment')
        entries.push(entryOf(segment))
        continue
      }
      const before = bytesDone
      const tell = (done: number): RepairProgress => {
        const place = { segment: this.rewritten.length + 1, segments: damaged.length }
        return { phase: 'copy', ...place, bytesDone: before + done, bytesTotal }
      }
      const entry = yield* retold(this.rewrite(segment, generation), tell)
      if (entry === undefined) this.keepEndBefore(segment, entries, generation)
      else entries.push(entry)
      bytesDone += segment.file.bytes
    }
    this.keepLastSequence(segments, entries, generation)
    return entries
  }

  /** Copies what can be read of a segment; undefined where nothing can. */
  private *rewrite(segment: Surveyed, generation: number): Generator<number, ManifestEntry | undefined> {
    const { host, kernels } = this
    const { header, path, lastSequence } = segment.read
    const { firstSequence, salt } = header
    // What stands in for others still does.
    const isFolded = header.copies?.isFolded
    const copy = this.startCopy(header, { generation, segmentId: header.id, isFolded })
    const file = openToRead(host, path)
    try {
      const source = { file, path, salt, firstSequence }
      // What is wrong is known, and not told twice: only what has come since is news.
      const rooms = { host, kernels, health: this.health }
      const sink = new CopySink(copy, source)
      yield* readRecords(rooms, { ...segment.read }, file, segment.expected, sink, host.nowMs())
    } finally {
      host.close(file)
    }
    const isEmpty = copy.records === 0
    this.rewritten.push({ from: path, to: isEmpty ? undefined : copy.path, records: copy.records })
    if (isEmpty) {
      copy.discard()
      return undefined
    }
    // A number that does not fit into a seal was made up.
    const isCounted = lastSequence - firstSequence <= 0xffff_ffff
    return copy.finish(isCounted ? Math.max(lastSequence, copy.lastSequence) : copy.lastSequence)
  }

  /** What the header of the original says of the segment before, no other may tell. */
  private startCopy(
    { firstSequence, previous }: Pick<SegmentHeader, 'firstSequence' | 'previous'>,
    copies: SegmentHeader['copies'],
  ): SegmentCopy {
    const { host, directory, storeId } = this
    const id = this.nextSegmentId
    if (id > SEGMENT_ID_MAX) {
      throw new CaskyError(
        'CASKY_IO',
        `no segment id is left; move files away that don't belong here, or export the store: ${directory}`,
        { path: directory },
      )
    }
    const salt = new DataView(host.random(4).buffer).getUint32(0)
    const header = { storeId, id, salt, createdAtMs: host.nowMs(), firstSequence, previous, copies }
    const path = join(directory, segmentName(id))
    const copy = SegmentCopy.create(host, path, header, this.copyKernels)
    this.nextSegmentId++
    this.copies.push(copy)
    return copy
  }

  /** No sequence number is given twice: where the segments that are left don't tell the last one, an empty one does. */
  private keepLastSequence(segments: Surveyed[], entries: ManifestEntry[], generation: number): void {
    let given = 0
    for (const { read, entry } of segments) {
      given = Math.max(given, read.lastSequence, entry.lastSequence, entry.header.firstSequence - 1)
    }
    const known = entries.reduce((last, { lastSequence }) => Math.max(last, lastSequence), 0)
    if (given <= known || given >= Number.MAX_SAFE_INTEGER) return
    const header = { firstSequence: given + 1, previous: NO_PREVIOUS }
    entries.push(this.startCopy(header, { generation, segmentId: 0 }).finish())
  }

  /**
   * In the place of a segment of which nothing is left: an empty one, where only the header told the end of the one
   * before. Without it what is cut off there would come back once the manifest is lost.
   */
  private keepEndBefore({ read: { header } }: Surveyed, entries: ManifestEntry[], generation: number): void {
    const { id, isSealed } = header.previous
    if (id === 0 || isSealed) return
    entries.push(this.startCopy(header, { generation, segmentId: header.id }).finish())
  }

  /** Files whose name goes, and the manifest. */
  private replacedNames(found: Survey): string[] {
    const names = this.goingNames(found)
    return this.host.inspect(join(this.directory, MANIFEST)) === undefined ? names : [MANIFEST, ...names]
  }

  private goingNames({ segments, aside }: Survey): string[] {
    const damaged = segments.filter(({ isDamaged }) => isDamaged).map(({ file }) => file)
    return [...damaged, ...aside].flatMap((file) => (file === undefined ? [] : [file.name]))
  }

  private removeReplaced(found: Survey): void {
    const { host, directory } = this
    const names = [...this.goingNames(found), ...found.leftovers.map(({ name }) => name)]
    for (const name of names) tryRemove(host, join(directory, name))
    try {
      host.syncDirectory(directory)
    } catch {
      // Names that come back are removed by the next open.
    }
  }

  private takeBack(): void {
    for (const copy of this.copies) {
      copy.discard()
      tryRemove(this.host, copy.path)
    }
  }

  private report(
    entries: ManifestEntry[],
    wasSound: boolean,
    isManifestRebuilt: boolean,
    originals: string | undefined,
  ): RepairReport {
    const { damage, tornTails } = this.health.report()
    return {
      wasSound,
      lost: damage.filter(isLoss),
      mended: damage.filter((each) => !isLoss(each)),
      tornTails,
      rewritten: this.rewritten,
      isManifestRebuilt,
      originals,
      segments: entries.length,
      records: entries.reduce((sum, { records }) => sum + records, 0),
      bytes: entries.reduce((sum, { bytes }) => sum + bytes, 0),
    }
  }
}

/** A segment that stays as it is, in the manifest. */
function entryOf({ entry, expected, read }: Surveyed): ManifestEntry {
  const { header, bytes, records, lastSequence } = read
  const state = expected.bytes !== undefined && entry.state === 'sealed' ? 'sealed' : 'closed'
  return { header, state, bytes: Math.max(bytes, SEGMENT_HEADER_BYTES), records, lastSequence }
}

/** Of a manifest that is lost: higher than any that a copy knew, and than any that came with so many segments. */
function lostGeneration({ segments, nextSegmentId }: Survey): number {
  let generation = 2 * nextSegmentId
  for (const { entry } of segments) generation = Math.max(generation, entry.header.copies?.generation ?? 0)
  return generation + 1
}

function createdAtMs({ segments }: Survey, nowMs: number): number {
  const times = segments.map(({ entry }) => entry.header.createdAtMs).filter((timeMs) => timeMs > 0)
  return times.reduce((first, timeMs) => Math.min(first, timeMs), nowMs)
}
