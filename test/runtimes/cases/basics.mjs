// Single writes and reads, by promise and in sync.
import { Buffer } from 'node:buffer'

const KEY_BYTES_MAX = 65_535
const MIB = 1024 * 1024

const patternOf = (length) => Uint8Array.from({ length }, (_, i) => (i * 31 + (i >>> 8)) & 0xff)

export default {
  'put, get, overwrite, delete': async (t) => {
    const db = await t.open()
    t.equal(db.get('a'), undefined)
    t.equal(await db.put('a', '1'), undefined)
    t.equal(db.get('a'), '1')
    await db.put('a', '2')
    t.equal(db.get('a'), '2')
    t.equal(db.size, 1)
    t.equal(await db.delete('a'), true)
    t.equal(db.get('a'), undefined)
    t.equal(db.has('a'), false)
    t.equal(db.size, 0)
    t.equal(await db.delete('a'), false)
  },

  'a write is seen at once, before its promise resolves': async (t) => {
    const db = await t.open()
    let resolved = false
    const put = db.put('a', '1').then(() => {
      resolved = true
    })
    t.equal([db.get('a'), db.has('a'), db.size, resolved], ['1', true, 1, false])
    t.equal([...db.entries()], [['a', '1']])
    await put
    const deletes = [db.delete('a'), db.delete('a')]
    t.equal([db.get('a'), db.has('a'), db.size], [undefined, false, 0])
    t.equal(await Promise.all(deletes), [true, false])
  },

  'sync variants': (t) => {
    const path = t.path()
    const db = t.openSync(undefined, path)
    t.equal(db.putSync('a', '1'), undefined)
    db.putSync('b', '2', { ttlMs: 3_600_000 })
    t.equal(db.deleteSync('a'), true)
    t.equal(db.deleteSync('a'), false)
    db.batchSync([
      { type: 'put', key: 'c', value: '3' },
      { type: 'del', key: 'b' },
    ])
    db.flushSync()
    t.equal([...db.keys()], ['c'])
    db.closeSync()
    t.equal(t.openSync(undefined, path).get('c'), '3')
  },

  'getMany keeps order, and says undefined for what is absent': async (t) => {
    const db = await t.open()
    await db.batch(['a', 'b', 'c'].map((key) => ({ type: 'put', key, value: key.toUpperCase() })))
    t.equal(db.getMany(['c', 'x', 'a', 'c']), ['C', undefined, 'A', 'C'])
    t.equal(db.getMany([]), [])
    t.equal(db.getMany([new TextEncoder().encode('b')]), ['B'])
    t.throws('CASKY_INVALID_KEY', () => db.getMany(['a', 1]))
    t.throws('CASKY_INVALID_ARGUMENT', () => db.getMany('a'))
  },

  'many keys, over several segments and a reopen': async (t) => {
    const path = t.path()
    const count = 5_000
    const keyOf = (i) => `key${String(i).padStart(6, '0')}`
    const db = await t.open({ maxSegmentBytes: 65_536 }, path)
    const puts = Array.from({ length: count }, (_, i) => db.put(keyOf(i), `value ${i}`))
    await Promise.all(puts)
    const deletes = Array.from({ length: count / 5 }, (_, i) => db.delete(keyOf(i * 5)))
    t.ok((await Promise.all(deletes)).every((wasThere) => wasThere))
    t.ok(db.stats().segments.length > 3)
    const isRight = (store) => {
      for (let i = 0; i < count; i++) {
        if (store.get(keyOf(i)) !== (i % 5 === 0 ? undefined : `value ${i}`)) return `wrong at ${i}`
      }
      return store.size
    }
    t.equal(isRight(db), count - count / 5)
    await db.close()
    const again = await t.open(undefined, path)
    t.equal(isRight(again), count - count / 5)
    t.equal(again.health().ok, true)
  },

  'an empty value is a value': async (t) => {
    const path = t.path()
    const db = await t.open(undefined, path)
    await db.put('empty', '')
    t.equal([db.get('empty'), db.has('empty'), db.size], ['', true, 1])
    await db.close()
    const again = await t.open({ valueEncoding: 'bytes' }, path)
    t.equal(again.get('empty'), new Uint8Array(0))
  },

  'text comes back as it went in': async (t) => {
    const path = t.path()
    const texts = [
      'é',
      'é',
      '日本語',
      '🏳️‍🌈',
      'a\0b',
      '\uFEFFmark',
      'mark\uFEFF',
      '\uFFFD',
      '\u{10FFFF}',
      ' ',
      '\r\n',
    ]
    const long = 'ä€😀'.repeat(1000)
    const db = await t.open(undefined, path)
    for (const text of [...texts, long]) await db.put(text, `${text}${text}`)
    for (const store of [db, undefined]) {
      if (store === undefined) await db.close()
      const from = store ?? (await t.open(undefined, path))
      for (const text of [...texts, long]) t.equal(from.get(text), `${text}${text}`)
      t.equal(new Set(from.keys()), new Set([...texts, long]))
    }
  },

  'keys to their limit, and one byte past it': async (t) => {
    const path = t.path()
    const longest = 'k'.repeat(KEY_BYTES_MAX)
    const widest = 'é'.repeat(32_767)
    const db = await t.open(undefined, path)
    await db.put(longest, 'ascii')
    await db.put(widest, 'wide')
    await t.rejects('CASKY_INVALID_KEY', () => db.put(`${longest}k`, 'x'))
    await t.rejects('CASKY_INVALID_KEY', () => db.put(`${widest}é`, 'x'))
    await t.rejects('CASKY_INVALID_KEY', () => db.put(new Uint8Array(KEY_BYTES_MAX + 1), 'x'))
    await t.rejects('CASKY_INVALID_KEY', () => db.put('', 'x'))
    t.throws('CASKY_INVALID_KEY', () => db.get(''))
    await db.close()
    const again = await t.open(undefined, path)
    t.equal([again.get(longest), again.get(widest), again.size], ['ascii', 'wide', 2])
  },

  'values larger than any buffer': async (t) => {
    const path = t.path()
    const sizes = [MIB / 4 - 40, MIB / 4, MIB / 2, MIB / 2 + 1, 3 * MIB + 7]
    const db = await t.open({ valueEncoding: 'bytes', maxSegmentBytes: MIB }, path)
    for (const size of sizes) await db.put(`v${size}`, patternOf(size))
    db.putSync('sync', patternOf(MIB + 1))
    const isRight = (store) =>
      sizes.every((size) => Buffer.compare(store.get(`v${size}`), patternOf(size)) === 0)
    t.ok(isRight(db), 'before the reopen')
    await db.close()
    const again = await t.open({ valueEncoding: 'bytes' }, path)
    t.ok(isRight(again), 'after the reopen')
    t.ok(Buffer.compare(again.get('sync'), patternOf(MIB + 1)) === 0)
    t.equal((await again.check()).ok, true)
  },

  'bytes belong to whoever holds them': async (t) => {
    const db = await t.open({ keyEncoding: 'bytes', valueEncoding: 'bytes' })
    const key = Uint8Array.of(1, 2, 3)
    const value = Uint8Array.of(4, 5, 6)
    const put = db.put(key, value)
    key.fill(9)
    value.fill(9)
    const first = db.get(Uint8Array.of(1, 2, 3))
    t.equal(first, Uint8Array.of(4, 5, 6))
    await put
    const second = db.get(Uint8Array.of(1, 2, 3))
    await db.put(Uint8Array.of(8), new Uint8Array(1000).fill(8))
    const other = db.get(Uint8Array.of(8))
    t.equal([first, second], [Uint8Array.of(4, 5, 6), Uint8Array.of(4, 5, 6)])
    for (const got of [first, second, other]) got.fill(7)
    t.equal(db.get(Uint8Array.of(1, 2, 3)), Uint8Array.of(4, 5, 6))
    t.equal(db.get(Uint8Array.of(8)), new Uint8Array(1000).fill(8))
    const [[listedKey]] = db.entries()
    listedKey.fill(0)
    t.equal([...db.keys()], [Uint8Array.of(1, 2, 3), Uint8Array.of(8)])
  },

  'writes resolve under every sync mode, and flush waits for all': async (t) => {
    for (const sync of ['always', 'never', { everyMs: 5 }]) {
      const path = t.path()
      const db = await t.open({ sync }, path)
      await Promise.all([db.put('a', '1'), db.put('b', '2'), db.delete('a')])
      await db.flush()
      db.putSync('c', '3')
      t.equal(await db.delete('c'), true)
      await db.close()
      t.equal([...(await t.open(undefined, path))], [['b', '2']])
    }
  },
}
