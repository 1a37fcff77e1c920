// Which segments stand in for which, where no manifest tells: by what copies say of themselves. The rules stand in
// docs/FORMAT.md, "What stands in for what". It reads, and changes nothing.
import type { Host } from './host/host'
import type { Kernels } from './kernels'
import { isKeptAside } from './leftovers'
import { lastSequenceOffset } from './salt'
import { isSameSegment, SEGMENT_HEADER_BYTES, type SegmentHeader } from './segment'
import type { SegmentFile, SegmentFiles } from './segment-files'

/** What there is to be judged. Ids are unique in all of it. */
export interface Candidates {
  /** Of this store, in its files and in what is left of its manifest; without those that a manifest names. */
  unnamed: readonly SegmentHeader[]
  /** Those of `unnamed` that a damaged manifest has named. */
  salvaged: readonly SegmentHeader[]
  /** Found out from the seals of segments that have lost their headers. */
  sealed: readonly SegmentHeader[]
  /** What a manifest names, which may be an older copy. */
  named: readonly SegmentHeader[]
}

export class StandIns {
  private readonly unnamed: readonly SegmentHeader[]
  private readonly replaced: Set<number>
  private readonly cutShort = new Set<SegmentHeader>()
  /** Merges' outputs that are known to be whole, and the last sequence number that they stand in for. */
  private readonly folds: { header: SegmentHeader; lastSequence: number }[] = []

  constructor(
    private readonly host: Host,
    private readonly kernels: Kernels,
    private readonly directory: string,
    private readonly files: SegmentFiles,
    private readonly candidates: Candidates,
  ) {
    const { unnamed, sealed } = candidates
    this.unnamed = [...unnamed, ...sealed.map((header) => this.foundOut(header))].sort((a, b) => a.id - b.id)
    for (const header of this.unnamed) {
      const lastSequence = this.foldedUpTo(header)
      if (lastSequence !== undefined) this.folds.push({ header, lastSequence })
    }
    this.replaced = this.idsOfCopied()
    this.replaceFolded()
  }

  /** Whether another has taken its place, and only a crash kept it from being removed. */
  isReplaced(id: number): boolean {
    return this.replaced.has(id)
  }

  /** The same of one whose header was found out from its records. */
  isFolded(header: SegmentHeader): boolean {
    return this.folds.some((fold) => isWithin(header, fold.header, fold.lastSequence))
  }

  /** What is no copy, and none has taken the place of. */
  originals(): SegmentHeader[] {
    return this.unnamed.filter(({ id, copies }) => copies === undefined && !this.replaced.has(id))
  }

  /** Those that none has taken the place of, in the order in which they are to be judged by `isIdle`. */
  copies(): SegmentHeader[] {
    const copies = this.unnamed.filter(({ id, copies }) => copies !== undefined && !this.replaced.has(id))
    const isBegun = (header: SegmentHeader) => header.copies?.isFolded === true && !this.isFold(header)
    // There may be copies of copies, and they have higher ids.
    return [...copies.filter((header) => !isBegun(header)), ...copies.filter(isBegun)]
  }

  /**
   * Whether a copy is whole: by its seal; or by a segment that was made behind it, which only happens once a manifest
   * has named it. The header of that one may be left in the manifest only, and a repair that is cut short has perhaps
   * repeated its word in a copy: asking both comes to the same with and without that copy.
   */
  isFinished(header: SegmentHeader): boolean {
    return this.nextOf(header) !== undefined || this.files.sealIn(header) !== undefined
  }

  /**
   * What is no part of the store, or not known to be one yet, and tells where a segment without a header belongs. Copies
   * do only where what they were made of is gone, or dead. Else it tells itself, so that a repair comes to the same
   * whatever an earlier one, that was cut short, has left.
   */
  tellers(): SegmentHeader[] {
    return this.unnamed.filter((header) => {
      const { id, copies } = header
      if (this.replaced.has(id)) return true
      if (copies === undefined || !this.isFinished(header)) return false
      return isEnd(header) || copies.isFolded === true || this.originOf(copies.segmentId) === undefined
    })
  }

  /**
   * Whether what is known to be in the store shows that a copy is none of it. Copies of a whole segment that is there say
   * nothing new. A copied end, whose header tells where it was cut off, may be all that is left of it; but one that was
   * not finished was never named, and would hide what it lacks.
   */
  isIdle(header: SegmentHeader, present: readonly SegmentHeader[]): boolean {
    const { copies } = header
    if (copies === undefined || this.isFold(header)) return false
    if (copies.isFolded === true) return this.isIdleMerge(header, present)
    const isOriginHere = present.some(({ id }) => id === copies.segmentId)
    if (isEnd(header))
      return (isOriginHere || this.replaced.has(copies.segmentId)) && !this.isFinished(header)
    return isOriginHere
  }

  /** Whether what took the place of others is not known to hold all that they had. */
  isCutShort(header: SegmentHeader): boolean {
    return this.cutShort.has(header)
  }

