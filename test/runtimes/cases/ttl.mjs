// Expiry, to the millisecond. The clock is a stub, so no case waits for it or depends on the machine's load.

/** Runs `steps` with a clock that stands still until it is told to move. */
async function withClock(steps) {
  const realNow = Date.now
  const startMs = 1_900_000_000_000
  let nowMs = startMs
  Date.now = () => nowMs
  try {
    await steps((ms) => {
      nowMs = startMs + ms
    }, startMs)
  } finally {
    Date.now = realNow
  }
}

const alive = (db, key) => [
  db.get(key) !== undefined,
  db.has(key),
  db.getMany([key])[0] !== undefined,
  [...db.keys()].includes(key),
  [...db.entries({ prefix: key })].length === 1,
  db.size === 1,
]
const YES = Array(6).fill(true)
const NO = Array(6).fill(false)

export default {
  'ttlMs counts from the write, and ends on the millisecond': async (t) => {
    const path = t.path()
    await withClock(async (at) => {
      const db = await t.open(undefined, path)
      const put = db.put('a', '1', { ttlMs: 1000 })
      for (const isWritten of [false, true]) {
        if (isWritten) await put
        at(999)
        t.equal(alive(db, 'a'), YES)
        at(1000)
        t.equal(alive(db, 'a'), NO)
        at(0)
      }
      await db.close()
      const again = await t.open(undefined, path)
      at(999)
      t.equal(alive(again, 'a'), YES)
      at(1000)
      t.equal(alive(again, 'a'), NO)
      await again.close()
      t.equal(alive(await t.open(undefined, path), 'a'), NO)
    })
  },

  'expiresAtMs is that very millisecond': async (t) => {
    await withClock(async (at, startMs) => {
      const db = await t.open()
      db.putSync('a', '1', { expiresAtMs: startMs + 5 })
      at(4)
      t.equal(alive(db, 'a'), YES)
      at(5)
      t.equal(alive(db, 'a'), NO)
      await db.put('b', '1', { expiresAtMs: 1 })
      t.equal(alive(db, 'b'), NO)
      await db.put('c', '1', { expiresAtMs: Number.MAX_SAFE_INTEGER })
      t.equal(alive(db, 'c'), YES)
    })
  },

  'ttlMs by the real clock': async (t) => {
    const db = await t.open()
    const before = Date.now()
    db.putSync('a', '1', { ttlMs: 20 })
    const after = Date.now()
    const wrong = []
    for (let isOver = false; !isOver; ) {
      const begin = Date.now()
      const isThere = db.has('a')
      const end = Date.now()
      if (end < before + 20 && !isThere) wrong.push('gone too early')
      if (begin >= after + 20 && isThere) wrong.push('there too long')
      isOver = begin >= after + 20
    }
    t.equal(wrong, [])
  },

  'an expired entry still shadows what is older': async (t) => {
    const path = t.path()
    await withClock(async (at) => {
      const db = await t.open(undefined, path)
      await db.put('a', 'old')
      await db.put('a', 'short', { ttlMs: 10 })
      at(10)
      t.equal(alive(db, 'a'), NO)
      t.equal(await db.expire(), 1)
      t.equal(alive(db, 'a'), NO)
      await db.close()
      t.equal(alive(await t.open(undefined, path), 'a'), NO)
    })
  },

  'a later put sets or lifts the expiry': async (t) => {
    await withClock(async (at) => {
      const db = await t.open()
      await db.put('a', '1', { ttlMs: 10 })
      await db.put('a', '2')
      at(10)
      t.equal(alive(db, 'a'), YES)
      await db.put('a', '3', { ttlMs: 10 })
      at(19)
      t.equal(alive(db, 'a'), YES)
      at(20)
      t.equal(alive(db, 'a'), NO)
      t.equal(await db.delete('a'), false)
      await db.put('a', '4')
      t.equal([db.get('a'), ...alive(db, 'a')], ['4', ...YES])
    })
  },

  'expire sweeps what has expired, and nothing else': async (t) => {
    const path = t.path()
    await withClock(async (at) => {
      const db = await t.open(undefined, path)
      await db.batch(
        Array.from({ length: 100 }, (_, i) => ({ type: 'put', key: `k${i}`, value: 'x', ttlMs: 1 + i })),
      )
      await db.put('stays', 'x')
      t.equal(await db.expire(), 0)
      at(50)
      t.equal([db.size, db.stats().entries, db.stats().expired], [51, 51, 50])
      t.equal(await db.expire(), 50)
      t.equal([db.size, db.stats().entries, db.stats().expired], [51, 51, 0])
      t.equal(await db.expire(), 0)
      at(1000)
      t.equal([...db.keys()], ['stays'])
      await db.close()
      const again = await t.open(undefined, path)
      t.equal([again.size, again.get('k99')], [1, undefined])
    })
  },

  'bad expiries': async (t) => {
    const db = await t.open()
    for (const ttlMs of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '5', null, 2 ** 53]) {
      await t.rejects('CASKY_INVALID_TTL', () => db.put('a', '1', { ttlMs }))
    }
    for (const expiresAtMs of [0, -1, 1.5, Number.NaN, '5', null, new Date(), 2 ** 53]) {
      await t.rejects('CASKY_INVALID_TTL', () => db.put('a', '1', { expiresAtMs }))
    }
    await t.rejects('CASKY_INVALID_TTL', () => db.put('a', '1', { ttlMs: 5, expiresAtMs: 5 }))
    t.throws('CASKY_INVALID_TTL', () => db.putSync('a', '1', { ttlMs: 0 }))
    const { message } = await t.rejects('CASKY_INVALID_OPTION', () => db.put('a', '1', { ttl: 5 }))
    t.ok(message.includes("'ttlMs'"), message)
    await t.rejects('CASKY_INVALID_ARGUMENT', () => db.put('a', '1', 5))
    t.equal(db.size, 0)
  },
}
