// Numbers about an open store, for people and for monitoring.
import type { Rooms } from './open'
import type { RecoveryReport } from './recovery'
import { SEGMENT_HEADER_BYTES } from './segment'

export interface SegmentStats {
  id: number
  path: string
  state: 'active' | 'closed' | 'sealed'
  /** The segment's length. */
  bytes: number
  /** Bytes of the records that hold a key's newest value; the rest, less the header, is dead. */
  liveBytes: number
  deadBytes: number
  records: number
  firstSequence: number
  lastSequence: number
}

export interface Stats {
  /** Entries that have not expired. */
  entries: number
  /** Entries that have expired and were not swept yet. */
  expired: number
  lastSequence: number
  segments: SegmentStats[]
  bytes: number
  liveBytes: number
  deadBytes: number
  keydir: {
    bytes: number
    /** Bytes a key, the key's own included; 0 where there is none. */
    bytesPerKey: number
  }
  cache: { bytes: number; hits: number; misses: number }
  /** Since the store was opened; zero where it is read-only. */
  writes: { records: number; groups: number; largestGroupRecords: number; syncs: number }
  recovery: RecoveryReport
}

export function statsOf(rooms: Rooms, entries: number): Stats {
  const { catalog, ledger, cache, writing, recovery } = rooms
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
  return {
    entries,
    expired: keydir.count - keydir.liveCount(rooms.host.nowMs()),
    lastSequence: writing === undefined ? (segments.at(-1)?.lastSequence ?? 0) : writing.log.nextSequence - 1,
    segments,
    bytes: total((segment) => segment.bytes),
    liveBytes: total((segment) => segment.liveBytes),
    deadBytes: total((segment) => segment.deadBytes),
    keydir: {
      bytes: keydir.memoryBytes,
      bytesPerKey: keydir.count === 0 ? 0 : keydir.memoryBytes / keydir.count,
    },
    cache: { bytes: cache.bytes, hits: cache.hits, misses: cache.misses },
    writes: {
      records: writing?.writer.stats.records ?? 0,
      groups: writing?.writer.stats.groups ?? 0,
      largestGroupRecords: writing?.writer.stats.largestGroupRecords ?? 0,
      syncs: writing?.log.syncs ?? 0,
    },
    recovery,
  }
}
