// Which segments a store has, and in which order: by its manifest, and where that is lost, damaged or an older copy, by
// what the segments say of themselves. It reads headers and the ends of files, changes nothing, and reports what is
// wrong so far.
import { isEqual } from './bytes'
import { CaskyError, isCaskyError, systemCode } from './errors'
import { join, MANIFEST, segmentName } from './files'
import {
  Findings,
  REMEDY_FOREIGN,
  REMEDY_HEADER,
  REMEDY_MANIFEST,
  REMEDY_MISSING,
  REMEDY_NAME,
  REMEDY_UNKNOWN,
} from './findings'
import type { Health } from './health'
import type { Host } from './host/host'
import type { Kernels } from './kernels'
import { Leftovers, UNNAMED } from './leftovers'
import { type Manifest, type ManifestEntry, readManifest, salvageHeaders } from './manifest'
import { type Expected, expectedOf } from './pass'
import { lastSequenceOffset } from './salt'
import {
  isSameSegment,
  SEGMENT_HEADER_BYTES,
  SEGMENT_LENGTH_MAX,
  type SegmentHeader,
  STORE_ID_BYTES,
} from './segment'
import { type SegmentFile, SegmentFiles } from './segment-files'
import { StandIns } from './stand-ins'

export interface Enlisted {
  entry: ManifestEntry
  expected: Expected
  /** undefined where it is missing */
  file: SegmentFile | undefined
}

export type ManifestState = 'sound' | 'older' | 'damaged' | 'missing'

export interface RollCall {
  manifestState: ManifestState
  /** As read; undefined where it is damaged or missing. */
  manifest: Manifest | undefined
  storeId: Uint8Array | undefined
  segments: Enlisted[]
  /** Files that are none of them, and hold data. */
  aside: SegmentFile[]
  /** Files that hold nothing of their own: the next writer removes them. */
  leftovers: SegmentFile[]
  /** Above every id seen. */
  nextSegmentId: number
}

/** Throws CASKY_NOT_FOUND where there is neither a manifest nor a segment. */
export function callRoll(host: Host, kernels: Kernels, directory: string, health: Health): RollCall {
  return new Caller(host, kernels, directory, health).call()
}

/** Where no header is left to tell it; a repair gives another. */
const UNKNOWN_STORE_ID = new Uint8Array(STORE_ID_BYTES)

const CUT_SHORT = 'the end of what a merge has written is missing, and so is part of what it was made of'
const FOUND_OUT = 'the segment header is damaged; what it said was found out from the records'

interface Headerless {
  file: SegmentFile
  salt: number
  /** Where its seal tells all. */
  sealed: SegmentHeader | undefined
}

class Caller {
  private readonly claimed = new Set<SegmentFile>()
  private readonly files: SegmentFiles
  /** Of this store, in its files and in what is left of its manifest; without those that a manifest names. */
  private unnamed: SegmentHeader[] = []
  private standIns: StandIns | undefined
  private readonly nowMs: number

  constructor(
    private readonly host: Host,
    private readonly kernels: Kernels,
    private readonly directory: string,
    private readonly health: Health,
  ) {
    this.nowMs = host.nowMs()
    this.files = new SegmentFiles(host, kernels, directory)
  }

  call(): RollCall {
    const { manifest, state } = this.readManifest()
    const salvaged = state === 'damaged' ? salvageHeaders(this.host, this.kernels, this.directory) : []
    const storeId = manifest?.storeId ?? this.commonStoreId(salvaged)
    const named = manifest === undefined ? [] : this.enlistNamed(manifest)
    const garbage = manifest === undefined ? [] : this.claimLeftovers(manifest)
    const found = this.enlistFound(storeId, manifest, named, salvaged)
    const segments = found.length === 0 ? named : this.withoutReplaced([...named, ...found]).sort(bySequence)
    const manifestState = state === 'sound' && found.length > 0 ? 'older' : state
    if (manifestState !== 'sound') this.decideAll(segments)
    const rest = this.files.all.filter((file) => !this.claimed.has(file))
    const leftovers = [...garbage, ...rest.filter(({ bytes }) => bytes <= SEGMENT_HEADER_BYTES)]
    const aside = rest.filter(({ bytes }) => bytes > SEGMENT_HEADER_BYTES)
    for (const file of aside) this.reportAside(file, storeId)
    const nextSegmentId = this.nextSegmentId(manifest, segments)
    return { manifestState, manifest, storeId, segments, aside, leftovers, nextSegmentId }
  }

  private report(path: string, bytes: number, reason: string, remedy: string): void {
    new Findings(this.health, path, 0, this.nowMs).report(0, bytes, reason, remedy)
  }

