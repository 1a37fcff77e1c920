// Through entries in the order of the log, of all segments that hold some: neighbours are read together, hundreds at a
// time. At the start it notes where they lie, 31 bits each, and nothing else: what they are stands in the log.
import { KEY_AT, VERIFY_CUT_OFF, WINDOW_BYTES } from '../assembly/layout'
import type { Segment } from './catalog'
import type { KeyCodec, ValueEncoder } from './encoding'
import { CaskyError } from './errors'
import type { Keydir, Place } from './keydir/keydir'
import { OrderedView } from './ordered'
import { EVERYTHING, isInRange, isUnbounded, type Range } from './range'
import type { Reader } from './reader'
import { NEAR_BITS, sortNear } from './sorting'
import type { Walk } from './walk'
import { Window, type WindowRooms } from './window'

/** The first stretch is short, so that whoever wants a few entries waits for no more. */
const FIRST_BYTES = 0x4000
/** Where the next record lies further off than this it is not read together with those before. */
const GAP_BYTES = 0x4000
const TAIL_BYTES = 0x1000
const OFFSETS_MIN = 16
/** Records are sorted, and mostly read, together that begin within so many bytes. */
const STRETCH_BITS = NEAR_BITS

export interface LogWalkRooms extends WindowRooms {
  reader: Reader
}

type Entries = Pick<Keydir, 'forEach' | 'forEachPlace'>

/** Where the records begin that begin within one stretch of a segment. */
class Stretch {
  private list = new Uint32Array(OFFSETS_MIN)
  private count = 0

  constructor(readonly slot: number) {}

  push(offset: number): void {
    if (this.count === this.list.length) {
      const grown = new Uint32Array(this.count * 2)
      grown.set(this.list)
      this.list = grown
    }
    this.list[this.count++] = offset
  }

  sorted(): Uint32Array {
    return sortNear(this.list.subarray(0, this.count))
  }
}

/** An entry that the window does not have as it should be. */
interface Apart {
  place: Place
  key: Uint8Array
}

export class LogWalk implements Walk {
  private readonly window: Window
  private readonly left: Stretch[]
  private readonly damaged = new Set<string>()
  private segment: Segment | undefined
  private offsets: Uint32Array = new Uint32Array(0)
  /** The index of the window's first offset, and that of the first behind it. */
  private first = 0
  private behind = 0
  private row = 0
  private windowBytes = FIRST_BYTES
  /** What the last record of a stretch is thought to take. */
  private tailBytes = TAIL_BYTES
  private apart: Apart | undefined
  private known: OrderedView | undefined
  private readonly ref = { at: 0, bytes: 0, large: undefined }

  /** Of what is in range, and has not expired by `nowMs`. */
  constructor(
    private readonly rooms: LogWalkRooms,
    private readonly entries: Entries,
    range: Range,
    nowMs: number,
  ) {
    this.window = new Window(rooms)
    this.left = this.collect(range, nowMs)
  }

  private collect(range: Range, nowMs: number): Stretch[] {
    const bySlot: (Stretch | undefined)[][] = []
    let { limit } = range
    const add = (segment: number, offset: number, isDamaged: boolean): void => {
      if (limit === 0) return
      limit--
      bySlot[segment] ??= []
      const stretches = bySlot[segment]
      const index = offset >>> STRETCH_BITS
      let stretch = stretches[index]
      if (stretch === undefined) {
        stretch = new Stretch(segment)
        stretches[index] = stretch
      }
      stretch.push(offset)
      if (isDamaged) this.damaged.add(nameOf(segment, offset))
    }
    if (isUnbounded(range)) {
      this.entries.forEachPlace(nowMs, add)
    } else {
      this.entries.forEach(({ segment, offset, isDamaged, expiresAtMs }, keys, at, keyBytes) => {
        if (expiresAtMs !== undefined && expiresAtMs <= nowMs) return
        if (isInRange(range, keys, at, keyBytes)) add(segment, offset, isDamaged)
      })
    }
    // The last comes first.
    return bySlot
      .flat()
      .filter((each) => each !== undefined)
      .reverse()
  }

  advance(): boolean {
    this.apart = undefined
    if (++this.row < this.window.count) return true
    this.first = this.behind
    this.row = 0
    if (this.first === this.offsets.length && !this.enterStretch()) return false
    this.fill()
    return true
  }

