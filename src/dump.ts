// The log, record by record, as it lies on disk: of a whole store, or of one segment.
import {
  FLAG_JOINED_TO_NEXT,
  FLAG_JOINED_TO_PREVIOUS,
  ROW_AT,
  ROW_KIND,
  ROW_VALUE_DAMAGED,
  ROW_WORDS,
  SCAN_TABLE_AT,
} from '../assembly/layout'
import { settledBytes } from './durable'
import { CaskyError, ioError, isOutOfHandles } from './errors'
import { join, MANIFEST, parentOf, resolve, segmentIdOf, segmentName } from './files'
import type { Host } from './host/host'
import { readFully } from './io'
import { Kernels } from './kernels'
import { type ManifestEntry, readManifest } from './manifest'
import { tornTailOf } from './room'
import { SegmentScan } from './scanner'
import {
  decodeSegmentHeader,
  newerFormat,
  type RecordKind,
  recordFields,
  SEGMENT_HEADER_BYTES,
} from './segment'

/** One record of the log, or a stretch of it that is none. */
export interface DumpedRecord {
  file: string
  offset: number
  bytes: number
  kind: RecordKind | 'damage' | 'torn tail'
  sequence: number | undefined
  timeMs: number | undefined
  expiresAtMs: number | undefined
  key: Uint8Array | undefined
  valueBytes: number | undefined
  /** Its place in a batch, if it is in one. */
  batch: 'first' | 'middle' | 'last' | undefined
  /** What is wrong with it, if something is. */
  damage: string | undefined
}

const TABLE = SCAN_TABLE_AT / 4

export function* dump(host: Host, path: string): Generator<DumpedRecord, void> {
  const kernels = new Kernels()
  const target = resolve(path)
  const found = host.inspect(target)
  if (found === undefined)
    throw new CaskyError('CASKY_NOT_FOUND', `there is nothing here: ${target}`, { path: target })
  if (found.kind === 'file') {
    const id = segmentIdOf(target.slice(parentOf(target).length + 1))
    const entry = id === undefined ? undefined : entryOf(host, kernels, parentOf(target), id)
    yield* dumpSegment(host, kernels, target, entry)
    return
  }
  if (found.kind === 'other') checkDirectory(host, target)
  const manifest = readManifest(host, kernels, target)
  if (manifest === undefined) {
    throw new CaskyError('CASKY_NOT_FOUND', `no store here (it has no ${MANIFEST}): ${target}`, {
      path: target,
    })
  }
  for (const [i, entry] of manifest.segments.entries()) {
    // What was copied from behind its end stands in the next one.
    const isEndCopied = manifest.segments[i + 1]?.header.copies?.segmentId === entry.header.id
    yield* dumpSegment(host, kernels, join(target, segmentName(entry.header.id)), entry, isEndCopied)
  }
}

/** A link may lead to a store's directory; a device does not. */
function checkDirectory(host: Host, path: string): void {
  try {
    host.list(path)
  } catch (cause) {
    if (isOutOfHandles(cause)) throw ioError('read the directory', path, cause)
    throw new CaskyError('CASKY_INVALID_PATH', `neither a store nor a segment: ${path}`, { path, cause })
  }
}

/** What the manifest beside a segment says of it, where there is a sound one. */
function entryOf(host: Host, kernels: Kernels, directory: string, id: number): ManifestEntry | undefined {
  try {
    return readManifest(host, kernels, directory)?.segments.find((entry) => entry.header.id === id)
  } catch {
    return undefined
  }
}

function stretch(
  file: string,
  offset: number,
  bytes: number,
  kind: 'damage' | 'torn tail',
  damage: string | undefined,
): DumpedRecord {
  return {
    file,
    offset,
    bytes,
    kind,
    damage,
    sequence: undefined,
    timeMs: undefined,
    expiresAtMs: undefined,
    key: undefined,
    valueBytes: undefined,
    batch: undefined,
  }
}

