// The only views on Wasm memory. One instance a store: its memory holds the store's buffers and block cache.
import { Buffer } from 'node:buffer'
import * as zlib from 'node:zlib'
import {
  KEYED_AT,
  MEMORY_PAGES_MIN,
  READ_AT,
  READ_BYTES,
  RESULT_ADVANCED_BYTES,
  RESULT_AT,
  RESULT_CERTIFIED,
  RESULT_CONSUMED_BYTES,
  RESULT_HASH_HIGH,
  RESULT_HASH_LOW,
  RESULT_NEXT_SEQUENCE,
  RESULT_STOP,
  ROW_EXPIRES_HIGH,
  ROW_EXPIRES_LOW,
  SECRET_AT,
} from '../assembly/layout'
import { TWO_32 } from './bytes'
import { CaskyError } from './errors'
import { KERNELS_BASE64 } from './kernels.wasm'
import { Pool } from './pool'

const PAGE_BYTES = 0x1_0000
const RESULT = RESULT_AT / 4
/** The runtime's own CRC-32, which takes bytes where they are; Node has it from 20.15 on. */
const runtimeCrc: typeof zlib.crc32 | undefined = zlib.crc32

/** The kernels as compiled; addresses and lengths in bytes of the instance's memory. See assembly/. */
export interface KernelCalls {
  copyRows(
    rows: number,
    at: number,
    out: number,
    offset: number,
    salt: number,
    certifiedBytes: number,
    sequenceShift: number,
  ): number
  crc32(seed: number, at: number, bytes: number): number
  djb2xor(at: number, bytes: number): bigint
  sipHash(at: number, bytes: number): bigint
  keyedHash(at: number, bytes: number): number
  hashGroup(from: number, to: number): void
  hashKey(at: number, bytes: number): void
  hashKeys(rows: number): void
  encodeGroup(
    rows: number,
    offset: number,
    salt: number,
    sequence: number,
    timeMs: number,
    certifiedBytes: number,
  ): void
  encodeHeader(
    at: number,
    kind: number,
    keyBytes: number,
    valueBytes: number,
    sequence: number,
    timeMs: number,
    expiresAtMs: number,
    certifiedBytes: number,
    seed: number,
    valueCrc: number,
  ): void
  encodeRecord(
    at: number,
    kind: number,
    keyBytes: number,
    valueBytes: number,
    sequence: number,
    timeMs: number,
    expiresAtMs: number,
    certifiedBytes: number,
    seed: number,
  ): void
  isHeaderValid(at: number, available: number, seed: number): number
  verifyRecord(at: number, available: number, seed: number, keyAt: number, keyBytes: number): number
  verifyRows(rows: number, at: number, available: number, offset: number, salt: number): number
  describe(at: number): void
  find(
    at: number,
    available: number,
    remaining: number,
    fileOffset: number,
    salt: number,
    nextSequence: number,
  ): number
  scan(
    at: number,
    available: number,
    remaining: number,
    fileOffset: number,
    salt: number,
    nextSequence: number,
  ): number
  scanPrefixes(
    at: number,
    available: number,
    remaining: number,
    fileOffset: number,
    salt: number,
    nextSequence: number,
  ): number
}

let compiled: WebAssembly.Module | undefined

const encoder = new TextEncoder()
/** Deno's own Buffer takes twice as long for this as its TextEncoder, and those of the others half as long. */
const HAS_SLOW_BUFFER = 'Deno' in globalThis

function reserve(pages: number): WebAssembly.Memory {
  try {
    return new WebAssembly.Memory({ initial: pages })
  } catch (cause) {
    throw new CaskyError('CASKY_MEMORY', `could not reserve ${pages * PAGE_BYTES} bytes; lower cacheBytes`, {
      expected: pages * PAGE_BYTES,
      cause,
    })
  }
}

/** Where bytes stand that become keys and values. */
export interface Memory {
  readonly bytes: Uint8Array
  /** The same, for turning them into strings. */
  readonly text: Buffer
  /** Bytes of it as the caller's own. */
  copyOut(at: number, bytes: number): Uint8Array
}

