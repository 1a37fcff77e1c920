import { readdirSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { open, openSync } from '../src/index'
import { freshFolder, freshStore } from './support/folders'
import { failure, groundWithClock, openSyncWith } from './support/ground'
import { contentsOf } from './support/stores'

describe('put, get, delete', () => {
  test('a value comes back until it is overwritten or deleted, also after a reopen', async () => {
    const path = freshStore()
    const db = await open(path)
    await db.put('user:1', 'Ada')
    expect(db.get('user:1')).toBe('Ada')
    expect(db.has('user:1')).toBe(true)
    expect(db.size).toBe(1)
    await db.put('user:1', 'Grace')
    expect(db.get('user:1')).toBe('Grace')
    expect(await db.delete('user:1')).toBe(true)
    expect(await db.delete('user:1')).toBe(false)
    expect(db.get('user:1')).toBe(undefined)
    expect(db.has('user:1')).toBe(false)
    expect(db.size).toBe(0)
    await db.put('user:2', 'Alan')
    await db.close()
    const again = await open(path)
    expect([...again.entries()]).toEqual([['user:2', 'Alan']])
    await again.close()
  })

  test('the synchronous calls do the same', () => {
    const db = openSync(freshStore())
    db.putSync('a', '1')
    db.batchSync([
      { type: 'put', key: 'b', value: '2' },
      { type: 'del', key: 'a' },
    ])
    expect(db.get('a')).toBe(undefined)
    expect(db.get('b')).toBe('2')
    expect(db.deleteSync('b')).toBe(true)
    expect(db.deleteSync('b')).toBe(false)
    expect(db.size).toBe(0)
    db.closeSync()
  })

  test('an empty value is a value', async () => {
    const path = freshStore()
    const db = openSync(path)
    db.putSync('empty', '')
    expect(db.get('empty')).toBe('')
    db.closeSync()
    const again = openSync(path)
    expect(again.get('empty')).toBe('')
    expect(again.size).toBe(1)
    again.closeSync()
  })

  test('size counts pending puts, overwrites and deletes exactly', () => {
    const db = openSync(freshStore())
    db.putSync('a', '1')
    for (const [run, size] of [
      [() => db.put('b', '1'), 2],
      [() => db.put('b', '2'), 2],
      [() => db.put('a', '2'), 2],
      [() => db.delete('a'), 1],
      [() => db.delete('b'), 0],
      [() => db.put('a', '3'), 1],
    ] as const) {
      void run()
      expect(db.size).toBe(size)
    }
    db.closeSync()
  })

  test('getMany keeps the order of its keys', () => {
    const db = openSync(freshStore())
    db.batchSync([
      { type: 'put', key: 'a', value: '1' },
      { type: 'put', key: 'b', value: '2' },
    ])
    expect(db.getMany(['b', 'nothing', 'a', 'b'])).toEqual(['2', undefined, '1', '2'])
    expect(db.getMany([])).toEqual([])
  })

  test('getMany is not disturbed by a key that calls back', () => {
    const db = openSync(freshStore(), { sync: 'never' })
    for (const key of ['a', 'b', 'c']) db.putSync(key, `value of ${key}`)
    const inner: unknown[] = []
    const key = new (class extends Uint8Array {})([99])
    Object.defineProperty(key, Symbol.toStringTag, {
      get() {
        inner.push(db.getMany(['c', 'b']))
        return 'Uint8Array'
      },
    })
    expect(db.getMany(['a', 'b', key])).toEqual(['value of a', 'value of b', 'value of c'])
    expect(inner[0]).toEqual(['value of c', 'value of b'])
    db.closeSync()
  })

  test('getMany finds what get finds, of more keys than it looks at together', async () => {
    const clock = { nowMs: 1_700_000_000_000 }
    const options = { sync: 'never', cacheBytes: 0x10_0000 } as const
    const db = openSyncWith(groundWithClock(clock), freshStore(), options)
    const long = 'l'.repeat(65_535)
    const half = 'h'.repeat(33_000)
    for (let i = 0; i < 2000; i++) db.putSync(`key ${i}`, `value ${i} `.repeat(i % 90))
    db.putSync(long, 'of a long key')
    db.putSync(half, 'v'.repeat(600_000))
    for (let i = 0; i < 300; i += 3) db.deleteSync(`key ${i}`)
    db.putSync('expires', 'soon', { ttlMs: 1000 })
    clock.nowMs += 1000
    // Some of them have not left the group that is filling.
    const pending = Array.from({ length: 50 }, (_, i) => db.put(`key ${i * 7}`, `anew ${i}`))
    const keys = Array.from({ length: 1000 }, (_, i) => `key ${(i * 37) % 2100}`)
    keys.splice(70, 0, long, half, `${half}x`, 'expires', long, 'key 7', 'key 7')
    const found = db.getMany(keys)
    expect(found).toEqual(keys.map((key) => db.get(key)))
    expect(found.slice(70, 75)).toEqual([
      'of a long key',
      'v'.repeat(600_000),
      undefined,
      undefined,
      found[70],
    ])
    expect(found.filter((value) => value === undefined).length).toBeGreaterThan(50)
    await Promise.all(pending)
    expect(db.getMany(keys)).toEqual(found)
    using snapshot = db.snapshot()
    expect(snapshot.getMany(keys)).toEqual(found)
    await db.close()
    db.closeSync()
  })

  test('what a read returns is the caller’s own, and never changes', () => {
    const db = openSync(freshStore(), { valueEncoding: 'bytes' })
    const given = new Uint8Array([1, 2, 3])
    db.putSync('a', given)
    given[0] = 9
    const first = db.get('a')
    expect(first).toEqual(new Uint8Array([1, 2, 3]))
    first?.fill(7)
    db.putSync('b', new Uint8Array([4, 5, 6]))
    expect(db.get('a')).toEqual(new Uint8Array([1, 2, 3]))
    expect(first).toEqual(new Uint8Array([7, 7, 7]))
    db.closeSync()
  })

  test('keys and values of any bytes and any length come back', () => {
    const path = freshStore()
    const db = openSync(path, { keyEncoding: 'bytes', valueEncoding: 'bytes' })
    const keys = [1, 2, 40, 41, 255, 256, 1000, 65_535].map((length) =>
      new Uint8Array(length).map((_, i) => (i * 7 + length) % 256),
    )
    for (const [i, key] of keys.entries()) db.putSync(key, new Uint8Array(i * 100_000).fill(i))
    for (let round = 0; round < 2; round++) {
      const reader = round === 0 ? db : openSync(path, { keyEncoding: 'bytes', valueEncoding: 'bytes' })
      for (const [i, key] of keys.entries()) {
        // Not toEqual: it takes seconds over so many bytes.
        expect(Buffer.compare(reader.get(key) ?? Buffer.from('absent'), Buffer.alloc(i * 100_000, i))).toBe(0)
      }
      expect([...reader.keys()].map((key) => key.length).sort((a, b) => a - b)).toEqual(
        keys.map((key) => key.length),
      )
      if (round === 0) db.closeSync()
      else reader.closeSync()
    }
  })

  test('text of every kind comes back', () => {
    const db = openSync(freshStore())
    const texts = [
      'a',
      'ü',
      '☃',
      '😀',
      '\uFFFD',
      '\uFEFFbom',
      '\0',
      'x'.repeat(41),
      `${'x'.repeat(60)}é`,
      '漢'.repeat(30_000),
    ]
    for (const text of texts) db.putSync(text.slice(0, 20_000), text)
    for (const text of texts) expect(db.get(text.slice(0, 20_000))).toBe(text)
    expect(db.size).toBe(texts.length)
    db.closeSync()
  })
})

describe('encodings', () => {
  test('json', () => {
    const db = openSync(freshStore(), { valueEncoding: 'json' })
    const value = { name: 'Ada', tags: ['a', null, 1.5], nested: { ok: true } }
    db.putSync('a', value)
    db.putSync('b', null)
    db.putSync('c', 'text')
    expect(db.getMany(['a', 'b', 'c'])).toEqual([value, null, 'text'])
    db.closeSync()
  })

  test('a codec of one’s own, with its types', () => {
    const dates = {
      encode: (date: Date) => new TextEncoder().encode(date.toISOString()),
      decode: (bytes: Uint8Array) => new Date(new TextDecoder().decode(bytes)),
    }
    const db = openSync(freshStore(), { valueEncoding: dates })
    db.putSync('then', new Date(5))
    const then: Date | undefined = db.get('then')
    expect(then?.getTime()).toBe(5)
    // @ts-expect-error: a date is asked for
    expect(() => db.putSync('then', 'yesterday')).toThrow()
    db.closeSync()
  })

  test('a codec that calls the store while it encodes harms nothing', () => {
    const db = openSync(freshStore(), {
      valueEncoding: {
        encode: (value: string): Uint8Array => {
          if (value === 'outer') db.putSync('inner', 'inner')
          return Buffer.from(value)
        },
        decode: (bytes: Uint8Array) => Buffer.from(bytes).toString(),
      },
    })
    db.putSync('outer', 'outer')
    expect(db.get('outer')).toBe('outer')
    expect(db.get('inner')).toBe('inner')
    db.closeSync()
  })

  test('a string key and its bytes are one key', () => {
    const db = openSync(freshStore())
    db.putSync(Buffer.from('ü'), '1')
    expect(db.get('ü')).toBe('1')
    expect([...db.keys()]).toEqual(['ü'])
    db.closeSync()
  })
})

describe('batches', () => {
  test('apply in order, the last write of a key wins', async () => {
    const path = freshStore()
    const db = await open(path)
    await db.put('old', '0')
    await db.batch([
      { type: 'put', key: 'a', value: '1' },
      { type: 'put', key: 'a', value: '2' },
      { type: 'del', key: 'old' },
      { type: 'put', key: 'b', value: '1' },
      { type: 'del', key: 'b' },
      { type: 'del', key: 'never was' },
    ])
    expect([...db.entries()]).toEqual([['a', '2']])
    await db.batch([])
    await db.close()
    expect(contentsOf(path).entries).toEqual(new Map([['a', '2']]))
  })

  test('of any size are one, and split over no segment', async () => {
    const path = freshStore()
    const db = await open(path, { maxSegmentBytes: 4096 })
    await db.put('first', '1')
    const batch = Array.from({ length: 5000 }, (_, i) => ({
      type: 'put' as const,
      key: `k${i}`,
      value: 'v'.repeat(100),
    }))
    await db.batch(batch)
    await db.batch(batch.slice(0, 20))
    expect(db.size).toBe(5001)
    await db.put('last', '1')
    // The first key, the batch that is larger than a segment, and the small one with the last key.
    expect(db.stats().segments.map(({ records }) => records)).toEqual([1, 5000, 21])
    await db.close()
    expect(contentsOf(path)).toMatchObject({ damage: 0, tornTails: 0 })
    expect(contentsOf(path).entries.size).toBe(5002)
  })

  test('take a ttl for each put', () => {
    const clock = { nowMs: 1000 }
    const db = openSyncWith(groundWithClock(clock), freshStore())
    db.batchSync([
      { type: 'put', key: 'a', value: '1', ttlMs: 10 },
      { type: 'put', key: 'b', value: '1', expiresAtMs: 1020 },
      { type: 'put', key: 'c', value: '1' },
    ])
    clock.nowMs = 1010
    expect([...db.keys()]).toEqual(['b', 'c'])
    clock.nowMs = 1020
    expect([...db.keys()]).toEqual(['c'])
    db.closeSync()
  })
})

describe('expiry', () => {
  test('is exact to the millisecond in every way of reading, pending or written', () => {
    for (const written of [false, true]) {
      const clock = { nowMs: 5000 }
      const db = openSyncWith(groundWithClock(clock), freshStore())
      void db.put('k', 'v', { ttlMs: 100 })
      if (written) db.flushSync()
      const seen = () => [
        db.get('k'),
        db.has('k'),
        db.size,
        [...db.keys()].length,
        db.getMany(['k'])[0],
        db.expiresAtMs('k'),
      ]
      clock.nowMs = 5099
      expect(seen()).toEqual(['v', true, 1, 1, 'v', 5100])
      clock.nowMs = 5100
      expect(seen()).toEqual([undefined, false, 0, 0, undefined, undefined])
      expect(db.deleteSync('k')).toBe(false)
      db.closeSync()
    }
  })

  test('an overwrite without ttl takes the ttl away, and one with ttl hides a value without', () => {
    const clock = { nowMs: 5000 }
    const path = freshStore()
    const db = openSyncWith(groundWithClock(clock), path)
    db.putSync('stays', 'v', { ttlMs: 100 })
    db.putSync('stays', 'w')
    db.putSync('goes', 'v')
    db.putSync('goes', 'w', { ttlMs: 100 })
    clock.nowMs = 6000
    expect([...db.entries()]).toEqual([['stays', 'w']])
    expect(db.size).toBe(1)
    db.closeSync()
    const again = openSyncWith(groundWithClock(clock), path)
    expect([...again.entries()]).toEqual([['stays', 'w']])
    again.closeSync()
  })

  test('expire sweeps what has expired, and only that', async () => {
    const clock = { nowMs: 5000 }
    const db = openSyncWith(groundWithClock(clock), freshStore())
    for (let i = 0; i < 100; i++) db.putSync(`k${i}`, 'v', i < 60 ? { ttlMs: 100 } : {})
    expect(await db.expire()).toBe(0)
    clock.nowMs = 5100
    expect(db.stats()).toMatchObject({ entries: 40, expired: 60 })
    expect(await db.expire()).toBe(60)
    expect(db.stats()).toMatchObject({ entries: 40, expired: 0, swept: 60 })
    expect(await db.expire()).toBe(0)
    db.closeSync()
  })
})

describe('ranges', () => {
  const keys = ['a', 'ab', 'abc', 'b', 'ba', 'c', 'z', 'é', '漢', '😀', '\uFF5E']

  test('every option, against a plain sort and filter', () => {
    const db = openSync(freshStore())
    for (const key of keys) db.putSync(key, `value of ${key}`)
    const bytewise = [...keys].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    const compare = (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b))
    expect([...db.keys()]).toEqual(bytewise)
    for (const bound of ['a', 'aa', 'ab', 'b', 'zz', 'é']) {
      expect([...db.keys({ gt: bound })]).toEqual(bytewise.filter((key) => compare(key, bound) > 0))
      expect([...db.keys({ gte: bound })]).toEqual(bytewise.filter((key) => compare(key, bound) >= 0))
      expect([...db.keys({ lt: bound })]).toEqual(bytewise.filter((key) => compare(key, bound) < 0))
      expect([...db.keys({ lte: bound })]).toEqual(bytewise.filter((key) => compare(key, bound) <= 0))
      expect([...db.keys({ prefix: bound })]).toEqual(bytewise.filter((key) => key.startsWith(bound)))
      expect([...db.keys({ prefix: 'a', gte: bound })]).toEqual(
        bytewise.filter((key) => key.startsWith('a') && compare(key, bound) >= 0),
      )
    }
    expect([...db.keys({ reverse: true })]).toEqual([...bytewise].reverse())
    expect([...db.keys({ limit: 3 })]).toEqual(bytewise.slice(0, 3))
    expect([...db.keys({ limit: 3, reverse: true })]).toEqual([...bytewise].reverse().slice(0, 3))
    expect([...db.keys({ limit: 0 })]).toEqual([])
    expect([...db.keys({ limit: Number.POSITIVE_INFINITY, prefix: '' })]).toEqual(bytewise)
    expect([...db.keys({ gt: '' })]).toEqual(bytewise)
    expect([...db.keys({ gte: new Uint8Array(0) })]).toEqual(bytewise)
    expect([...db.keys({ lt: '' })]).toEqual([])
    expect([...db.keys({ order: 'any' })].sort(compare)).toEqual(bytewise)
    expect([...db.keys({ order: 'any', limit: 4 })].length).toBe(4)
    expect([...db.entries({ gte: 'b', lt: 'c' })]).toEqual([
      ['b', 'value of b'],
      ['ba', 'value of ba'],
    ])
    expect([...db.values({ prefix: 'ab' })]).toEqual(['value of ab', 'value of abc'])
    expect([...db]).toEqual(bytewise.map((key) => [key, `value of ${key}`]))
    db.closeSync()
  })

  test('an iteration is a view as of its call, whatever is written meanwhile', async () => {
    const db = openSync(freshStore(), { maxSegmentBytes: 4096 })
    for (let i = 0; i < 300; i++) void db.put(`k${String(i).padStart(3, '0')}`, `before ${i}`)
    const entries = db.entries()
    for (let i = 0; i < 300; i++) {
      if (i % 3 === 0) void db.delete(`k${String(i).padStart(3, '0')}`)
      else void db.put(`k${String(i).padStart(3, '0')}`, `after ${i} ${'x'.repeat(i)}`)
    }
    void db.put('k0005', 'new')
    await db.flush()
    expect([...entries]).toEqual(
      Array.from({ length: 300 }, (_, i) => [`k${String(i).padStart(3, '0')}`, `before ${i}`]),
    )
    expect(db.size).toBe(201)
    db.closeSync()
  })

  test('a view never holds a write that was then refused', async () => {
    const db = openSync(freshStore())
    void db.put('a', '1')
    const entries = db.entries()
    expect([...entries]).toEqual([['a', '1']])
    await db.close()
  })
})

