// What stats() says of groups and syncs.
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { TimeHistogram } from '../src/histogram'
import { nodeHost } from '../src/host/node'
import { open, openSync, type Stats } from '../src/index'
import { freshStore } from './support/folders'
import { groundWith, openSyncWith, openWith, systemError } from './support/ground'

describe('the histogram of times', () => {
  function histogramOf(times: number[]): TimeHistogram {
    const histogram = new TimeHistogram()
    for (const ms of times) histogram.add(ms)
    return histogram
  }

  test('nothing counted', () => {
    const nothing = { count: 0, totalMs: 0, p50Ms: 0, p99Ms: 0, maxMs: 0, buckets: [] }
    expect(new TimeHistogram().stats()).toEqual(nothing)
  })

  test('one time is its own median and its own greatest', () => {
    expect(histogramOf([0.3]).stats()).toEqual({
      count: 1,
      totalMs: 0.3,
      p50Ms: 0.3,
      p99Ms: 0.3,
      maxMs: 0.3,
      buckets: [{ fromMs: 0.25, belowMs: 0.5, count: 1 }],
    })
  })

  test('a rare long one shows in the greatest, and in p99 from one in a hundred on', () => {
    const usual = Array.from({ length: 98 }, () => 1)
    const { p50Ms, p99Ms, maxMs } = histogramOf([...usual, 100, 900]).stats()
    expect([p50Ms, maxMs]).toEqual([1 + 1 / 16, 900])
    expect(p99Ms).toBe(104)
    expect(histogramOf([...usual, 1, 900]).stats().p99Ms).toBe(1 + 1 / 16)
  })

  test('what can hardly be counts all the same: no time at all, and days', () => {
    const { buckets, maxMs, p50Ms } = histogramOf([0, 1e9]).stats()
    expect([p50Ms, maxMs]).toEqual([1 / 1024, 1e9])
    expect(buckets[0]).toEqual({ fromMs: 0, belowMs: 1 / 64, count: 1 })
    expect(buckets.at(-1)).toEqual({ fromMs: 2 ** 21, belowMs: 2 ** 22, count: 1 })
  })

  test('percentiles are at most a sixteenth above the true ones, and buckets hold what they say', () => {
    const times = fc.array(fc.double({ min: 1 / 64, max: 100_000, noNaN: true }), { minLength: 1 })
    fc.assert(
      fc.property(times, (given) => {
        const sorted = [...given].sort((a, b) => a - b)
        const { count, p50Ms, p99Ms, maxMs, buckets } = histogramOf(given).stats()
        for (const [share, ms] of [
          [0.5, p50Ms],
          [0.99, p99Ms],
        ]) {
          const exact = sorted[Math.ceil(share * sorted.length) - 1]
          expect(ms).toBeGreaterThanOrEqual(exact)
          expect(ms).toBeLessThanOrEqual(exact * (1 + 1 / 16) + 1e-9)
        }
        expect([count, maxMs]).toEqual([given.length, sorted.at(-1)])
        for (const { fromMs, belowMs, count: held } of buckets) {
          expect(given.filter((ms) => ms >= fromMs && ms < belowMs)).toHaveLength(held)
        }
        expect(buckets.reduce((sum, bucket) => sum + bucket.count, 0)).toBe(count)
        buckets.slice(1).forEach((bucket, i) => {
          expect(bucket.fromMs).toBe(buckets[i].belowMs)
        })
      }),
    )
  })
})

