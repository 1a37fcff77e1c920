// Opening, closing, and what each option of open promises.

export default {
  'a store keeps what it was given': async (t) => {
    const path = t.path()
    const db = await t.open(undefined, path)
    t.equal([db.path, db.isOpen], [path, true])
    await db.put('a', '1')
    await db.close()
    t.equal(db.isOpen, false)
    const again = await t.open(undefined, path)
    t.equal([...again], [['a', '1']])
    t.ok(again.stats().recovery.segments >= 1)
  },

  'missing directories are made': async (t) => {
    const db = await t.open(undefined, `${t.path()}/one/two`)
    await db.put('a', '1')
    t.equal(db.get('a'), '1')
  },

  'createIfMissing and errorIfExists': async (t) => {
    const path = t.path()
    await t.rejects('CASKY_NOT_FOUND', () => t.casky.open(path, { createIfMissing: false }))
    t.throws('CASKY_NOT_FOUND', () => t.casky.openSync(path, { createIfMissing: false }))
    const db = await t.open({ errorIfExists: true }, path)
    await db.put('a', '1')
    await db.close()
    await t.rejects('CASKY_EXISTS', () => t.casky.open(path, { errorIfExists: true }))
    const again = await t.open({ createIfMissing: false }, path)
    t.equal(again.get('a'), '1')
  },

  'readOnly reads beside the writer, and writes nothing': async (t) => {
    const path = t.path()
    await t.rejects('CASKY_NOT_FOUND', () => t.casky.open(path, { readOnly: true }))
    const db = await t.open(undefined, path)
    await db.batch([
      { type: 'put', key: 'a', value: '1' },
      { type: 'put', key: 'b', value: '2' },
    ])
    const reader = await t.open({ readOnly: true }, path)
    const other = t.openSync({ readOnly: true }, path)
    t.equal([...reader], [...db])
    t.equal([other.get('a'), other.has('b'), other.size], ['1', true, 2])
    await t.rejects('CASKY_READ_ONLY', () => reader.put('c', '3'))
    await t.rejects('CASKY_READ_ONLY', () => reader.delete('a'))
    await t.rejects('CASKY_READ_ONLY', () => reader.batch([]))
    await t.rejects('CASKY_READ_ONLY', () => reader.flush())
    t.throws('CASKY_READ_ONLY', () => reader.putSync('c', '3'))
    t.throws('CASKY_READ_ONLY', () => reader.deleteSync('a'))
    t.throws('CASKY_READ_ONLY', () => reader.batchSync([]))
    t.throws('CASKY_READ_ONLY', () => reader.flushSync())
    t.equal([reader.health().ok, (await reader.check()).ok, reader.stats().writes.records], [true, true, 0])
    await db.delete('a')
    t.equal([reader.get('a'), db.get('a')], ['1', undefined])
    await reader.close()
    t.equal(other.get('a'), '1')
  },

  'one writer at a time, and the next one at once': async (t) => {
    const path = t.path()
    const db = await t.open(undefined, path)
    await t.rejects('CASKY_LOCKED', () => t.casky.open(path))
    t.throws('CASKY_LOCKED', () => t.casky.openSync(`${path}/../${path.split('/').at(-1)}`))
    await db.close()
    const next = t.openSync(undefined, path)
    await t.rejects('CASKY_LOCKED', () => t.casky.open(path))
    next.closeSync()
    t.equal((await t.open(undefined, path)).isOpen, true)
  },

  'of several that open at once, one gets it': async (t) => {
    const path = t.path()
    const outcomes = await Promise.allSettled(Array.from({ length: 5 }, () => t.open(undefined, path)))
    t.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1)
    const codes = outcomes.flatMap(({ reason }) => (reason === undefined ? [] : [reason.code]))
    t.equal(codes, Array(4).fill('CASKY_LOCKED'))
  },

  'after close every call says so': async (t) => {
    const db = await t.open()
    await db.put('a', '1')
    await db.close()
    await db.close()
    db.closeSync()
    for (const call of ['flush', 'expire', 'check']) await t.rejects('CASKY_CLOSED', () => db[call]())
    await t.rejects('CASKY_CLOSED', () => db.put('a', '1'))
    await t.rejects('CASKY_CLOSED', () => db.delete('a'))
    await t.rejects('CASKY_CLOSED', () => db.batch([]))
    for (const call of ['flushSync', 'entries', 'keys', 'values', 'stats', 'health']) {
      t.throws('CASKY_CLOSED', () => db[call]())
    }
    t.throws('CASKY_CLOSED', () => db.putSync('a', '1'))
    t.throws('CASKY_CLOSED', () => db.deleteSync('a'))
    t.throws('CASKY_CLOSED', () => db.batchSync([]))
    t.throws('CASKY_CLOSED', () => db.get('a'))
    t.throws('CASKY_CLOSED', () => db.has('a'))
    t.throws('CASKY_CLOSED', () => db.getMany(['a']))
    t.throws('CASKY_CLOSED', () => db.size)
    t.throws('CASKY_CLOSED', () => [...db])
  },

  'close waits for writes under way': async (t) => {
    for (const sync of ['always', 'never']) {
      const path = t.path()
      const db = await t.open({ sync }, path)
      const puts = Array.from({ length: 1000 }, (_, i) => db.put(`k${i}`, String(i)))
      const closing = db.close()
      await t.rejects('CASKY_CLOSED', () => db.put('late', 'x'))
      t.equal((await Promise.allSettled(puts)).filter(({ status }) => status === 'rejected').length, 0)
      await closing
      t.equal((await t.open(undefined, path)).size, 1000)
    }
  },

  'await using and using': async (t) => {
    const path = t.path()
    // The statements themselves need a compiler here; this is what they become.
    const db = await t.casky.open(path)
    await db.put('a', '1')
    t.equal(await db[Symbol.asyncDispose](), undefined)
    t.equal(db.isOpen, false)
    const other = t.casky.openSync(path)
    t.equal(other.get('a'), '1')
    t.equal(other[Symbol.dispose](), undefined)
    t.equal(other.isOpen, false)
    t.equal((await t.open(undefined, path)).get('a'), '1')
  },

  'an aborted open opens nothing': async (t) => {
    const path = t.path()
    const reason = new Error('enough')
    const { cause } = await t.rejects('CASKY_ABORTED', () =>
      t.casky.open(path, { signal: AbortSignal.abort(reason) }),
    )
    t.ok(cause === reason)
    const db = await t.open({ signal: new AbortController().signal }, path)
    for (let i = 0; i < 100; i++) db.put(`k${i}`, 'x'.repeat(1000))
    await db.close()
    const controller = new AbortController()
    const onProgress = () => controller.abort()
    await t.rejects('CASKY_ABORTED', () => t.casky.open(path, { signal: controller.signal, onProgress }))
    t.equal((await t.open(undefined, path)).size, 100)
  },

  'opening tells how far it is': async (t) => {
    const path = t.path()
    const db = await t.open({ maxSegmentBytes: 65_536 }, path)
    for (let i = 0; i < 300; i++) db.put(`k${i}`, 'x'.repeat(1000))
    await db.close()
    for (const isSync of [false, true]) {
      const steps = []
      const onProgress = (progress) => steps.push({ ...progress })
      const again = isSync ? t.openSync({ onProgress }, path) : await t.open({ onProgress }, path)
      t.ok(steps.length > 0)
      t.ok(steps.every(({ phase, bytesDone, bytesTotal }) => phase === 'open' && bytesDone <= bytesTotal))
      const last = steps.at(-1)
      t.equal([last.bytesDone, last.segment], [last.bytesTotal, last.segments])
      await again.close()
    }
  },
}