describe('opening and closing', () => {
  test('await using closes the store', async () => {
    const path = freshStore()
    {
      await using db = await open(path)
      await db.put('a', '1')
    }
    {
      using db = openSync(path)
      expect(db.get('a')).toBe('1')
    }
    openSync(path).closeSync()
  })

  test('close puts everything on disk, may be called twice, and every later call fails', async () => {
    const path = freshStore()
    const db = await open(path, { sync: 'never' })
    const put = db.put('a', '1')
    const iterator = db.entries()
    await Promise.all([db.close(), db.close(), put])
    expect(db.isOpen).toBe(false)
    const calls: (() => unknown)[] = [
      () => db.get('a'),
      () => db.has('a'),
      () => db.getMany(['a']),
      () => db.size,
      () => db.put('a', '1'),
      () => db.putSync('a', '1'),
      () => db.delete('a'),
      () => db.deleteSync('a'),
      () => db.batch([]),
      () => db.batchSync([]),
      () => db.entries(),
      () => db.keys(),
      () => db.values(),
      () => [...iterator],
      () => db.flush(),
      () => db.flushSync(),
      () => db.stats(),
      () => db.health(),
      () => db.check(),
      () => db.expire(),
      () => db.expiresAtMs('a'),
    ]
    for (const call of calls) expect(await failure(call)).toMatchObject({ code: 'CASKY_CLOSED', path })
    db.closeSync()
    expect(contentsOf(path).entries).toEqual(new Map([['a', '1']]))
  })

  test('readOnly works beside a writer, changes nothing, and refuses writes', async () => {
    const path = freshStore()
    const db = await open(path)
    await db.put('a', '1')
    const before = readdirSync(path, { recursive: true }).sort()
    const reader = await open(path, { readOnly: true })
    expect(reader.get('a')).toBe('1')
    for (const call of [
      () => reader.put('b', '1'),
      () => reader.putSync('b', '1'),
      () => reader.delete('a'),
      () => reader.batch([]),
      () => reader.flush(),
    ]) {
      expect(await failure(call)).toMatchObject({ code: 'CASKY_READ_ONLY', path })
    }
    await reader.check()
    await reader.close()
    expect(readdirSync(path, { recursive: true }).sort()).toEqual(before)
    await db.close()
  })

  test('createIfMissing, errorIfExists', async () => {
    const path = freshStore()
    expect(await failure(() => open(path, { createIfMissing: false }))).toMatchObject({
      code: 'CASKY_NOT_FOUND',
      path,
    })
    expect(await failure(() => open(path, { readOnly: true }))).toMatchObject({
      code: 'CASKY_NOT_FOUND',
      path,
    })
    const db = await open(`${path}/deep/er`, { errorIfExists: true })
    await db.close()
    expect(await failure(() => open(`${path}/deep/er`, { errorIfExists: true }))).toMatchObject({
      code: 'CASKY_EXISTS',
    })
    await (await open(`${path}/deep/er`, { createIfMissing: false })).close()
    await (await open(freshFolder())).close()
  })

  test('a second writer in the process is told who holds the store, and gets it once that closes', async () => {
    const path = freshStore()
    const db = await open(path)
    const error = await failure(() => open(path))
    expect(error).toMatchObject({ code: 'CASKY_LOCKED', got: { pid: process.pid } })
    expect(error.message).toContain(String(process.pid))
    expect(await failure(() => openSync(path))).toMatchObject({ code: 'CASKY_LOCKED' })
    await db.close()
    await (await open(path)).close()
  })

  test('onProgress hears of the way, and an aborted signal ends it with the lock free', async () => {
    const path = freshStore()
    const db = openSync(path, { sync: 'never', maxSegmentBytes: 4096 })
    for (let i = 0; i < 200; i++) void db.put(`k${i}`, 'v'.repeat(100))
    await db.close()
    const seen: number[] = []
    const again = await open(path, {
      onProgress: ({ phase, bytesDone, bytesTotal, segment, segments }) => {
        expect(phase).toBe('open')
        expect(segment).toBeLessThanOrEqual(segments)
        seen.push(bytesDone / bytesTotal)
      },
    })
    await again.close()
    expect(seen.length).toBeGreaterThan(5)
    expect(seen).toEqual([...seen].sort((a, b) => a - b))
    expect(seen.at(-1)).toBe(1)
    const controller = new AbortController()
    const onProgress = () => controller.abort(new Error('enough'))
    expect(await failure(() => open(path, { signal: controller.signal, onProgress }))).toMatchObject({
      code: 'CASKY_ABORTED',
      cause: { message: 'enough' },
    })
    expect(await failure(() => open(path, { signal: AbortSignal.abort() }))).toMatchObject({
      code: 'CASKY_ABORTED',
    })
    const thrower = () => {
      throw new Error('of the caller')
    }
    expect(await failure(() => open(path, { onProgress: thrower }))).toMatchObject({
      message: 'of the caller',
    })
    expect(await failure(() => openSync(path, { onProgress: thrower }))).toMatchObject({
      message: 'of the caller',
    })
    openSync(path).closeSync()
  })
})

