// A refresh lets others run between short steps: counted in turns of the event loop, on a clock by which each step fills
// a slice.
import { truncateSync } from 'node:fs'
import { expect, test } from 'vitest'
import { nodeHost } from '../src/host/node'
import { type Casky, openSync, type RefreshReport } from '../src/index'
import { freshStore, useMemory } from './support/folders'
import { groundWith, openSyncWith, systemError } from './support/ground'
import { flipBit, segmentsOf } from './support/stores'

useMemory()

const writing = { sync: 'never', merge: false, cacheBytes: 0 } as const
const following = { readOnly: true, cacheBytes: 0 } as const
/** Read between two turns at most: a window, and a piece of a long value. */
const BYTES_MAX = 2 ** 20
const RECORDS_MAX = 256

class Turns {
  count = 0
  bytesMax = 0
  isSyncFailing = false
  private bytes = 0
  private clockMs = 0

  /** `sliceMs`: how long each look at the clock took. */
  constructor(private readonly sliceMs: number) {}

  get ground(): ReturnType<typeof groundWith> {
    return groundWith({
      clockMs: () => {
        this.clockMs += this.sliceMs
        return this.clockMs
      },
      read: (...args) => {
        const bytes = nodeHost.read(...args)
        this.bytes += bytes
        this.bytesMax = Math.max(this.bytesMax, this.bytes)
        return bytes
      },
      soon: (run) => {
        this.begin()
        nodeHost.soon(run)
      },
      syncLater: (file, done) => {
        nodeHost.syncLater(file, (error) => done(this.isSyncFailing ? systemError('EIO') : error))
      },
    })
  }

  private begin(): void {
    this.count++
    this.bytes = 0
  }

  reset(): void {
    this.begin()
    this.count = 0
    this.bytesMax = 0
  }
}

interface Followed {
  turns: Turns
  report: RefreshReport
  follower: Casky
}

/** A follower of what there is, and its refresh after `write`. */
async function followed(
  db: Casky,
  path: string,
  write: (turns: Turns) => unknown,
  sliceMs = 1,
): Promise<Followed> {
  const turns = new Turns(sliceMs)
  const follower = openSyncWith(turns.ground, path, following)
  await write(turns)
  db.flushSync()
  turns.reset()
  const report = await follower.refresh()
  expect([...follower.keys()]).toEqual([...db.keys()])
  return { turns, report, follower }
}

const many = (db: Casky, count: number): void => {
  for (let i = 0; i < count; i++) void db.put(`key ${i}`, 'value')
}

test('over many small records', async () => {
  const path = freshStore()
  using db = openSync(path, writing)
  const { turns, follower } = await followed(db, path, () => many(db, 20_000))
  expect(turns.count).toBeGreaterThan(20_000 / RECORDS_MAX)
  expect(turns.bytesMax).toBeLessThan(BYTES_MAX)
  follower.closeSync()
})

test('as many steps as fit into a slice make one turn', async () => {
  const path = freshStore()
  using db = openSync(path, writing)
  const { turns, follower } = await followed(db, path, () => many(db, 20_000), 0.05)
  expect(turns.count).toBeGreaterThan(5)
  expect(turns.count).toBeLessThan(20_000 / RECORDS_MAX / 2)
  follower.closeSync()
})

test('over segments that come in by their hints', async () => {
  const path = freshStore()
  using db = openSync(path, { ...writing, maxSegmentBytes: 2 ** 20 })
  const { turns, report, follower } = await followed(db, path, async () => {
    many(db, 60_000)
    await db.flush()
    await db.merge()
  })
  expect(report.segmentsAdded).toBeGreaterThan(1)
  // Of their hints, that is, and not of them.
  expect(report.bytesRead).toBeLessThan(0.95 * segmentsOf(path).length * 2 ** 20)
  expect(turns.count).toBeGreaterThan(60_000 / RECORDS_MAX)
  expect(turns.bytesMax).toBeLessThan(BYTES_MAX)
  follower.closeSync()
})

test('over long values', async () => {
  const path = freshStore()
  using db = openSync(path, writing)
  const { turns, follower } = await followed(db, path, () => {
    for (const mib of [0.1, 0.3, 3, 9]) db.putSync(`${mib} MiB`, 'v'.repeat(mib * 2 ** 20))
  })
  expect(turns.count).toBeGreaterThan(12)
  expect(turns.bytesMax).toBeLessThan(BYTES_MAX)
  expect(follower.get('9 MiB')?.length).toBe(9 * 2 ** 20)
  follower.closeSync()
})