  private readManifest(): { manifest: Manifest | undefined; state: ManifestState } {
    const { host, kernels, directory } = this
    const path = join(directory, MANIFEST)
    const found = host.inspect(path)
    if (found === undefined) {
      if (this.files.all.length === 0) {
        throw new CaskyError('CASKY_NOT_FOUND', `there is no store here: ${directory}`, { path: directory })
      }
      this.report(path, 0, 'the manifest is missing beside its segments', REMEDY_MANIFEST)
      return { manifest: undefined, state: 'missing' }
    }
    if (found.kind !== 'file') {
      this.report(path, 0, 'a link or directory in the place of the manifest, not followed', REMEDY_MANIFEST)
      return { manifest: undefined, state: 'damaged' }
    }
    try {
      const manifest = readManifest(host, kernels, directory)
      if (manifest !== undefined) return { manifest, state: 'sound' }
    } catch (error) {
      if (!this.isDamage(error)) throw error
    }
    this.report(path, found.bytes, 'the manifest is damaged', REMEDY_MANIFEST)
    return { manifest: undefined, state: 'damaged' }
  }

  /** An unknown magic is damage where segments stand beside it; so is what no manifest's length could be. */
  private isDamage(error: unknown): boolean {
    if (!isCaskyError(error)) return false
    if (error.code === 'CASKY_CORRUPT') return true
    if (error.code === 'CASKY_NOT_A_STORE') return this.files.all.some(({ header }) => header !== undefined)
    return error.code === 'CASKY_IO' && systemCode(error.cause) === undefined
  }

  /** The id of most headers. */
  private commonStoreId(salvaged: SegmentHeader[]): Uint8Array | undefined {
    const counts = new Map<string, { storeId: Uint8Array; count: number }>()
    let most: { storeId: Uint8Array; count: number } | undefined
    for (const header of [...salvaged, ...this.files.all.map((file) => file.header)]) {
      if (header === undefined) continue
      const { storeId } = header
      const counted = counts.get(storeId.join()) ?? { storeId, count: 0 }
      counts.set(storeId.join(), counted)
      counted.count++
      if (most === undefined || counted.count > most.count) most = counted
    }
    return most?.storeId
  }

  private enlistNamed(manifest: Manifest): Enlisted[] {
    const files = new Map(manifest.segments.map((entry) => [entry, this.fileOf(entry.header)]))
    for (const entry of manifest.segments) {
      const file = files.get(entry) ?? this.doubtfulFileOf(entry.header)
      if (file !== undefined) this.claimed.add(file)
      files.set(entry, file)
    }
    return manifest.segments.map((entry) => this.enlist(entry, files.get(entry)))
  }

  /** The file that says it is this segment, preferably under its own name. */
  private fileOf(header: SegmentHeader): SegmentFile | undefined {
    const own = this.ownFileOf(header)
    if (own?.header !== undefined && isSameSegment(own.header, header)) return this.claim(own)
    const other = this.files.all.find(
      (file) => !this.claimed.has(file) && file.header !== undefined && isSameSegment(file.header, header),
    )
    return other === undefined ? undefined : this.claim(other)
  }

  /** The file under its name, whatever its header has become: the records say whether it is the segment. */
  private doubtfulFileOf(header: SegmentHeader): SegmentFile | undefined {
    const own = this.ownFileOf(header)
    return own === undefined || this.claimed.has(own) ? undefined : own
  }

  private ownFileOf({ id }: SegmentHeader): SegmentFile | undefined {
    return this.files.named(id)
  }

  private claim(file: SegmentFile): SegmentFile {
    this.claimed.add(file)
    return file
  }

  private enlist(entry: ManifestEntry, file: SegmentFile | undefined): Enlisted {
    if (file !== undefined && file.id !== entry.header.id) {
      const reason = `segment ${entry.header.id} stands here, under another name than its own`
      this.report(file.path, SEGMENT_HEADER_BYTES, reason, REMEDY_NAME)
    }
    return { entry, expected: expectedOf(entry), file }
  }

  /** Of what an older manifest names, or was found, others may stand in for some. */
  private withoutReplaced(segments: Enlisted[]): Enlisted[] {
    return segments.filter(({ entry, file }) => {
      if (this.standIns?.isReplaced(entry.header.id) !== true) return true
      if (file !== undefined) this.claimed.delete(file)
      return false
    })
  }

  private claimLeftovers(manifest: Manifest): SegmentFile[] {
    const named = new Set(manifest.segments.map(({ header }) => header.id))
    const leftovers = new Leftovers(this.host, this.kernels, this.directory, manifest)
    return this.files.all
      .filter((file) => !this.claimed.has(file) && !named.has(file.id) && leftovers.isGarbage(file))
      .map((file) => this.claim(file))
  }

