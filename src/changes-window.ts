// A short part of a segment at a time, for who reads the log forward beside reads and writes. Nothing is kept between
// two parts but where the next one begins, so that all feeds of a store share one set of kernels.
import {
  FLAG_JOINED_TO_NEXT,
  FLAG_JOINED_TO_PREVIOUS,
  KIND_DELETE,
  KIND_MASK,
  KIND_PUT,
  ROW_AT,
  ROW_KIND,
  ROW_SEQUENCE,
  ROW_VALUE_DAMAGED,
  ROW_WORDS,
  SCAN_TABLE_AT,
} from '../assembly/layout'
import { viewOf } from './bytes'
import type { Catalog, Segment } from './catalog'
import type { Host } from './host/host'
import type { Kernels } from './kernels'
import { type ScanEvent, SegmentScan } from './scanner'
import { type RecordFields, recordFields } from './segment'

const TABLE = SCAN_TABLE_AT / 4
/** Taken at a time. Records that are longer are read one by one. */
export const WINDOW_BYTES = 0x1_0000

export interface WindowRooms {
  host: Host
  catalog: Catalog
}

/** Where the next part begins: the offset, and the least sequence number there, counted from the segment's first. */
export interface LogPlace {
  offset: number
  sequence: number
}

/** A put or delete as it stands in the log. */
export interface LogWrite {
  kind: 'put' | 'delete'
  offset: number
  /** All of the record. */
  bytes: number
  sequence: number
  timeMs: number
  expiresAtMs: number | undefined
  joinsPrevious: boolean
  joinsNext: boolean
  isDamaged: boolean
  key: Uint8Array
  value: Uint8Array
}

/** A record whose value is still to be read. */
export interface LargeWrite {
  write: LogWrite
  valueOffset: number
  valueBytes: number
  valueCrc: number
}

export type LogPart =
  | { kind: 'window'; window: LogWindow; next: LogPlace }
  /** Nothing behind `after` was in it. */
  | { kind: 'passed'; next: LogPlace }
  | { kind: 'large'; large: LargeWrite; next: LogPlace }
  | { kind: 'damage'; offset: number; bytes: number; next: LogPlace }
  | { kind: 'end' }

function isWrite(kind: number): boolean {
  return (kind & KIND_MASK) === KIND_PUT || (kind & KIND_MASK) === KIND_DELETE
}

function writeOf(fields: RecordFields, offset: number, first: number, key: Uint8Array): LogWrite {
  const { prefixBytes, valueBytes, sequenceOffset, timeMs, expiresAtMs, kind, flags } = fields
  return {
    kind: kind === 'delete' ? 'delete' : 'put',
    offset,
    bytes: prefixBytes + valueBytes,
    sequence: first + sequenceOffset,
    timeMs,
    expiresAtMs,
    joinsPrevious: (flags & FLAG_JOINED_TO_PREVIOUS) !== 0,
    joinsNext: (flags & FLAG_JOINED_TO_NEXT) !== 0,
    isDamaged: false,
    key,
    value: NO_BYTES,
  }
}

const NO_BYTES = new Uint8Array(0)

/** Records of a segment, copied out of the kernels' memory, and taken apart as they are asked for. */
export class LogWindow {
  private readonly view: DataView
  private at = 0

  constructor(
    private readonly bytes: Uint8Array,
    private readonly offset: number,
    private readonly firstSequence: number,
    /** Where the records of damaged values begin. */
    private readonly damaged: ReadonlySet<number> | undefined,
  ) {
    this.view = viewOf(bytes)
  }

  /** The next put or delete; its key and value stand in the window's bytes. */
  take(): LogWrite | undefined {
    while (this.at < this.bytes.length) {
      const { at } = this
      const fields = recordFields(this.view, at)
      const { prefixBytes, keyBytes, valueBytes } = fields
      const valueAt = at + prefixBytes
      this.at = valueAt + valueBytes
      if (keyBytes === 0) continue
      const key = this.bytes.subarray(valueAt - keyBytes, valueAt)
      const write = writeOf(fields, this.offset + at, this.firstSequence, key)
      write.isDamaged = this.damaged?.has(at) === true
      write.value = this.bytes.subarray(valueAt, this.at)
      return write
    }
    return undefined
  }
}