function* dumpSegment(
  host: Host,
  kernels: Kernels,
  path: string,
  entry: ManifestEntry | undefined,
  isEndCopied = false,
): Generator<DumpedRecord, void> {
  if (host.inspect(path) === undefined) {
    yield stretch(path, 0, entry?.bytes ?? 0, 'damage', 'the manifest names this segment, and it is missing')
    return
  }
  let file: number
  try {
    file = host.open(path, 'read')
  } catch (cause) {
    throw ioError('open a segment', path, cause)
  }
  try {
    const bytes = new Uint8Array(SEGMENT_HEADER_BYTES)
    const decoded = decodeSegmentHeader(
      kernels,
      bytes.subarray(0, readFully(host, file, bytes, 0, bytes.length, 0)),
    )
    if (decoded.header === undefined && decoded.preamble.kind === 'newer')
      throw newerFormat(path, decoded.preamble.version)
    const header = entry?.header ?? decoded.header
    if (header === undefined) {
      throw new CaskyError('CASKY_CORRUPT', `not a segment, or one whose header is damaged: ${path}`, {
        path,
        offset: 0,
      })
    }
    if (decoded.header === undefined)
      yield stretch(path, 0, SEGMENT_HEADER_BYTES, 'damage', 'the segment header is damaged')
    const decidedBytes = entry === undefined || entry.state === 'active' ? undefined : entry.bytes
    // As it is now: another process may be writing.
    const fileBytes =
      decidedBytes === undefined ? settledBytes(host, { path, header }, file) : host.status(file).bytes
    const target = { file, path, salt: header.salt, fileBytes, decidedBytes }
    const scan = new SegmentScan(host, kernels, target)
    for (const event of scan.events()) {
      if (event.kind === 'rows') {
        for (let row = 0; row < event.count; row++) {
          yield dumpRow(kernels, path, header.firstSequence, row, event.at, event.offset)
        }
      } else if (event.kind === 'damage') {
        yield stretch(path, event.offset, event.bytes, 'damage', 'no valid record can be read here')
      }
    }
    if (isEndCopied) return
    const tail = tornTailOf(host, file, { path, header }, decidedBytes ?? scan.validBytes, fileBytes)
    if (tail !== undefined) yield stretch(path, tail.offset, tail.bytes, 'torn tail', undefined)
  } finally {
    host.close(file)
  }
}

function dumpRow(
  kernels: Kernels,
  file: string,
  firstSequence: number,
  row: number,
  at: number,
  offset: number,
): DumpedRecord {
  const word = TABLE + row * ROW_WORDS
  const rowAt = kernels.words[word + ROW_AT]
  const fields = recordFields(kernels.view, at + rowAt)
  const keyAt = at + rowAt + fields.prefixBytes - fields.keyBytes
  const isWrite = fields.keyBytes > 0
  const joinsPrevious = (fields.flags & FLAG_JOINED_TO_PREVIOUS) !== 0
  const joinsNext = (fields.flags & FLAG_JOINED_TO_NEXT) !== 0
  const isValueDamaged = (kernels.words[word + ROW_KIND] & ROW_VALUE_DAMAGED) !== 0
  return {
    file,
    offset: offset + rowAt,
    bytes: fields.prefixBytes + fields.valueBytes,
    kind: fields.kind,
    sequence: firstSequence + fields.sequenceOffset,
    timeMs: fields.timeMs,
    expiresAtMs: fields.expiresAtMs,
    key: isWrite ? kernels.bytes.slice(keyAt, keyAt + fields.keyBytes) : undefined,
    valueBytes: fields.kind === 'put' ? fields.valueBytes : undefined,
    batch: joinsPrevious ? (joinsNext ? 'middle' : 'last') : joinsNext ? 'first' : undefined,
    damage: isValueDamaged ? 'the value does not match its CRC' : undefined,
  }
}
