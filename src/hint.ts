// A hint: the records of a segment that has ended, without their values, so that opening need not read those
// (docs/FORMAT.md, "Hint"). It is a cache: whatever is wrong with one, the segment is read instead.
import { SCAN_AT, SCAN_BYTES, STOP_BAD, STOP_TABLE_FULL } from '../assembly/layout'
import { isEqual, viewOf, writeU64 } from './bytes'
import type { Catalog, Segment } from './catalog'
import { hintName, join } from './files'
import { Health } from './health'
import type { FileHandle, Host } from './host/host'
import { readFully } from './io'
import type { Kernels } from './kernels'
import type { ManifestEntry } from './manifest'
import type { Stride } from './pass'
import { magicOf, writePreamble } from './preamble'
import { Replay, type Sink } from './replay'
import { SEGMENT_HEADER_BYTES } from './segment'

const MAGIC = magicOf('CASKYHNT')
export const HINT_HEADER_BYTES = 96
export const HINT_CRC_BYTES = 4
const STORE_ID_AT = 16
const SEGMENT_ID_AT = 32
const SALT_AT = 36
const FIRST_SEQUENCE_AT = 48
const SEGMENT_BYTES_AT = 64
const LAST_SEQUENCE_AT = 72
const RECORDS_AT = 80
const CRC_AT = 92

/** What a hint is bound to. Nothing in it is news: a hint whose header is another one belongs to something else. */
export function encodeHintHeader(
  kernels: Kernels,
  { header, bytes: segmentBytes, records, lastSequence }: Omit<ManifestEntry, 'state'>,
): Uint8Array {
  const bytes = new Uint8Array(HINT_HEADER_BYTES)
  const view = viewOf(bytes)
  writePreamble(kernels, bytes, MAGIC, HINT_HEADER_BYTES)
  bytes.set(header.storeId, STORE_ID_AT)
  view.setUint32(SEGMENT_ID_AT, header.id, true)
  view.setUint32(SALT_AT, header.salt, true)
  writeU64(view, FIRST_SEQUENCE_AT, header.firstSequence)
  writeU64(view, SEGMENT_BYTES_AT, segmentBytes)
  writeU64(view, LAST_SEQUENCE_AT, lastSequence)
  view.setUint32(RECORDS_AT, records, true)
  view.setUint32(CRC_AT, kernels.crc(bytes.subarray(0, CRC_AT)), true)
  return bytes
}

export interface HintRooms {
  host: Host
  kernels: Kernels
  catalog: Catalog
  /** How much is done between two yields; as much as there is room for, where undefined. */
  stride?: Stride | undefined
}

/** What became of a hint. `unfit` says why it was not taken at its word. */
export interface HintReading {
  unfit: string | undefined
  bytesRead: number
}

/**
 * Hands what a segment holds to `sink`, from its hint; yields how many of the segment's bytes that stands for. What has
 * been handed on by the time a hint turns out unfit is what the segment begins with, proven record by record: reading
 * the segment from its start comes to the same as if nothing had been.
 */
export function* readHint(
  rooms: HintRooms,
  segment: Segment,
  entry: ManifestEntry,
  sink: Sink,
  nowMs: number,
): Generator<number, HintReading> {
  const { host, kernels, catalog, stride } = rooms
  const file = openHint(rooms, join(catalog.directory, hintName(segment.header.id)))
  if (file === undefined) return { unfit: 'it can not be opened', bytesRead: 0 }
  const reader = new HintReader(host, kernels, file, stride?.bytes ?? SCAN_BYTES)
  try {
    const misfit = reader.begin(entry)
    if (misfit !== undefined) return { unfit: misfit, bytesRead: reader.bytesRead }
    // What a batch with a hole in it would be reported as is reported where the segment is read.
    const health = new Health()
    const replay = new Replay(kernels, sink, health, segment, nowMs)
    while (reader.state === 'more') {
      const { count, at, offset } = reader.next(entry)
      if (stride === undefined) replay.rows(count, at, offset, true)
      else for (const _ of replay.rowsInSteps(stride.records, count, at, offset, true)) yield offset
      yield reader.offset
    }
    replay.end(entry.lastSequence)
    const isCounted = segment.records === entry.records && segment.lastSequence <= entry.lastSequence
    const isFit = reader.isWhole(entry) && health.damage.length === 0 && isCounted
    return { unfit: isFit ? undefined : 'it is damaged', bytesRead: reader.bytesRead }
  } finally {
    host.close(file)
  }
}

