import { cpSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { nodeHost } from '../src/host/node'
import { type Casky, openSync, repair, type Snapshot } from '../src/index'
import { Random } from './sim/random'
import { freshStore, useMemory } from './support/folders'
import { failure, groundWith, openSyncWith, systemError } from './support/ground'
import { mendSegment } from './support/hostile'
import { flipBit, killedCopy, recordsOf, segmentsOf } from './support/stores'

useMemory()

const writing = { sync: 'never', merge: false, cacheBytes: 0, maxSegmentBytes: 4096 } as const
const following = { readOnly: true, cacheBytes: 65_536 } as const

const contentsOf = (db: Casky | Snapshot): [string, string][] => [...db.entries()]

const merged = async (db: Casky): Promise<void> => {
  await db.merge()
}

describe('a follower', () => {
  test('sees what was written, overwritten and deleted since', async () => {
    const path = freshStore()
    using db = openSync(path, writing)
    db.putSync('a', '1')
    db.putSync('b', '1')
    using follower = openSync(path, following)
    expect(contentsOf(follower)).toEqual([
      ['a', '1'],
      ['b', '1'],
    ])
    db.putSync('a', '2')
    db.deleteSync('b')
    db.batchSync([
      { type: 'put', key: 'c', value: '1' },
      { type: 'put', key: 'd', value: '1' },
    ])
    expect(follower.get('a')).toBe('1')
    const report = await follower.refresh()
    expect(report).toMatchObject({
      changed: true,
      sequence: 6,
      writes: 4,
      segmentsAdded: 0,
      isReloaded: false,
    })
    expect(contentsOf(follower)).toEqual([
      ['a', '2'],
      ['c', '1'],
      ['d', '1'],
    ])
    expect(follower.size).toBe(3)
    expect(await follower.refresh()).toMatchObject({ changed: false, writes: 0, bytesRead: 0 })
  })

  test.each([1, 2, 3, 4, 5, 6])('is what a fresh open would be, whatever happens (%i)', async (seed) => {
    const random = new Random(seed)
    const path = freshStore()
    let db = openSync(path, writing)
    db.putSync('k0', 'x')
    const follower = openSync(path, following)
    const glimpses: { snapshot: Snapshot; expected: [string, string][] }[] = []
    let reloads = 0
    for (let step = 0; step < 400; step++) {
      const draw = random.next()
      const key = `k${random.below(30)}`
      const value = `${step}-${'v'.repeat(random.below(300))}`
      if (draw < 0.5) db.putSync(key, value)
      else if (draw < 0.65) db.deleteSync(key)
      else if (draw < 0.75) {
        const keys = Array.from({ length: 2 + random.below(4) }, () => `k${random.below(30)}`)
        db.batchSync(keys.map((each) => ({ type: 'put', key: each, value })))
      } else if (draw < 0.78) await merged(db)
      else if (draw < 0.8) {
        db.closeSync()
        db = openSync(path, writing)
      } else if (draw < 0.95) {
        const { isReloaded } = random.chance(0.5) ? follower.refreshSync() : await follower.refresh()
        if (isReloaded) reloads++
        // A writer that was not flushed has it all in the file, or in its own memory.
        db.flushSync()
        follower.refreshSync()
        expect(contentsOf(follower)).toEqual(contentsOf(db))
        expect(follower.size).toBe(db.size)
        expect(follower.health()).toMatchObject({ ok: true, damage: [], tornTails: [] })
        expect(follower.stats()).toMatchObject({
          liveBytes: db.stats().liveBytes,
          lastSequence: db.stats().lastSequence,
        })
      } else if (glimpses.length < 3) {
        glimpses.push({ snapshot: follower.snapshot(), expected: contentsOf(follower) })
      } else {
        const { snapshot, expected } = glimpses.splice(random.below(3), 1)[0]
        expect(contentsOf(snapshot)).toEqual(expected)
        snapshot.release()
      }
    }
    expect(reloads).toBe(0)
    for (const { snapshot } of glimpses) snapshot.release()
    follower.closeSync()
    db.closeSync()
  })

  test('reads see what they saw until all of a refresh is there', async () => {
    const path = freshStore()
    using db = openSync(path, { ...writing, maxSegmentBytes: 1 << 20 })
    for (let i = 0; i < 100; i++) db.putSync(`k${i}`, 'old')
    using follower = openSync(path, following)
    const old = contentsOf(follower)
    const large = 'v'.repeat(10_000)
    for (let i = 0; i < 2000; i++) db.putSync(`k${i % 200}`, large)
    db.flushSync()
    let turns = 0
    let isDone = false
    const refreshed = follower.refresh().then((report) => {
      isDone = true
      return report
    })
    while (!isDone) {
      expect(follower.size).toBe(100)
      expect(follower.get('k7')).toBe('old')
      expect(follower.has('k150')).toBe(false)
      if (turns++ === 3) expect(contentsOf(follower)).toEqual(old)
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(turns).toBeGreaterThan(5)
    expect((await refreshed).writes).toBe(2000)
    expect(contentsOf(follower)).toEqual(contentsOf(db))
  })

  test('a snapshot taken in the middle of a refresh shows what reads see, and stays', async () => {
    const path = freshStore()
    using db = openSync(path, { ...writing, maxSegmentBytes: 1 << 20 })
    db.putSync('a', 'old')
    using follower = openSync(path, following)
    for (let i = 0; i < 2000; i++) db.putSync(`k${i % 200}`, 'v'.repeat(10_000))
    db.flushSync()
    const refreshed = follower.refresh()
    for (let turns = 0; turns < 4; turns++) await new Promise((resolve) => setImmediate(resolve))
    using snapshot = follower.snapshot()
    expect(follower.get('k7')).toBe(undefined)
    const seen = (): void => {
      expect(snapshot.sequence).toBe(1)
      expect(snapshot.size).toBe(1)
      expect(contentsOf(snapshot)).toEqual([['a', 'old']])
    }
    seen()
    await refreshed
    expect(contentsOf(follower)).toEqual(contentsOf(db))
    seen()
  })

  test('one that can not wait overtakes one that is under way', async () => {
    const path = freshStore()
    using db = openSync(path, writing)
    db.putSync('a', '1')
    using follower = openSync(path, following)
    db.putSync('a', '2')
    const refreshed = follower.refresh()
    await Promise.resolve()
    expect(follower.refreshSync()).toMatchObject({ changed: true, writes: 1 })
    expect(follower.get('a')).toBe('2')
    expect((await refreshed).sequence).toBe(2)
  })

  test('rejects when the store is closed meanwhile, and leaves nothing open', async () => {
    const path = freshStore()
    using db = openSync(path, writing)
    db.putSync('a', '1')
    let open = 0
    const ground = groundWith({
      open: (...args) => {
        open++
        return nodeHost.open(...args)
      },
      close: (file) => {
        open--
        nodeHost.close(file)
      },
      closeLater: (file) => {
        open--
        nodeHost.closeLater(file)
      },
    })
    const follower = openSyncWith(ground, path, following)
    for (let i = 0; i < 100; i++) db.putSync(`k${i}`, 'v'.repeat(100))
    db.flushSync()
    const refreshed = failure(() => follower.refresh())
    await Promise.resolve()
    await follower.close()
    expect(await refreshed).toMatchObject({ code: 'CASKY_CLOSED' })
    expect(open).toBe(0)
    expect(await failure(() => follower.refresh())).toMatchObject({ code: 'CASKY_CLOSED' })
  })

  test('of a store that is written to is always up to date', async () => {
    using db = openSync(freshStore(), writing)
    db.putSync('a', '1')
    expect(await db.refresh()).toMatchObject({ changed: false, sequence: 1 })
    expect(db.refreshSync()).toMatchObject({ changed: false, sequence: 1 })
  })
})

describe('merges', () => {
  /** More segments than files are kept open. */
  function many(db: Casky): void {
    for (let i = 0; i < 4800; i++) db.putSync(`k${i}`, `${i}-${'v'.repeat(900)}`)
    for (let i = 0; i < 4800; i += 2) db.deleteSync(`k${i}`)
    db.flushSync()
  }

  test('reads follow what a merge has moved, without being told', async () => {
    const path = freshStore()
    using db = openSync(path, writing)
    many(db)
    using follower = openSync(path, following)
    expect(follower.stats().segments.length).toBeGreaterThan(1100)
    await db.merge()
    for (let i = 0; i < 4800; i++) expect(follower.get(`k${i}`)).toBe(db.get(`k${i}`))
    expect(follower.health().ok).toBe(true)
  })

  test('what has begun and can not be read any more says so, and is no damage', async () => {
    const path = freshStore()
    using db = openSync(path, writing)
    many(db)
    using follower = openSync(path, following)
    const entries = follower.entries({ reverse: true })
    entries.next()
    using snapshot = follower.snapshot()
    await db.merge()
    const error = await failure(() => [...entries, ...snapshot.entries()])
    expect(error).toMatchObject({ code: 'CASKY_FOLDED' })
    expect(error.message).toMatch(/another process has merged/)
    expect(follower.health().ok).toBe(true)
    expect(contentsOf(follower)).toEqual(contentsOf(db))
  })

  test('with the files open, iterators and snapshots stay exact', async () => {
    const path = freshStore()
    using db = openSync(path, writing)
    for (let i = 0; i < 100; i++) db.putSync(`k${i % 50}`, `${i}-${'v'.repeat(400)}`)
    using follower = openSync(path, following)
    const expected = contentsOf(follower)
    const entries = follower.entries()
    using snapshot = follower.snapshot()
    for (let i = 0; i < 50; i += 3) db.deleteSync(`k${i}`)
    await db.merge()
    expect((await follower.refresh()).segmentsReplaced).toBeGreaterThan(3)
    expect([...entries]).toEqual(expected)
    expect(contentsOf(snapshot)).toEqual(expected)
    expect(contentsOf(follower)).toEqual(contentsOf(db))
  })

  test('a merge costs the follower only what it holds, and a delete that it dropped is not missed', async () => {
    const path = freshStore()
    using db = openSync(path, writing)
    for (let i = 0; i < 200; i++) db.putSync(`k${i}`, 'v'.repeat(400))
    using follower = openSync(path, following)
    for (let i = 0; i < 190; i++) db.deleteSync(`k${i}`)
    await db.merge()
    const report = await follower.refresh()
    expect(report).toMatchObject({ writes: 190, isReloaded: false })
    expect(report.bytesRead).toBeLessThan(20_000)
    expect(follower.size).toBe(10)
    expect(contentsOf(follower)).toEqual(contentsOf(db))
  })
})

test('what a merge has moved from the end that was copied after a kill is found there', async () => {
  const path = freshStore()
  const killed = openSync(path, { sync: 'always', merge: false })
  const put = (key: string) => ({ type: 'put', key, value: key.repeat(1000) }) as const
  killed.batchSync(['a', 'b', 'x'].map(put))
  // Of these only the sync tells that they are there, and they are copied when the store is next opened.
  killed.batchSync(['c', 'd', 'y'].map(put))
  using follower = openSync(path, following)
  expect(follower.size).toBe(6)
  const copy = killedCopy(path)
  killed.closeSync()
  rmSync(path, { recursive: true })
  cpSync(copy, path, { recursive: true })
  using db = openSync(path, { ...writing, maxSegmentBytes: 4096 })
  for (const key of ['x', 'y']) db.deleteSync(key)
  await db.merge()
  const report = follower.refreshSync()
  expect(report).toMatchObject({ writes: 2, isReloaded: false })
  expect(contentsOf(follower)).toEqual(contentsOf(db))
  expect(contentsOf(follower).map(([key]) => key)).toEqual(['a', 'b', 'c', 'd'])
})

describe('what is not there to stay', () => {
  test('half a record is not shown, and no damage', async () => {
    const path = freshStore()
    using db = openSync(path, writing)
    db.putSync('a', '1')
    db.flushSync()
    using follower = openSync(path, following)
    db.putSync('b', 'v'.repeat(1000))
    const [segment] = segmentsOf(path)
    const whole = readFileSync(segment)
    writeFileSync(segment, whole.subarray(0, whole.length - 400))
    expect((await follower.refresh()).writes).toBe(0)
    expect(follower.has('b')).toBe(false)
    expect(follower.health()).toMatchObject({ ok: true, tornTails: [{ path: segment }] })
    writeFileSync(segment, whole)
    expect((await follower.refresh()).writes).toBe(1)
    expect(follower.get('b')).toBe('v'.repeat(1000))
    expect(follower.health()).toMatchObject({ ok: true, tornTails: [] })
  })

  test('half a batch is not shown', async () => {
    const path = freshStore()
    using db = openSync(path, writing)
    db.putSync('a', '1')
    using follower = openSync(path, following)
    db.batchSync(['x', 'y', 'z'].map((key) => ({ type: 'put', key, value: 'v'.repeat(100) })))
    const [segment] = segmentsOf(path)
    const whole = readFileSync(segment)
    const { offset } = recordsOf(segment)[3]
    writeFileSync(segment, whole.subarray(0, Number(offset)))
    await follower.refresh()
    expect(follower.size).toBe(1)
    writeFileSync(segment, whole)
    await follower.refresh()
    expect(follower.size).toBe(4)
  })

  test('what was shown and then cut away is not shown any more', async () => {
    const path = freshStore()
    using db = openSync(path, writing)
    db.putSync('a', '1')
    db.putSync('b', '1')
    using follower = openSync(path, following)
    const [segment] = segmentsOf(path)
    const whole = readFileSync(segment)
    const { offset } = recordsOf(segment)[1]
    writeFileSync(segment, whole.subarray(0, Number(offset)))
    expect(await follower.refresh()).toMatchObject({ isReloaded: true })
    expect(contentsOf(follower)).toEqual([['a', '1']])
  })

  test('where the disk takes nothing more, only what the log says was on disk is shown', async () => {
    const path = freshStore()
    using db = openSync(path, { ...writing, sync: 'always' })
    for (let i = 0; i < 5; i++) db.putSync(`k${i}`, '1')
    const ground = groundWith({
      sync: () => {
        throw systemError('EIO')
      },
      syncLater: (_file, done) => setImmediate(done, systemError('EIO')),
    })
    using follower = openSyncWith(ground, path, following)
    // Each record says what was on disk before it.
    expect([...follower.keys()]).toEqual(['k0', 'k1', 'k2', 'k3'])
    db.putSync('k5', '1')
    await follower.refresh()
    expect([...follower.keys()]).toEqual(['k0', 'k1', 'k2', 'k3', 'k4'])
    using other = openSync(path, following)
    expect(other.size).toBe(6)
  })

  test('a disk that takes no sync, since nothing is ever written to it, shows all', () => {
    const path = freshStore()
    using db = openSync(path, writing)
    db.putSync('a', '1')
    const sync = (): void => {
      throw systemError('EROFS')
    }
    using follower = openSyncWith(groundWith({ sync }), path, following)
    expect(follower.get('a')).toBe('1')
  })
})

describe('trouble', () => {
  test.each(['read', 'status', 'list', 'open'] as const)(
    'after an error of %s reads see what they saw, and it goes on',
    async (call) => {
      const path = freshStore()
      using db = openSync(path, writing)
      for (let i = 0; i < 50; i++) db.putSync(`k${i}`, 'v'.repeat(300))
      for (let fails = 0, isDone = false; !isDone; fails++) {
        let left = Number.POSITIVE_INFINITY
        const real = nodeHost[call] as (...args: unknown[]) => unknown
        const ground = groundWith({
          [call]: (...args: unknown[]) => {
            if (left-- === 0) throw systemError('EIO')
            return real(...args)
          },
        })
        const follower = openSyncWith(ground, path, following)
        const before = contentsOf(follower)
        db.putSync(`new${fails}`, 'v'.repeat(300))
        for (let i = 0; i < 20; i++) db.putSync(`k${i}`, `${fails}`.repeat(300))
        if (fails % 2 === 1) await db.merge()
        db.flushSync()
        left = fails
        let error: { code?: string } | undefined
        try {
          await follower.refresh()
        } catch (caught) {
          error = caught as { code?: string }
        }
        isDone = left > 0
        left = Number.POSITIVE_INFINITY
        if (error !== undefined) {
          expect(error.code).toBe('CASKY_IO')
          expect(contentsOf(follower)).toEqual(before)
          await follower.refresh()
        }
        expect(contentsOf(follower)).toEqual(contentsOf(db))
        expect(follower.health().ok).toBe(true)
        follower.closeSync()
      }
    },
  )

  test('a damaged manifest is an error, and costs nothing that was seen', async () => {
    const path = freshStore()
    using db = openSync(path, writing)
    db.putSync('a', '1')
    using follower = openSync(path, following)
    db.putSync('b', '1')
    const manifest = join(path, 'MANIFEST')
    const whole = readFileSync(manifest)
    flipBit(manifest, 8 * 50)
    expect(await failure(() => follower.refresh())).toMatchObject({ code: 'CASKY_CORRUPT', path: manifest })
    expect(contentsOf(follower)).toEqual([['a', '1']])
    writeFileSync(manifest, whole)
    await follower.refresh()
    expect(follower.size).toBe(2)
  })

  test('a store that is gone, or another in its place, is an error', async () => {
    const path = freshStore()
    const db = openSync(path, writing)
    db.putSync('a', '1')
    db.closeSync()
    using follower = openSync(path, following)
    renameSync(path, `${path}-moved`)
    expect(await failure(() => follower.refresh())).toMatchObject({ code: 'CASKY_NOT_FOUND' })
    using other = openSync(path, writing)
    other.putSync('a', '2')
    const error = await failure(() => follower.refresh())
    expect(error).toMatchObject({ code: 'CASKY_NOT_FOUND', path })
    expect(error.message).toMatch(/another store/)
    expect(follower.get('a')).toBe('1')
  })

  test('damage that is written meanwhile is reported, and the rest is shown', async () => {
    const path = freshStore()
    using db = openSync(path, writing)
    db.putSync('a', '1')
    using follower = openSync(path, following)
    for (let i = 0; i < 40; i++) db.putSync(`k${i}`, 'v'.repeat(300))
    const [, second] = segmentsOf(path)
    const { offset } = recordsOf(second)[2]
    flipBit(second, 8 * (Number(offset) + 4))
    await follower.refresh()
    const { ok, damage } = follower.health()
    expect(ok).toBe(false)
    expect(damage.map((each) => each.path)).toEqual([second])
    db.putSync('b', '1')
    expect(await follower.refresh()).toMatchObject({ writes: 1, isReloaded: false })
    expect(follower.get('b')).toBe('1')
    expect(follower.health().damage).toEqual(damage)
  })

  test.each([
    ['id', 32],
    ['salt', 36],
    ['store', 16],
  ])(
    'a segment whose header names another %s, and passes its CRC, is read as its writer reads it',
    async (_, at) => {
      const path = freshStore()
      const db = openSync(path, writing)
      for (let i = 0; i < 40; i++) db.putSync(`k${i}`, 'v'.repeat(300))
      using follower = openSync(path, following)
      for (let i = 40; i < 60; i++) db.putSync(`k${i}`, 'v'.repeat(300))
      db.closeSync()
      for (const segment of [segmentsOf(path)[1], segmentsOf(path).at(-1) as string]) {
        const file = readFileSync(segment)
        file[at] ^= 1
        mendSegment(file, [])
        writeFileSync(segment, file)
      }
      await follower.refresh()
      using reader = openSync(path, following)
      using writer = openSync(path, writing)
      expect(reader.size).toBe(60)
      for (const each of [follower, reader]) {
        expect(contentsOf(each)).toEqual(contentsOf(writer))
        expect(each.health().damage.map(({ reason }) => reason)).toContain(
          'the file is another segment than its name says',
        )
      }
      expect(reader.health().damage.length).toBe(writer.health().damage.length)
    },
  )

  test('a repaired store, and one put back from a copy, are read anew', async () => {
    const path = freshStore()
    const db = openSync(path, writing)
    for (let i = 0; i < 40; i++) db.putSync(`k${i}`, 'v'.repeat(300))
    db.closeSync()
    const copy = killedCopy(path)
    using follower = openSync(path, following)
    const [, second] = segmentsOf(path)
    const { offset, key } = recordsOf(second)[2]
    flipBit(second, 8 * (Number(offset) + 4))
    await repair(path)
    await follower.refresh()
    expect(follower.has(key.toString())).toBe(false)
    expect(follower.size).toBe(39)
    expect(follower.health().ok).toBe(true)
    rmSync(path, { recursive: true })
    cpSync(copy, path, { recursive: true })
    expect(await follower.refresh()).toMatchObject({ isReloaded: true })
    expect(follower.size).toBe(40)
  })

  test('check beside a writer looks at the store as it is by then', async () => {
    const path = freshStore()
    using db = openSync(path, writing)
    for (let i = 0; i < 40; i++) db.putSync(`k${i % 5}`, 'v'.repeat(300))
    using follower = openSync(path, following)
    await db.merge()
    db.putSync('a', '1')
    expect(await follower.check()).toMatchObject({ ok: true, damage: [] })
    const [segment] = segmentsOf(path)
    flipBit(segment, 8 * 300)
    expect((await follower.check()).damage.map((each) => each.path)).toEqual([segment])
  })
})

describe('follow', () => {
  const until = async (isSo: () => boolean): Promise<void> => {
    while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 2))
  }

  test('refreshes by itself when the writer has written', async () => {
    const path = freshStore()
    using db = openSync(path, writing)
    db.putSync('a', '1')
    using follower = openSync(path, { ...following, follow: true })
    db.putSync('a', '2')
    await until(() => follower.get('a') === '2')
    for (let i = 0; i < 60; i++) db.putSync(`k${i % 7}`, 'v'.repeat(300))
    await db.merge()
    db.putSync('b', '1')
    await until(() => follower.has('b'))
    expect(contentsOf(follower)).toEqual(contentsOf(db))
  })

  test('also where nothing tells that files have changed', async () => {
    const path = freshStore()
    using db = openSync(path, writing)
    db.putSync('a', '1')
    const watch = (): never => {
      throw systemError('ENOSPC')
    }
    using follower = openSyncWith(groundWith({ watch }), path, { ...following, follow: true })
    db.putSync('a', '2')
    await until(() => follower.get('a') === '2')
  })

  test('goes on after an error', async () => {
    const path = freshStore()
    using db = openSync(path, writing)
    db.putSync('a', '1')
    let fails = 0
    const read: typeof nodeHost.read = (...args) => {
      if (fails-- > 0) throw systemError('EIO')
      return nodeHost.read(...args)
    }
    using follower = openSyncWith(groundWith({ read }), path, { ...following, follow: true })
    fails = 3
    db.putSync('a', '2')
    await until(() => fails <= 0 && follower.get('a') === '2')
  })

  test('a live feed of changes goes on with what the writer writes', async () => {
    const path = freshStore()
    using db = openSync(path, { ...writing, sync: 'always', maxSegmentBytes: 1 << 20 })
    db.putSync('a', '0')
    using follower = openSync(path, { ...following, follow: true })
    const seen: string[] = []
    const written = (async () => {
      for (let i = 1; i < 30; i++) {
        await db.put('a', `${i}`)
        if (i % 7 === 0) await new Promise((resolve) => setTimeout(resolve, 15))
      }
    })()
    for await (const change of follower.changes({ live: true })) {
      if (change.type === 'put') seen.push(change.value)
      if (seen.length === 30) break
    }
    await written
    expect(seen).toEqual(Array.from({ length: 30 }, (_, i) => `${i}`))
  })

  test('is for stores that are opened read-only', async () => {
    expect(await failure(() => openSync(freshStore(), { follow: true }))).toMatchObject({
      code: 'CASKY_INVALID_OPTION',
      message: "option 'follow' is for stores that are opened with readOnly: true, not true",
    })
  })
})
