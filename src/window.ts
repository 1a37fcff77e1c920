// A stretch of a segment, with records that lie near each other: read in one piece, verified in one call, and copied out
// of the kernels' memory, so that it stays while others use that.
import { Buffer } from 'node:buffer'
import {
  READ_AT,
  VERIFY_BAD_HEADER,
  VERIFY_OK,
  WINDOW_BYTES,
  WINDOW_ROW_ASCII,
  WINDOW_ROW_AT,
  WINDOW_ROW_KEY,
  WINDOW_ROW_KEY_AT,
  WINDOW_ROW_VALUE_BYTES,
  WINDOW_ROW_WORDS,
  WINDOW_ROWS_AT,
  WINDOW_ROWS_MAX,
} from '../assembly/layout'
import type { Catalog, Segment } from './catalog'
import { ioError, isCaskyError } from './errors'
import type { Host } from './host/host'
import { readFully } from './io'
import type { Kernels, Memory } from './kernels'
import { Pool } from './pool'

const ROWS = WINDOW_ROWS_AT / 4
const BYTES_MIN = 0x4000
/** What is copied out goes by words, and may begin and end within one. */
const SLACK_BYTES = 8

export interface WindowRooms {
  host: Host
  kernels: Kernels
  catalog: Catalog
}

/** What `toString` comes to, without the way there; the types leave it out. */
interface Text extends Buffer {
  utf8Slice(begin: number, end: number): string
}

const textOf = (bytes: Uint8Array): Text => Buffer.from(bytes.buffer) as Text

export class Window implements Memory {
  bytes = new Uint8Array(0)
  text = textOf(this.bytes)
  private words = new Uint32Array(0)
  private rows = new Uint32Array(0)
  private readonly pool = new Pool()
  /** How many records it holds. */
  count = 0

  constructor(private readonly rooms: WindowRooms) {}

  /**
   * Reads `bytes` bytes of a segment from the first of these offsets on, and verifies the records that begin at them, as
   * many as are wholly there. Of the first one, if that is cut off, it knows the key at least, where `bytes` are enough.
   */
  fill(segment: Segment, offsets: Uint32Array, from: number, to: number, bytes: number): void {
    const { words, call } = this.rooms.kernels
    const begin = offsets[from]
    const asked = Math.min(to - from, WINDOW_ROWS_MAX)
    for (let i = 0; i < asked; i++) words[ROWS + i * WINDOW_ROW_WORDS] = offsets[from + i] - begin
    try {
      this.read(segment, begin, bytes)
    } catch (error) {
      if (!isCaskyError(error) || error.code !== 'CASKY_CORRUPT') throw error
      // There is no file: each entry is told by itself to be damaged.
      this.count = asked
      if (asked * WINDOW_ROW_WORDS > this.rows.length) this.rows = new Uint32Array(asked * WINDOW_ROW_WORDS)
      this.rows.fill(VERIFY_BAD_HEADER << 16)
      return
    }
    this.count = call.verifyRows(asked, READ_AT, bytes, begin, segment.header.salt)
    this.keep(bytes)
  }

  private read(segment: Segment, offset: number, bytes: number): void {
    const { host, kernels, catalog } = this.rooms
    const file = catalog.fileOf(segment)
    try {
      const read = readFully(host, file, kernels.bytes, READ_AT, bytes, offset)
      // What the file doesn't have reads as zeros, which no CRC passes.
      if (read < bytes) kernels.bytes.fill(0, READ_AT + read, READ_AT + bytes)
    } catch (cause) {
      throw ioError('read records', segment.path, cause)
    }
  }

  private keep(bytes: number): void {
    const { kernels } = this.rooms
    if (bytes + SLACK_BYTES > this.bytes.length) this.grow(bytes)
    this.bytes.set(kernels.bytes.subarray(READ_AT, READ_AT + bytes))
    const rowWords = this.count * WINDOW_ROW_WORDS
    if (rowWords > this.rows.length) this.rows = new Uint32Array(rowWords * 2)
    this.rows.set(kernels.words.subarray(ROWS, ROWS + rowWords))
  }

  private grow(bytes: number): void {
    const capacity = bytes <= BYTES_MIN ? BYTES_MIN : WINDOW_BYTES
    const { buffer } = new Uint8Array(capacity + SLACK_BYTES)
    this.bytes = new Uint8Array(buffer)
    this.words = new Uint32Array(buffer)
    this.text = textOf(this.bytes)
  }

  copyOut(at: number, bytes: number): Uint8Array {
    return this.pool.copy(this.bytes, this.words, at, bytes)
  }

  /** What was found of a record: VERIFY_OK, VERIFY_CUT_OFF, or what is wrong with it. */
  verdict(row: number): number {
    return (this.rows[row * WINDOW_ROW_WORDS + WINDOW_ROW_KEY] >>> 16) & 0xff
  }

  isIntact(row: number): boolean {
    return this.verdict(row) === VERIFY_OK
  }

  /** Whether its key and its value are, and are ASCII. */
  isPlain(row: number): boolean {
    return (this.rows[row * WINDOW_ROW_WORDS + WINDOW_ROW_KEY] & WINDOW_ROW_ASCII) !== 0
  }

  /** Bytes that are known to be ASCII, as a string. */
  plainText(at: number, bytes: number): string {
    return this.text.utf8Slice(at, at + bytes)
  }

  /** The row of the record that begins there, from the window's first byte; -1 where it has none. */
  rowAt(offset: number): number {
    const { rows } = this
    let low = 0
    for (let high = this.count; low < high; ) {
      const middle = (low + high) >>> 1
      if (rows[middle * WINDOW_ROW_WORDS + WINDOW_ROW_AT] < offset) low = middle + 1
      else high = middle
    }
    return low < this.count && rows[low * WINDOW_ROW_WORDS + WINDOW_ROW_AT] === offset ? low : -1
  }

  keyAt(row: number): number {
    return this.rows[row * WINDOW_ROW_WORDS + WINDOW_ROW_KEY_AT]
  }

  keyBytes(row: number): number {
    return this.rows[row * WINDOW_ROW_WORDS + WINDOW_ROW_KEY] & 0xffff
  }

  valueBytes(row: number): number {
    return this.rows[row * WINDOW_ROW_WORDS + WINDOW_ROW_VALUE_BYTES]
  }

  /** From the first byte of the record to that of its value. */
  prefixBytes(row: number): number {
    const at = row * WINDOW_ROW_WORDS
    const { rows } = this
    return rows[at + WINDOW_ROW_KEY_AT] + (rows[at + WINDOW_ROW_KEY] & 0xffff) - rows[at + WINDOW_ROW_AT]
  }
}