  /** Segments of this store that no manifest names: newer than it, or there is none. */
  private enlistFound(
    storeId: Uint8Array | undefined,
    manifest: Manifest | undefined,
    named: Enlisted[],
    salvaged: SegmentHeader[],
  ): Enlisted[] {
    this.unnamed = this.unnamedHeaders(storeId, manifest, salvaged)
    const headerless = this.headerless(storeId, manifest)
    const sealed = headerless.flatMap((each) => (each.sealed === undefined ? [] : [each.sealed]))
    const { host, kernels, directory } = this
    const namedHeaders = named.map(({ entry }) => entry.header)
    const candidates = { unnamed: this.unnamed, salvaged, sealed, named: namedHeaders }
    const standIns = new StandIns(host, kernels, directory, this.files, candidates)
    this.standIns = standIns
    const found: Enlisted[] = []
    const add = (header: SegmentHeader, given?: SegmentFile): void => {
      const file =
        given ?? this.fileOf(header) ?? (salvaged.includes(header) ? this.doubtfulFileOf(header) : undefined)
      if (file !== undefined) this.claim(file)
      if (given !== undefined) this.report(given.path, SEGMENT_HEADER_BYTES, FOUND_OUT, REMEDY_HEADER)
      else if (file?.id === header.id && manifest !== undefined)
        this.report(file.path, file.bytes, UNNAMED.reason, UNNAMED.remedy)
      found.push(this.enlist(activeEntry(header), file))
    }
    const fileOfSealed = (header: SegmentHeader) =>
      headerless.find(({ sealed: its }) => its?.id === header.id && its.salt === header.salt)?.file
    for (const header of standIns.originals()) add(header, fileOfSealed(header))
    const tellers = standIns.tellers().map((header) => this.tellerOf(header))
    for (const each of headerless) {
      const { file, salt } = each
      if (each.sealed !== undefined || this.claimed.has(file)) continue
      const firstSequence = this.firstSequenceOf(each, [...named, ...found, ...tellers])
      const header = headerOf(file, storeId, salt, firstSequence)
      if (header === undefined) continue
      if (standIns.isReplaced(header.id) || standIns.isFolded(header)) tellers.push(this.tellerOf(header))
      else add(header, file)
    }
    for (const header of standIns.copies()) {
      const present = [...named, ...found].filter(({ file }) => file !== undefined)
      const isIdle = standIns.isIdle(
        header,
        present.map(({ entry }) => entry.header),
      )
      if (!isIdle) add(header, fileOfSealed(header))
      if (standIns.isCutShort(header))
        this.report(join(directory, segmentName(header.id)), 0, CUT_SHORT, REMEDY_MISSING)
    }
    return found
  }

  private tellerOf(header: SegmentHeader): Enlisted {
    const entry = activeEntry(header)
    return { entry, expected: expectedOf(entry), file: this.files.holderOf(header) }
  }

  private unnamedHeaders(
    storeId: Uint8Array | undefined,
    manifest: Manifest | undefined,
    salvaged: SegmentHeader[],
  ): SegmentHeader[] {
    const headers = new Map<number, SegmentHeader>()
    // What is claimed already is named, or garbage.
    const files = this.files.all.filter((file) => !this.claimed.has(file))
    for (const header of [...salvaged, ...files.map((file) => file.header)]) {
      if (header === undefined || storeId === undefined || !isEqual(header.storeId, storeId)) continue
      // What the manifest doesn't name of those that it could, a later one has dropped.
      if (manifest !== undefined && header.id < manifest.nextSegmentId) continue
      if (header.id === 0 || header.firstSequence > Number.MAX_SAFE_INTEGER) continue
      const own = this.ownFileOf(header)?.header
      const isOwn = own !== undefined && isSameSegment(own, header)
      if (!headers.has(header.id) || isOwn) headers.set(header.id, header)
    }
    // What copies were made of has a lower id than they, so it comes first.
    return [...headers.values()].sort((a, b) => a.id - b.id)
  }

  /** Files without a header, and what their records and seal say instead. */
  private headerless(storeId: Uint8Array | undefined, manifest: Manifest | undefined): Headerless[] {
    return this.files.all.flatMap((file): Headerless[] => {
      if (this.claimed.has(file) || file.header !== undefined || file.bytes <= SEGMENT_HEADER_BYTES) return []
      if (manifest !== undefined && file.id < manifest.nextSegmentId) return []
      // What is left of the manifest may have its header still.
      if (this.unnamed.some((header) => this.files.holderOf(header) === file)) return []
      const solved = this.files.solve(file)
      if (solved === undefined) return []
      const { salt, seal } = solved
      const firstSequence = seal && seal.lastSequence - seal.sequenceOffset
      return [{ file, salt, sealed: headerOf(file, storeId, salt, firstSequence) }]
    })
  }

