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
  ROW_COPIED,
  ROW_HASH_HIGH,
  ROW_HASH_LOW,
  ROW_KIND,
  ROW_SEQUENCE,
  ROW_VALUE_BYTES,
  ROW_VALUE_DAMAGED,
  ROW_WORDS,
  SCAN_TABLE_AT,
} from '../assembly/layout'
import { GrowableBytes, GrowableWords } from './bytes'
import type { Catalog, Segment } from './catalog'
import { COPY_WINDOW_BYTES, type CopySource, damaged, SegmentCopy } from './copier'
import { type CaskyError, invariant, ioError } from './errors'
import { join, segmentName } from './files'
import type { Host } from './host/host'
import { clearName, syncNames, tryRemove } from './io'
import { Kernels } from './kernels'
import type { Ledger } from './ledger'
import type { ManifestEntry } from './manifest'
import { type ScanEvent, SegmentScan } from './scanner'
import { recordBytes, SEGMENT_HEADER_BYTES, type SegmentHeader } from './segment'

const TABLE = SCAN_TABLE_AT / 4
/** Walking past so many entries takes as long as looking one up. */
const WALKED_PER_RECORD_MAX = 8
const LOOKUP_WORDS = 4

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
  const { host, catalog } = rooms
  const path = join(catalog.directory, segmentName(header.id))
  const { bytes, records, lastSequence, certifiedBytes } = tail
  const copied = new EndCopy(rooms, tail, header, path).run()
  if (copied === 'inside') {
    tail.certifiedBytes = bytes
    return
  }
  if (copied === 'nothing') {
    // A marker or a seal, which nobody misses.
    tail.bytes = certifiedBytes
    return
  }
  let segment: Segment | undefined
  try {
    tail.state = 'closed'
    tail.bytes = tail.certifiedBytes
    tail.records -= copied.entry.records
    tail.lastSequence = copied.entry.header.firstSequence - 1
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
  const { tombstoneBytes, moves } = copied
  segment.tombstoneBytes += tombstoneBytes
  tail.tombstoneBytes = Math.max(0, tail.tombstoneBytes - tombstoneBytes)
  moves.apply(tail.slot, segment.slot)
}

interface CopiedEnd {
  entry: ManifestEntry
  moves: Moves
  /** What deletes in it, and what has expired, count as. */
  tombstoneBytes: number
}

type Rows = Extract<ScanEvent, { kind: 'rows' }>

/** Reads the end of `tail`, and copies it as it goes by. */
class EndCopy {
  private readonly kernels = new Kernels()
  private readonly source: CopySource
  private readonly nowMs: number
  private copy: SegmentCopy | undefined
  /** Where the next record will lie. */
  private to = SEGMENT_HEADER_BYTES
  private tombstoneBytes = 0
  private readonly moves: Moves

  constructor(
    private readonly rooms: RelogRooms,
    private readonly tail: Segment,
    private readonly header: SegmentHeader,
    private readonly path: string,
  ) {
    const { salt, firstSequence } = tail.header
    this.source = { file: rooms.catalog.fileOf(tail), path: tail.path, salt, firstSequence }
    this.nowMs = rooms.host.nowMs()
    this.moves = new Moves(rooms.ledger)
  }

  /**
   * `nothing`: there is no write in it. `inside`: the certified part ends within a record or a batch, which no honest log
   * does; such a one stays whole.
   */
  run(): CopiedEnd | 'inside' | 'nothing' {
    try {
      let isFirst = true
      for (const event of this.scan().events()) {
        if (event.kind !== 'rows') {
          if (isFirst && !this.isReadable()) return 'inside'
          // The recovery has read the same bytes as whole records.
          throw ioError('read a segment again', this.tail.path, new Error('it has changed'))
        }
        if (!this.take(event)) return 'inside'
        isFirst = false
      }
      if (this.copy === undefined) return 'nothing'
      const { moves, tombstoneBytes } = this
      return { entry: this.copy.finish(), moves, tombstoneBytes }
    } catch (error) {
      this.copy?.discard()
      throw error
    }
  }

  private scan(): SegmentScan {
    const { rooms, source, tail } = this
    return new SegmentScan(rooms.host, this.kernels, {
      file: source.file,
      path: source.path,
      salt: source.salt,
      fileBytes: tail.bytes,
      decidedBytes: tail.bytes,
      fromBytes: tail.certifiedBytes,
      windowBytes: COPY_WINDOW_BYTES,
      skims: true,
    })
  }

  /** Whether a record begins where the certified part ends, asked once more. */
  private isReadable(): boolean {
    const [first] = this.scan().events()
    return first?.kind === 'rows'
  }