describe('stats', () => {
  test('live and dead bytes add up to the segments, through overwrites, deletes and reopening', async () => {
    const path = freshStore()
    let db = await open(path, { maxSegmentBytes: 8192 })
    for (let i = 0; i < 300; i++)
      void db.put(`k${i % 100}`, 'v'.repeat(i % 50), i % 7 === 0 ? { ttlMs: 1e9 } : {})
    for (let i = 0; i < 20; i++) void db.delete(`k${i}`)
    await db.flush()
    const before = db.stats()
    expect(before.entries).toBe(80)
    expect(before.liveBytes).toBe(
      [...db.keys()].reduce(
        (sum, key) =>
          sum + 29 + (db.expiresAtMs(key) === undefined ? 0 : 8) + key.length + (db.get(key)?.length ?? 0),
        0,
      ),
    )
    for (const { bytes, liveBytes, deadBytes } of before.segments)
      expect(96 + liveBytes + deadBytes).toBe(bytes)
    expect(before.writes).toMatchObject({ records: 320 })
    expect(before.lastSequence).toBe(320)
    await db.close()
    db = await open(path)
    const after = db.stats()
    expect(after.liveBytes).toBe(before.liveBytes)
    expect(after.segments.map((segment) => segment.records)).toEqual(
      before.segments.map((segment) => segment.records),
    )
    expect(after.recovery).toMatchObject({ records: 320, segments: before.segments.length })
    expect(after.lastSequence).toBe(320)
    await db.close()
  })
})
