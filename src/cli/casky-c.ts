// Reads the log of a C Casky. The format says nowhere which version of its header a record has, nor where the log
// ends: a record is what its CRC proves, under any of the headers that were ever written.

import { Buffer } from 'node:buffer'
import { KEY_BYTES_MAX, VALUE_BYTES_MAX } from '../index'
import { crc32 } from './crc32'
import type { RandomFile } from './files'

/** A CRC-32, the time, maybe the expiry, and two lengths of 32 bits, always the last; little-endian. */
interface Header {
  bytes: number
  hasExpiry: boolean
}

const HEADERS: readonly Header[] = [
  { bytes: 28, hasExpiry: true }, // since 0.40: 64-bit times, in seconds
  { bytes: 20, hasExpiry: false }, // a 64-bit time
  { bytes: 16, hasExpiry: false }, // 0.20 and 0.30: a 32-bit time
]
const HEADER_BYTES_MAX = 28
const HEADER_BYTES_MIN = 16
const CRC_BYTES = 4
const EXPIRY_AT = 12
const MS_PER_SECOND = 1000
const WINDOW_BYTES = 2 ** 20
/** A search works through at most so many times the file's length, so no log can be made to take for ever. */
const WORK_MAX = 16

export type LogEvent =
  /** Key and value are good until the next event. An empty value means that the key was deleted. */
  | { kind: 'record'; offset: number; key: Buffer; value: Buffer; expiresAtMs: number | undefined }
  /** A sound record that no casky store can hold. */
  | { kind: 'unfit'; offset: number; why: string }
  /** Bytes that are no record, with records behind them, or a whole record with a wrong CRC at the end. */
  | { kind: 'damage'; offset: number; bytes: number }
  /** Bytes at the end that never became a record. */
  | { kind: 'torn'; offset: number; bytes: number }
  /** A search has come so far; time to look at other things. */
  | { kind: 'searching'; offset: number }

/** Where a record's parts lie, if it is one. */
interface Extent {
  header: Header
  keyAt: number
  keyBytes: number
  valueAt: number
  end: number
}

export class CaskyCLog {
  readonly #window = Buffer.allocUnsafe(WINDOW_BYTES)
  #windowAt = 0
  #windowBytes = 0
  #header = HEADERS[0]
  /** Bytes read and proven so far: what a search costs. */
  #work = 0
  #hasGivenUp = false

  constructor(private readonly file: RandomFile) {}

  *events(): Generator<LogEvent, void> {
    let offset = 0
    while (offset < this.file.bytes) {
      const extent = this.#recordAt(offset)
      if (extent !== undefined) {
        this.#header = extent.header
        yield this.#take(offset, extent)
        offset = extent.end
        continue
      }
      const next = yield* this.#behindDamage(offset)
      const bytes = next - offset
      yield next < this.file.bytes || this.#hasGivenUp || this.#isWholeToTheEnd(offset)
        ? { kind: 'damage', offset, bytes }
        : { kind: 'torn', offset, bytes }
      offset = next
    }
  }