  /** Copies the puts and deletes of a window; false, and nothing is copied, where the first of all goes on a batch. */
  private take({ count, at, offset, isUnread }: Rows): boolean {
    const { source } = this
    const { words } = this.kernels
    const before = this.to
    let records = 0
    for (let row = 0; row < count; row++) {
      const word = TABLE + row * ROW_WORDS
      const kind = words[word + ROW_KIND]
      if ((kind & KIND_MASK) !== KIND_PUT && (kind & KIND_MASK) !== KIND_DELETE) continue
      if (this.copy === undefined) {
        if ((kind & FLAG_JOINED_TO_PREVIOUS) !== 0) return false
        this.copy = this.create(source.firstSequence + words[word + ROW_SEQUENCE])
      }
      const from = offset + words[word + ROW_AT]
      if ((kind & ROW_VALUE_DAMAGED) !== 0) throw damaged(source, { offset: from })
      this.note(word, kind, from, at + words[word + ROW_AT])
      words[word + ROW_KIND] = kind | ROW_COPIED
      records++
    }
    const { copy } = this
    if (records === 0 || copy === undefined) return true
    if (isUnread === true) copy.append(source, { offset, recordBytes: this.to - before })
    else copy.appendRows(source, count, at, records)
    invariant(copy.bytes === this.to, 'copies lie where they are looked for')
    return true
  }

  private create(firstSequence: number): SegmentCopy {
    const { header, path, tail } = this
    const { host } = this.rooms
    const { certifiedBytes } = tail
    const previous = {
      id: tail.header.id,
      bytes: certifiedBytes,
      lastSequence: firstSequence - 1,
      isSealed: false,
    }
    removeLeftover(host, path)
    return SegmentCopy.create(host, path, { ...header, firstSequence, previous }, this.kernels)
  }

  private note(word: number, kind: number, from: number, at: number): void {
    const { kernels, moves, to } = this
    const keyBytes = kind >>> 16
    const expires = (kind & FLAG_EXPIRES) !== 0
    const hasExpired = expires && kernels.expiryOfRow(word) <= this.nowMs
    if (hasExpired || (kind & KIND_MASK) === KIND_DELETE) {
      this.tombstoneBytes += recordBytes(keyBytes, 0, false)
    }
    moves.add(kernels, word, at + recordBytes(0, 0, expires), from, to)
    this.to += recordBytes(keyBytes, kernels.words[word + ROW_VALUE_BYTES], expires)
  }
}

/** Where what was copied lies now. */
class Moves {
  /** What lies between two records is left out, and there are few such places: a whole stretch moves by as much. */
  private readonly begins: number[] = []
  private readonly shifts: number[] = []
  /** The keys, as long as they are few, and LOOKUP_WORDS for each: the hash, its length, and where its record lay. */
  private readonly keys = new GrowableBytes()
  private readonly lookups = new GrowableWords()
  private readonly lookupWordsMax: number

  constructor(private readonly ledger: Ledger) {
    const { keydir } = ledger
    // Looking a key up would bring in what waits in a checkpoint.
    const fewMax = keydir.isFolded ? -1 : keydir.count / WALKED_PER_RECORD_MAX
    this.lookupWordsMax = fewMax * LOOKUP_WORDS
  }

  /** The record of the row that begins at `word`, whose key stands at `keyAt`; in the order in which they lie. */
  add({ words, bytes }: Kernels, word: number, keyAt: number, from: number, to: number): void {
    const { begins, shifts, keys, lookups } = this
    if (shifts.length === 0 || shifts[shifts.length - 1] !== from - to) {
      begins.push(from)
      shifts.push(from - to)
    }
    if (!this.areFew) return
    const keyBytes = words[word + ROW_KIND] >>> 16
    keys.append(bytes, keyAt, keyBytes)
    lookups.push(words[word + ROW_HASH_LOW])
    lookups.push(words[word + ROW_HASH_HIGH])
    lookups.push(keyBytes)
    lookups.push(from)
  }

  private get areFew(): boolean {
    return this.lookups.length <= this.lookupWordsMax
  }

  /** Points the keys whose newest record was copied to the copy. */
  apply(from: number, to: number): void {
    const { ledger, keys, lookups } = this
    if (!this.areFew) {
      // What a checkpoint holds lies in what it certifies, or is replayed from the log: nothing of that has moved.
      ledger.moveAll(from, to, (offset) => this.movedTo(offset))
      return
    }
    let at = 0
    for (let i = 0; i < lookups.length; i += LOOKUP_WORDS) {
      const keyBytes = lookups.at(i + 2)
      const offset = lookups.at(i + 3)
      const moved = { segment: to, offset: this.movedTo(offset) as number }
      ledger.move(
        lookups.at(i),
        lookups.at(i + 1),
        keys.bytes,
        at,
        keyBytes,
        { segment: from, offset },
        moved,
      )
      at += keyBytes
    }
  }

  private movedTo(offset: number): number | undefined {
    const { begins, shifts } = this
    if (offset < begins[0]) return undefined
    let low = 0
    for (let high = begins.length; high - low > 1; ) {
      const middle = (low + high) >>> 1
      if (begins[middle] <= offset) low = middle
      else high = middle
    }
    return offset - shifts[low]
  }
}

function removeLeftover(host: Host, path: string): void {
  try {
    clearName(host, path)
  } catch (cause) {
    throw ioError('remove what a crash left behind', path, cause)
  }
}
