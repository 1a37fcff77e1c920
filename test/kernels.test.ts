import { crc32 as zlibCrc32 } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import {
  FLAG_EXPIRES,
  FOLD_BYTES,
  KEY_AT,
  KEYS_BYTES,
  KIND_DELETE,
  KIND_MARKER,
  KIND_PUT,
  READ_AT,
  ROW_AT,
  ROW_COPIED,
  ROW_KIND,
  ROW_SEQUENCE,
  ROW_VALUE_BYTES,
  ROW_VALUE_DAMAGED,
  ROW_WORDS,
  SCAN_AT,
  SCAN_BYTES,
  SCAN_ROWS_MAX,
  SCAN_TABLE_AT,
  STOP_BAD,
  STOP_LARGE,
  STOP_MORE,
  STOP_TABLE_FULL,
  VERIFY_BAD_HEADER,
  VERIFY_BAD_VALUE,
  VERIFY_OK,
  VERIFY_OTHER_KEY,
} from '../assembly/layout'
import { Kernels } from '../src/kernels'
import { KEYS_AT_ONCE, KeyBatch } from '../src/key-batch'
import { randomFrom } from './support/ground'
import { referenceRecord, slowCrc32, slowDjb2Xor, slowFinalizer, slowSipHash } from './support/reference'

const kernels = new Kernels()
const { bytes, call } = kernels

function randomBytes(random: () => number, length: number): Buffer {
  const made = Buffer.alloc(length)
  for (let i = 0; i < length; i++) made[i] = random() * 256
  return made
}

describe('crc32', () => {
  test('gives the published check value', () => {
    bytes.set(Buffer.from('123456789'), READ_AT)
    expect(call.crc32(0, READ_AT, 9) >>> 0).toBe(0xcbf43926)
  })

  test('equals a bit-at-a-time reference at every length to 3,000 and every alignment', () => {
    const random = randomFrom(1)
    const data = randomBytes(random, 3008)
    for (let alignment = 0; alignment < 8; alignment++) {
      bytes.set(data, READ_AT + alignment)
      let expected = 0
      for (let length = 0; length <= 3000; length++) {
        if (call.crc32(0, READ_AT + alignment, length) >>> 0 !== expected) {
          expect.fail(`length ${length} at alignment ${alignment}`)
        }
        expected = slowCrc32(data.subarray(length, length + 1), expected)
      }
    }
  })

  test('equals zlib on random data, lengths and seeds', () => {
    const random = randomFrom(2)
    for (let round = 0; round < 2000; round++) {
      const data = randomBytes(random, Math.floor(random() * 4000))
      const seed = (random() * 2 ** 32) >>> 0
      const at = READ_AT + Math.floor(random() * 64)
      bytes.set(data, at)
      expect(call.crc32(seed, at, data.length) >>> 0).toBe(zlibCrc32(data, seed))
    }
  })

  test('equals zlib where a long message is folded in parts, at their edges and beside', () => {
    const data = randomBytes(randomFrom(20), 3 * FOLD_BYTES + 1000)
    for (const parts of [1, 2, 3]) {
      for (let length = parts * FOLD_BYTES - 20; length <= parts * FOLD_BYTES + 660; length += 7) {
        const at = READ_AT + (length % 16)
        bytes.set(data.subarray(0, length), at)
        expect(call.crc32(length, at, length) >>> 0).toBe(zlibCrc32(data.subarray(0, length), length))
      }
    }
  })

  test('of bytes outside the memory goes piece by piece', () => {
    const data = randomBytes(randomFrom(3), 1_200_000)
    expect(kernels.crc(data)).toBe(zlibCrc32(data))
  })
})