/** Where no handle is left none is taken from a segment that is being read. */
function openHint({ host }: HintRooms, path: string): FileHandle | undefined {
  try {
    return host.open(path, 'read')
  } catch {
    return undefined
  }
}

class HintReader {
  state: 'more' | 'done' | 'damaged' = 'more'
  /** In the segment. */
  offset = SEGMENT_HEADER_BYTES
  bytesRead = 0
  /** In the hint: what comes next, where the prefixes end, and where what is in memory begins and ends. */
  private at = HINT_HEADER_BYTES
  private end = 0
  private windowAt = 0
  private windowEnd = 0
  private nextSequence = 0
  private crc = 0

  constructor(
    private readonly host: Host,
    private readonly kernels: Kernels,
    private readonly file: FileHandle,
    private readonly windowBytes: number,
  ) {}

  /** Looks at the header; says what does not fit. */
  begin(entry: ManifestEntry): string | undefined {
    const bytes = new Uint8Array(HINT_HEADER_BYTES)
    try {
      this.end = this.host.status(this.file).bytes - HINT_CRC_BYTES
      if (this.end < HINT_HEADER_BYTES || this.read(bytes, 0, bytes.length, 0) < bytes.length)
        return 'it is too short'
    } catch {
      return 'it can not be read'
    }
    if (!isEqual(bytes, encodeHintHeader(this.kernels, entry))) return 'its header does not fit the segment'
    this.crc = this.kernels.crc(bytes)
    if (this.at === this.end) this.state = 'done'
    return undefined
  }

  private read(into: Uint8Array, at: number, bytes: number, position: number): number {
    const read = readFully(this.host, this.file, into, at, bytes, position)
    this.bytesRead += read
    return read
  }

  /** The next rows, of the records that stand at `at` in memory and begin at `offset` of the segment. */
  next(entry: ManifestEntry): { count: number; at: number; offset: number } {
    const { kernels, offset } = this
    const none = { count: 0, at: SCAN_AT, offset }
    if (this.at >= this.windowEnd && !this.load()) return none
    const at = SCAN_AT + this.at - this.windowAt
    const count = kernels.call.scanPrefixes(
      at,
      this.windowEnd - this.at,
      entry.bytes - offset,
      offset,
      entry.header.salt,
      this.nextSequence,
    )
    const { consumedBytes, stop, nextSequence } = kernels.scanResult()
    this.crc = kernels.call.crc32(this.crc, at, consumedBytes) >>> 0
    this.nextSequence = nextSequence
    this.offset += kernels.advancedBytes
    this.at += consumedBytes
    // What is left of the window is the begin of a record: the next window begins there.
    if (stop !== STOP_TABLE_FULL) this.windowEnd = this.at
    if (this.at === this.end) this.state = 'done'
    else if (stop === STOP_BAD || (stop !== STOP_TABLE_FULL && consumedBytes === 0)) this.state = 'damaged'
    return { count, at, offset }
  }

  private load(): boolean {
    const bytes = Math.min(this.windowBytes, this.end - this.at)
    try {
      if (this.read(this.kernels.bytes, SCAN_AT, bytes, this.at) === bytes) {
        this.windowAt = this.at
        this.windowEnd = this.at + bytes
        return true
      }
    } catch {
      // As where it is shorter than it was.
    }
    this.state = 'damaged'
    return false
  }

  /** Whether it ended where the segment does, under its own CRC. */
  isWhole(entry: ManifestEntry): boolean {
    if (this.state !== 'done' || this.offset !== entry.bytes) return false
    const bytes = new Uint8Array(HINT_CRC_BYTES)
    try {
      if (this.read(bytes, 0, bytes.length, this.end) < bytes.length) return false
    } catch {
      return false
    }
    return viewOf(bytes).getUint32(0, true) === this.crc
  }
}
