// Goes through the log write by write, batches whole, and notices every sequence number that is not there.
import type { Segment } from './catalog'
import {
  type LargeWrite,
  type LogPlace,
  type LogWindow,
  type LogWrite,
  readPart,
  type WindowRooms,
} from './changes-window'
import { CaskyError, ioError, isCaskyError } from './errors'
import { readFully } from './io'
import type { Kernels } from './kernels'
import { recordSeed, SEGMENT_HEADER_BYTES } from './segment'

/** Of a large value, so much is read at a time. */
const PIECE_BYTES = 0x10_0000

/** Writes that are not there, though no merge has left them out. */
export interface Loss {
  kind: 'loss'
  path: string
  offset: number
  /** 0 where nothing that can't be read stands in their place. */
  bytes: number
  firstSequence: number
  lastSequence: number
}

export type LogItem = LogWrite | { kind: 'batch'; members: LogWrite[] } | Loss

/** `read`: there may be more to take. `large`: a value is to be read first. `end`: nothing more here by now. */
export type CursorState = 'read' | 'large' | 'end'

export class LogCursor {
  private segment: Segment | undefined
  private place: LogPlace = { offset: SEGMENT_HEADER_BYTES, sequence: 0 }
  private window: LogWindow | undefined
  /** Taken from the window, and not handed out yet. */
  private ahead: LogWrite | undefined
  private large: LargeWrite | undefined
  private members: LogWrite[] = []
  /** What could not be read since the last whole write. */
  private hole: { offset: number; end: number } | undefined
  private loss: Loss | undefined

  constructor(
    private readonly rooms: WindowRooms,
    private readonly kernels: Kernels,
    /** All up to this sequence number was handed out, or is not asked for. */
    public position: number,
  ) {}

  /** Whether something was met here that can't be read, and no write behind it has told what it was. */
  get hasHole(): boolean {
    return this.hole !== undefined
  }

  /** The next write or batch of what was read. */
  take(): LogItem | undefined {
    for (;;) {
      this.ahead ??= this.window?.take()
      const write = this.ahead
      if (write === undefined) {
        this.window = undefined
        const { loss } = this
        this.loss = undefined
        return loss
      }
      const before = this.missingBefore(write)
      if (before !== undefined) return before
      this.ahead = undefined
      const item = this.accept(write)
      if (item !== undefined) return item
    }
  }

  private missingBefore({ sequence, joinsPrevious, offset }: LogWrite): Loss | undefined {
    const last = this.members.at(-1)
    if (last !== undefined) {
      if (joinsPrevious && sequence === last.sequence + 1) return undefined
      this.breakBatch()
    }
    return this.lossUpTo(sequence - 1, offset)
  }

  private accept(write: LogWrite): LogItem | undefined {
    const { sequence, offset, bytes, joinsPrevious, joinsNext } = write
    if (write.isDamaged || (joinsPrevious && this.members.length === 0)) {
      this.breakBatch()
      this.addHole(offset, bytes)
      return this.lossUpTo(sequence, offset)
    }
    if (joinsNext) {
      this.members.push(write)
      return undefined
    }
    const { members } = this
    this.members = []
    if (sequence <= this.position) return undefined
    this.position = sequence
    if (members.length === 0) return write
    members.push(write)
    return { kind: 'batch', members }
  }

  private addHole(offset: number, bytes: number): void {
    const begin = Math.min(offset, this.hole?.offset ?? offset)
    this.hole = { offset: begin, end: Math.max(offset + bytes, this.hole?.end ?? 0) }
  }

  /** A batch with a hole in it is none. */
  private breakBatch(): void {
    for (const { offset, bytes } of this.members) this.addHole(offset, bytes)
    this.members = []
  }

  /** The numbers tell whether a write was lost: a damaged marker costs none. */
  private lossUpTo(sequence: number, offset: number): Loss | undefined {
    const { hole, position, segment } = this
    this.hole = undefined
    if (sequence <= position || segment === undefined) return undefined
    this.position = sequence
    return {
      kind: 'loss',
      path: segment.path,
      offset: hole?.offset ?? offset,
      bytes: hole === undefined ? 0 : hole.end - hole.offset,
      firstSequence: position + 1,
      lastSequence: sequence,
    }
  }

  /** Reads on in the segment, up to its first `limitBytes` and the sequence number `lastSequence`. */
  read(segment: Segment, limitBytes: number, lastSequence: number): CursorState {
    if (this.segment?.header.id !== segment.header.id) {
      this.place = { offset: SEGMENT_HEADER_BYTES, sequence: 0 }
      this.members = []
    }
    this.segment = segment
    const after = this.members.length === 0 && this.hole === undefined ? this.position : undefined
    try {
      const part = readPart(this.rooms, this.kernels, segment, this.place, limitBytes, lastSequence, after)
      if (part.kind === 'end') return 'end'
      this.place = part.next
      if (part.kind === 'window') this.window = part.window
      else if (part.kind === 'damage') this.damage(part.offset, part.bytes)
      if (part.kind !== 'large') return 'read'
      this.large = part.large
      return 'large'
    } catch (error) {
      if (!isCaskyError(error) || error.code !== 'CASKY_CORRUPT') throw error
      // The file is gone.
      this.damage(0, limitBytes)
      this.place = { offset: limitBytes, sequence: 0 }
      return 'end'
    }
  }

  private damage(offset: number, bytes: number): void {
    this.breakBatch()
    this.addHole(offset, bytes)
  }

  /** Reads the value that `read` has left; `rest` lets others run, and says whether to go on. */
  async readLarge(rest: () => Promise<boolean>): Promise<void> {
    const { large, segment } = this
    if (large === undefined || segment === undefined) return
    this.large = undefined
    const { host, catalog } = this.rooms
    const { write, valueOffset, valueBytes, valueCrc } = large
    const value = allocate(valueBytes)
    let crc = recordSeed(segment.header.salt, write.offset)
    for (let done = 0; done < valueBytes; done += PIECE_BYTES) {
      const bytes = Math.min(PIECE_BYTES, valueBytes - done)
      try {
        readFully(host, catalog.fileOf(segment), value, done, bytes, valueOffset + done)
      } catch (cause) {
        throw ioError('read a record', segment.path, cause)
      }
      crc = this.kernels.crc(value.subarray(done, done + bytes), crc)
      if (done + bytes < valueBytes && !(await rest())) {
        // Should it be read again, then from its begin.
        this.place = { offset: write.offset, sequence: write.sequence - segment.header.firstSequence }
        return
      }
    }
    write.value = value
    write.isDamaged = crc >>> 0 !== valueCrc
    this.ahead = write
  }

  /** Nothing more is coming here, up to this sequence number. */
  end(sequence: number): void {
    this.breakBatch()
    this.loss = this.lossUpTo(sequence, this.place.offset)
  }
}

function allocate(bytes: number): Uint8Array {
  try {
    return new Uint8Array(bytes)
  } catch (cause) {
    throw new CaskyError('CASKY_MEMORY', `no memory for a value of ${bytes} bytes`, { got: bytes, cause })
  }
}
