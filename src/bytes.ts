// Small helpers over bytes that several rooms share.
import { Buffer } from 'node:buffer'

export const TWO_32 = 0x1_0000_0000

export function writeU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true)
  view.setUint32(at + 4, Math.floor(value / TWO_32), true)
}

/** Values of 2^53 and more lose precision; every reader checks its field's own bound, which is lower. */
export function readU64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * TWO_32
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

export function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i])
}

/**
 * `value` as a Uint8Array that is what it says: a subclass, or an array of another realm, as a plain view of the same
 * bytes. undefined where it is none.
 */
export function asBytes(value: unknown): Uint8Array | undefined {
  if (!ArrayBuffer.isView(value)) return undefined
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype === Uint8Array.prototype || prototype === Buffer.prototype) return value as Uint8Array
  if (Object.prototype.toString.call(value) !== '[object Uint8Array]') return undefined
  return new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
}

/** Bytewise order; a prefix comes before what it begins. */
export function compareRanges(
  a: Uint8Array,
  aAt: number,
  aBytes: number,
  b: Uint8Array,
  bAt: number,
  bBytes: number,
): number {
  const shared = Math.min(aBytes, bBytes)
  for (let i = 0; i < shared; i++) {
    const difference = a[aAt + i] - b[bAt + i]
    if (difference !== 0) return difference
  }
  return aBytes - bBytes
}

const PIECE_BITS = 12
const PIECE_WORDS = 1 << PIECE_BITS

/** A list of 32-bit numbers as long as memory allows: outside of the heap, and in pieces, so nothing is moved. */
export class GrowableWords {
  private readonly pieces: Uint32Array[] = []
  length = 0

  push(word: number): void {
    const at = this.length & (PIECE_WORDS - 1)
    const piece = this.length >>> PIECE_BITS
    if (piece === this.pieces.length) this.pieces.push(new Uint32Array(PIECE_WORDS))
    this.pieces[piece][at] = word
    this.length++
  }

  /** Keeps a little, for what comes next. */
  clear(): void {
    this.length = 0
    this.pieces.length = Math.min(this.pieces.length, 1)
  }

  at(index: number): number {
    return this.pieces[index >>> PIECE_BITS][index & (PIECE_WORDS - 1)]
  }
}

/** A byte array that grows by half, for data whose length is not known before. */
export class GrowableBytes {
  bytes: Uint8Array
  used = 0

  constructor(capacity = 1024) {
    this.bytes = new Uint8Array(capacity)
  }

  /** Appends `count` bytes of `from` and returns where they begin. */
  append(from: Uint8Array, at: number, count: number): number {
    const begin = this.used
    if (begin + count > this.bytes.length) {
      const grown = new Uint8Array(Math.max(begin + count, Math.ceil(this.bytes.length * 1.5)))
      grown.set(this.bytes.subarray(0, begin))
      this.bytes = grown
    }
    if (count <= 32) {
      for (let i = 0; i < count; i++) this.bytes[begin + i] = from[at + i]
    } else {
      this.bytes.set(from.subarray(at, at + count), begin)
    }
    this.used = begin + count
    return begin
  }
}