describe('hash', () => {
  test('djb2-xor gives the values of the C original', () => {
    // h = 5381; h = h * 33 ^ byte, computed by hand for the first two.
    for (const [text, expected] of [
      ['', 5381n],
      ['a', (5381n * 33n) ^ 97n],
      ['ab', (((5381n * 33n) ^ 97n) * 33n) ^ 98n],
    ] as const) {
      bytes.set(Buffer.from(text), KEY_AT)
      expect(BigInt.asUintN(64, call.djb2xor(KEY_AT, text.length))).toBe(expected)
    }
  })

  test('equals a reference in BigInt at every length to 300 and every alignment', () => {
    const data = randomBytes(randomFrom(4), 320)
    for (let alignment = 0; alignment < 8; alignment++) {
      bytes.set(data, KEY_AT + alignment)
      for (let length = 0; length <= 300; length++) {
        const raw = slowDjb2Xor(data.subarray(0, length))
        expect(BigInt.asUintN(64, call.djb2xor(KEY_AT + alignment, length))).toBe(raw)
        call.hashKey(KEY_AT + alignment, length)
        const hash = (BigInt(kernels.hashHigh) << 32n) | BigInt(kernels.hashLow >>> 0)
        expect(BigInt.asUintN(64, hash)).toBe(slowFinalizer(raw))
      }
    }
  })

  test('of keys that are looked for together is that of each', () => {
    const random = randomFrom(5)
    const batch = new KeyBatch(kernels)
    const keys = Array.from({ length: KEYS_AT_ONCE }, (_, i) => randomBytes(random, 1 + ((i * 29) % 900)))
    for (const key of keys) {
      const at = batch.room(key.length)
      bytes.set(key, at)
      batch.add(key.length)
    }
    expect(batch.room(1)).toBe(0)
    batch.hash()
    keys.forEach((key, i) => {
      expect(bytes.subarray(batch.at(i), batch.at(i) + batch.keyBytes(i))).toEqual(new Uint8Array(key))
      bytes.set(key, KEY_AT)
      call.hashKey(KEY_AT, key.length)
      expect([batch.hashLow(i), batch.hashHigh(i)]).toEqual([kernels.hashLow, kernels.hashHigh])
    })
    batch.clear()
    expect(batch.room(KEYS_BYTES + 1)).toBe(0)
    const at = batch.room(KEYS_BYTES)
    bytes.fill(0xff, at, at + KEYS_BYTES)
    batch.add(KEYS_BYTES)
    batch.hash()
    call.hashKey(at, KEYS_BYTES)
    expect([batch.hashLow(0), batch.hashHigh(0)]).toEqual([kernels.hashLow, kernels.hashHigh])
    expect([batch.keyBytes(0), batch.room(1)]).toEqual([KEYS_BYTES, 0])
  })

  test('the finalizer spreads sequential keys over sub-tables', () => {
    const counts = new Uint32Array(4096)
    for (let i = 0; i < 40_960; i++) {
      bytes.set(Buffer.from(`user${String(i).padStart(12, '0')}`), KEY_AT)
      call.hashKey(KEY_AT, 16)
      counts[kernels.hashHigh >>> 20]++
    }
    expect(Math.max(...counts)).toBeLessThan(40)
    expect(counts.filter((count) => count === 0).length).toBeLessThan(20)
  })
})

describe('the keyed hash', () => {
  test('its reference gives what the paper does', () => {
    const count = (bytes: number): Buffer => Buffer.from(Array.from({ length: bytes }, (_, i) => i))
    expect(slowSipHash(2, 4, count(16), count(15))).toBe(0xa129ca6149be45e5n)
  })

  test('is SipHash-1-3 under the secret at every length and alignment', () => {
    const random = randomFrom(3)
    for (const secret of [Buffer.alloc(16), randomBytes(random, 16), Buffer.alloc(16, 0xff)]) {
      kernels.keepSecret(secret)
      for (let alignment = 0; alignment < 8; alignment++) {
        const data = randomBytes(random, 300)
        bytes.set(data, KEY_AT + alignment)
        for (let length = 0; length <= 300; length += alignment === 0 ? 1 : 7) {
          const expected = slowSipHash(1, 3, secret, data.subarray(0, length))
          expect(BigInt.asUintN(64, call.sipHash(KEY_AT + alignment, length))).toBe(expected)
          const low = Number((expected & 0xffff_ffffn) >> 8n)
          expect(kernels.keyedHash(bytes, KEY_AT + alignment, length)).toBe(low)
          expect(kernels.keyedHash(data, 0, length)).toBe(low)
        }
      }
    }
  })
})

