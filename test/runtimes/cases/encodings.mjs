// What values and keys are, on the way in and on the way out.
const bytesOf = (...bytes) => Uint8Array.from(bytes)
const ALL_BYTES = Uint8Array.from({ length: 256 }, (_, i) => i)

export default {
  json: async (t) => {
    const path = t.path()
    const values = [null, true, 0, -1.5e300, '', 'é😀', [], {}, { a: [1, { b: null }], ü: '\u2028' }]
    const db = await t.open({ valueEncoding: 'json' }, path)
    for (const [i, value] of values.entries()) await db.put(`v${i}`, value)
    await db.put('date', new Date(0))
    await db.close()
    const again = await t.open({ valueEncoding: 'json' }, path)
    t.equal(
      values.map((_, i) => again.get(`v${i}`)),
      values,
    )
    t.equal(again.get('date'), '1970-01-01T00:00:00.000Z')
    const cyclic = {}
    cyclic.self = cyclic
    for (const value of [undefined, () => {}, Symbol('x'), 1n, cyclic, bytesOf(1)]) {
      await t.rejects('CASKY_INVALID_VALUE', () => again.put('bad', value))
    }
    t.equal(again.has('bad'), false)
  },

  'bytes, every one of them': async (t) => {
    const path = t.path()
    const db = await t.open({ keyEncoding: 'bytes', valueEncoding: 'bytes' }, path)
    await db.put(ALL_BYTES, ALL_BYTES)
    for (const byte of ALL_BYTES) await db.put(bytesOf(byte), bytesOf(byte, 0, byte))
    await db.put(bytesOf(0, 0), bytesOf())
    await db.close()
    const again = await t.open({ keyEncoding: 'bytes', valueEncoding: 'bytes' }, path)
    t.equal(again.size, 258)
    t.equal(again.get(ALL_BYTES), ALL_BYTES)
    t.equal(
      [...ALL_BYTES].filter((byte) => again.get(bytesOf(byte))?.[2] !== byte),
      [],
    )
    t.equal([...again.keys({ limit: 4 })], [bytesOf(0), bytesOf(0, 0), ALL_BYTES, bytesOf(1)])
    t.equal([...again.keys({ reverse: true, limit: 1 })], [bytesOf(255)])
    const got = again.get(bytesOf(7))
    t.ok(got instanceof Uint8Array && got.constructor === Uint8Array, 'a plain Uint8Array')
    await t.rejects('CASKY_INVALID_KEY', () => again.put('text', bytesOf(1)))
    t.throws('CASKY_INVALID_KEY', () => again.get('text'))
    await t.rejects('CASKY_INVALID_VALUE', () => again.put(bytesOf(1), 'text'))
    await t.rejects('CASKY_INVALID_VALUE', () => again.put(bytesOf(1), new ArrayBuffer(4)))
  },

  'a view on part of a buffer': async (t) => {
    const db = await t.open({ valueEncoding: 'bytes' })
    const buffer = Uint8Array.from([1, 2, 3, 4, 5, 6]).buffer
    await db.put(new Uint8Array(buffer, 1, 2), new Uint8Array(buffer, 3, 3))
    t.equal(db.get(bytesOf(2, 3)), bytesOf(4, 5, 6))
  },

  'a codec of your own': async (t) => {
    const path = t.path()
    const seen = []
    const codec = {
      encode: (date) => new TextEncoder().encode(date.toISOString()),
      decode: (bytes) => {
        seen.push(bytes)
        return new Date(new TextDecoder().decode(bytes))
      },
    }
    const db = await t.open({ valueEncoding: codec }, path)
    const date = new Date(1_234_567_890_123)
    await db.put('a', date)
    t.equal(db.get('a'), date)
    t.equal([...db.values()], [date])
    await db.put('b', new Date(0))
    t.equal(db.get('b'), new Date(0))
    t.equal(
      seen.map((bytes) => new TextDecoder().decode(bytes)),
      [date, date, new Date(0)].map((each) => each.toISOString()),
    )
    for (const bytes of seen) bytes.fill(0)
    t.equal(db.get('a'), date)
    const { cause } = await t.rejects('CASKY_INVALID_VALUE', () => db.put('b', new Date(Number.NaN)))
    t.ok(cause instanceof RangeError)
    await db.close()
    t.equal((await t.open(undefined, path)).get('a'), date.toISOString())
  },

  'codecs that fail': async (t) => {
    const path = t.path()
    const encode = (value) => value
    const decode = () => {
      throw new TypeError('unreadable')
    }
    const db = await t.open({ valueEncoding: { encode, decode } }, path)
    await t.rejects('CASKY_INVALID_VALUE', () => db.put('a', 'text'))
    await t.rejects('CASKY_INVALID_VALUE', () => db.batch([{ type: 'put', key: 'a', value: null }]))
    await db.put('a', bytesOf(1))
    const { cause } = t.throws('CASKY_INVALID_VALUE', () => db.get('a'))
    t.ok(cause instanceof TypeError && cause.message === 'unreadable')
    t.equal(db.has('a'), true)
  },

  'utf8 takes bytes too, and says so where they are no text': async (t) => {
    const db = await t.open()
    await db.put(new TextEncoder().encode('ké'), new TextEncoder().encode('vé'))
    t.equal(db.get('ké'), 'vé')
    await db.put('binary', bytesOf(0xff, 0xfe))
    t.throws('CASKY_INVALID_VALUE', () => db.get('binary'))
    t.equal(db.has('binary'), true)
    await db.put(bytesOf(0xff), 'binary key')
    t.equal(db.get(bytesOf(0xff)), 'binary key')
    t.throws('CASKY_INVALID_KEY', () => [...db.keys()])
  },

  'lone surrogates are no text': async (t) => {
    const db = await t.open()
    for (const text of ['\ud800', 'a\udc00', '\udc00\ud800', `${'long '.repeat(20)}\ud83d`]) {
      await t.rejects('CASKY_INVALID_KEY', () => db.put(text, 'x'))
      await t.rejects('CASKY_INVALID_VALUE', () => db.put('x', text))
      t.throws('CASKY_INVALID_KEY', () => db.get(text))
    }
    await t.rejects('CASKY_INVALID_VALUE', () => db.put('x', `${'x'.repeat(500_000)}\ud83d`))
    t.equal(db.size, 0)
  },

  'json of a store of text that is none': async (t) => {
    const path = t.path()
    const db = await t.open(undefined, path)
    await db.put('a', '{')
    await db.close()
    const again = await t.open({ valueEncoding: 'json' }, path)
    t.throws('CASKY_INVALID_VALUE', () => again.get('a'))
  },
}