/**
 * What stands at `from`: records up to the sequence number `lastSequence`, in the first `limitBytes` of the segment.
 * `after`: records up to this sequence number need not be handed out; undefined where all must.
 */
export function readPart(
  { host, catalog }: WindowRooms,
  kernels: Kernels,
  segment: Segment,
  from: LogPlace,
  limitBytes: number,
  lastSequence: number,
  after: number | undefined,
): LogPart {
  if (from.offset >= limitBytes) return { kind: 'end' }
  const { path, header } = segment
  const file = catalog.fileOf(segment)
  const target = {
    file,
    path,
    salt: header.salt,
    fileBytes: host.status(file).bytes,
    decidedBytes: limitBytes,
    fromBytes: from.offset,
    fromSequence: from.sequence,
  }
  const first = (skims: boolean): [ScanEvent | undefined, number] => {
    const scan = new SegmentScan(
      host,
      kernels,
      skims ? { ...target, windowBytes: WINDOW_BYTES, skims } : target,
    )
    for (const event of scan.events()) return [event, scan.validBytes]
    return [undefined, from.offset]
  }
  const [event, endOffset] = first(true)
  if (event === undefined || event.kind === 'torn') return { kind: 'end' }
  if (event.kind === 'damage') {
    // Who skims doesn't look for what is whole behind it.
    const [again] = first(false)
    const { offset, bytes } = again?.kind === 'damage' ? again : event
    return { kind: 'damage', offset, bytes, next: { offset: offset + bytes, sequence: from.sequence } }
  }
  const { at, offset } = event
  if (event.isUnread === true) {
    const fields = recordFields(kernels.view, at)
    const { prefixBytes, keyBytes, valueBytes, valueCrc, sequenceOffset } = fields
    if (header.firstSequence + sequenceOffset > lastSequence) return { kind: 'end' }
    const key = kernels.bytes.slice(at + prefixBytes - keyBytes, at + prefixBytes)
    const write = writeOf(fields, offset, header.firstSequence, key)
    const large = { write, valueOffset: offset + prefixBytes, valueBytes, valueCrc }
    return { kind: 'large', large, next: { offset: endOffset, sequence: sequenceOffset + 1 } }
  }
  return windowOf(kernels, event, endOffset, header.firstSequence, from.sequence, lastSequence, after)
}

function windowOf(
  kernels: Kernels,
  { count, at, offset }: ScanEvent & { kind: 'rows' },
  endOffset: number,
  firstSequence: number,
  fromSequence: number,
  lastSequence: number,
  after: number | undefined,
): LogPart {
  const { words } = kernels
  let bytes = endOffset - offset
  let sequence = fromSequence
  let isJoined = false
  let damaged: Set<number> | undefined
  for (let row = 0, word = TABLE; row < count; row++, word += ROW_WORDS) {
    const kind = words[word + ROW_KIND]
    if (!isWrite(kind)) continue
    if (firstSequence + words[word + ROW_SEQUENCE] > lastSequence) {
      bytes = words[word + ROW_AT]
      break
    }
    if ((kind & ROW_VALUE_DAMAGED) !== 0) {
      damaged ??= new Set()
      damaged.add(words[word + ROW_AT])
    }
    sequence = words[word + ROW_SEQUENCE] + 1
    isJoined = (kind & FLAG_JOINED_TO_NEXT) !== 0
  }
  if (bytes === 0) return { kind: 'end' }
  const next = { offset: offset + bytes, sequence }
  if (after !== undefined && firstSequence + sequence - 1 <= after && !isJoined)
    return { kind: 'passed', next }
  const window = new LogWindow(kernels.bytes.slice(at, at + bytes), offset, firstSequence, damaged)
  return { kind: 'window', window, next }
}
