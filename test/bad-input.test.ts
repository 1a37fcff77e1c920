// Bad input gets a typed error that says what was wrong, where and what to do, and loses nothing.
import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type Casky, open, openSync } from '../src/index'
import { freshFolder, freshStore } from './support/folders'
import { failure } from './support/ground'

type AnyStore = Casky & Record<string, (...args: unknown[]) => unknown>

function anyStore(options = {}): AnyStore {
  const db = openSync(freshStore(), options) as AnyStore
  db.putSync('kept', 'value')
  return db
}

const LONE = ['\uD800', 'a\uDC00', `${'x'.repeat(100)}\uD800`, '\uDC00\uD800']

describe('keys', () => {
  test.each<[string, unknown]>([
    ['empty', ''],
    ['no bytes', new Uint8Array(0)],
    ['undefined', undefined],
    ['null', null],
    ['a number', 7],
    ['an object', {}],
    ['an array', ['a']],
    ['a DataView', new DataView(new ArrayBuffer(3))],
    ['65,536 characters', 'x'.repeat(65_536)],
    ['65,536 bytes', new Uint8Array(65_536)],
    ['65,536 bytes of UTF-8', 'ü'.repeat(32_768)],
    ...LONE.map((key): [string, unknown] => [`a lone surrogate ${JSON.stringify(key).slice(-10)}`, key]),
  ])('%s', async (_name, key) => {
    const db = anyStore()
    for (const call of ['put', 'putSync', 'get', 'has', 'delete', 'deleteSync', 'expiresAtMs']) {
      expect(await failure(() => db[call](key, 'v'))).toMatchObject({ code: 'CASKY_INVALID_KEY' })
    }
    expect(await failure(() => db.getMany([key as string]))).toMatchObject({ code: 'CASKY_INVALID_KEY' })
    expect(await failure(() => db.batch([{ type: 'put', key: key as string, value: '' }]))).toMatchObject({
      code: 'CASKY_INVALID_KEY',
    })
    expect([...db.entries()]).toEqual([['kept', 'value']])
    db.closeSync()
  })

  test('a promise-returning call rejects, and never throws in passing', () => {
    const db = anyStore()
    for (const call of ['put', 'delete', 'batch', 'flush', 'check', 'expire']) {
      const promise = db[call]('') as Promise<unknown>
      expect(promise).toBeInstanceOf(Promise)
      promise.catch(() => {})
    }
    db.closeSync()
  })

  test('the longest key is fine', () => {
    const db = anyStore()
    for (const key of ['x'.repeat(65_535), `${'ü'.repeat(32_767)}x`]) {
      db.putSync(key, '1')
      expect(db.get(key)).toBe('1')
    }
    db.closeSync()
  })

  test('two strings are never one key: what UTF-8 would fold is refused', () => {
    const db = anyStore()
    db.putSync('\uFFFD', 'the replacement character itself')
    for (const key of LONE) expect(() => db.get(key)).toThrow(/lone surrogate/)
    db.closeSync()
  })

  test("with keyEncoding 'bytes' a string is refused", async () => {
    const db = openSync(freshStore(), { keyEncoding: 'bytes' })
    // @ts-expect-error: bytes are asked for
    expect(await failure(() => db.put('text', '1'))).toMatchObject({ code: 'CASKY_INVALID_KEY' })
    db.closeSync()
  })

  test('a binary key read as text is an error that says so, not another key', async () => {
    const db = anyStore()
    db.putSync(new Uint8Array([0xff, 0xfe]), '1')
    expect(await failure(() => [...db.keys()])).toMatchObject({
      code: 'CASKY_INVALID_KEY',
      message: expect.stringContaining("keyEncoding: 'bytes'"),
    })
    db.closeSync()
  })
})

