// Through entries in the order of their keys: some dozens of keys at a time are looked up together, so that whoever wants
// a few pays for a few.
import { KEY_AT, WINDOW_BYTES } from '../assembly/layout'
import { compareRanges, GrowableBytes } from './bytes'
import type { KeyCodec, ValueEncoder } from './encoding'
import type { FrozenLookup } from './frozen'
import type { KeyOrder, Run } from './key-order'
import { emptyPlace, type Place } from './keydir/keydir'
import type { Range } from './range'
import type { Reader } from './reader'
import type { Walk } from './walk'
import { Window, type WindowRooms } from './window'

const AT_ONCE_MIN = 8
const KEYS_BYTES = 256
const AT_ONCE_MAX = 512
/** Fewer are as soon read one by one, from the block cache. */
const TOGETHER_MIN = 16
/** Records that are written one behind the other are read together, also if so much lies between them as they take. */
const SPARSE_MAX = 4

export interface OrderWalkRooms extends WindowRooms {
  reader: Reader
}

/** Where one run has got to. */
interface Cursor {
  run: Run
  at: number
  end: number
}

/** A key, and its hash. */
interface Candidate {
  run: Run
  index: number
  hashLow: number
  hashHigh: number
}

interface Found {
  keyAt: number
  keyBytes: number
  place: Place
  /** Its row in the window, or NOWHERE. */
  row: number
}

const NOWHERE = -1

export class OrderWalk implements Walk {
  private cursors: Cursor[]
  private readonly step: 1 | -1
  private left: number
  private readonly candidates: Candidate[] = []
  private readonly keys = new GrowableBytes(KEYS_BYTES)
  private readonly found: Found[] = []
  private count = 0
  private index = 0
  private atOnce = AT_ONCE_MIN
  private touched = 0
  /** undefined until so much is asked for that it pays. */
  private window: Window | undefined
  private readonly ref = { at: 0, bytes: 0, large: undefined }

  /** `runs` hold the keys of `entries`, which are of one moment. `order`: whose runs they are. */
  constructor(
    private readonly rooms: OrderWalkRooms,
    private readonly entries: FrozenLookup,
    private readonly order: KeyOrder,
    runs: readonly Run[],
    range: Range,
    /** Whether nothing but the keys is asked for. */
    private readonly isOfKeys: boolean,
    /** Whether each key of the runs was there. */
    private readonly isExact: boolean,
  ) {
    this.step = range.reverse ? -1 : 1
    this.left = range.limit
    this.cursors = runs.map((run) => {
      const [from, to] = run.within(range)
      return range.reverse ? { run, at: to - 1, end: from - 1 } : { run, at: from, end: to }
    })
    this.dropEnded()
  }

  private get needsNoPlace(): boolean {
    return this.isOfKeys && this.isExact
  }

  private dropEnded(): void {
    for (const cursor of this.cursors) cursor.at = cursor.run.pass(cursor.at, this.step, cursor.end)
    this.cursors = this.cursors.filter(({ at, end }) => at !== end)
  }

  advance(): boolean {
    if (++this.index < this.count) return true
    this.index = 0
    this.count = 0
    this.keys.used = 0
    while (this.count === 0 && this.cursors.length > 0 && this.left > 0) this.lookUp()
    return this.count > 0
  }

  private lookUp(): void {
    const wanted = Math.min(this.atOnce, this.left)
    this.atOnce = Math.min(this.atOnce * 2, AT_ONCE_MAX)
    let asked = 0
    while (asked < wanted && this.cursors.length > 0) this.take(asked++)
    for (let i = 0; i < asked; i++) this.find(this.candidates[i])
    this.left -= this.count
    if (!this.isOfKeys) this.readTogether()
  }

  /** Where the records lie near each other, whatever their order, they are read in one piece. */
  private readTogether(): void {
    const { found, count } = this
    const offsets = new Uint32Array(count)
    let begin = Number.POSITIVE_INFINITY
    let end = 0
    let bytes = 0
    let isOneSegment = true
    for (let i = 0; i < count; i++) {
      const { place } = found[i]
      found[i].row = NOWHERE
      begin = Math.min(begin, place.offset)
      end = Math.max(end, place.offset + place.recordBytes)
      bytes += place.recordBytes
      offsets[i] = place.offset
      if (place.segment !== found[0].place.segment) isOneSegment = false
    }
    const span = end - begin
    if (count < TOGETHER_MIN || !isOneSegment || span > WINDOW_BYTES || span > bytes * SPARSE_MAX) return
    this.window ??= new Window(this.rooms)
    const { window } = this
    window.fill(this.rooms.catalog.at(found[0].place.segment), offsets.sort(), 0, count, span)
    for (let i = 0; i < count; i++) found[i].row = window.rowAt(found[i].place.offset - begin)
  }

