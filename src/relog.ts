// What a crash has left behind the last certified byte is read back from the page cache, and may be nowhere else: a
// sync of it may have failed, the kernel have dropped it, and the process that was told be dead. No later sync would
// say so. So it is copied into a segment of its own, and the old one ends where it is certified; then what is served
// after a crash is there to stay. As in every change, the manifest is the commit point.
import {
  FLAG_EXPIRES,
  FLAG_JOINED_TO_PREVIOUS,
  KIND_DELETE,
  KIND_MASK,
  KIND_PUT,
  ROW_AT,
  ROW_HASH_HIGH,
  ROW_HASH_LOW,
  ROW_KIND,
  ROW_SEQUENCE,
  ROW_VALUE_BYTES,
  ROW_WORDS,
  SCAN_TABLE_AT,
} from '../assembly/layout'
import { GrowableWords } from './bytes'
import type { Catalog, Segment } from './catalog'
import { SegmentCopy } from './copier'
import { type CaskyError, ioError } from './errors'
import { join, segmentName } from './files'
import type { Host } from './host/host'
import { clearName, syncNames, tryRemove } from './io'
import { Kernels } from './kernels'
import type { Ledger } from './ledger'
import type { ManifestEntry } from './manifest'
import { SegmentScan } from './scanner'
import { recordBytes, type SegmentHeader } from './segment'

const TABLE = SCAN_TABLE_AT / 4
/** Walking past so many entries takes as long as looking one up. */
const WALKED_PER_RECORD_MAX = 8

export interface RelogRooms {
  host: Host
  catalog: Catalog
  ledger: Ledger
}

/** Has the manifest name the segments as the catalog holds them now. */
type Publish = (nextSegmentId: number) => void

/** The segment whose end is not certified, if there is one. */
export function uncertifiedTail({ segments }: Catalog): Segment | undefined {
  const tail = segments.at(-1)
  return tail?.state === 'active' && tail.certifiedBytes < tail.bytes ? tail : undefined
}

/**
 * Copies the end of `tail` into a segment of its own, whose header is `header` but for what is known here only. A
 * failure leaves everything as it was.
 */
export function relog(rooms: RelogRooms, tail: Segment, header: SegmentHeader, publish: Publish): void {
  const { host, catalog, ledger } = rooms
  const path = join(catalog.directory, segmentName(header.id))
  const kernels = new Kernels()
  const { bytes, records, lastSequence, certifiedBytes } = tail
  const first = firstBehind(rooms, kernels, tail)
  if (first === 'inside') {
    tail.certifiedBytes = bytes
    return
  }
  if (first === 'nothing') {
    // A marker or a seal, which nobody misses.
    tail.bytes = certifiedBytes
    return
  }
  const previous = { id: tail.header.id, bytes: certifiedBytes, lastSequence: first - 1, isSealed: false }
  const copied = copyEnd(rooms, kernels, tail, { ...header, firstSequence: first, previous }, path)
  let segment: Segment | undefined
  try {
    tail.state = 'closed'
    tail.bytes = tail.certifiedBytes
    tail.records -= copied.entry.records
    tail.lastSequence = first - 1
    segment = catalog.add(copied.entry)
    syncNames(host, catalog.directory)
    publish(header.id + 1)
  } catch (error) {
    // After a failed sync of the directory either manifest may be in force: then the copy has to stay.
    if ((error as CaskyError).code === 'CASKY_POISONED') throw error
    Object.assign(tail, { state: 'active', bytes, records, lastSequence })
    if (segment !== undefined) catalog.removeLast(segment)
    tryRemove(host, path)
    throw error
  }
  const { tombstoneBytes } = copied
  segment.tombstoneBytes += tombstoneBytes
  tail.tombstoneBytes = Math.max(0, tail.tombstoneBytes - tombstoneBytes)
  // What a checkpoint holds lies in what it certifies, or is replayed from the log: nothing of that has moved.
  const { keydir } = ledger
  if (keydir.isFolded || copied.entry.records * WALKED_PER_RECORD_MAX >= keydir.count) {
    ledger.moveAll(tail.slot, segment.slot, movedOffset(copied, certifiedBytes))
  } else {
    movePlaces(rooms, kernels, { ...tail, bytes }, segment.slot, copied.to)
  }
}

/**
 * The sequence number of the first write behind the certified part. `inside`: that part ends within a record or a
 * batch, which no honest log does; such a one stays whole.
 */
function firstBehind(rooms: RelogRooms, kernels: Kernels, tail: Segment): number | 'inside' | 'nothing' {
  const [first] = scanBehind(rooms, kernels, tail).events()
  if (first?.kind !== 'rows') return 'inside'
  for (const { kind, sequence } of writesBehind(rooms, kernels, tail)) {
    return (kind & FLAG_JOINED_TO_PREVIOUS) === 0 ? sequence : 'inside'
  }
  return 'nothing'
}

interface CopiedEnd {
  entry: ManifestEntry
  /** Where each record lay, and where it lies now, in the order of the records. */
  from: GrowableWords
  to: GrowableWords
  /** What deletes in it, and what has expired, count as. */
  tombstoneBytes: number
}