  /**
   * A merge that was cut short has copied from its first input on: where all that is there still, it has nothing of its
   * own. Else it is taken, and not with what begins among its numbers: no two live segments share numbers. What a
   * manifest names was there before it; and what a damaged one named, and is missing, was finished.
   */
  private isIdleMerge(header: SegmentHeader, present: readonly SegmentHeader[]): boolean {
    if (this.files.holderOf(header) === undefined) return false
    const last = Math.max(header.firstSequence, this.lastFoundIn(header) ?? 0)
    const within = present.filter(
      ({ firstSequence }) => header.firstSequence <= firstSequence && firstSequence <= last,
    )
    const others = within
      .filter((other) => !this.isEmpty(other, [...present, header]))
      .sort((a, b) => a.firstSequence - b.firstSequence)
    let reached = header.firstSequence - 1
    for (const other of others) {
      if (other.firstSequence > reached + 1) break
      reached = Math.max(reached, this.lastOf(other) ?? 0)
    }
    if (reached >= last || others.some(({ id }) => this.isNamed(id))) return true
    // Some are empty only by the word of one that goes: nobody would say then where they end.
    const staying = [...present.filter((each) => !others.includes(each)), header]
    for (const each of within) {
      if (!this.isNamed(each.id) && !this.isEmpty(each, staying)) this.replaced.add(each.id)
    }
    if (others.length > 0) this.cutShort.add(header)
    return false
  }

  /** What shares its numbers with an older one holds copies: no other does. */
  private foundOut(header: SegmentHeader): SegmentHeader {
    const last = this.files.sealIn(header)?.lastSequence
    const { unnamed, sealed, named } = this.candidates
    const isShared = [...unnamed, ...sealed, ...named].some(
      (other) => last !== undefined && isWithin(other, header, last) && !this.isEmpty(other, []),
    )
    return isShared ? { ...header, copies: { generation: 0, segmentId: 0, isFolded: true } } : header
  }

  private isFold(header: SegmentHeader): boolean {
    return this.folds.some((fold) => fold.header === header)
  }

  /** The last number that a merge's output stands in for; undefined where it is not known to have been finished. */
  private foldedUpTo(header: SegmentHeader): number | undefined {
    if (header.copies?.isFolded !== true || this.files.holderOf(header) === undefined) return undefined
    const last = this.files.sealIn(header)?.lastSequence ?? this.nextOf(header)?.lastSequence
    if (last !== undefined && last >= header.firstSequence) return last
    const isNamed = this.candidates.salvaged.some((salvaged) => isSameSegment(salvaged, header))
    return isNamed ? this.lastFoundIn(header) : undefined
  }

  private lastOf(header: SegmentHeader): number | undefined {
    return (
      this.files.sealIn(header)?.lastSequence ?? this.nextOf(header)?.lastSequence ?? this.lastFoundIn(header)
    )
  }

  /** The last number in what can be read of it. */
  private lastFoundIn(header: SegmentHeader): number | undefined {
    const { host, kernels } = this
    const { path, bytes: fileBytes } = this.files.holderOf(header) ?? {}
    if (path === undefined || fileBytes === undefined) return undefined
    return this.files.withFile(path, (file) => {
      const target = { file, path, salt: header.salt, fileBytes, decidedBytes: fileBytes }
      return header.firstSequence + lastSequenceOffset(host, kernels, target)
    })
  }

  /** What the segment that was made behind it says of it. */
  private nextOf({ id }: SegmentHeader): SegmentHeader['previous'] | undefined {
    return this.unnamed.find(({ previous }) => previous.id === id)?.previous
  }

  private originOf(id: number): SegmentFile | undefined {
    return this.files.all.find((file) => (file.header?.id ?? file.id) === id)
  }

  /** A repair gives the originals their second names once all copies are finished, right before its manifest. */
  private idsOfCopied(): Set<number> {
    const ids = new Set<number>()
    for (const header of this.unnamed) {
      const id = header.copies?.segmentId
      if (id === undefined || isEnd(header)) continue
      const origin = this.originOf(id)
      if (origin === undefined || this.isNamed(id) || !this.isFinished(header)) continue
      if (isKeptAside(this.host, this.directory, origin)) ids.add(id)
    }
    return ids
  }

  private isNamed(id: number): boolean {
    return this.candidates.named.some((header) => header.id === id)
  }

  /** What tells of a segment has a higher id than it: so the highest ones come first. */
  private replaceFolded(): void {
    const { unnamed, candidates } = this
    const live: SegmentHeader[] = []
    for (const header of [...unnamed, ...candidates.named].sort((a, b) => b.id - a.id)) {
      if (this.isFolded(header) && !this.isEmpty(header, live)) this.replaced.add(header.id)
      if (!this.replaced.has(header.id)) live.push(header)
    }
  }

  /** It may stand beside what begins with the same number, and alone tell the end of the segment before. */
  private isEmpty(header: SegmentHeader, live: readonly SegmentHeader[]): boolean {
    const file = this.files.holderOf(header)
    if (file !== undefined && file.bytes <= SEGMENT_HEADER_BYTES) return true
    return live.some(
      ({ previous }) => previous.id === header.id && previous.lastSequence < header.firstSequence,
    )
  }
}

/** Whether it holds the end of a segment only. */
function isEnd({ copies, previous }: SegmentHeader): boolean {
  return copies !== undefined && copies.segmentId !== 0 && copies.segmentId === previous.id
}

/** Whether a segment is older than these copies, and begins among the numbers that they stand for. */
function isWithin(
  { id, firstSequence }: SegmentHeader,
  copies: SegmentHeader,
  lastSequence: number,
): boolean {
  return id < copies.id && copies.firstSequence <= firstSequence && firstSequence <= lastSequence
}
