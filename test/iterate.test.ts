// Iterating in any order: through the log in long stretches, whatever lies there, and the iterator itself.
import { rmSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import {
  KIND_PUT,
  READ_AT,
  RECORD_HEADER_BYTES,
  VERIFY_BAD_HEADER,
  VERIFY_BAD_VALUE,
  VERIFY_CUT_OFF,
  VERIFY_OK,
  WINDOW_ROW_ASCII,
  WINDOW_ROWS_AT,
} from '../assembly/layout'
import { open, openSync } from '../src/index'
import { Kernels } from '../src/kernels'
import { sortNear } from '../src/sorting'
import { freshStore } from './support/folders'
import { failure, groundWithClock, openSyncWith, randomFrom } from './support/ground'
import { flipBit, forgetCaches, recordsOf, segmentsOf } from './support/stores'

const any = { order: 'any' } as const
const never = { sync: 'never', merge: false } as const

const SIZES: Record<string, (random: () => number) => number> = {
  'of a hundred bytes': () => 100,
  'of none to three hundred bytes': (random) => Math.floor(random() * 300),
  'of many lengths, some longer than a window': (random) =>
    Math.floor(random() < 0.05 ? random() * 700_000 : random() < 0.5 ? random() * 40_000 : random() * 50),
  'far from each other': () => 20_000,
}

function someValue(random: () => number, length: number): string {
  const letter = random() < 0.1 ? 'ü' : String.fromCharCode(97 + Math.floor(random() * 26))
  return letter.repeat(letter === 'ü' ? length >> 1 : length)
}

describe('in any order', () => {
  for (const [name, sizeOf] of Object.entries(SIZES)) {
    test(`values ${name} come as they are read one by one`, () => {
      const db = openSync(freshStore(), { ...never, maxSegmentBytes: 3_000_000 })
      const random = randomFrom(11)
      const expected = new Map<string, string>()
      for (let i = 0; i < 1500; i++) {
        const key = `${'k'.repeat(random() < 0.01 ? 60_000 : 1)}${Math.floor(random() * 900)}`
        if (random() < 0.2) {
          void db.delete(key)
          expected.delete(key)
          continue
        }
        const value = someValue(random, sizeOf(random))
        void db.put(key, value, random() < 0.2 ? { ttlMs: 1_000_000 } : {})
        expected.set(key, value)
        if (i % 100 === 0) db.flushSync()
      }
      const found = [...db.entries(any)]
      expect(found.length).toBe(expected.size)
      expect(new Map(found)).toEqual(expected)
      expect([...db.values(any)].sort()).toEqual([...expected.values()].sort())
      expect(new Set(db.keys(any))).toEqual(new Set(expected.keys()))
      const inPart = new Map([...expected].filter(([key]) => key.startsWith('k3')))
      expect(new Map(db.entries({ ...any, prefix: 'k3' }))).toEqual(inPart)
      expect(new Set(db.keys({ ...any, prefix: 'k3' }))).toEqual(new Set(inPart.keys()))
      for (const limit of [0, 1, 7]) {
        const few = [...db.entries({ ...any, limit })]
        expect(few.length).toBe(limit)
        for (const [key, value] of few) expect(value).toBe(expected.get(key))
        expect([...db.keys({ ...any, limit })].length).toBe(limit)
      }
      db.closeSync()
    })
  }

  test('bytes, JSON and codecs of the caller get what is theirs', () => {
    const path = freshStore()
    const db = openSync(path, { ...never, valueEncoding: 'json' })
    for (let i = 0; i < 50; i++) db.putSync(`k${i}`, { i })
    expect(new Map(db.entries(any)).get('k7')).toEqual({ i: 7 })
    db.closeSync()
    const bytes = openSync(path, { readOnly: true, keyEncoding: 'bytes', valueEncoding: 'bytes' })
    const found = [...bytes.entries(any)]
    const copy = found.map(([key, value]) => [Buffer.from(key).toString(), Buffer.from(value).toString()])
    for (const [key, value] of found) {
      key.fill(0)
      value.fill(0)
    }
    expect(new Map(copy as [string, string][]).get('k7')).toBe('{"i":7}')
    expect(bytes.get(Buffer.from('k7'))?.length).toBe(7)
    bytes.closeSync()
    // A codec that reads the store while it decodes must not get the bytes of another value.
    const nested = openSync(path, {
      ...never,
      valueEncoding: {
        encode: (value: string) => Buffer.from(value),
        decode: (own: Uint8Array): string => {
          const text = Buffer.from(own).toString()
          if (text !== '{"i":3}') nested.get('k3')
          return text
        },
      },
    })
    expect(new Set(nested.values(any))).toEqual(new Set(copy.map(([, value]) => value)))
    nested.closeSync()
  })

  test('keys and values that are no UTF-8 fail where they are met', async () => {
    const path = freshStore()
    const db = openSync(path, { ...never, keyEncoding: 'bytes', valueEncoding: 'bytes' })
    db.putSync(Buffer.of(97), Buffer.of(0xff))
    db.putSync(Buffer.of(0xff), Buffer.of(97))
    db.closeSync()
    const text = openSync(path, { readOnly: true })
    expect(await failure(() => [...text.values(any)])).toMatchObject({ code: 'CASKY_INVALID_VALUE' })
    expect(await failure(() => [...text.keys(any)])).toMatchObject({ code: 'CASKY_INVALID_KEY' })
    text.closeSync()
  })

  test('it is a view as of the call, through writes, deletes, sweeps, expiry and merges', async () => {
    const clock = { nowMs: 1_700_000_000_000 }
    const db = openSyncWith(groundWithClock(clock), freshStore(), { ...never, maxSegmentBytes: 30_000 })
    const expected = new Map<string, string>()
    for (let i = 0; i < 2000; i++) {
      const key = `k${i % 700}`
      expected.set(key, `before ${i}`)
      void db.put(key, `before ${i}`, i % 5 === 0 ? { ttlMs: 10 } : {})
    }
    const snapshot = db.snapshot()
    const iterators = [db, snapshot].flatMap((each) => [each.entries(any), each.entries()])
    const keys = [db, snapshot].flatMap((each) => [each.keys(any), each.keys()])
    const found = iterators.map((each) => new Map([each.next().value as [string, string]]))
    const foundKeys = keys.map((each) => new Set([each.next().value as string]))
    clock.nowMs += 100
    for (let i = 0; i < 700; i += 3) void (i % 2 === 0 ? db.delete(`k${i}`) : db.put(`k${i}`, 'after'))
    for (let i = 0; i < 300; i++) void db.put(`new ${i}`, 'after')
    await db.expire()
    await db.merge()
    for (const [at, each] of iterators.entries()) for (const [key, value] of each) found[at].set(key, value)
    for (const [at, each] of keys.entries()) for (const key of each) foundKeys[at].add(key)
    for (const each of found) expect(each).toEqual(expected)
    for (const each of foundKeys) expect(each).toEqual(new Set(expected.keys()))
    snapshot.release()
    const named = db.stats().segments.map(({ path }) => path)
    await expect.poll(() => segmentsOf(db.path).filter((path) => !named.includes(path))).toEqual([])
    await db.close()
  })
})

describe('at damage', () => {
  /** `isKnown`: whether the damage was there already when the store was opened. */
  function hurt(byte: (record: { offset: number; bytes: number }) => number, isKnown: boolean) {
    const path = freshStore()
    const db = openSync(path, never)
    for (let i = 0; i < 40; i++) db.putSync(`k${i}`, `value ${i}`)
    db.closeSync()
    const [segment] = segmentsOf(path)
    if (isKnown) forgetCaches(path)
    const before = isKnown ? undefined : openSync(path, { ...never, readOnly: true })
    flipBit(segment, byte(recordsOf(segment)[7]) * 8)
    return before ?? openSync(path, { ...never, readOnly: true })
  }
  const places = {
    'the value': ({ offset, bytes }: { offset: number; bytes: number }) => offset + bytes - 1,
    'the header': ({ offset }: { offset: number }) => offset + 16,
  }
  for (const [name, byte] of Object.entries(places)) {
    test(`of ${name}, met first by iterating, it fails with the key, or goes on without it`, async () => {
      const db = hurt(byte, false)
      const error = await failure(() => [...db.entries(any)])
      expect(error).toMatchObject({ code: 'CASKY_CORRUPT', path: segmentsOf(db.path)[0] })
      expect(Buffer.from(error.key ?? []).toString()).toBe('k7')
      expect(Buffer.from(db.health().damage[0].keys[0]).toString()).toBe('k7')
      const rest = [...db.entries({ ...any, damaged: 'skip' })]
      expect(rest.length).toBe(39)
      for (const [key, value] of rest) expect(value).toBe(`value ${key.slice(1)}`)
      expect([...db.keys(any)].length).toBe(40)
      db.closeSync()
    })
  }

  test('that open has found already, it is the same', async () => {
    const db = hurt(places['the value'], true)
    expect(db.health().ok).toBe(false)
    expect(await failure(() => [...db.values(any)])).toMatchObject({ code: 'CASKY_CORRUPT' })
    expect([...db.values({ ...any, damaged: 'skip' })].length).toBe(39)
    db.closeSync()
  })

  test('of a whole segment that is gone, what the others hold still comes', async () => {
    const path = freshStore()
    const db = openSync(path, { ...never, maxSegmentBytes: 4096 })
    // More segments than are held open.
    for (let i = 0; i < 4500; i++) void db.put(`k${i}`, 'x'.repeat(100))
    db.closeSync()
    const reader = openSync(path, never)
    for (const _ of reader.entries(any));
    rmSync(segmentsOf(path)[1])
    const inOrder = [...reader.entries({ damaged: 'skip' })]
    expect(inOrder.length).toBeGreaterThan(4000)
    expect(inOrder.length).toBeLessThan(4500)
    expect(new Map(reader.entries({ ...any, damaged: 'skip' }))).toEqual(new Map(inOrder))
    expect(await failure(() => [...reader.entries(any)])).toMatchObject({ code: 'CASKY_CORRUPT' })
    reader.closeSync()
  })
})

describe('an iterator', () => {
  test('lets go when it ends, is left, fails, or the store is closed; and stays at its end', async () => {
    const db = await open(freshStore(), { ...never, maxSegmentBytes: 4096 })
    for (let i = 0; i < 200; i++) db.putSync(`k${i}`, 'x'.repeat(50))
    for (const make of [() => db.entries(any), () => db.keys(any), () => db.values(), () => db.keys()]) {
      const ended = make()
      expect([...ended].length).toBe(200)
      const left = make()
      for (const _ of left) break
      const thrown = make()
      thrown.next()
      expect(() => thrown.throw?.(new Error('mine'))).toThrow('mine')
      const returned = make()
      expect(returned.return?.()).toEqual({ value: undefined, done: true })
      {
        using disposed = make() as IterableIterator<unknown> & Disposable
        disposed.next()
      }
      for (const each of [ended, left, thrown, returned])
        expect(each.next()).toEqual({ value: undefined, done: true })
    }
    // Nothing that it held keeps what a merge replaces.
    for (let i = 0; i < 200; i++) db.putSync(`k${i}`, 'y'.repeat(50))
    await db.merge()
    const named = db.stats().segments.map(({ path }) => path)
    await expect.poll(() => segmentsOf(db.path).filter((path) => !named.includes(path))).toEqual([])
    const held = db.entries(any)
    held.next()
    await db.close()
    expect(await failure(() => held.next())).toMatchObject({ code: 'CASKY_CLOSED' })
    expect(held.next()).toEqual({ value: undefined, done: true })
  })

  test('is one of the runtime', () => {
    const db = openSync(freshStore(), never)
    const prototype = Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]()))
    const iterator = db.entries()
    expect(Object.prototype.isPrototypeOf.call(prototype, iterator)).toBe(true)
    expect(iterator[Symbol.iterator]()).toBe(iterator)
    db.closeSync()
  })
})

