// All or nothing, and in order.
const put = (key, value, options) => ({ type: 'put', key, value, ...options })
const del = (key) => ({ type: 'del', key })

export default {
  'operations apply in order': async (t) => {
    const path = t.path()
    const db = await t.open(undefined, path)
    await db.put('old', 'x')
    const batch = db.batch([
      put('a', '1'),
      put('a', '2'),
      put('b', '1'),
      del('b'),
      del('old'),
      del('never'),
      put('c', '', { ttlMs: 3_600_000 }),
    ])
    const expected = [
      ['a', '2'],
      ['c', ''],
    ]
    t.equal([...db.entries()], expected)
    t.equal(await batch, undefined)
    t.equal(db.size, 2)
    await db.close()
    t.equal([...(await t.open(undefined, path)).entries()], expected)
  },

  'an empty batch resolves and changes nothing': async (t) => {
    const db = await t.open()
    const { lastSequence } = db.stats()
    t.equal(await db.batch([]), undefined)
    db.batchSync([])
    t.equal(db.stats().lastSequence, lastSequence)
  },

  'larger than the write buffer': async (t) => {
    const path = t.path()
    const db = await t.open({ maxSegmentBytes: 65_536 }, path)
    const count = 10_000
    await db.batch(Array.from({ length: count }, (_, i) => put(`k${i}`, `v${i}`.padEnd(60))))
    db.batchSync(Array.from({ length: count / 2 }, (_, i) => del(`k${i * 2}`)))
    t.equal([db.size, db.get('k0'), db.get('k9999')], [count / 2, undefined, 'v9999'.padEnd(60)])
    await db.close()
    const again = await t.open(undefined, path)
    const wrong = Array.from({ length: count }, (_, i) => i).filter(
      (i) => again.get(`k${i}`) !== (i % 2 === 0 ? undefined : `v${i}`.padEnd(60)),
    )
    t.equal(wrong, [])
  },

  'one bad operation refuses all, and is named': async (t) => {
    const db = await t.open()
    const bad = [
      ['CASKY_INVALID_BATCH', { type: 'putt', key: 'b', value: '2' }, "'put'"],
      ['CASKY_INVALID_BATCH', { key: 'b', value: '2' }, 'type'],
      ['CASKY_INVALID_BATCH', { type: 'put', key: 'b', value: '2', ttl: 5 }, 'ttlMs'],
      ['CASKY_INVALID_BATCH', { type: 'del', key: 'b', value: '2' }, 'del'],
      ['CASKY_INVALID_BATCH', null, 'null'],
      ['CASKY_INVALID_KEY', put('', '2'), 'empty'],
      ['CASKY_INVALID_KEY', put('\ud800', '2'), 'surrogate'],
      ['CASKY_INVALID_VALUE', put('b', 2), 'a string'],
      ['CASKY_INVALID_VALUE', put('b', 'lone \udfff'), 'surrogate'],
      ['CASKY_INVALID_TTL', put('b', '2', { ttlMs: 0 }), 'ttlMs'],
    ]
    for (const [code, operation, hint] of bad) {
      const operations = [put('a', '1'), operation]
      const { message } = await t.rejects(code, () => db.batch(operations))
      t.ok(message.includes('operation 1') && message.includes(hint), message)
      t.throws(code, () => db.batchSync(operations))
    }
    await t.rejects('CASKY_INVALID_BATCH', () => db.batch('ab'))
    await t.rejects('CASKY_INVALID_BATCH', () => db.batch())
    t.equal([db.size, db.stats().lastSequence], [0, 0])
    await db.put('a', 'still works')
    t.equal([...db], [['a', 'still works']])
  },

  'a later write wins over a batch, and a later batch over a write': async (t) => {
    const db = await t.open()
    const writes = [db.batch([put('a', 'batch'), put('b', 'batch')]), db.put('a', 'put'), db.delete('b')]
    writes.push(db.batch([put('b', 'again')]))
    t.equal(db.getMany(['a', 'b']), ['put', 'again'])
    t.equal(await Promise.all(writes), [undefined, undefined, true, undefined])
    t.equal(db.getMany(['a', 'b']), ['put', 'again'])
  },
}
