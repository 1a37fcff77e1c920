// Looking after a store: numbers, verification, damage, the log.
import { closeSync, openSync, readSync, writeSync } from 'node:fs'

/** Turns over one bit of a file. */
function flipBit(path, offset) {
  const file = openSync(path, 'r+')
  const byte = new Uint8Array(1)
  readSync(file, byte, 0, 1, offset)
  byte[0] ^= 1
  writeSync(file, byte, 0, 1, offset)
  closeSync(file)
}

async function damaged(t) {
  const path = t.path()
  const db = await t.open(undefined, path)
  for (const key of ['a', 'b', 'c']) await db.put(key, `value of ${key}`)
  await db.close()
  const record = [...t.casky.dump(path)].find(({ key }) => key?.[0] === 'b'.charCodeAt(0))
  const offset = record.offset + record.bytes - 1
  flipBit(record.file, offset)
  return { path, file: record.file, offset, valueOffset: record.offset + record.bytes - record.valueBytes }
}

export default {
  'stats count what happened': async (t) => {
    const db = await t.open({ maxSegmentBytes: 4096 })
    t.equal([db.stats().entries, db.stats().lastSequence], [0, 0])
    await Promise.all(
      Array.from({ length: 100 }, (_, i) => db.put(`k${String(i).padStart(2, '0')}`, 'x'.repeat(100))),
    )
    await db.put('k00', 'y')
    await db.delete('k01')
    const stats = db.stats()
    t.equal([stats.entries, stats.lastSequence, stats.writes.records, stats.expired], [99, 102, 102, 0])
    t.ok(stats.writes.groups >= 3 && stats.writes.groups <= 102)
    t.ok(stats.writes.largestGroupRecords > 1 && stats.writes.syncs > 0)
    const { groupSizes, groups, syncTimes, syncs } = stats.writes
    t.equal(
      groupSizes.reduce((total, size) => total + size.groups, 0),
      groups,
    )
    t.equal(syncTimes.count, syncs)
    t.ok(syncTimes.maxMs > 0 && syncTimes.p50Ms <= syncTimes.maxMs && syncTimes.maxMs <= syncTimes.totalMs)
    t.ok(stats.segments.length > 3)
    const sum = (name) => stats.segments.reduce((total, segment) => total + segment[name], 0)
    t.equal(
      [stats.bytes, stats.liveBytes, stats.deadBytes],
      [sum('bytes'), sum('liveBytes'), sum('deadBytes')],
    )
    t.ok(stats.deadBytes > 200 && stats.liveBytes > 98 * 100 && stats.bytes > stats.liveBytes)
    t.ok(stats.keydir.bytes > 0 && stats.keydir.bytesPerKey > 3)
    t.ok(stats.segments.every(({ bytes }) => bytes <= 4096 + 200))
    t.equal(stats.segments.filter(({ state }) => state === 'active').length, 1)
    const [first, second] = stats.segments
    t.equal(first.firstSequence, 1)
    t.ok(second.firstSequence > first.lastSequence)
  },

  'a group commit shares its sync': async (t) => {
    const db = await t.open()
    await db.put('first', 'x')
    const before = db.stats().writes
    await Promise.all(Array.from({ length: 500 }, (_, i) => db.put(`k${i}`, 'x')))
    const after = db.stats().writes
    t.equal(after.records - before.records, 500)
    t.ok(after.groups - before.groups < 10, `${after.groups - before.groups} groups`)
    t.ok(after.syncs - before.syncs < 10, `${after.syncs - before.syncs} syncs`)
  },

  'flush syncs where writes do not': async (t) => {
    const db = await t.open({ sync: 'never' })
    await db.put('a', '1')
    const { syncs } = db.stats().writes
    await db.flush()
    t.equal(db.stats().writes.syncs, syncs + 1)
    await db.flush()
    t.equal(db.stats().writes.syncs, syncs + 1)
    await db.put('b', '2')
    db.flushSync()
    t.equal(db.stats().writes.syncs, syncs + 2)
  },

  'a sound store is reported sound': async (t) => {
    const db = await t.open({ maxSegmentBytes: 4096 })
    await db.batch(
      Array.from({ length: 200 }, (_, i) => ({ type: 'put', key: `k${i}`, value: 'x'.repeat(50) })),
    )
    const steps = []
    const report = await db.check({ onProgress: (progress) => steps.push({ ...progress }) })
    t.equal(report, { ok: true, damage: [], tornTails: [], poisoned: undefined })
    t.equal(db.health(), report)
    t.ok(steps.length > 0 && steps.every(({ phase }) => phase === 'check'))
    t.equal(steps.at(-1).bytesDone, steps.at(-1).bytesTotal)
    await t.rejects('CASKY_INVALID_OPTION', () => db.check({ progress: () => {} }))
  },

  'one flipped bit is found, named, and costs one value': async (t) => {
    const { path, file, valueOffset } = await damaged(t)
    const db = await t.open(undefined, path)
    const { ok, damage } = await db.check()
    t.equal([ok, damage.length], [false, 1])
    const [{ keys, ...where }] = damage
    t.equal([where.path, where.offset, where.bytes], [file, valueOffset, 'value of b'.length])
    t.equal([where.firstSequence, where.lastSequence], [2, 2])
    t.equal(keys, [new TextEncoder().encode('b')])
    t.equal(db.health().damage.length, 1)
    const error = t.throws('CASKY_CORRUPT', () => db.get('b'))
    t.equal([error.path, error.key], [file, new TextEncoder().encode('b')])
    t.equal(db.getMany(['a', 'c']), ['value of a', 'value of c'])
    t.equal([db.has('b'), db.size, [...db.keys()]], [true, 3, ['a', 'b', 'c']])
    t.throws('CASKY_CORRUPT', () => [...db.entries()])
    t.throws('CASKY_CORRUPT', () => [...db.values()])
    t.equal([...db.values({ damaged: 'skip' })], ['value of a', 'value of c'])
    t.equal([...db.entries({ damaged: 'skip' })].length, 2)
    await db.put('b', 'mended')
    t.equal(db.get('b'), 'mended')
    t.equal([...db.values()], ['value of a', 'mended', 'value of c'])
  },

  'damage that comes later is met by the read': async (t) => {
    const path = t.path()
    const db = await t.open({ cacheBytes: 0 }, path)
    await db.put('a', 'value of a')
    await db.put('b', 'value of b')
    const record = [...t.casky.dump(path)].find(({ sequence }) => sequence === 1)
    flipBit(record.file, record.offset + record.bytes - 1)
    t.equal(db.health().ok, true)
    const error = t.throws('CASKY_CORRUPT', () => db.get('a'))
    t.equal([error.path, error.key], [record.file, new TextEncoder().encode('a')])
    t.equal([db.health().ok, db.health().damage.length, db.get('b')], [false, 1, 'value of b'])
    flipBit(record.file, record.offset + record.bytes - 1)
    t.equal(db.get('b'), 'value of b')
  },

  'strict refuses a damaged store, and leaves it free': async (t) => {
    const { path } = await damaged(t)
    await t.rejects('CASKY_CORRUPT', () => t.casky.open(path, { strict: true }))
    t.throws('CASKY_CORRUPT', () => t.casky.openSync(path, { strict: true }))
    t.equal((await t.open(undefined, path)).get('a'), 'value of a')
  },

  'dump tells the log as it lies': async (t) => {
    const path = t.path()
    const db = await t.open(undefined, path)
    const before = Date.now()
    await db.put('a', '123')
    await db.put('a', '45', { expiresAtMs: 4_000_000_000_000 })
    await db.delete('a')
    await db.batch(['x', 'y', 'z'].map((key) => ({ type: 'put', key, value: '' })))
    await db.close()
    const records = [...t.casky.dump(path)].filter(({ key }) => key !== undefined)
    const brief = records.map(({ kind, sequence, key, valueBytes, expiresAtMs, batch }) => {
      return [kind, sequence, String.fromCharCode(...key), valueBytes, expiresAtMs, batch]
    })
    t.equal(brief, [
      ['put', 1, 'a', 3, undefined, undefined],
      ['put', 2, 'a', 2, 4_000_000_000_000, undefined],
      ['delete', 3, 'a', undefined, undefined, undefined],
      ['put', 4, 'x', 0, undefined, 'first'],
      ['put', 5, 'y', 0, undefined, 'middle'],
      ['put', 6, 'z', 0, undefined, 'last'],
    ])
    t.ok(
      records.every(({ timeMs, damage }) => timeMs >= before && timeMs <= Date.now() && damage === undefined),
    )
    t.throws('CASKY_NOT_FOUND', () => [...t.casky.dump(t.path())])
  },
}
