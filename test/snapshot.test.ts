import { describe, expect, test } from 'vitest'
import { openSync } from '../src/index'
import { Random } from './sim/random'
import { freshStore } from './support/folders'
import { failure, groundWithClock, openSyncWith } from './support/ground'
import { segmentsOf } from './support/stores'

const never = { sync: 'never', merge: false, cacheBytes: 0 } as const

describe('a snapshot', () => {
  test('stays as it was through writes, deletes, expiry and merges', async () => {
    const clock = { nowMs: 1_700_000_000_000 }
    const db = openSyncWith(groundWithClock(clock), freshStore(), { ...never, maxSegmentBytes: 20_000 })
    const random = new Random(5)
    let serial = 0
    const churn = (writes: number): void => {
      for (let i = 0; i < writes; i++) {
        const key = `key ${random.below(300)}`
        if (random.chance(0.2)) db.delete(key)
        else
          db.put(key, `value ${serial++}`, random.chance(0.1) ? { ttlMs: 1 + random.below(30) } : undefined)
      }
    }
    const kept: { snapshot: ReturnType<typeof db.snapshot>; expected: Map<string, string> }[] = []
    for (let round = 0; round < 8; round++) {
      churn(1000)
      kept.push({ expected: new Map(db.entries()), snapshot: db.snapshot() })
      churn(300)
      clock.nowMs += 15
      if (round % 2 === 0) await db.expire()
      if (round % 3 === 0) await db.merge()
      for (const { snapshot, expected } of kept) {
        expect(new Map(snapshot.entries())).toEqual(expected)
        expect(snapshot.size).toBe(expected.size)
        for (let i = 0; i < 300; i += 13) {
          expect(snapshot.get(`key ${i}`)).toBe(expected.get(`key ${i}`))
          expect(snapshot.has(`key ${i}`)).toBe(expected.has(`key ${i}`))
        }
      }
      if (kept.length > 4) kept.shift()?.snapshot.release()
    }
    expect(db.stats().snapshots.count).toBe(kept.length)
    for (const { snapshot } of kept) snapshot.release()
    expect(db.stats().snapshots).toEqual({ count: 0, oldestAtMs: undefined, replacedBytes: 0 })
    const named = db.stats().segments.map(({ path }) => path)
    await expect.poll(() => segmentsOf(db.path).filter((path) => !named.includes(path))).toEqual([])
    await db.close()
  })

  test('shows the writes before it, also those that are not on disk yet, and says which is the last', async () => {
    const db = openSync(freshStore())
    const put = db.put('a', '1')
    const snapshot = db.snapshot()
    expect(snapshot.get('a')).toBe('1')
    expect(snapshot.sequence).toBe(1)
    db.put('a', '2')
    db.put('b', '3')
    expect([...snapshot]).toEqual([['a', '1']])
    expect([...snapshot.keys({ prefix: 'b' })]).toEqual([])
    expect([...snapshot.values({ reverse: true, limit: 1 })]).toEqual(['1'])
    await put
    await db.close()
  })

  test('fails once it is released, or the store closed; releasing again is fine', async () => {
    const db = openSync(freshStore())
    db.putSync('a', '1')
    const [first, second] = [db.snapshot(), db.snapshot()]
    const entries = first.entries()
    first.release()
    first.release()
    expect(await failure(() => first.get('a'))).toMatchObject({ code: 'CASKY_CLOSED' })
    expect(await failure(() => entries.next())).toMatchObject({ code: 'CASKY_CLOSED' })
    expect(second.get('a')).toBe('1')
    await db.close()
    expect(await failure(() => second.get('a'))).toMatchObject({ code: 'CASKY_CLOSED' })
    second.release()
  })

  test('of a read-only store works too', () => {
    const path = freshStore()
    const db = openSync(path)
    db.putSync('a', '1')
    const reader = openSync(path, { readOnly: true })
    const snapshot = reader.snapshot()
    expect(snapshot.get('a')).toBe('1')
    snapshot.release()
    reader.closeSync()
    db.closeSync()
  })
})