describe('group sizes', () => {
  const sizesOf = (stats: Stats): number[][] =>
    stats.writes.groupSizes.map(({ minRecords, maxRecords, groups }) => [minRecords, maxRecords, groups])

  test('are counted by powers of two, those between them too', async () => {
    const db = await open(freshStore())
    expect(db.stats().writes.groupSizes).toEqual([])
    db.putSync('a', '1')
    db.putSync('b', '2')
    await Promise.all(Array.from({ length: 13 }, (_, i) => db.put(`k${i}`, 'v')))
    expect(sizesOf(db.stats())).toEqual([
      [1, 1, 2],
      [2, 3, 0],
      [4, 7, 0],
      [8, 15, 1],
    ])
    // Written past the buffer, and a group still.
    db.batchSync(['x', 'y', 'z'].map((key) => ({ type: 'put', key, value: 'v'.repeat(200_000) })))
    expect(sizesOf(db.stats())[1]).toEqual([2, 3, 1])
    await db.close()
  })

  test('a group that could not be written is none', () => {
    let isFull = false
    const write = ((file, from, at, bytes, position) => {
      if (isFull) throw systemError('ENOSPC')
      return nodeHost.write(file, from, at, bytes, position)
    }) as typeof nodeHost.write
    const db = openSyncWith(groundWith({ write }), freshStore())
    db.putSync('a', '1')
    isFull = true
    expect(() => db.putSync('b', '2')).toThrow(/no space/i)
    isFull = false
    expect(sizesOf(db.stats())).toEqual([[1, 1, 1]])
    db.closeSync()
  })

  test('none in a store that is read only', () => {
    const path = freshStore()
    openSync(path).closeSync()
    const db = openSync(path, { readOnly: true })
    expect(db.stats().writes).toEqual({
      records: 0,
      groups: 0,
      largestGroupRecords: 0,
      groupSizes: [],
      syncs: 0,
      syncTimes: { count: 0, totalMs: 0, p50Ms: 0, p99Ms: 0, maxMs: 0, buckets: [] },
    })
    db.closeSync()
  })
})

describe('sync times', () => {
  /** A clock that only syncs move on. */
  function slowDisk(): { overrides: Partial<typeof nodeHost>; clock: { ms: number; syncMs: number } } {
    const clock = { ms: 5000, syncMs: 3 }
    return {
      clock,
      overrides: {
        clockMs: () => clock.ms,
        sync: (file) => {
          clock.ms += clock.syncMs
          nodeHost.sync(file)
        },
        syncLater: (file, done) =>
          nodeHost.syncLater(file, (error) => {
            clock.ms += clock.syncMs
            done(error)
          }),
      },
    }
  }

  test('from the call to the answer, in the foreground and behind', async () => {
    const { overrides, clock } = slowDisk()
    const db = openSyncWith(groundWith(overrides), freshStore())
    db.putSync('a', '1')
    expect(db.stats().writes.syncTimes).toMatchObject({ count: 1, totalMs: 3, maxMs: 3 })
    clock.syncMs = 40
    await db.put('b', '2')
    const { syncs, syncTimes } = db.stats().writes
    expect(syncTimes).toMatchObject({ count: 2, totalMs: 43, maxMs: 40 })
    expect(syncTimes.p50Ms).toBe(3.125)
    expect(syncTimes.buckets.filter(({ count }) => count > 0)).toEqual([
      { fromMs: 2, belowMs: 4, count: 1 },
      { fromMs: 32, belowMs: 64, count: 1 },
    ])
    expect(syncs).toBe(2)
    db.closeSync()
  })

  test('go on from one segment to the next', () => {
    const { overrides } = slowDisk()
    const db = openSyncWith(groundWith(overrides), freshStore(), { maxSegmentBytes: 4096 })
    for (let i = 0; i < 20; i++) db.putSync(`k${i}`, 'v'.repeat(1000))
    const { segments, writes } = db.stats()
    expect(segments.length).toBeGreaterThan(3)
    expect(writes.syncTimes.count).toBe(writes.syncs)
    expect(writes.syncs).toBeGreaterThanOrEqual(20 + segments.length - 1)
    expect(writes.syncTimes.totalMs).toBe(3 * writes.syncs)
    db.closeSync()
  })

  test('a sync that failed is no time', async () => {
    const { overrides, clock } = slowDisk()
    let isBroken = false
    const syncLater = ((file, done) =>
      overrides.syncLater?.(file, (error) =>
        done(isBroken ? systemError('EIO') : error),
      )) as typeof nodeHost.syncLater
    const db = await openWith(groundWith({ ...overrides, syncLater }), freshStore())
    await db.put('a', '1')
    isBroken = true
    clock.syncMs = 500
    await expect(db.put('b', '2')).rejects.toThrow(/sync failed/)
    expect(db.stats().writes.syncTimes).toMatchObject({ count: 1, maxMs: 3 })
    await db.close().catch(() => {})
  })
})
