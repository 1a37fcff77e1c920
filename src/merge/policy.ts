// When a merge runs, and of which segments: Bitcask's policy, made for one process that has other things to do.
import type { Segment } from '../catalog'
import { SEAL_BYTES, SEGMENT_HEADER_BYTES } from '../segment'

const MIB = 0x10_0000

/**
 * What starts a merge by itself (the triggers), and which segments then take part (the thresholds). A segment's dead
 * bytes are those of records that were overwritten or deleted, or have expired and were swept.
 */
export interface MergePolicy {
  /** A merge begins when this share of a segment is dead. Above 0, to 1; default 0.5. */
  triggerDeadRatio?: number
  /** Or when so many bytes of a segment are. Default 128 MiB. */
  triggerDeadBytes?: number
  /** Or when so many small segments stand next to each other. 2 to 1,000; default 8. */
  triggerSmallSegments?: number
  /** Segments take part of which this share is dead. Above 0, to 1; default 0.25. */
  deadRatio?: number
  /** Or so many bytes. Default 32 MiB. */
  deadBytes?: number
  /** Segments smaller than this are small: they take part too. In bytes; default 8 MiB. At most a quarter of `maxSegmentBytes` counts. */
  smallBytes?: number
  /** The hours of the day, in local time, in which a merge may begin by itself: from the first up to the second. Default [0, 24]. */
  windowHours?: readonly [number, number]
  /** It reads and writes at most so many bytes a second; 0 is no bound. Default 64 MiB. */
  maxBytesPerSecond?: number
}

export type MergeSettings = Required<MergePolicy>

export const MERGE_DEFAULTS: MergeSettings = {
  triggerDeadRatio: 0.5,
  triggerDeadBytes: 128 * MIB,
  triggerSmallSegments: 8,
  deadRatio: 0.25,
  deadBytes: 32 * MIB,
  smallBytes: 8 * MIB,
  windowHours: [0, 24],
  maxBytesPerSecond: 64 * MIB,
}

/** A record may begin below this offset only, and the output is to have room. */
const INPUT_BYTES_MAX = 0x7000_0000
const SEQUENCES_MAX = 0xffff_ffff
/** Asked for, a merge leaves alone what would become smaller by less than this share. */
const LEFT_ALONE_RATIO = 0.02

export interface MergePlan {
  /** Why, for a person to read. */
  reason: string
  /** Segments that stand next to each other and become one; oldest first. */
  runs: Segment[][]
}

/** Bytes that belong to no live record, the frame of the segment aside. */
export function deadBytesOf({ bytes, state, liveBytes }: Segment): number {
  const frameBytes = SEGMENT_HEADER_BYTES + (state === 'sealed' ? SEAL_BYTES : 0)
  return Math.max(0, bytes - frameBytes - liveBytes)
}

/** Of those what a merge gives back even where deletes have to stay. */
function looseBytesOf(segment: Segment): number {
  return Math.max(0, deadBytesOf(segment) - segment.tombstoneBytes)
}

function sum(segments: readonly Segment[], of: (segment: Segment) => number): number {
  return segments.reduce((total, segment) => total + of(segment), 0)
}

/** What a merge that was not asked for would do by now; undefined where nothing calls for one. */
export function planAutomatic(
  segments: readonly Segment[],
  settings: MergeSettings,
  maxSegmentBytes: number,
  mayMerge: (segment: Segment) => boolean,
): MergePlan | undefined {
  const ended = segments.filter((segment) => segment.state !== 'active' && mayMerge(segment))
  const smallBytes = Math.min(settings.smallBytes, maxSegmentBytes / 4)
  const isSmall = ({ bytes }: Segment): boolean => bytes < smallBytes
  const reason = reasonOf(ended, settings, isSmall)
  if (reason === undefined) return undefined
  const takesPart = (segment: Segment): boolean => {
    const dead = looseBytesOf(segment)
    return dead >= settings.deadRatio * segment.bytes || dead >= settings.deadBytes || isSmall(segment)
  }
  const total = sum(ended, ({ bytes }) => bytes)
  const tombstones = sum(ended, ({ tombstoneBytes }) => tombstoneBytes)
  // Deletes go only where everything older is merged with them.
  const takesAll = tombstones >= settings.triggerDeadRatio * total
  const chosen = new Set(takesAll ? ended : ended.filter(takesPart))
  const runs = runsOf(segments, chosen, maxSegmentBytes).filter((run) => isUseful(run, segments))
  return runs.length === 0 ? undefined : { reason, runs }
}

