// Verifies every byte of a store that is open, and changes nothing.
import { isEqual } from './bytes'
import type { Catalog, Segment } from './catalog'
import { isCaskyError, isOutOfHandles } from './errors'
import { join, MANIFEST } from './files'
import { Findings, REMEDY_MANIFEST } from './findings'
import type { Health } from './health'
import type { Host } from './host/host'
import { Kernels } from './kernels'
import { encodeManifest, type Manifest, readManifest } from './manifest'
import {
  checkHeader,
  forgetCopiedEnds,
  NOWHERE,
  openToRead,
  type PassRooms,
  readRecords,
  reportMissing,
} from './pass'

/** How far a check has come. */
export interface CheckProgress {
  phase: 'check'
  segment: number
  segments: number
  bytesDone: number
  bytesTotal: number
}

/** The manifest on disk is the one that is in force. */
function checkManifest(
  host: Host,
  kernels: Kernels,
  catalog: Catalog,
  health: Health,
  known: Manifest,
): void {
  const path = join(catalog.directory, MANIFEST)
  const findings = new Findings(health, path, 0, host.nowMs())
  try {
    const found = catalog.withHandles(() => readManifest(host, kernels, catalog.directory))
    if (found === undefined) findings.report(0, 0, 'the manifest is gone', REMEDY_MANIFEST)
    else if (!isSame(kernels, found, known)) {
      findings.report(
        0,
        0,
        `the manifest is number ${found.generation} and not the open store's number ${known.generation}`,
        REMEDY_MANIFEST,
      )
    }
  } catch (error) {
    // What can't be read now need not be damaged.
    if (!isCaskyError(error) || error.code === 'CASKY_IO' || isOutOfHandles(error)) throw error
    findings.report(0, 0, error.message, REMEDY_MANIFEST)
  }
}

function isSame(kernels: Kernels, found: Manifest, known: Manifest): boolean {
  // Ids that were handed out and are in use by nobody yet are not on disk.
  const { nextSegmentId } = found
  if (nextSegmentId > known.nextSegmentId) return false
  return isEqual(encodeManifest(kernels, found), encodeManifest(kernels, { ...known, nextSegmentId }))
}

export function* check(
  host: Host,
  catalog: Catalog,
  health: Health,
  manifest: Manifest,
): Generator<CheckProgress, void> {
  // Kernels of its own: the store's go on working between the steps.
  const kernels = new Kernels()
  checkManifest(host, kernels, catalog, health, manifest)
  const segments = [...catalog.segments]
  yield* checkSegments({ host, kernels, health }, catalog, segments)
  forgetCopiedEnds(health, segments)
}

/** Verifies every byte of these segments, which must stay while it does. */
export function* checkSegments(
  rooms: PassRooms,
  catalog: Catalog,
  given: readonly Segment[],
): Generator<CheckProgress, void> {
  // As they are now: what is written from here on is not looked at.
  const segments = given.map((segment) => ({ ...segment }))
  const bytesTotal = segments.reduce((sum, { bytes }) => sum + bytes, 0)
  let bytesDone = 0
  for (const [i, segment] of segments.entries()) {
    const { bytes } = segment
    for (const done of checkSegment(rooms, catalog, segment)) {
      const progress = { segment: i + 1, segments: segments.length, bytesDone: bytesDone + done, bytesTotal }
      yield { phase: 'check', ...progress }
    }
    bytesDone += bytes
  }
}

function* checkSegment(rooms: PassRooms, catalog: Catalog, segment: Segment): Generator<number, void> {
  const { host, health } = rooms
  const { path, state, bytes, records, lastSequence } = segment
  const nowMs = host.nowMs()
  if (host.inspect(path) === undefined) return reportMissing(health, segment, bytes, nowMs)
  const expected = { bytes, records: state === 'active' ? undefined : records, lastSequence }
  // A handle of its own: the catalog may close the one it lends between two steps.
  const file = catalog.withHandles(() => openToRead(host, path))
  try {
    checkHeader(rooms, segment, file, nowMs)
    // What was written since, or is being written, is no torn tail.
    const shownBytes = state === 'active' ? Math.min(bytes, host.status(file).bytes) : undefined
    yield* readRecords(rooms, segment, file, expected, NOWHERE, nowMs, undefined, shownBytes)
  } finally {
    host.close(file)
  }
}