describe('values', () => {
  test.each<[string, unknown]>([
    ['undefined', undefined],
    ['null', null],
    ['a number', 1],
    ['an object', {}],
    ['a Date', new Date(0)],
    ...LONE.map((value): [string, unknown] => [
      `a lone surrogate ${JSON.stringify(value).slice(-10)}`,
      value,
    ]),
  ])('%s under utf8', async (_name, value) => {
    const db = anyStore()
    for (const call of ['put', 'putSync'])
      expect(await failure(() => db[call]('kept', value))).toMatchObject({ code: 'CASKY_INVALID_VALUE' })
    expect(
      await failure(() =>
        db.batch([
          { type: 'put', key: 'a', value: '1' },
          { type: 'put', key: 'kept', value: value as string },
        ]),
      ),
    ).toMatchObject({
      code: 'CASKY_INVALID_VALUE',
      message: expect.stringContaining('operation 1'),
    })
    expect([...db.entries()]).toEqual([['kept', 'value']])
    db.closeSync()
  })

  test('what JSON cannot write, and what is not JSON when read', async () => {
    const path = freshStore()
    const db = openSync(path, { valueEncoding: 'json' })
    const circle: unknown[] = []
    circle.push(circle)
    for (const value of [undefined, () => 1, Symbol('s'), 1n, circle, new Uint8Array(3)]) {
      expect(await failure(() => db.put('a', value))).toMatchObject({ code: 'CASKY_INVALID_VALUE' })
    }
    db.closeSync()
    const text = openSync(path)
    text.putSync('a', 'not { json')
    text.closeSync()
    const again = openSync(path, { valueEncoding: 'json' })
    expect(await failure(() => again.get('a'))).toMatchObject({ code: 'CASKY_INVALID_VALUE' })
    again.closeSync()
  })

  test('bytes that are no UTF-8 are not silently changed into text', async () => {
    const db = anyStore()
    db.putSync('binary', new Uint8Array([0xff]))
    expect(await failure(() => db.get('binary'))).toMatchObject({
      code: 'CASKY_INVALID_VALUE',
      message: expect.stringContaining('bytes'),
    })
    db.closeSync()
  })

  test('a string under bytes; what a codec returns that is no bytes; what it throws', async () => {
    const bytes = openSync(freshStore(), { valueEncoding: 'bytes' })
    // @ts-expect-error: bytes are asked for
    expect(await failure(() => bytes.put('a', 'text'))).toMatchObject({ code: 'CASKY_INVALID_VALUE' })
    bytes.closeSync()
    const codec = {
      encode: (value: unknown) => {
        if (value === 'throw') throw new Error('of the codec')
        return value as Uint8Array
      },
      decode: () => {
        throw new Error('on the way back')
      },
    }
    const own = openSync(freshStore(), { valueEncoding: codec })
    expect(await failure(() => own.put('a', 'text'))).toMatchObject({ code: 'CASKY_INVALID_VALUE' })
    expect(await failure(() => own.put('a', 'throw'))).toMatchObject({
      code: 'CASKY_INVALID_VALUE',
      cause: { message: 'of the codec' },
    })
    own.putSync('a', new Uint8Array(1))
    expect(await failure(() => own.get('a'))).toMatchObject({
      code: 'CASKY_INVALID_VALUE',
      cause: { message: 'on the way back' },
    })
    own.closeSync()
  })

  test('a value over 1 GiB is refused by its limit, before it is copied', async () => {
    const db = openSync(freshStore(), { valueEncoding: 'bytes' })
    const huge = new Uint8Array(2 ** 30 + 1)
    expect(await failure(() => db.put('huge', huge))).toMatchObject({
      code: 'CASKY_INVALID_VALUE',
      message: expect.stringContaining('1073741824'),
    })
    expect(db.size).toBe(0)
    db.closeSync()
  })
})

describe('ttl', () => {
  test.each([0, -1, Number.NaN, 1.5, Number.POSITIVE_INFINITY, '100', null, 2 ** 53, true])(
    '%s',
    async (ttl) => {
      const db = anyStore()
      for (const options of [{ ttlMs: ttl }, { expiresAtMs: ttl }]) {
        expect(await failure(() => db.put('kept', 'v', options as object))).toMatchObject({
          code: 'CASKY_INVALID_TTL',
        })
        expect(
          await failure(() => db.batch([{ type: 'put', key: 'kept', value: 'v', ...(options as object) }])),
        ).toMatchObject({ code: 'CASKY_INVALID_TTL' })
      }
      expect(db.get('kept')).toBe('value')
      db.closeSync()
    },
  )

  test('both at once', async () => {
    const db = anyStore()
    expect(await failure(() => db.put('a', '1', { ttlMs: 1, expiresAtMs: 1 }))).toMatchObject({
      code: 'CASKY_INVALID_TTL',
    })
    db.closeSync()
  })
})

const HOURS = "option 'merge.windowHours' is two different whole hours from 0 to 24, such as [2, 5]"

