// Opening: from the manifest and its segments to a full keydir. It reads, and changes nothing on disk.
import type { Catalog, Segment } from './catalog'
import { CaskyError } from './errors'
import { join, segmentIdOf, segmentName } from './files'
import type { Health } from './health'
import type { FileHandle, Host } from './host/host'
import type { Kernels } from './kernels'
import type { Ledger } from './ledger'
import type { Manifest, ManifestEntry } from './manifest'
import { checkHeader, expectedOf, forgetCopiedEnds, lastSequenceOf, readRecords, reportMissing } from './pass'

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
  const present = presentFiles(host, catalog, manifest)
  const bytesTotal = totalBytes(host, catalog, present)
  const report: RecoveryReport = { segments: 0, scanned: 0, records: 0, bytesRead: 0, durationMs: 0 }
  for (const entry of manifest.segments) {
    const segment = catalog.add(entry)
    report.segments++
    const isMissing = !present.has(entry.header.id)
    for (const bytesDone of readSegment(rooms, segment, entry, isMissing)) {
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
  forgetCopiedEnds(rooms.health, catalog.segments)
  report.durationMs = host.nowMs() - startedAtMs
  return report
}

/** The ids of the segments whose files are there. A manifest's were made before it, so later ones don't matter. */
function presentFiles(host: Host, catalog: Catalog, manifest: Manifest): Set<number> {
  const named = new Set(manifest.segments.map((entry) => entry.header.id))
  const ids = host.list(catalog.directory).map(segmentIdOf)
  return new Set(ids.filter((id) => id !== undefined && named.has(id)) as number[])
}

function totalBytes(host: Host, catalog: Catalog, present: Set<number>): number {
  let total = 0
  for (const id of present) total += host.inspect(join(catalog.directory, segmentName(id)))?.bytes ?? 0
  return total
}

/** Reads one segment into the keydir; yields how many of its bytes are done. */
function* readSegment(
  rooms: RecoveryRooms,
  segment: Segment,
  entry: ManifestEntry,
  isMissing: boolean,
): Generator<number, void> {
  const { catalog, ledger, health } = rooms
  const nowMs = rooms.host.nowMs()
  // Asking the system for each of very many would take long.
  const file = isMissing ? undefined : openNamed(catalog, segment)
  if (file === undefined) {
    reportMissing(health, segment, entry.bytes, nowMs)
    segment.lastSequence = lastSequenceOf(entry)
    return
  }
  checkHeader(rooms, segment, file, nowMs)
  yield* readRecords(rooms, segment, file, expectedOf(entry), ledger, nowMs)
  // Where some of them can't be read, the manifest goes on telling how many there were.
  if (entry.state !== 'active') segment.records = entry.records
}

/** The segment's file, for the catalog to close; undefined where it is missing. */
function openNamed(catalog: Catalog, segment: Segment): FileHandle | undefined {
  try {
    return catalog.fileOf(segment)
  } catch (error) {
    if (error instanceof CaskyError && error.code === 'CASKY_CORRUPT') return undefined
    throw error
  }
}
