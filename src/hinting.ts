// Writes the hints of segments that have ended, a piece at a time so that nothing waits for it, and removes caches that
// belong to nothing any more.
import {
  FLAG_EXPIRES,
  ROW_AT,
  ROW_KIND,
  ROW_VALUE_DAMAGED,
  ROW_WORDS,
  SCAN_TABLE_AT,
  WRITE_AT,
  WRITE_BYTES,
} from '../assembly/layout'
import { viewOf } from './bytes'
import type { Catalog, Segment } from './catalog'
import { invariant } from './errors'
import { hintedIdOf, hintName, isUnfinishedCache, join, nextHintName } from './files'
import { encodeHintHeader, HINT_CRC_BYTES } from './hint'
import type { FileHandle, Host } from './host/host'
import { removeLater, tryRemove, writeFully } from './io'
import type { Kernels } from './kernels'
import { type ScanEvent, SegmentScan } from './scanner'
import { recordBytes } from './segment'

const TABLE = SCAN_TABLE_AT / 4
/** What is read in one step. */
const STEP_BYTES = 0x8000

export interface HintingRooms {
  host: Host
  catalog: Catalog
  /** Used by nothing else meanwhile. */
  kernels: Kernels
}

/**
 * Writes the hint of a segment that has ended, in steps of well under a millisecond. Returns whether it is there now: a
 * segment with damage gets none, so that each open finds the damage. Never throws of itself; ended early, it leaves
 * nothing behind.
 */
export function* hintSteps(rooms: HintingRooms, segment: Segment): Generator<void, boolean> {
  const { host, catalog } = rooms
  if (segment.state === 'active') return false
  let writer: HintWriter | undefined
  try {
    writer = catalog.withHandles(() => new HintWriter(rooms, segment))
    for (const event of writer.events()) {
      if (!writer.take(event)) return false
      yield
    }
    // A merge may have dropped it meanwhile.
    return catalog.segments.includes(segment) && writer.finish()
  } catch {
    return false
  } finally {
    writer?.close()
    if (writer !== undefined && !writer.isFinished)
      tryRemove(host, join(catalog.directory, nextHintName(segment.header.id)))
  }
}

class HintWriter {
  isFinished = false
  private readonly kernels: Kernels
  private source: FileHandle | undefined
  private file: FileHandle | undefined
  private readonly next: string
  /** So much of the hint is written, and so much waits in memory. */
  private writtenBytes = 0
  private filledBytes = 0
  private crc = 0

  constructor(
    private readonly rooms: HintingRooms,
    private readonly segment: Segment,
  ) {
    const { host, catalog, kernels } = rooms
    this.kernels = kernels
    this.next = join(catalog.directory, nextHintName(segment.header.id))
    this.source = host.open(segment.path, 'read')
    try {
      if (host.inspect(this.next) !== undefined) host.remove(this.next)
      this.file = host.open(this.next, 'create')
      this.put(encodeHintHeader(this.kernels, segment))
    } catch (error) {
      this.close()
      tryRemove(host, this.next)
      throw error
    }
  }

  events(): Generator<ScanEvent, void> {
    const { host } = this.rooms
    const { path, header, bytes } = this.segment
    const { source: file } = this
    invariant(file !== undefined, 'a hint is read from an open segment')
    const fileBytes = host.status(file).bytes
    const target = { file, path, salt: header.salt, fileBytes, decidedBytes: bytes }
    return new SegmentScan(host, this.kernels, {
      ...target,
      windowBytes: STEP_BYTES,
      skims: true,
    }).events()
  }

  /** False where the segment is not sound. */
  take(event: ScanEvent): boolean {
    if (event.kind !== 'rows') return false
    const { words, bytes } = this.kernels
    for (let row = 0, word = TABLE; row < event.count; row++, word += ROW_WORDS) {
      const kind = words[word + ROW_KIND]
      if ((kind & ROW_VALUE_DAMAGED) !== 0) return false
      const prefixBytes = recordBytes(kind >>> 16, 0, (kind & FLAG_EXPIRES) !== 0)
      if (this.filledBytes + prefixBytes > WRITE_BYTES) this.flush()
      const from = event.at + words[word + ROW_AT]
      bytes.copyWithin(WRITE_AT + this.filledBytes, from, from + prefixBytes)
      this.filledBytes += prefixBytes
    }
    return true
  }

  private put(bytes: Uint8Array): void {
    this.kernels.bytes.set(bytes, WRITE_AT + this.filledBytes)
    this.filledBytes += bytes.length
  }

  private flush(): void {
    const { kernels, filledBytes, file } = this
    if (file === undefined) return
    writeFully(this.rooms.host, file, kernels.bytes, WRITE_AT, filledBytes, this.writtenBytes)
    this.crc = kernels.call.crc32(this.crc, WRITE_AT, filledBytes) >>> 0
    this.writtenBytes += filledBytes
    this.filledBytes = 0
  }

  /** Not synced: a power cut may leave anything of it, and its CRCs tell. */
  finish(): boolean {
    const { host, catalog } = this.rooms
    this.flush()
    const crc = new Uint8Array(HINT_CRC_BYTES)
    viewOf(crc).setUint32(0, this.crc, true)
    this.put(crc)
    this.flush()
    this.close()
    host.rename(this.next, join(catalog.directory, hintName(this.segment.header.id)))
    this.isFinished = true
    return true
  }

  close(): void {
    const { host } = this.rooms
    const { source, file } = this
    this.source = undefined
    this.file = undefined
    if (source !== undefined) host.close(source)
    if (file !== undefined) host.close(file)
  }
}

/** Removes caches that were being written when a process died, and hints of segments that are gone. */
export function removeStaleCaches(host: Host, catalog: Catalog): void {
  const ids = new Set(catalog.segments.map(({ header }) => header.id))
  try {
    for (const name of host.list(catalog.directory)) {
      const id = hintedIdOf(name)
      if (isUnfinishedCache(name) || (id !== undefined && !ids.has(id)))
        tryRemove(host, join(catalog.directory, name))
    }
  } catch {
    // They take room and do no harm: the next open tries again.
  }
}

/** Once a segment is dropped its hint is of no use; what can't be removed goes with the next open. */
export async function removeHint(host: Host, catalog: Catalog, segmentId: number): Promise<void> {
  try {
    await removeLater(host, join(catalog.directory, hintName(segmentId)))
  } catch {
    // As said above; and not every segment has one.
  }
}
