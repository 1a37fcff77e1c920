// Opening: from the manifest and its segments to a full keydir. It reads, and changes nothing on disk.
import type { Catalog, Segment } from './catalog'
import { CaskyError, ioError } from './errors'
import { join, segmentIdOf } from './files'
import type { Health } from './health'
import type { FileHandle, Host } from './host/host'
import { readFully } from './io'
import type { Kernels } from './kernels'
import type { Ledger } from './ledger'
import type { Manifest, ManifestEntry } from './manifest'
import { Replay } from './replay'
import { SegmentScan } from './scanner'
import { decodeSegmentHeader, isSameSegment, newerFormat, SEGMENT_HEADER_BYTES } from './segment'

const SEQUENCES_OF_A_SEGMENT_MAX = 2 ** 27

/** How far opening has come. */
export interface OpenProgress {
  phase: 'open'
  segment: number
  segments: number
  bytesDone: number
  bytesTotal: number
}

export interface RecoveryReport {
  segments: number
  /** How many segments came in by reading all of their records. */
  scanned: number
  records: number
  bytesRead: number
  durationMs: number
}

export interface RecoveryRooms {
  host: Host
  kernels: Kernels
  catalog: Catalog
  ledger: Ledger
  health: Health
}

export function* recover(rooms: RecoveryRooms, manifest: Manifest): Generator<OpenProgress, RecoveryReport> {
  const { host, catalog } = rooms
  const startedAtMs = host.nowMs()
  const bytesTotal = totalBytes(host, catalog, manifest)
  const report: RecoveryReport = { segments: 0, scanned: 0, records: 0, bytesRead: 0, durationMs: 0 }
  for (const entry of manifest.segments) {
    const segment = catalog.add(entry)
    report.segments++
    for (const bytesDone of readSegment(rooms, segment, entry)) {
      const done = report.bytesRead + bytesDone
      yield {
        phase: 'open',
        segment: report.segments,
        segments: manifest.segments.length,
        bytesDone: done,
        bytesTotal,
      }
    }
    report.scanned++
    report.records += segment.records
    report.bytesRead += segment.bytes
  }
  report.durationMs = host.nowMs() - startedAtMs
  return report
}

function totalBytes(host: Host, catalog: Catalog, manifest: Manifest): number {
  const live = new Set(manifest.segments.map((entry) => entry.header.id))
  let total = 0
  for (const name of host.list(catalog.directory)) {
    const id = segmentIdOf(name)
    if (id !== undefined && live.has(id)) total += host.inspect(join(catalog.directory, name))?.bytes ?? 0
  }
  return total
}

/** Reads one segment into the keydir; yields how many of its bytes are done. */
function* readSegment(rooms: RecoveryRooms, segment: Segment, entry: ManifestEntry): Generator<number, void> {
  const { host, kernels, ledger, health } = rooms
  const decidedBytes = entry.state === 'active' ? undefined : entry.bytes
  const decidedLastSequence = decidedBytes === undefined ? undefined : entry.lastSequence
  const nowMs = host.nowMs()
  const file = openOrReport(rooms, segment, entry.bytes)
  if (file === undefined) {
    // Its writes had sequence numbers that nobody knows any more: leave more room than they can have taken.
    if (entry.state === 'active')
      segment.lastSequence = entry.header.firstSequence + SEQUENCES_OF_A_SEGMENT_MAX
    return
  }
  const { bytes: fileBytes } = host.status(file)
  checkHeader(rooms, segment, file, nowMs)
  const replay = new Replay(kernels, ledger, health, segment, nowMs)
  const target = { file, path: segment.path, salt: segment.header.salt, fileBytes, decidedBytes }
  const scan = new SegmentScan(host, kernels, target)
  let validBytes = SEGMENT_HEADER_BYTES
  let damaged = false
  for (const event of scan.events()) {
    if (event.kind === 'rows') {
      replay.rows(event.count, event.at, event.offset)
    } else if (event.kind === 'damage') {
      damaged = true
      replay.damage(event.offset, event.bytes)
    } else {
      validBytes = replay.torn(event.offset)
      health.addTornTail({ path: segment.path, offset: validBytes, bytes: fileBytes - validBytes })
      segment.bytes = validBytes
      return replay.end(undefined)
    }
    validBytes = scan.validBytes
    yield validBytes
  }
  if (decidedBytes === undefined) {
    segment.bytes = replay.torn(validBytes)
    if (segment.bytes < fileBytes) {
      health.addTornTail({ path: segment.path, offset: segment.bytes, bytes: fileBytes - segment.bytes })
    }
  } else {
    segment.bytes = decidedBytes
    if (fileBytes > decidedBytes) {
      health.addTornTail({ path: segment.path, offset: decidedBytes, bytes: fileBytes - decidedBytes })
    }
  }
  replay.end(decidedLastSequence)
  catalogCounts(rooms, segment, entry, damaged, nowMs)
}

/** A closed segment without damage holds as many records as the manifest says. */
function catalogCounts(
  rooms: RecoveryRooms,
  segment: Segment,
  entry: ManifestEntry,
  damaged: boolean,
  nowMs: number,
): void {
  if (entry.state === 'active') return
  if (!damaged && segment.records !== entry.records) {
    rooms.health.addDamage({
      path: segment.path,
      offset: 0,
      bytes: entry.bytes,
      reason: `holds ${segment.records} records where the manifest says ${entry.records}`,
      foundAtMs: nowMs,
    })
  }
  segment.records = entry.records
  segment.lastSequence = Math.max(segment.lastSequence, entry.lastSequence)
}

/** The segment's file; a missing one is reported as `bytes` of damage. */
export function openOrReport(
  rooms: Omit<RecoveryRooms, 'ledger'>,
  segment: Segment,
  bytes: number,
): FileHandle | undefined {
  const { host, catalog, health } = rooms
  try {
    return catalog.fileOf(segment)
  } catch (error) {
    if (!(error instanceof CaskyError) || error.code !== 'CASKY_CORRUPT') throw error
    health.addDamage({
      path: segment.path,
      offset: 0,
      bytes,
      reason: 'the manifest names this segment, and it is missing',
      firstSequence: segment.header.firstSequence,
      lastSequence: segment.state === 'active' ? undefined : segment.lastSequence,
      foundAtMs: host.nowMs(),
    })
    return undefined
  }
}

/** The manifest knows what the header should say, so a damaged one is reported and costs no record. */
export function checkHeader(
  rooms: Omit<RecoveryRooms, 'ledger'>,
  segment: Segment,
  file: FileHandle,
  nowMs: number,
): void {
  const { host, kernels, health } = rooms
  const bytes = new Uint8Array(SEGMENT_HEADER_BYTES)
  let read = 0
  try {
    read = readFully(host, file, bytes, 0, SEGMENT_HEADER_BYTES, 0)
  } catch (cause) {
    throw ioError('read a segment', segment.path, cause)
  }
  const decoded = decodeSegmentHeader(kernels, bytes.subarray(0, read))
  if (decoded.header === undefined && decoded.preamble.kind === 'newer') {
    throw newerFormat(segment.path, decoded.preamble.version)
  }
  if (decoded.header !== undefined && isSameSegment(decoded.header, segment.header)) return
  health.addDamage({
    path: segment.path,
    offset: 0,
    bytes: SEGMENT_HEADER_BYTES,
    reason:
      decoded.header === undefined
        ? 'the segment header is damaged; the manifest stands in for it'
        : 'the file is another segment than its name says',
    foundAtMs: nowMs,
  })
}
