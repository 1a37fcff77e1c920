// Listing: order, bounds and limits, compared with a plain sorted list.
import { Buffer } from 'node:buffer'

const encoder = new TextEncoder()
const encoded = new Map()
const compare = (a, b) => Buffer.compare(bytesOf(a), bytesOf(b))

function bytesOf(text) {
  if (!encoded.has(text)) encoded.set(text, encoder.encode(text))
  return encoded.get(text)
}

/** The same keys on every run and runtime: a few letters, so that prefixes and neighbours abound. */
function someKeys() {
  const letters = ['a', 'b', '/', 'é', '\uFFFD', '😀', '\0']
  const keys = new Set()
  let state = 1
  const random = (below) => {
    // xorshift32
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
  for (let i = 0; i < 200; i++) {
    let key = ''
    for (let length = 1 + random(6); length > 0; length--) key += letters[random(letters.length)]
    keys.add(key)
    if (random(3) === 0) keys.add(`${key}a`)
  }
  return [...keys]
}

function model(keys, { prefix = '', gt, gte, lt, lte, reverse = false, limit = Number.POSITIVE_INFINITY }) {
  const isIn = (key) =>
    key.startsWith(prefix) &&
    (gt === undefined || compare(key, gt) > 0) &&
    (gte === undefined || compare(key, gte) >= 0) &&
    (lt === undefined || compare(key, lt) < 0) &&
    (lte === undefined || compare(key, lte) <= 0)
  const found = keys.filter(isIn).sort(compare)
  if (reverse) found.reverse()
  return found.slice(0, limit)
}

export default {
  'every bound, both ways, in byte order': async (t) => {
    const db = await t.open()
    const keys = someKeys()
    await db.batch(keys.map((key) => ({ type: 'put', key, value: `<${key}>` })))
    const marks = ['a', 'b/', 'é', '\uFFFD', '😀a', '\0', 'zz', keys[7], keys[100]]
    const ranges = [{}, { prefix: '' }]
    for (const mark of marks) {
      ranges.push({ prefix: mark }, { gt: mark }, { gte: mark }, { lt: mark }, { lte: mark })
      for (const other of marks) ranges.push({ gte: mark, lt: other }, { gt: mark, lte: other })
      ranges.push({ prefix: [...mark][0], gt: mark })
    }
    let listed = 0
    for (const range of ranges) {
      for (const more of [{}, { reverse: true }, { limit: 3 }, { reverse: true, limit: 2 }, { limit: 0 }]) {
        const options = { ...range, ...more }
        const expected = model(keys, options)
        t.equal([...db.keys(options)], expected, JSON.stringify(options))
        listed += expected.length
      }
      const expected = model(keys, range)
      t.equal([...db.keys({ ...range, order: 'any' })].sort(compare), expected)
      t.equal(
        [...db.entries(range)],
        expected.map((key) => [key, `<${key}>`]),
      )
      t.equal(
        [...db.values({ ...range, reverse: true })],
        expected.reverse().map((key) => `<${key}>`),
      )
    }
    t.ok(listed > 10_000, `only ${listed} keys were in range`)
  },

  'byte order is not UTF-16 order': async (t) => {
    const db = await t.open()
    for (const key of ['\u{10000}', '\uFFFF', 'a', 'A']) await db.put(key, key)
    t.equal([...db.keys()], ['A', 'a', '\uFFFF', '\u{10000}'])
    t.equal([...db.keys({ gt: '\uFFFF' })], ['\u{10000}'])
  },

  'bounds as bytes, and a prefix that ends inside a character': async (t) => {
    const db = await t.open()
    for (const key of ['é', 'ê', 'e', 'ő']) await db.put(key, '')
    t.equal([...db.keys({ prefix: Uint8Array.of(0xc3) })], ['é', 'ê'])
    t.equal([...db.keys({ gte: encoder.encode('ê') })], ['ê', 'ő'])
    t.equal([...db.keys({ prefix: new Uint8Array(0) })].length, 4)
    const bound = encoder.encode('ê')
    const keys = db.keys({ lt: bound })
    bound.fill(0xff)
    t.equal([...keys], ['e', 'é'])
  },

  "order 'any' keeps to bounds and limit": async (t) => {
    const db = await t.open()
    for (let i = 0; i < 100; i++) db.put(`k${i}`, String(i))
    await db.flush()
    const some = [...db.entries({ prefix: 'k1', order: 'any', limit: 5 })]
    t.equal([some.length, new Set(some.map(([key]) => key)).size], [5, 5])
    t.ok(some.every(([key, value]) => key === `k${value}` && key.startsWith('k1')))
    t.equal([...db.keys({ order: 'any', limit: Number.POSITIVE_INFINITY })].length, 100)
  },

  'the store itself is iterable': async (t) => {
    const db = await t.open()
    await Promise.all([db.put('b', '2'), db.put('a', '1')])
    const expected = [
      ['a', '1'],
      ['b', '2'],
    ]
    t.equal([...db], expected)
    t.equal(new Map(db), new Map(expected))
  },

  'iterators end, can be left, and can be asked again': async (t) => {
    const db = await t.open()
    for (const key of ['a', 'b', 'c']) await db.put(key, key)
    const keys = db.keys()
    t.equal(keys.next(), { value: 'a', done: false })
    for (const key of keys) {
      t.equal(key, 'b')
      break
    }
    t.equal(keys.next().done, true)
    t.equal([...keys], [])
    t.equal([...db.keys({ prefix: 'nothing' })], [])
  },

  'bad ranges are refused at the call': async (t) => {
    const db = await t.open()
    for (const call of ['entries', 'keys', 'values']) {
      t.throws('CASKY_INVALID_OPTION', () => db[call]({ gt: 'a', gte: 'b' }))
      t.throws('CASKY_INVALID_OPTION', () => db[call]({ lt: 'a', lte: 'b' }))
      t.throws('CASKY_INVALID_OPTION', () => db[call]({ limit: -1 }))
      t.throws('CASKY_INVALID_OPTION', () => db[call]({ limit: 1.5 }))
      t.throws('CASKY_INVALID_OPTION', () => db[call]({ order: 'random' }))
      t.throws('CASKY_INVALID_OPTION', () => db[call]({ reverse: 1 }))
      t.throws('CASKY_INVALID_OPTION', () => db[call]({ damaged: 'ignore' }))
      t.throws('CASKY_INVALID_KEY', () => db[call]({ prefix: 5 }))
      t.throws('CASKY_INVALID_KEY', () => db[call]({ gt: 5 }))
      t.throws('CASKY_INVALID_ARGUMENT', () => db[call]('a'))
      const { message } = t.throws('CASKY_INVALID_OPTION', () => db[call]({ prefx: 'a' }))
      t.ok(message.includes("'prefx'") && message.includes("'prefix'"), message)
    }
  },
}