describe('options', () => {
  test.each([
    [{ snyc: 'always' }, "'sync'"],
    [{ readonly: true }, "'readOnly'"],
    [{ valueEncodign: 'json' }, "'valueEncoding'"],
    [{ maxSegmentByte: 4096 }, "'maxSegmentBytes'"],
    [{ sync: 'allways' }, "'always'"],
    [{ valueEncoding: 'buffer' }, "'bytes'"],
    [{ keyEncoding: 'json' }, "'utf8'"],
    [{ sync: { everyMS: 5 } }, "'everyMs'"],
    [{ sync: { everyMs: 0 } }, 'milliseconds'],
    [{ sync: {} }, 'everyMs'],
    [{ sync: 1 }, "'always'"],
    [{ readOnly: 'yes' }, 'true or false'],
    [{ maxSegmentBytes: 4095 }, '4096'],
    [{ maxSegmentBytes: 2 ** 31 + 1 }, 'bytes'],
    [{ maxSegmentBytes: '1 MB' }, 'bytes'],
    [{ cacheBytes: -1 }, 'bytes'],
    [{ valueEncoding: { encode: 1 } }, 'encode'],
    [{ onProgress: 1 }, 'function'],
    [{ signal: {} }, 'AbortSignal'],
    [{ qqqqqqqqqq: 1 }, 'known are'],
    [
      { sync: { everyMs: 1.5 } },
      "option 'sync.everyMs' is a whole number of milliseconds from 1 to 86400000, not 1.5",
    ],
    [{ merge: true }, "option 'merge' is false or an object, not true"],
    [{ merge: [2, 5] }, "option 'merge' is false or an object, not [2, 5]"],
    [
      { merge: { windowHour: [2, 5] } },
      "option 'merge' has no option 'windowHour'; did you mean 'windowHours'?",
    ],
    [{ merge: { windowHours: [25, 3] } }, `${HOURS}, not [25, 3]`],
    [{ merge: { windowHours: [-1, 3] } }, `${HOURS}, not [-1, 3]`],
    [{ merge: { windowHours: [1.5, 3] } }, `${HOURS}, not [1.5, 3]`],
    [{ merge: { windowHours: [3, 3] } }, `${HOURS}, not [3, 3]`],
    [{ merge: { windowHours: [3] } }, `${HOURS}, not [3]`],
    [{ merge: { windowHours: ['2', '5'] } }, `${HOURS}, not an array`],
    [{ merge: { windowHours: { from: 2, to: 5 } } }, `${HOURS}, not an object`],
    [{ merge: { windowHours: '2-5' } }, `${HOURS}, not '2-5'`],
    [{ merge: { deadRatio: 25 } }, "option 'merge.deadRatio' is a number above 0 and up to 1, not 25"],
    [
      { merge: { triggerDeadRatio: 0 } },
      "option 'merge.triggerDeadRatio' is a number above 0 and up to 1, not 0",
    ],
    [
      { merge: { triggerSmallSegments: 1 } },
      "option 'merge.triggerSmallSegments' is a whole number of segments from 2",
    ],
    [{ merge: { deadBytes: '32 MB' } }, "option 'merge.deadBytes' is a whole number of bytes from 1 to"],
    [
      { merge: { maxBytesPerSecond: -1 } },
      "option 'merge.maxBytesPerSecond' is a whole number of bytes from 0 to",
    ],
  ])('%j', async (options, hint) => {
    const path = freshStore()
    for (const call of [() => open(path, options as object), () => openSync(path, options as object)]) {
      expect(await failure(call)).toMatchObject({
        code: 'CASKY_INVALID_OPTION',
        message: expect.stringContaining(hint),
      })
    }
  })

  test('of put, of ranges and of check', async () => {
    const db = anyStore()
    expect(await failure(() => db.put('a', '1', { ttl: 5 } as object))).toMatchObject({
      code: 'CASKY_INVALID_OPTION',
      message: expect.stringContaining("'ttlMs'"),
    })
    expect(await failure(() => db.put('a', '1', 5 as never))).toMatchObject({
      code: 'CASKY_INVALID_ARGUMENT',
    })
    for (const call of ['entries', 'keys', 'values']) {
      expect(await failure(() => db[call]({ prefx: 'a' }))).toMatchObject({
        code: 'CASKY_INVALID_OPTION',
        message: expect.stringContaining("'prefix'"),
      })
      expect(await failure(() => db[call]({ limit: -1 }))).toMatchObject({ code: 'CASKY_INVALID_OPTION' })
      expect(await failure(() => db[call]({ gt: 'a', gte: 'b' }))).toMatchObject({
        code: 'CASKY_INVALID_OPTION',
      })
      expect(await failure(() => db[call]({ gt: 5 }))).toMatchObject({ code: 'CASKY_INVALID_KEY' })
    }
    expect(await failure(() => db.check({ onProgres: 1 } as object))).toMatchObject({
      code: 'CASKY_INVALID_OPTION',
    })
    expect(await failure(() => db.getMany('a' as never))).toMatchObject({ code: 'CASKY_INVALID_ARGUMENT' })
    db.closeSync()
  })

  test('of a batch', async () => {
    const db = anyStore()
    for (const [batch, hint] of [
      ['no array', 'array'],
      [[1], 'operation 0'],
      [
        [
          { type: 'put', key: 'a', value: '1' },
          { type: 'set', key: 'a', value: '1' },
        ],
        'operation 1',
      ],
      [[{ type: 'delete', key: 'a' }], "'del'"],
      [[{ type: 'put', key: 'a', value: '1', tllMs: 5 }], "'ttlMs'"],
      [[{ type: 'del', key: 'a', value: '1' }], 'del'],
      [[null], 'operation 0'],
    ] as const) {
      expect(await failure(() => db.batch(batch as never))).toMatchObject({
        code: 'CASKY_INVALID_BATCH',
        message: expect.stringContaining(hint),
      })
    }
    expect([...db.entries()]).toEqual([['kept', 'value']])
    db.closeSync()
  })
})