  private enterStretch(): boolean {
    const next = this.left.pop()
    this.window.count = 0
    if (next === undefined) return false
    this.segment = this.rooms.catalog.at(next.slot)
    this.offsets = next.sorted()
    this.first = 0
    return true
  }

  private fill(): void {
    const { window, offsets, first, windowBytes } = this
    const segment = this.current()
    const begin = offsets[first]
    const end = begin + windowBytes
    let to = first + 1
    while (to < offsets.length && offsets[to] < end && offsets[to] - offsets[to - 1] <= GAP_BYTES) to++
    const isFull = to < offsets.length && offsets[to] >= end
    const bytes = isFull ? windowBytes : Math.min(offsets[to - 1] - begin + this.tailBytes, WINDOW_BYTES)
    window.fill(segment, offsets, first, to, bytes)
    if (window.count === 0) {
      window.fill(segment, offsets, first, to, WINDOW_BYTES)
    } else if (window.verdict(0) === VERIFY_CUT_OFF) {
      const total = window.prefixBytes(0) + window.valueBytes(0)
      if (total <= WINDOW_BYTES) {
        window.fill(segment, offsets, first, to, total)
        this.tailBytes = total
      }
    }
    this.behind = first + window.count
    this.windowBytes = Math.min(windowBytes * 4, WINDOW_BYTES)
  }

  private current(): Segment {
    if (this.segment !== undefined) return this.segment
    throw new Error('it stands before the first entry')
  }

  /** The entry, where it has to be read by itself: it is long, or damaged. */
  private single(): Apart | undefined {
    const { window, row, damaged } = this
    const isKnownDamage = damaged.size > 0 && damaged.has(this.name())
    if (window.isIntact(row) && !isKnownDamage) return undefined
    const isLong = window.verdict(row) === VERIFY_CUT_OFF
    this.apart ??= isLong && !isKnownDamage ? this.longOne() : this.knownOne()
    return this.apart
  }

  private get offset(): number {
    return this.offsets[this.first + this.row]
  }

  private name(): string {
    return nameOf(this.current().slot, this.offset)
  }

  private longOne(): Apart {
    const { window, row, offset } = this
    const keyAt = window.keyAt(row)
    const valueBytes = window.valueBytes(row)
    const place = {
      segment: this.current().slot,
      offset,
      valueBytes,
      recordBytes: window.prefixBytes(row) + valueBytes,
      expiresAtMs: undefined,
      isDamaged: false,
    }
    return { place, key: window.bytes.slice(keyAt, keyAt + window.keyBytes(row)) }
  }

  /** The log can't be believed here, and the keydir says whose it was. */
  private knownOne(): Apart {
    const { slot, path } = this.current()
    this.known ??= new OrderedView(
      this.entries,
      { ...EVERYTHING, isOrdered: false },
      Number.NEGATIVE_INFINITY,
    )
    const position = this.known.find(slot, this.offset)
    if (position < 0) {
      throw new CaskyError(
        'CASKY_CORRUPT',
        `a record that has been overwritten or deleted meanwhile is damaged: ${path} at byte ${this.offset}`,
        { path, offset: this.offset },
      )
    }
    const { bytes } = this.rooms.kernels
    const keyBytes = this.known.writeKey(position, bytes, KEY_AT)
    return { place: { ...this.known.placeAt(position) }, key: bytes.slice(KEY_AT, KEY_AT + keyBytes) }
  }

  key(codec: KeyCodec): unknown {
    const apart = this.single()
    if (apart !== undefined) return codec.fromBytes(apart.key.slice())
    const { window, row } = this
    const at = window.keyAt(row)
    const bytes = window.keyBytes(row)
    return codec.isText && window.isPlain(row) ? window.plainText(at, bytes) : codec.read(window, at, bytes)
  }

  value(codec: ValueEncoder): unknown {
    const apart = this.single()
    if (apart !== undefined) {
      const { kernels, reader } = this.rooms
      kernels.bytes.set(apart.key, KEY_AT)
      return codec.read(kernels, reader.read(apart.place, apart.key.length))
    }
    const { window, row, ref } = this
    ref.at = window.keyAt(row) + window.keyBytes(row)
    ref.bytes = window.valueBytes(row)
    if (codec.isText && window.isPlain(row)) return window.plainText(ref.at, ref.bytes)
    return codec.read(window, ref)
  }
}

function nameOf(slot: number, offset: number): string {
  return `${slot}:${offset}`
}