describe('the kernel that verifies neighbours', () => {
  const SALT = 0x1234_5678
  const OFFSET = 4000
  const kernels = new Kernels()
  const { bytes, words, call } = kernels

  /** Encodes records with these values one behind the other, and names them; returns how many bytes they take. */
  function lay(values: readonly string[], keyOf: (i: number) => string): number {
    let at = 0
    for (const [i, value] of values.entries()) {
      const key = Buffer.from(keyOf(i))
      const text = Buffer.from(value)
      bytes.set(key, READ_AT + at + RECORD_HEADER_BYTES)
      bytes.set(text, READ_AT + at + RECORD_HEADER_BYTES + key.length)
      const seed = SALT ^ (OFFSET + at)
      call.encodeRecord(READ_AT + at, KIND_PUT, key.length, text.length, i, 1, 0, 0, seed)
      words[WINDOW_ROWS_AT / 4 + i * 4] = at
      at += RECORD_HEADER_BYTES + key.length + text.length
    }
    return at
  }
  const verify = (count: number, available: number) => {
    const decided = call.verifyRows(count, READ_AT, available, OFFSET, SALT)
    return Array.from({ length: decided }, (_, i) => {
      const row = WINDOW_ROWS_AT / 4 + i * 4
      const [key, valueBytes, keyAt] = words.subarray(row + 1, row + 4)
      const text = Buffer.from(bytes.subarray(READ_AT + keyAt, READ_AT + keyAt + (key & 0xffff) + valueBytes))
      return { verdict: (key >>> 16) & 0xff, isPlain: (key & WINDOW_ROW_ASCII) !== 0, text: text.toString() }
    })
  }

  test('finds records of every length, alike or not, and tells ASCII from what is not', () => {
    for (let length = 0; length < 300; length++) {
      const values = ['a', 'b', 'c', 'd', 'e'].map((letter, i) => letter.repeat(length + (i === 3 ? 1 : 0)))
      values.push(`${'f'.repeat(length)}ü`, `ü${'g'.repeat(length)}`)
      const found = verify(
        values.length,
        lay(values, (i) => `k${i}`),
      )
      const expected = values.map((value, i) => {
        return { verdict: VERIFY_OK, isPlain: i < 5, text: `k${i}${value}` }
      })
      expect(found).toEqual(expected)
    }
  })

  test('finds any bit that is not as it was, and nothing else', () => {
    const values = ['x'.repeat(20), 'y'.repeat(20), 'z'.repeat(20)]
    const total = lay(values, (i) => `k${i}`)
    const each = total / 3
    for (let bit = 0; bit < total * 8; bit++) {
      const byte = bit >> 3
      bytes[READ_AT + byte] ^= 1 << (bit & 7)
      const verdicts = verify(3, total + 300_000).map(({ verdict }) => verdict)
      const index = Math.floor(byte / each)
      // What the key's length becomes may lead out of the window: then there is no answer for it, or those behind.
      expect(verdicts.slice(0, index)).toEqual(new Array(index).fill(VERIFY_OK))
      const inHeader = byte % each < RECORD_HEADER_BYTES + 2
      if (verdicts.length > index)
        expect(verdicts[index]).toBe(inHeader ? VERIFY_BAD_HEADER : VERIFY_BAD_VALUE)
      if (verdicts.length === 3) {
        expect(verdicts.filter((verdict) => verdict === VERIFY_OK).length).toBe(2)
      }
      bytes[READ_AT + byte] ^= 1 << (bit & 7)
    }
  })

  test('answers for as many as the window holds, and for the first without its value', () => {
    const values = ['x'.repeat(20), 'y'.repeat(20), 'z'.repeat(20)]
    const total = lay(values, (i) => `k${i}`)
    const each = total / 3
    for (let available = 0; available <= total; available++) {
      const verdicts = verify(3, available).map(({ verdict }) => verdict)
      const whole = Math.floor(available / each)
      if (whole > 0) expect(verdicts).toEqual(new Array(whole).fill(VERIFY_OK))
      else expect(verdicts).toEqual(available < RECORD_HEADER_BYTES + 2 ? [] : [VERIFY_CUT_OFF])
    }
  })
})

test('numbers near each other are sorted', () => {
  const random = randomFrom(5)
  for (const count of [0, 1, 63, 64, 5000]) {
    const base = 7 * 2 ** 18
    const numbers = Uint32Array.from({ length: count }, () => base + Math.floor(random() * 2 ** 18))
    expect(sortNear(numbers.slice())).toEqual(numbers.toSorted())
  }
})
