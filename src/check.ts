// Verifies every byte of a store that is open, and changes nothing.
import {
  FLAG_EXPIRES,
  KIND_MARKER,
  KIND_MASK,
  RECORD_HEADER_BYTES,
  ROW_AT,
  ROW_KIND,
  ROW_SEQUENCE,
  ROW_VALUE_BYTES,
  ROW_VALUE_DAMAGED,
  ROW_WORDS,
  SCAN_TABLE_AT,
} from '../assembly/layout'
import { isEqual } from './bytes'
import type { Catalog, Segment } from './catalog'
import { CaskyError } from './errors'
import { join, MANIFEST } from './files'
import { Findings } from './findings'
import type { Health } from './health'
import type { Host } from './host/host'
import { Kernels } from './kernels'
import { encodeManifest, type Manifest, readManifest } from './manifest'
import { checkHeader, openOrReport } from './recovery'
import { SegmentScan } from './scanner'
import { recordBytes } from './segment'

/** How far a check has come. */
export interface CheckProgress {
  phase: 'check'
  segment: number
  segments: number
  bytesDone: number
  bytesTotal: number
}

const TABLE = SCAN_TABLE_AT / 4

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
    const found = readManifest(host, kernels, catalog.directory)
    if (found === undefined) findings.report(0, 0, 'the manifest is gone')
    else if (!isEqual(encodeManifest(kernels, found), encodeManifest(kernels, known))) {
      findings.report(
        0,
        0,
        `the manifest is number ${found.generation} and not the open store's number ${known.generation}`,
      )
    }
  } catch (error) {
    if (!(error instanceof CaskyError)) throw error
    findings.report(0, 0, error.message)
  }
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
  const segments = catalog.segments.map((segment) => ({ segment, bytes: segment.bytes }))
  const bytesTotal = segments.reduce((sum, { bytes }) => sum + bytes, 0)
  let bytesDone = 0
  for (const [i, { segment, bytes }] of segments.entries()) {
    for (const done of checkSegment(host, kernels, catalog, health, segment, bytes)) {
      const progress = { segment: i + 1, segments: segments.length, bytesDone: bytesDone + done, bytesTotal }
      yield { phase: 'check', ...progress }
    }
    bytesDone += bytes
  }
}

function* checkSegment(
  host: Host,
  kernels: Kernels,
  catalog: Catalog,
  health: Health,
  segment: Segment,
  bytes: number,
): Generator<number, void> {
  const { header, path, lastSequence } = segment
  const rooms = { host, kernels, catalog, health }
  if (openOrReport(rooms, segment, bytes) === undefined) return
  // A handle of its own: the catalog may close the one it lends between two steps.
  const file = host.open(path, 'read')
  try {
    const nowMs = host.nowMs()
    checkHeader(rooms, segment, file, nowMs)
    const findings = new Findings(health, path, header.firstSequence, nowMs)
    const target = { file, path, salt: header.salt, fileBytes: host.status(file).bytes, decidedBytes: bytes }
    const scan = new SegmentScan(host, kernels, target)
    for (const event of scan.events()) {
      if (event.kind === 'rows') checkRows(kernels, findings, segment, event.count, event.at, event.offset)
      else findings.unreadable(event.offset, event.bytes)
      yield scan.validBytes
    }
    findings.end(lastSequence, RECORD_HEADER_BYTES)
  } finally {
    host.close(file)
  }
}

function checkRows(
  kernels: Kernels,
  findings: Findings,
  segment: Segment,
  count: number,
  at: number,
  offset: number,
): void {
  const { words, bytes } = kernels
  for (let row = 0, word = TABLE; row < count; row++, word += ROW_WORDS) {
    const kind = words[word + ROW_KIND]
    const sequence = segment.header.firstSequence + words[word + ROW_SEQUENCE]
    findings.record(sequence, (kind & KIND_MASK) < KIND_MARKER)
    if ((kind & ROW_VALUE_DAMAGED) === 0) continue
    const keyBytes = kind >>> 16
    const rowAt = words[word + ROW_AT]
    const keyOffset = rowAt + recordBytes(0, 0, (kind & FLAG_EXPIRES) !== 0)
    const key = bytes.slice(at + keyOffset, at + keyOffset + keyBytes)
    findings.damagedValue(sequence, key, offset + keyOffset + keyBytes, words[word + ROW_VALUE_BYTES])
  }
}