  /** Takes the next key from the runs that have it, and its hash. */
  private take(to: number): void {
    const { cursors, step } = this
    let first = cursors[0]
    for (let i = 1; i < cursors.length; i++) if (compare(cursors[i], first) * step < 0) first = cursors[i]
    const { run, at: index } = first
    const { kernels } = this.rooms
    const { bytes } = run
    const at = run.keyAt(index)
    const keyBytes = run.keyBytes(index)
    if (to === this.candidates.length) this.candidates.push({ run, index, hashLow: 0, hashHigh: 0 })
    const candidate = this.candidates[to]
    candidate.run = run
    candidate.index = index
    if (!this.needsNoPlace) {
      for (let i = 0; i < keyBytes; i++) kernels.bytes[KEY_AT + i] = bytes[at + i]
      kernels.call.hashKey(KEY_AT, keyBytes)
      candidate.hashLow = kernels.hashLow
      candidate.hashHigh = kernels.hashHigh
      this.touched ^= this.entries.touch(candidate.hashLow, candidate.hashHigh)
    }
    this.pass(first, bytes, at, keyBytes)
  }

  /** The key is taken, from all runs that have it. */
  private pass(first: Cursor, bytes: Uint8Array, at: number, keyBytes: number): void {
    const { cursors, step } = this
    let hasEnded = false
    for (const cursor of cursors) {
      const isSame =
        cursor === first ||
        compareRanges(
          bytes,
          at,
          keyBytes,
          cursor.run.bytes,
          cursor.run.keyAt(cursor.at),
          keyBytesOf(cursor),
        ) === 0
      if (!isSame) continue
      cursor.at = cursor.run.pass(cursor.at + step, step, cursor.end)
      if (cursor.at === cursor.end) hasEnded = true
    }
    if (hasEnded) this.cursors = cursors.filter(({ at, end }) => at !== end)
  }

  private find({ run, index, hashLow, hashHigh }: Candidate): void {
    const { entries, order } = this
    const at = run.keyAt(index)
    const keyBytes = run.keyBytes(index)
    if (this.needsNoPlace) {
      this.foundAt(run.bytes, at, keyBytes)
      return
    }
    const place = entries.placeOf(hashLow, hashHigh, run.bytes, at, keyBytes)
    if (place === undefined) {
      // Others may still need it who began when it was there; else nobody has to look for it again.
      if (order.readers === 1 && entries.isGone(hashLow, hashHigh, run.bytes, at, keyBytes))
        run.markGone(index)
      return
    }
    const into = this.foundAt(run.bytes, at, keyBytes)
    into.segment = place.segment
    into.offset = place.offset
    into.valueBytes = place.valueBytes
    into.recordBytes = place.recordBytes
    into.isDamaged = place.isDamaged
  }

  /** Adds an entry; its place is still to be filled in. */
  private foundAt(bytes: Uint8Array, at: number, keyBytes: number): Place {
    if (this.count === this.found.length)
      this.found.push({ keyAt: 0, keyBytes: 0, place: emptyPlace(), row: NOWHERE })
    const found = this.found[this.count++]
    found.keyAt = this.keys.append(bytes, at, keyBytes)
    found.keyBytes = keyBytes
    return found.place
  }

  private writeKey(): number {
    const { keyAt, keyBytes } = this.found[this.index]
    const { bytes } = this.rooms.kernels
    const keys = this.keys.bytes
    for (let i = 0; i < keyBytes; i++) bytes[KEY_AT + i] = keys[keyAt + i]
    return keyBytes
  }

  key(codec: KeyCodec): unknown {
    return codec.read(this.rooms.kernels, KEY_AT, this.writeKey())
  }

  value(codec: ValueEncoder): unknown {
    const { kernels, reader } = this.rooms
    const { window, ref } = this
    const { row, place } = this.found[this.index]
    if (window === undefined || row === NOWHERE || place.isDamaged || !this.isSound(window, row)) {
      const keyBytes = this.writeKey()
      return codec.read(kernels, reader.read(place, keyBytes))
    }
    ref.at = window.keyAt(row) + window.keyBytes(row)
    ref.bytes = window.valueBytes(row)
    if (codec.isText && window.isPlain(row)) return window.plainText(ref.at, ref.bytes)
    return codec.read(window, ref)
  }

  /** Whether the window has the record as it should be; else it is read by itself, and told of. */
  private isSound(window: Window, row: number): boolean {
    const { keyAt, keyBytes } = this.found[this.index]
    const at = window.keyAt(row)
    return (
      window.isIntact(row) &&
      compareRanges(window.bytes, at, window.keyBytes(row), this.keys.bytes, keyAt, keyBytes) === 0
    )
  }
}

const keyBytesOf = ({ run, at }: Cursor): number => run.keyBytes(at)

function compare(a: Cursor, b: Cursor): number {
  return compareRanges(
    a.run.bytes,
    a.run.keyAt(a.at),
    keyBytesOf(a),
    b.run.bytes,
    b.run.keyAt(b.at),
    keyBytesOf(b),
  )
}
