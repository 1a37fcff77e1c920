// Numbers about an open store, for people and for monitoring.
import { TimeHistogram, type TimeStats } from './histogram'
import { type MergeStats, NO_MERGES } from './merge/merger'
import type { Rooms } from './open'
import type { RecoveryReport } from './recovery'
import { SEGMENT_HEADER_BYTES } from './segment'

export interface SegmentStats {
  id: number
  path: string
  state: 'active' | 'closed' | 'sealed'
  /** The segment's length. */
  bytes: number
  /** Bytes of the records that hold a key's newest value, also where that has expired. */
  liveBytes: number
  /** All other bytes but the segment's header: overwritten values, what deletes them, and casky's own records. */
  deadBytes: number
  /** Writes in the segment, dead ones too: puts and deletes, those of batches each for itself. */
  records: number
  firstSequence: number
  lastSequence: number
}

/** The groups that had from `minRecords` to `maxRecords` records. */
export interface GroupSizes {
  /** A power of two. */
  minRecords: number
  /** One less than the next power of two. */
  maxRecords: number
  groups: number
}

export interface WriteStats {
  /** Writes: puts and deletes, those of batches each for itself. */
  records: number
  /** What was taken to the segment by one write call; the writes of a group share its sync. */
  groups: number
  largestGroupRecords: number
  /** From groups of one record on to the largest; empty where there was no group. */
  groupSizes: GroupSizes[]
  /** Syncs of segments that ended well. */
  syncs: number
  /** How long each of them took, from the call to the answer. */
  syncTimes: TimeStats
}

export interface Stats {
  /** Entries that have not expired. */
  entries: number
  /** Entries that have expired and were not swept yet. */
  expired: number
  /** Entries that had expired and were swept since the store was opened. */
  swept: number
  /** The sequence number of the last write; 0 where there was none. */
  lastSequence: number
  /** In the order in which they were written. */
  segments: SegmentStats[]
  /** These three are sums over the segments. */
  bytes: number
  liveBytes: number
  deadBytes: number
  keydir: {
    /** Memory that the index takes, keys included; soon after opening, of what has come in by then. */
    bytes: number
    /** Bytes a key that is in memory, the key's own included; 0 where there is none. */
    bytesPerKey: number
  }
  cache: {
    /** Memory that the block cache may take. */
    bytes: number
    hits: number
    misses: number
  }
  /** Since the store was opened; zero where it is read-only. */
  writes: WriteStats
  /** Since the store was opened; zero where it is read-only. */
  merges: MergeStats
  /** Those that were not released. They hold on to `replacedBytes` of segments that a merge has replaced. */
  snapshots: { count: number; oldestAtMs: number | undefined; replacedBytes: number }
  /** What opening the store took. */
  recovery: RecoveryReport
}

export function statsOf(rooms: Rooms, entries: number): Stats {
  const { catalog, ledger, cache, replaced, writing, recovery } = rooms
  const segments = catalog.segments.map((segment): SegmentStats => {
    const { header, path, state, bytes, liveBytes, records, lastSequence } = segment
    return {
      id: header.id,
      path,
      state,
      bytes,
      liveBytes,
      deadBytes: Math.max(0, bytes - SEGMENT_HEADER_BYTES - liveBytes),
      records,
      firstSequence: header.firstSequence,
      lastSequence,
    }
  })
  const total = (pick: (segment: SegmentStats) => number): number =>
    segments.reduce((sum, each) => sum + pick(each), 0)
  const { keydir } = ledger
  const { countInMemory } = keydir
  return {
    entries,
    expired: keydir.count - keydir.liveCount(rooms.host.nowMs()),
    swept: ledger.swept,
    lastSequence: rooms.lastSequence(),
    segments,
    bytes: total((segment) => segment.bytes),
    liveBytes: total((segment) => segment.liveBytes),
    deadBytes: total((segment) => segment.deadBytes),
    keydir: {
      bytes: keydir.memoryBytes,
      bytesPerKey: countInMemory === 0 ? 0 : keydir.memoryBytes / countInMemory,
    },
    cache: { bytes: cache.bytes, hits: cache.hits, misses: cache.misses },
    writes: writesOf(writing),
    merges: { ...(writing?.merger.stats ?? NO_MERGES) },
    snapshots: {
      count: rooms.snapshots.size,
      oldestAtMs: [...rooms.snapshots].at(0)?.takenAtMs,
      replacedBytes: [...replaced.segments].reduce((sum, { bytes }) => sum + bytes, 0),
    },
    recovery,
  }
}

const NO_WRITES = { records: 0, groups: 0, largestGroupRecords: 0, groupSizes: new Float64Array() }

function writesOf(writing: Rooms['writing']): WriteStats {
  const { groupSizes, ...counts } = writing?.writer.stats ?? NO_WRITES
  const syncTimes = (writing?.log.syncTimes ?? new TimeHistogram()).stats()
  return { ...counts, groupSizes: sizesOf(groupSizes), syncs: syncTimes.count, syncTimes }
}

function sizesOf(counts: Float64Array): GroupSizes[] {
  const used = counts.subarray(0, counts.findLastIndex((groups) => groups > 0) + 1)
  return Array.from(used, (groups, i) => ({ minRecords: 2 ** i, maxRecords: 2 ** (i + 1) - 1, groups }))
}