/** Encodes a record at `at` of the memory, which will lie at `offset` of a segment with this salt. */
function encode(
  at: number,
  offset: number,
  record: { key: Buffer; value: Buffer; kind?: number; sequence?: number; expiresAtMs?: number },
): number {
  const { key, value, kind = KIND_PUT, sequence = 0, expiresAtMs } = record
  const flags = expiresAtMs === undefined ? 0 : FLAG_EXPIRES
  const keyAt = at + 29 + (flags ? 8 : 0)
  bytes.set(key, keyAt)
  bytes.set(value, keyAt + key.length)
  const seed = (SALT ^ offset) >>> 0
  call.encodeRecord(
    at,
    kind | flags,
    key.length,
    value.length,
    sequence,
    1_700_000_000_123,
    expiresAtMs ?? 0,
    7,
    seed,
  )
  return keyAt + key.length + value.length - at
}

const SALT = 0x9e3779b9
const NO_VALUE = Buffer.alloc(0)

describe('encode and verify', () => {
  test('an encoded record is what the reference reads, at every key and value length to 200', () => {
    const random = randomFrom(5)
    for (let length = 1; length <= 200; length++) {
      const key = randomBytes(random, length)
      const value = randomBytes(random, 200 - length)
      const expiresAtMs = length % 2 ? undefined : 2 ** 40 + length
      const at = READ_AT + (length % 8)
      const total = encode(at, 96, { key, value, sequence: length, expiresAtMs })
      const file = Buffer.alloc(96 + total)
      file.set(bytes.subarray(at, at + total), 96)
      const read = referenceRecord(file, 96, SALT, 1000n)
      expect(read).toMatchObject({
        kind: KIND_PUT,
        sequence: 1000n + BigInt(length),
        timeMs: 1_700_000_000_123n,
        expiresAtMs: expiresAtMs === undefined ? undefined : BigInt(expiresAtMs),
        certifiedBytes: 7,
      })
      expect(read?.key.equals(key)).toBe(true)
      expect(read?.value.equals(value)).toBe(true)
      bytes.set(key, KEY_AT)
      expect(call.verifyRecord(at, total, (SALT ^ 96) >>> 0, KEY_AT, key.length)).toBe(VERIFY_OK)
    }
  })

  test('every single flipped bit is found, as damage to the header or to the value', () => {
    const key = Buffer.from('key')
    const value = Buffer.from('a value')
    const total = encode(READ_AT, 96, { key, value, expiresAtMs: 12345 })
    bytes.set(key, KEY_AT)
    const valueAt = total - value.length
    for (let bit = 0; bit < total * 8; bit++) {
      bytes[READ_AT + (bit >>> 3)] ^= 1 << (bit & 7)
      const verdict = call.verifyRecord(READ_AT, total, (SALT ^ 96) >>> 0, KEY_AT, key.length)
      expect(verdict).toBe(bit >>> 3 >= valueAt ? VERIFY_BAD_VALUE : VERIFY_BAD_HEADER)
      bytes[READ_AT + (bit >>> 3)] ^= 1 << (bit & 7)
    }
  })

  test('a record in another place, or of another segment, is not valid', () => {
    const total = encode(READ_AT, 96, { key: Buffer.from('key'), value: Buffer.from('value') })
    expect(call.isHeaderValid(READ_AT, total, (SALT ^ 96) >>> 0)).toBe(1)
    expect(call.isHeaderValid(READ_AT, total, (SALT ^ 97) >>> 0)).toBe(0)
    expect(call.isHeaderValid(READ_AT, total, (SALT ^ 1 ^ 96) >>> 0)).toBe(0)
  })

  test('an intact record of another key is told apart', () => {
    const total = encode(READ_AT, 96, { key: Buffer.from('key'), value: Buffer.from('value') })
    bytes.set(Buffer.from('kez'), KEY_AT)
    expect(call.verifyRecord(READ_AT, total, (SALT ^ 96) >>> 0, KEY_AT, 3)).toBe(VERIFY_OTHER_KEY)
    expect(call.verifyRecord(READ_AT, total, (SALT ^ 96) >>> 0, KEY_AT, 2)).toBe(VERIFY_OTHER_KEY)
  })

  test('lengths past the bytes at hand are refused before they are read', () => {
    const total = encode(READ_AT, 96, { key: Buffer.from('key'), value: Buffer.from('value') })
    for (let available = 0; available < total; available++) {
      bytes.set(Buffer.from('key'), KEY_AT)
      expect(call.verifyRecord(READ_AT, available, (SALT ^ 96) >>> 0, KEY_AT, 3)).not.toBe(VERIFY_OK)
    }
  })

  test('asserts are kept: a key length beyond its field traps', () => {
    expect(() => call.encodeHeader(READ_AT, KIND_PUT, 0x10000, 0, 0, 0, 0, 0, 0, 0)).toThrow(
      WebAssembly.RuntimeError,
    )
  })
})