function reasonOf(
  ended: readonly Segment[],
  settings: MergeSettings,
  isSmall: (segment: Segment) => boolean,
): string | undefined {
  const total = sum(ended, ({ bytes }) => bytes)
  const hiding = sum(ended, ({ tombstoneBytes }) => tombstoneBytes)
  if (total > 0 && hiding >= settings.triggerDeadRatio * total) {
    return `deletes are ${percent(hiding / total)} of the log`
  }
  let small = 0
  for (const segment of ended) {
    const dead = looseBytesOf(segment)
    const { header, bytes } = segment
    // The frame of a segment that holds next to nothing is no reason.
    if (dead > 0 && dead >= settings.triggerDeadRatio * bytes) {
      return `${percent(dead / bytes)} of segment ${header.id} are dead`
    }
    if (dead >= settings.triggerDeadBytes) return `${dead} bytes of segment ${header.id} are dead`
    small = isSmall(segment) ? small + 1 : 0
    if (small >= settings.triggerSmallSegments) return `${small} small segments stand next to each other`
  }
  return undefined
}

function percent(ratio: number): string {
  return `${Math.round(ratio * 100)} %`
}

/** What a merge that was asked for does: all that makes the store smaller, or its files fewer. */
export function planAll(
  segments: readonly Segment[],
  maxSegmentBytes: number,
  mayMerge: (segment: Segment) => boolean,
): MergePlan {
  const ended = segments.filter((segment) => segment.state !== 'active' && mayMerge(segment))
  const total = sum(ended, ({ bytes }) => bytes)
  const tombstones = sum(ended, ({ tombstoneBytes }) => tombstoneBytes)
  const takesAll = tombstones > LEFT_ALONE_RATIO * total
  const chosen = new Set(
    ended.filter(
      (segment) =>
        takesAll ||
        deadBytesOf(segment) > LEFT_ALONE_RATIO * segment.bytes ||
        segment.bytes < maxSegmentBytes / 2,
    ),
  )
  const runs = runsOf(segments, chosen, maxSegmentBytes).filter((run) => isUseful(run, segments))
  return { reason: 'asked for', runs }
}

/** The segments as they are once the one that is written to has ended. */
export function asEnded(segments: readonly Segment[]): Segment[] {
  return segments.map((segment) =>
    segment.state === 'active' && segment.records > 0
      ? { ...segment, state: 'sealed', bytes: segment.bytes + SEAL_BYTES }
      : segment,
  )
}

/** What the copies of a run take at most. */
export function keptBytesOf(run: readonly Segment[]): number {
  return sum(run, ({ liveBytes, tombstoneBytes }) => liveBytes + tombstoneBytes)
}

/** Whether fewer files or fewer bytes come of it. */
export function isUseful(run: readonly Segment[], segments: readonly Segment[]): boolean {
  if (run.length !== 1) return run.length > 1
  const [segment] = run
  // Where older segments stay, deletes have to stay too.
  return segments[0] === segment
    ? deadBytesOf(segment) > 0
    : looseBytesOf(segment) > 0 || segment.tombstoneBytes > 0
}

/** The chosen ones that stand next to each other, as many together as become one segment. */
function runsOf(segments: readonly Segment[], chosen: Set<Segment>, maxSegmentBytes: number): Segment[][] {
  const runs: Segment[][] = []
  let run: Segment[] = []
  let keptBytes = 0
  let inputBytes = 0
  const end = (): void => {
    if (run.length > 0) runs.push(run)
    run = []
    keptBytes = 0
    inputBytes = 0
  }
  for (const segment of segments) {
    if (!chosen.has(segment)) {
      end()
      continue
    }
    const kept = keptBytesOf([segment])
    const sequences = run.length === 0 ? 0 : segment.lastSequence - run[0].header.firstSequence
    const isTooMuch =
      keptBytes + kept > maxSegmentBytes ||
      inputBytes + segment.bytes > INPUT_BYTES_MAX ||
      sequences > SEQUENCES_MAX
    if (isTooMuch) end()
    run.push(segment)
    keptBytes += kept
    inputBytes += segment.bytes
  }
  end()
  return runs
}

/** Whether a merge may begin by itself at this time of the day. */
export function isInWindow({ windowHours: [from, to] }: MergeSettings, nowMs: number): boolean {
  const hour = new Date(nowMs).getHours()
  return from <= to ? hour >= from && hour < to : hour >= from || hour < to
}