  /** Bytes of the file; fewer at its end. */
  #read(offset: number, bytes: number): Buffer {
    const end = Math.min(offset + bytes, this.file.bytes)
    const isInside = offset >= this.#windowAt && end <= this.#windowAt + this.#windowBytes
    if (!isInside) {
      this.#windowAt = offset
      this.#windowBytes = this.file.read(this.#window, offset)
      this.#work += this.#windowBytes
    }
    const at = offset - this.#windowAt
    return this.#window.subarray(at, Math.min(end - this.#windowAt, this.#windowBytes))
  }

  /** The parts that a record at `offset` would have, where they fit into the file. */
  #extentAt(offset: number, header: Header): Extent | undefined {
    const bytes = this.#read(offset, HEADER_BYTES_MAX)
    if (bytes.length < header.bytes) return undefined
    const keyBytes = bytes.readUInt32LE(header.bytes - 8)
    const valueBytes = bytes.readUInt32LE(header.bytes - 4)
    const keyAt = offset + header.bytes
    const end = keyAt + keyBytes + valueBytes
    if (end > this.file.bytes) return undefined
    return { header, keyAt, keyBytes, valueAt: keyAt + keyBytes, end }
  }

  /** The record at `offset`, proven by its CRC. */
  #recordAt(offset: number): Extent | undefined {
    // A log has one kind of header throughout, as a rule: the last one is the first to try.
    for (const header of [this.#header, ...HEADERS.filter((other) => other !== this.#header)]) {
      const extent = this.#extentAt(offset, header)
      if (extent !== undefined && this.#isProven(offset, extent)) return extent
    }
    return undefined
  }

  #isProven(offset: number, { end }: Extent): boolean {
    const expected = this.#read(offset, CRC_BYTES).readUInt32LE(0)
    let crc = 0
    for (let at = offset + CRC_BYTES; at < end; ) {
      const piece = this.#read(at, Math.min(WINDOW_BYTES, end - at))
      if (piece.length === 0) return false
      crc = crc32(piece, crc)
      at += piece.length
    }
    this.#work += end - offset
    return crc === expected
  }

  #take(offset: number, extent: Extent): LogEvent {
    const { header, keyAt, keyBytes, valueAt, end } = extent
    const valueBytes = end - valueAt
    if (keyBytes === 0) return { kind: 'unfit', offset, why: 'its key is empty' }
    if (keyBytes > KEY_BYTES_MAX) return { kind: 'unfit', offset, why: `its key has ${keyBytes} bytes` }
    if (valueBytes > VALUE_BYTES_MAX)
      return { kind: 'unfit', offset, why: `its value has ${valueBytes} bytes` }
    const expiresAtMs = header.hasExpiry ? this.#expiryAt(offset) : undefined
    if (end - offset <= WINDOW_BYTES) {
      const record = this.#read(offset, end - offset)
      const key = record.subarray(keyAt - offset, valueAt - offset)
      return { kind: 'record', offset, key, value: record.subarray(valueAt - offset), expiresAtMs }
    }
    const key = Buffer.from(this.#read(keyAt, keyBytes))
    const value = Buffer.allocUnsafeSlow(valueBytes)
    this.file.read(value, valueAt)
    return { kind: 'record', offset, key, value, expiresAtMs }
  }

  /** In milliseconds; what is past all that can be stored is as good as the last of it. */
  #expiryAt(offset: number): number | undefined {
    const seconds = this.#read(offset + EXPIRY_AT, 8).readBigUInt64LE(0)
    if (seconds === 0n) return undefined
    return Math.min(Number(seconds) * MS_PER_SECOND, Number.MAX_SAFE_INTEGER)
  }

  /** Where the next record begins behind a place that holds none; the end of the file if there is none. */
  *#behindDamage(offset: number): Generator<LogEvent, number> {
    // With sound lengths only this one record is lost. Asked first, since its value may hold what looks like a record.
    for (const header of HEADERS) {
      const end = this.#extentAt(offset, header)?.end
      if (end !== undefined && end < this.file.bytes && this.#recordAt(end) !== undefined) return end
    }
    if (this.#isWholeToTheEnd(offset)) return this.file.bytes
    const workMax = this.#work + WORK_MAX * this.file.bytes
    let at = offset + 1
    while (at + HEADER_BYTES_MIN <= this.file.bytes) {
      if (this.#work > workMax) {
        this.#hasGivenUp = true
        break
      }
      const bytes = this.#around(at)
      const isLast = at + bytes.length === this.file.bytes
      const skipped = firstPlausible(bytes, isLast ? HEADER_BYTES_MIN : HEADER_BYTES_MAX)
      at += skipped
      yield { kind: 'searching', offset: at }
      if (skipped + HEADER_BYTES_MIN <= bytes.length && this.#recordAt(at) !== undefined) return at
      at++
    }
    return this.file.bytes
  }

  /** What is in memory from `at` on, of a header's length at least. */
  #around(at: number): Buffer {
    const end = this.#windowAt + this.#windowBytes
    const isEnough = at >= this.#windowAt && (end === this.file.bytes || end - at >= HEADER_BYTES_MAX)
    return this.#read(at, isEnough ? end - at : WINDOW_BYTES)
  }

  /** Whether a record with a key is whole here and ends with the file: then its bytes are wrong, and not missing. */
  #isWholeToTheEnd(offset: number): boolean {
    return HEADERS.some((header) => {
      const extent = this.#extentAt(offset, header)
      return extent !== undefined && extent.keyBytes > 0 && extent.end === this.file.bytes
    })
  }
}

/** The first place where one of the headers has the length of a key; else the last with `headerBytes` behind it. */
function firstPlausible(bytes: Buffer, headerBytes: number): number {
  const last = bytes.length - headerBytes
  for (let at = 0; at < last; at++) {
    for (const header of HEADERS) {
      const high = at + header.bytes - 6
      if (bytes[high] !== 0 || bytes[high + 1] !== 0) continue
      if (bytes[high - 2] !== 0 || bytes[high - 1] !== 0) return at
    }
  }
  return Math.max(0, last)
}