  /** The first sequence number of a segment that has neither header nor seal. */
  private firstSequenceOf({ file, salt }: Headerless, others: Enlisted[]): number | undefined {
    const { id, path, bytes: fileBytes } = file
    const next = nextOf(id, others)
    if (next === undefined) return this.sequenceBehind(id, others)
    return this.files.withFile(path, (handle) => {
      const target = { file: handle, path, salt, fileBytes, decidedBytes: next.bytes }
      return next.lastSequence - lastSequenceOffset(this.host, this.kernels, target)
    })
  }

  /** The first sequence number that was free when the segment of this id was made, where others tell. */
  private sequenceBehind(id: number, others: Enlisted[]): number | undefined {
    const headers = others.map(({ entry }) => entry.header)
    // A copy has a newer id than its place tells: what is no copy and has the newest of all stands behind all of them.
    const isNewest = headers.every((header) => header.copies !== undefined || header.id < id)
    const before = others
      .filter(({ entry }) => isNewest || entry.header.id < id)
      .sort(bySequence)
      .at(-1)
    if (before === undefined) return id === 1 ? 1 : undefined
    const lastSequence = before.expected.lastSequence ?? this.decide(before, others).lastSequence
    return lastSequence === undefined ? undefined : lastSequence + 1
  }

  private decideAll(segments: Enlisted[]): void {
    for (const segment of segments) segment.expected = this.decide(segment, segments)
  }

  /** How long a segment is that was still written to when the manifest was: by its seal, or by the next one's header. */
  private decide({ entry, expected, file }: Enlisted, all: Enlisted[]): Expected {
    if (expected.bytes !== undefined) return expected
    const { header } = entry
    if (file !== undefined) {
      const seal = this.files.sealOf(file, header.salt)
      if (seal !== undefined && isPlausible(seal.lastSequence, header))
        return { bytes: file.bytes, records: seal.records, lastSequence: seal.lastSequence }
    }
    const next = nextOf(header.id, all)
    if (next === undefined) return expected
    if (!isPlausible(next.lastSequence, header)) return expected
    return { bytes: next.bytes, records: undefined, lastSequence: next.lastSequence }
  }

  private reportAside({ header, id, path, bytes }: SegmentFile, storeId: Uint8Array | undefined): void {
    const say = (reason: string, remedy = REMEDY_FOREIGN) => this.report(path, bytes, reason, remedy)
    if (this.standIns?.isReplaced(header?.id ?? id)) say('a segment whose place a copy has taken')
    else if (header === undefined) say('no segment can be made out in this file', REMEDY_UNKNOWN)
    else if (storeId === undefined || !isEqual(header.storeId, storeId)) say('a segment of another store')
    else say(`a segment ${header.id} that is no part of the store any more`)
  }

  private nextSegmentId(manifest: Manifest | undefined, segments: Enlisted[]): number {
    let last = (manifest?.nextSegmentId ?? 1) - 1
    for (const { entry } of segments) last = Math.max(last, entry.header.id, entry.header.previous.id)
    for (const { id, header } of this.files.all) last = Math.max(last, id, header?.id ?? 0)
    for (const { id } of this.unnamed) last = Math.max(last, id)
    return last + 1
  }
}

function bySequence({ entry: { header: a } }: Enlisted, { entry: { header: b } }: Enlisted): number {
  return a.firstSequence - b.firstSequence || a.id - b.id
}

/** A last sequence number that a segment can have; one without records has none of its own. */
function isPlausible(lastSequence: number, { firstSequence }: SegmentHeader): boolean {
  return lastSequence >= firstSequence - 1 && lastSequence <= Number.MAX_SAFE_INTEGER
}

/** What the segment behind the one with this id says of it. */
function nextOf(id: number, all: Enlisted[]): SegmentHeader['previous'] | undefined {
  const next = all.find((other) => other.entry.header.previous.id === id)?.entry.header.previous
  const isLength =
    next !== undefined && next.bytes >= SEGMENT_HEADER_BYTES && next.bytes <= SEGMENT_LENGTH_MAX
  return isLength ? next : undefined
}

/** What the header of a segment said of which only the records are left. */
function headerOf(
  { id }: SegmentFile,
  storeId: Uint8Array | undefined,
  salt: number,
  firstSequence: number | undefined,
): SegmentHeader | undefined {
  if (firstSequence === undefined || firstSequence < 1) return undefined
  const previous = { id: 0, bytes: 0, lastSequence: 0, isSealed: false }
  return { storeId: storeId ?? UNKNOWN_STORE_ID, id, salt, createdAtMs: 0, firstSequence, previous }
}

function activeEntry(header: SegmentHeader): ManifestEntry {
  return { header, state: 'active', bytes: 0, records: 0, lastSequence: 0 }
}

/** Where a segment's records are read: in its file, or where that should be. */
export function pathOf(directory: string, { entry, file }: Enlisted): string {
  return file?.path ?? join(directory, segmentName(entry.header.id))
}