test('over a batch of many, of which nothing is seen before all is there', async () => {
  const path = freshStore()
  using db = openSync(path, writing)
  db.putSync('key 7', 'old')
  const turns = new Turns(1)
  using follower = openSyncWith(turns.ground, path, following)
  const keys = Array.from({ length: 20_000 }, (_, i) => `key ${i}`)
  db.batchSync(keys.map((key) => ({ type: 'put', key, value: 'new' })))
  turns.reset()
  let isDone = false
  const refreshed = follower.refresh().then(() => {
    isDone = true
  })
  while (!isDone) {
    expect([follower.size, follower.get('key 7')]).toEqual([1, 'old'])
    await new Promise((resolve) => setImmediate(resolve))
  }
  await refreshed
  // Once they are read, and once they are applied.
  expect(turns.count).toBeGreaterThan((2 * keys.length) / RECORDS_MAX)
  expect([follower.size, follower.get('key 7')]).toEqual([20_000, 'new'])
  expect([...follower.entries()]).toEqual([...db.entries()])
})

test('over what a merge has left out', async () => {
  const path = freshStore()
  using db = openSync(path, writing)
  many(db, 20_000)
  db.flushSync()
  const { turns, follower } = await followed(db, path, async () => {
    for (let i = 0; i < 20_000; i++) void db.delete(`key ${i}`)
    db.putSync('last', 'one')
    await db.merge()
  })
  expect(turns.count).toBeGreaterThan(20_000 / RECORDS_MAX)
  expect(follower.size).toBe(1)
  follower.closeSync()
})

test('over a long value that has been written in part', async () => {
  const path = freshStore()
  using db = openSync(path, writing)
  db.putSync('a', '1')
  const turns = new Turns(1)
  using follower = openSyncWith(turns.ground, path, following)
  db.putSync('b', '2')
  const [segment] = segmentsOf(path)
  const { bytes } = nodeHost.inspect(segment) ?? { bytes: 0 }
  db.putSync('long', 'v'.repeat(9 * 2 ** 20))
  truncateSync(segment, bytes + 8 * 2 ** 20)
  turns.reset()
  expect(await follower.refresh()).toMatchObject({ writes: 1, sequence: 2 })
  expect(turns.count).toBeGreaterThan(8)
  expect(turns.bytesMax).toBeLessThan(BYTES_MAX)
  expect([...follower.entries()]).toEqual([
    ['a', '1'],
    ['b', '2'],
  ])
})

test('over damage, and the search for what is whole behind it', async () => {
  const path = freshStore()
  using db = openSync(path, { ...writing, sync: 'always' })
  const turns = new Turns(1)
  db.putSync('a', '1')
  const [segment] = segmentsOf(path)
  using follower = openSyncWith(turns.ground, path, following)
  const { bytes } = nodeHost.inspect(segment) ?? { bytes: 0 }
  db.putSync('long', 'v'.repeat(9 * 2 ** 20))
  for (let i = 0; i < 1000; i++) void db.put(`key ${i}`, 'value')
  await db.flush()
  db.putSync('b', '2')
  // The length in its header: where it ends is not known any more.
  flipBit(segment, 8 * (bytes + 18))
  turns.reset()
  await follower.refresh()
  expect(turns.count).toBeGreaterThan(16)
  expect(turns.bytesMax).toBeLessThan(BYTES_MAX)
  expect(follower.health().damage).toMatchObject([{ offset: bytes }])
  expect([follower.get('a'), follower.get('b'), follower.get('key 999')]).toEqual(['1', '2', 'value'])
})

test('over what a disk that fails has of the log', async () => {
  const path = freshStore()
  using db = openSync(path, { ...writing, sync: 'always' })
  db.putSync('a', '1')
  const turns = new Turns(1)
  using follower = openSyncWith(turns.ground, path, following)
  for (let i = 0; i < 40; i++) db.putSync(`key ${i}`, 'v'.repeat(2 ** 18))
  turns.isSyncFailing = true
  turns.reset()
  // All but the last, of which nothing says that it is on disk.
  expect((await follower.refresh()).writes).toBe(39)
  expect(turns.bytesMax).toBeLessThan(BYTES_MAX)
})

test('files that a merge has removed are given back off the thread', async () => {
  const path = freshStore()
  using db = openSync(path, { ...writing, maxSegmentBytes: 4096 })
  many(db, 1000)
  db.flushSync()
  let closed = 0
  let later = 0
  const ground = groundWith({
    close: (file) => {
      closed++
      nodeHost.close(file)
    },
    closeLater: (file) => {
      later++
      nodeHost.closeLater(file)
    },
  })
  using follower = openSyncWith(ground, path, following)
  const segments = segmentsOf(path).length
  many(db, 1000)
  await db.flush()
  await db.merge()
  closed = 0
  const { segmentsReplaced } = await follower.refresh()
  expect(segmentsReplaced).toBeGreaterThanOrEqual(segments)
  expect(later).toBeGreaterThanOrEqual(segmentsReplaced)
  // Of the manifest, and of hints, each the last one of none.
  expect(closed).toBeLessThan(1 + follower.stats().segments.length)
})