describe('scan', () => {
  function row(index: number, word: number): number {
    return kernels.words[SCAN_TABLE_AT / 4 + index * ROW_WORDS + word]
  }

  function fill(count: number): { bytes: number; offsets: number[] } {
    let used = 0
    const offsets: number[] = []
    for (let i = 0; i < count; i++) {
      offsets.push(used)
      used += encode(SCAN_AT + used, 96 + used, {
        key: Buffer.from(`key ${i}`),
        value: i % 3 === 2 ? NO_VALUE : Buffer.from(`value ${i}`),
        kind: i % 3 === 2 ? KIND_DELETE : KIND_PUT,
        sequence: i,
      })
    }
    return { bytes: used, offsets }
  }

  test('hands back a row for each record', () => {
    const { bytes: used, offsets } = fill(300)
    expect(call.scan(SCAN_AT, used, used, 96, SALT, 0)).toBe(300)
    expect(kernels.scanResult()).toEqual({
      consumedBytes: used,
      stop: STOP_MORE,
      certifiedBytes: 7,
      nextSequence: 300,
    })
    offsets.forEach((offset, i) => {
      expect(row(i, ROW_AT)).toBe(offset)
      expect(row(i, ROW_KIND) & 0xff).toBe(i % 3 === 2 ? KIND_DELETE : KIND_PUT)
      expect(row(i, ROW_KIND) >>> 16).toBe(`key ${i}`.length)
      expect(row(i, ROW_VALUE_BYTES)).toBe(i % 3 === 2 ? 0 : `value ${i}`.length)
    })
  })

  test('copies rows with sequence numbers that count from another first one, and from none that can not be', () => {
    const { bytes: used } = fill(3)
    const out = SCAN_AT + 0x1_0000
    const copied = (shift: number): unknown => {
      expect(call.scan(SCAN_AT, used, used, 96, SALT, 0)).toBe(3)
      const last = SCAN_TABLE_AT / 4 + 2 * ROW_WORDS
      kernels.words[last + ROW_KIND] |= ROW_COPIED
      const bytes = call.copyRows(3, SCAN_AT, out, 96, SALT + 1, 7, shift)
      expect(call.scan(out, bytes, bytes, 96, SALT + 1, 0)).toBe(1)
      return row(0, ROW_SEQUENCE)
    }
    expect(copied(0)).toBe(2)
    expect(copied(-2)).toBe(0)
    expect(copied(2 ** 32 - 3)).toBe(2 ** 32 - 1)
    for (const shift of [-3, 2 ** 32 - 2, 2 ** 33])
      expect(() => copied(shift)).toThrow(WebAssembly.RuntimeError)
  })

  test('a window that ends anywhere inside a record asks for more, and goes on where it stopped', () => {
    const { bytes: used, offsets } = fill(3)
    for (let cut = 0; cut < used; cut++) {
      const whole = offsets.filter((_, i) => (offsets[i + 1] ?? used) <= cut).length
      expect(call.scan(SCAN_AT, cut, used, 96, SALT, 0)).toBe(whole)
      const { stop, consumedBytes, nextSequence } = kernels.scanResult()
      expect(stop).toBe(STOP_MORE)
      const rest = call.scan(
        SCAN_AT + consumedBytes,
        used - consumedBytes,
        used - consumedBytes,
        96 + consumedBytes,
        SALT,
        nextSequence,
      )
      expect(rest).toBe(3 - whole)
    }
  })

  test('a segment that ends inside a record stops as bad', () => {
    const { bytes: used, offsets } = fill(3)
    for (let end = offsets[2] + 29; end < used; end++) {
      expect(call.scan(SCAN_AT, end, end, 96, SALT, 0)).toBe(2)
      expect(kernels.scanResult().stop).toBe(STOP_BAD)
    }
  })

  test('a damaged value is marked, and the scan goes on', () => {
    const { bytes: used, offsets } = fill(6)
    bytes[SCAN_AT + offsets[4] - 1] ^= 1 // the last byte of the fourth value
    expect(call.scan(SCAN_AT, used, used, 96, SALT, 0)).toBe(6)
    expect([0, 1, 2, 3, 4, 5].map((i) => (row(i, ROW_KIND) & ROW_VALUE_DAMAGED) !== 0)).toEqual([
      false,
      false,
      false,
      true,
      false,
      false,
    ])
  })

  test('a sequence number that does not grow stops the scan; a marker may repeat the last', () => {
    let used = encode(SCAN_AT, 96, { key: Buffer.from('a'), value: NO_VALUE, sequence: 5 })
    used += encode(SCAN_AT + used, 96 + used, {
      key: NO_VALUE,
      value: NO_VALUE,
      kind: KIND_MARKER,
      sequence: 5,
    })
    const before = used
    used += encode(SCAN_AT + used, 96 + used, { key: Buffer.from('b'), value: NO_VALUE, sequence: 5 })
    expect(call.scan(SCAN_AT, used, used, 96, SALT, 0)).toBe(2)
    expect(kernels.scanResult()).toMatchObject({ stop: STOP_BAD, consumedBytes: before })
  })

  test('a full table stops the scan where the next one begins', () => {
    const { bytes: used, offsets } = fill(SCAN_ROWS_MAX + 2)
    expect(call.scan(SCAN_AT, used, used, 96, SALT, 0)).toBe(SCAN_ROWS_MAX)
    expect(kernels.scanResult()).toMatchObject({
      stop: STOP_TABLE_FULL,
      consumedBytes: offsets[SCAN_ROWS_MAX],
    })
  })

  test('a record longer than the window is named as large once its header is proven', () => {
    const at = SCAN_AT
    bytes.set(Buffer.from('k'), at + 29)
    const valueBytes = SCAN_BYTES
    call.encodeHeader(at, KIND_PUT, 1, valueBytes, 0, 0, 0, 0, (SALT ^ 96) >>> 0, 0)
    expect(call.scan(at, SCAN_BYTES, SCAN_BYTES + 30, 96, SALT, 0)).toBe(0)
    expect(kernels.scanResult().stop).toBe(STOP_LARGE)
    bytes[at + 29] ^= 1
    expect(call.scan(at, SCAN_BYTES, SCAN_BYTES + 30, 96, SALT, 0)).toBe(0)
    expect(kernels.scanResult().stop).toBe(STOP_BAD)
  })

  test('zeros and garbage hold no record', () => {
    const random = randomFrom(6)
    bytes.fill(0, SCAN_AT, SCAN_AT + 4096)
    expect(call.scan(SCAN_AT, 4096, 4096, 96, SALT, 0)).toBe(0)
    expect(kernels.scanResult().stop).toBe(STOP_BAD)
    expect(call.find(SCAN_AT, 4096, 4096, 96, SALT, 0)).toBe(4096)
    bytes.set(randomBytes(random, 65_536), SCAN_AT)
    expect(call.find(SCAN_AT, 65_536, 65_536, 96, SALT, 0)).toBe(65_536)
  })

  test('find skips to the next valid header, wherever it begins', () => {
    for (const gap of [0, 1, 28, 29, 30, 1000, 65_535]) {
      bytes.set(randomBytes(randomFrom(gap), gap), SCAN_AT)
      const total = encode(SCAN_AT + gap, 96 + gap, {
        key: Buffer.from('key'),
        value: Buffer.from('value'),
        sequence: 3,
      })
      expect(call.find(SCAN_AT, gap + total, gap + total, 96, SALT, 0)).toBe(gap)
      // One that is older than what came before is none.
      expect(call.find(SCAN_AT, gap + total, gap + total, 96, SALT, 4)).toBe(gap + total)
    }
  })
})