export class Kernels implements Memory {
  readonly call: KernelCalls
  readonly bytes: Uint8Array
  readonly words: Uint32Array
  /** The same as signed words, which are small integers to V8 whatever their bits are. */
  readonly ints: Int32Array
  readonly view: DataView
  /** The same memory, for turning its bytes into strings. */
  readonly text: Buffer
  private readonly pool = new Pool()

  /**
   * Reserves the memory once, cache included; it never grows afterwards, since that would detach every view on it.
   * The memory is made here and handed to the module: growing the module's own to the same size takes longer (with
   * 64 MiB of cache 1.1 ms against 0.3 on Node 20).
   */
  constructor(cacheBytes = 0) {
    compiled ??= new WebAssembly.Module(Buffer.from(KERNELS_BASE64, 'base64'))
    const memory = reserve(MEMORY_PAGES_MIN + Math.ceil(cacheBytes / PAGE_BYTES))
    this.call = new WebAssembly.Instance(compiled, { env: { memory } }).exports as unknown as KernelCalls
    this.bytes = new Uint8Array(memory.buffer)
    this.words = new Uint32Array(memory.buffer)
    this.ints = new Int32Array(memory.buffer)
    this.view = new DataView(memory.buffer)
    this.text = Buffer.from(memory.buffer)
  }

  /** What the keyed hash is keyed with: the store's, of 16 bytes; zeros until then. */
  keepSecret(secret: Uint8Array): void {
    this.bytes.set(secret, SECRET_AT)
  }

  /** 24 bits of the keyed hash of a key, wherever it stands. */
  readonly keyedHash = (source: Uint8Array, at: number, keyBytes: number): number => {
    if (source === this.bytes) return this.call.keyedHash(at, keyBytes)
    this.bytes.set(source.subarray(at, at + keyBytes), KEYED_AT)
    return this.call.keyedHash(KEYED_AT, keyBytes)
  }

  get hashLow(): number {
    return this.ints[RESULT + RESULT_HASH_LOW]
  }

  get hashHigh(): number {
    return this.ints[RESULT + RESULT_HASH_HIGH]
  }

  /** When the record of the row that begins at `word` expires. */
  expiryOfRow(word: number): number {
    return this.words[word + ROW_EXPIRES_LOW] + this.words[word + ROW_EXPIRES_HIGH] * TWO_32
  }

  /** Bytes of the memory as the caller's own. */
  copyOut(at: number, bytes: number): Uint8Array {
    return this.pool.copy(this.bytes, this.words, at, bytes)
  }

  /** What the last scan left: how far it came, why it stopped, what it learnt. */
  scanResult(): { consumedBytes: number; stop: number; certifiedBytes: number; nextSequence: number } {
    const words = this.words
    return {
      consumedBytes: words[RESULT + RESULT_CONSUMED_BYTES],
      stop: words[RESULT + RESULT_STOP],
      certifiedBytes: words[RESULT + RESULT_CERTIFIED],
      nextSequence: this.view.getFloat64((RESULT + RESULT_NEXT_SEQUENCE) * 4, true),
    }
  }

  /** How far into the segment the last scan of a hint came. */
  get advancedBytes(): number {
    return this.words[RESULT + RESULT_ADVANCED_BYTES]
  }

  /** Writes text as UTF-8 to `at`, as many whole characters as `bytesMax` have room for; returns their length in bytes. */
  writeText(text: string, at: number, bytesMax: number): number {
    if (HAS_SLOW_BUFFER) return encoder.encodeInto(text, this.bytes.subarray(at, at + bytesMax)).written
    return this.text.write(text, at, bytesMax, 'utf8')
  }

  /** CRC-32 of bytes outside the kernels' memory; may overwrite the read area. */
  crc(bytes: Uint8Array, seed = 0): number {
    if (runtimeCrc !== undefined) return runtimeCrc(bytes, seed)
    let crc = seed
    for (let at = 0; at < bytes.length; at += READ_BYTES) {
      const piece = bytes.subarray(at, at + READ_BYTES)
      this.bytes.set(piece, READ_AT)
      crc = this.call.crc32(crc, READ_AT, piece.length)
    }
    return crc >>> 0
  }
}