function copyEnd(
  rooms: RelogRooms,
  kernels: Kernels,
  tail: Segment,
  header: SegmentHeader,
  path: string,
): CopiedEnd {
  const { host, catalog } = rooms
  const { salt, firstSequence } = tail.header
  const source = { file: catalog.fileOf(tail), path: tail.path, salt, firstSequence }
  removeLeftover(host, path)
  const copy = SegmentCopy.create(host, path, header)
  const from = new GrowableWords()
  const to = new GrowableWords()
  const nowMs = host.nowMs()
  let tombstoneBytes = 0
  try {
    for (const { word, kind, offset, bytes, keyBytes } of writesBehind(rooms, kernels, tail)) {
      const hasExpired = (kind & FLAG_EXPIRES) !== 0 && kernels.expiryOfRow(word) <= nowMs
      if (hasExpired || (kind & KIND_MASK) === KIND_DELETE) tombstoneBytes += recordBytes(keyBytes, 0, false)
      from.push(offset)
      to.push(copy.append(source, { offset, recordBytes: bytes }))
    }
    return { entry: copy.finish(), from, to, tombstoneBytes }
  } catch (error) {
    copy.discard()
    throw error
  }
}

interface FoundWrite {
  /** Its row in the scan's table. */
  word: number
  kind: number
  offset: number
  bytes: number
  sequence: number
  /** Where its key stands in the kernels' memory. */
  keyAt: number
  keyBytes: number
}

function scanBehind({ host, catalog }: RelogRooms, kernels: Kernels, tail: Segment): SegmentScan {
  const { header, path, bytes, certifiedBytes } = tail
  return new SegmentScan(host, kernels, {
    file: catalog.fileOf(tail),
    path,
    salt: header.salt,
    fileBytes: bytes,
    decidedBytes: bytes,
    fromBytes: certifiedBytes,
  })
}

/** The puts and deletes behind the certified part of `tail`. One object is reused for all. */
function* writesBehind(rooms: RelogRooms, kernels: Kernels, tail: Segment): Generator<FoundWrite> {
  const { header, path } = tail
  const found: FoundWrite = { word: 0, kind: 0, offset: 0, bytes: 0, sequence: 0, keyAt: 0, keyBytes: 0 }
  for (const event of scanBehind(rooms, kernels, tail).events()) {
    // The recovery has just read the same bytes as whole records.
    if (event.kind !== 'rows') throw ioError('read a segment again', path, new Error('it has changed'))
    const { words } = kernels
    for (let row = 0; row < event.count; row++) {
      const word = TABLE + row * ROW_WORDS
      const kind = words[word + ROW_KIND]
      if ((kind & KIND_MASK) !== KIND_PUT && (kind & KIND_MASK) !== KIND_DELETE) continue
      const valueBytes = words[word + ROW_VALUE_BYTES]
      found.word = word
      found.kind = kind
      found.keyBytes = kind >>> 16
      found.bytes = recordBytes(found.keyBytes, valueBytes, (kind & FLAG_EXPIRES) !== 0)
      found.offset = event.offset + words[word + ROW_AT]
      found.sequence = header.firstSequence + words[word + ROW_SEQUENCE]
      found.keyAt = event.at + words[word + ROW_AT] + found.bytes - valueBytes - found.keyBytes
      yield found
    }
  }
}

/** Where the record at an offset lies now; undefined before the first that was copied. */
function movedOffset(
  { from, to }: CopiedEnd,
  certifiedBytes: number,
): (offset: number) => number | undefined {
  // What lies between two records was left out, and there are few such places: a whole stretch has moved by as much.
  const begins: number[] = []
  const shifts: number[] = []
  for (let i = 0; i < from.length; i++) {
    const shift = from.at(i) - to.at(i)
    if (shift === shifts.at(-1)) continue
    begins.push(from.at(i))
    shifts.push(shift)
  }
  return (offset) => {
    if (offset < certifiedBytes) return undefined
    let low = 0
    for (let high = begins.length; high - low > 1; ) {
      const middle = (low + high) >>> 1
      if (begins[middle] <= offset) low = middle
      else high = middle
    }
    return offset - shifts[low]
  }
}

/** Points the keys whose newest record was copied to the copy, each looked up. `tail` is as it was before. */
function movePlaces(
  rooms: RelogRooms,
  kernels: Kernels,
  tail: Segment,
  slot: number,
  offsets: GrowableWords,
): void {
  const { words, bytes } = kernels
  let next = 0
  for (const { word, offset, keyAt, keyBytes } of writesBehind(rooms, kernels, tail)) {
    const to = { segment: slot, offset: offsets.at(next++) }
    const from = { segment: tail.slot, offset }
    rooms.ledger.move(
      words[word + ROW_HASH_LOW],
      words[word + ROW_HASH_HIGH],
      bytes,
      keyAt,
      keyBytes,
      from,
      to,
    )
  }
}

function removeLeftover(host: Host, path: string): void {
  try {
    clearName(host, path)
  } catch (cause) {
    throw ioError('remove what a crash left behind', path, cause)
  }
}