describe('paths', () => {
  test.each([undefined, null, 5, '', 'a\0b', {}])('%s', async (path) => {
    expect(await failure(() => open(path as string))).toMatchObject({ code: 'CASKY_INVALID_PATH' })
    expect(await failure(() => openSync(path as string))).toMatchObject({ code: 'CASKY_INVALID_PATH' })
  })

  test('a file, below a file, another program’s directory', async () => {
    const folder = freshFolder()
    const file = join(folder, 'file')
    writeFileSync(file, 'text')
    expect(await failure(() => open(file))).toMatchObject({ code: 'CASKY_INVALID_PATH', path: file })
    expect(await failure(() => open(join(file, 'below')))).toMatchObject({ code: 'CASKY_INVALID_PATH' })
    expect(await failure(() => open(folder))).toMatchObject({
      code: 'CASKY_NOT_A_STORE',
      path: folder,
      got: 'file',
    })
    expect(readFileSync(file, 'utf8')).toBe('text')
    const levelDb = join(freshFolder(), 'other')
    mkdirSync(levelDb)
    writeFileSync(join(levelDb, 'MANIFEST'), 'something else entirely, of another program')
    expect(await failure(() => open(levelDb))).toMatchObject({ code: 'CASKY_NOT_A_STORE' })
  })

  test.skipIf(process.getuid?.() === 0)(
    'an unreadable directory (not as root, whom nothing stops)',
    async () => {
      const folder = freshFolder()
      chmodSync(folder, 0)
      expect(await failure(() => open(folder))).toMatchObject({ code: 'CASKY_INVALID_PATH' })
      chmodSync(folder, 0o700)
    },
  )

  test('a segment that is a symbolic link is not followed', async () => {
    const path = freshStore()
    const db = openSync(path)
    db.putSync('a', '1')
    db.closeSync()
    const segment = join(path, '0000000001.data')
    const elsewhere = join(freshFolder(), 'elsewhere')
    writeFileSync(elsewhere, readFileSync(segment))
    const { rmSync } = await import('node:fs')
    rmSync(segment)
    symlinkSync(elsewhere, segment)
    expect(await failure(() => open(path))).toMatchObject({ code: 'CASKY_IO', path: segment })
  })

  test('a store behind a symbolic link to its directory opens, and is the same store', async () => {
    const path = freshStore()
    const db = openSync(path)
    db.putSync('a', '1')
    const link = join(freshFolder(), 'link')
    symlinkSync(path, link)
    expect(await failure(() => open(link))).toMatchObject({ code: 'CASKY_LOCKED' })
    db.closeSync()
    const linked = await open(link)
    expect(linked.get('a')).toBe('1')
    await linked.close()
  })
})
