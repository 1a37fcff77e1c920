// An iterator shows the store as of its call, whatever is written while it is read.

async function filled(t, options) {
  const db = await t.open(options)
  for (let i = 0; i < 100; i++) db.put(`k${String(i).padStart(2, '0')}`, `old ${i}`)
  await db.flush()
  return db
}

const expected = Array.from({ length: 100 }, (_, i) => [`k${String(i).padStart(2, '0')}`, `old ${i}`])

export default {
  'overwrites, deletes, new keys and new segments do not reach it': async (t) => {
    const db = await filled(t, { maxSegmentBytes: 4096, cacheBytes: 0 })
    const [entries, keys, values, backwards] = [
      db.entries(),
      db.keys(),
      db.values(),
      db.entries({ reverse: true }),
    ]
    const seen = [entries.next().value, entries.next().value]
    for (let i = 0; i < 100; i++) {
      const key = `k${String(i).padStart(2, '0')}`
      if (i % 3 === 0) await db.delete(key)
      else await db.put(key, `new ${i}`)
      await db.put(`${key}+`, 'new')
    }
    for (let i = 2; i < 50; i++) seen.push(entries.next().value)
    await db.batch(
      Array.from({ length: 100 }, (_, i) => ({ type: 'put', key: `l${i}`, value: 'x'.repeat(80) })),
    )
    seen.push(...entries)
    t.ok(db.stats().segments.length > 3)
    t.equal(seen, expected)
    t.equal(
      [...keys],
      expected.map(([key]) => key),
    )
    t.equal(
      [...values],
      expected.map(([, value]) => value),
    )
    t.equal([...backwards].reverse(), expected)
    t.equal(db.get('k01'), 'new 1')
    t.equal([...db.keys({ prefix: 'k01' })], ['k01', 'k01+'])
  },

  'it is taken at the call, not at the first step': async (t) => {
    const db = await filled(t)
    const entries = db.entries()
    await db.put('a', 'before all others')
    await db.delete('k00')
    t.equal([...entries], expected)
  },

  'it holds what was written in the same breath': async (t) => {
    const db = await filled(t)
    const writes = [db.put('k00', 'new'), db.delete('k01'), db.put('zz', 'last')]
    const entries = db.entries({ order: 'key' })
    writes.push(db.put('k00', 'newer'), db.put('k01', 'back'))
    const listed = [...entries]
    t.equal(
      [listed.length, listed[0], listed[1], listed.at(-1)],
      [100, ['k00', 'new'], ['k02', 'old 2'], ['zz', 'last']],
    )
    await Promise.all(writes)
    t.equal(db.getMany(['k00', 'k01']), ['newer', 'back'])
  },

  'what expires while it is read stays in it': async (t) => {
    const db = await filled(t)
    const realNow = Date.now
    const nowMs = realNow()
    try {
      Date.now = () => nowMs
      await db.put('k50', 'short', { ttlMs: 10 })
      const entries = db.entries()
      Date.now = () => nowMs + 10
      t.equal(db.has('k50'), false)
      t.equal([...entries][50], ['k50', 'short'])
      t.equal([...db.entries()][50], ['k51', 'old 51'])
    } finally {
      Date.now = realNow
    }
  },

  'several at once do not disturb each other or reads': async (t) => {
    const db = await filled(t, { cacheBytes: 0 })
    const [a, b] = [db.entries(), db.entries({ reverse: true })]
    const pairs = []
    for (let i = 0; i < 100; i++) {
      const one = a.next().value
      const two = b.next().value
      pairs.push(one[1] === db.get(one[0]) && two[1] === db.get(two[0]) && one[0] === expected[i][0])
    }
    t.equal(pairs.filter((isRight) => isRight).length, 100)
    t.equal([a.next().done, b.next().done], [true, true])
  },

  'after close it throws': async (t) => {
    const db = await filled(t)
    const [entries, keys] = [db.entries(), db.keys()]
    entries.next()
    await db.close()
    t.throws('CASKY_CLOSED', () => entries.next())
    t.throws('CASKY_CLOSED', () => keys.next())
  },
}
