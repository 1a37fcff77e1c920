import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Host } from '../src/host/host'
import { nodeHost } from '../src/host/node'
import { open, openSync } from '../src/index'
import { Random } from './sim/random'
import { freshStore } from './support/folders'
import { failure, groundWith, openSyncWith, systemError } from './support/ground'
import { contentsOf, flipBit, killedCopy, segmentsOf } from './support/stores'

const never = { sync: 'never', merge: false } as const

function segmentBytes(path: string): number {
  return segmentsOf(path).reduce((sum, file) => sum + statSync(file).size, 0)
}

/** What stands in a directory, byte for byte. */
const filesIn = (path: string): [string, string][] =>
  readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ name }): [string, string] => [name, readFileSync(join(path, name)).toString('latin1')])
    .sort(([a], [b]) => (a < b ? -1 : 1))

const isSame = (a: Uint8Array | undefined, b: Uint8Array): boolean =>
  Buffer.compare(a ?? b.subarray(1), b) === 0

function entriesIn(path: string): Map<string, string> {
  const db = openSync(path, { merge: false })
  const entries = new Map(db.entries())
  expect(db.health().damage).toEqual([])
  db.closeSync()
  return entries
}

describe('merge', () => {
  test('gives back what was overwritten: at most 1.05 times the live records stay', async () => {
    const path = freshStore()
    const db = openSync(path, { ...never, maxSegmentBytes: 200_000 })
    const keys = 2000
    for (let round = 0; round < 4; round++) {
      for (let i = 0; i < keys; i++) db.put(`key ${i}`, `value ${round} of ${i} ${'x'.repeat(80)}`)
    }
    await db.flush()
    const before = segmentBytes(path)
    const report = await db.merge()
    const after = segmentBytes(path)
    const { liveBytes } = db.stats()
    expect(after).toBeLessThan(liveBytes * 1.05)
    // A seal was added to the last one.
    expect(Math.abs(report.freedBytes - (before - after))).toBeLessThan(100)
    expect(report).toMatchObject({
      reason: 'asked for',
      damaged: [],
    })
    for (let i = 0; i < keys; i += 7) expect(db.get(`key ${i}`)).toMatch(`value 3 of ${i} `)
    expect((await db.check()).damage).toEqual([])
    await db.close()
    expect(entriesIn(path).size).toBe(keys)
    expect(contentsOf(path).entries.size).toBe(keys)
  })

  test('asked for again, it finds nothing to do', async () => {
    const db = openSync(freshStore(), { ...never, maxSegmentBytes: 50_000 })
    for (let i = 0; i < 3000; i++) db.put(`key ${i % 500}`, `value ${i} ${'x'.repeat(40)}`)
    await db.merge()
    const names = readdirSync(db.path).sort()
    expect(await db.compact()).toMatchObject({ recordsRead: 0, bytesWritten: 0, freedBytes: 0 })
    expect(readdirSync(db.path).sort()).toEqual(names)
    await db.close()
  })

  test('lets deletes go with what they hide, and no key comes back', async () => {
    const path = freshStore()
    const db = openSync(path, { ...never, maxSegmentBytes: 20_000 })
    for (let i = 0; i < 1000; i++) db.put(`key ${i}`, 'x'.repeat(50))
    for (let i = 0; i < 1000; i++) if (i % 10 !== 0) db.delete(`key ${i}`)
    await db.merge()
    expect(db.size).toBe(100)
    expect(db.stats().segments.reduce((sum, { records }) => sum + records, 0)).toBe(100)
    await db.close()
    expect([...entriesIn(path).keys()].every((key) => key.endsWith('0'))).toBe(true)
  })

  test('of a store in which nothing is left leaves its sequence numbers', async () => {
    const path = freshStore()
    const db = openSync(path, never)
    for (let i = 0; i < 10; i++) db.put(`key ${i}`, 'x')
    for (let i = 0; i < 10; i++) db.delete(`key ${i}`)
    await db.merge()
    expect(db.stats().lastSequence).toBe(20)
    await db.close()
    const again = openSync(path, never)
    expect(again.stats()).toMatchObject({ lastSequence: 20, entries: 0 })
    again.putSync('k', 'v')
    expect(again.stats().lastSequence).toBe(21)
    again.closeSync()
    expect(entriesIn(path)).toEqual(new Map([['k', 'v']]))
  })

  test('keeps batches whole', async () => {
    const path = freshStore()
    const db = openSync(path, { ...never, maxSegmentBytes: 400_000 })
    const random = new Random(7)
    for (let round = 0; round < 60; round++) {
      db.batchSync(
        Array.from({ length: 1 + random.below(3000) }, () => ({
          type: 'put' as const,
          key: `key ${random.below(4000)}`,
          value: `${round} ${'x'.repeat(random.below(200))}`,
        })),
      )
    }
    const expected = new Map(db.entries())
    await db.merge()
    expect(new Map(db.entries())).toEqual(expected)
    await db.close()
    expect(entriesIn(path)).toEqual(expected)
    // The second reader holds batches to the rules.
    expect(new Map(contentsOf(path).entries)).toEqual(expected)
  })

  test('copies values that are longer than a window, and their deletes', async () => {
    const path = freshStore()
    const db = openSync(path, { ...never, valueEncoding: 'bytes', maxSegmentBytes: 4_000_000 })
    const large = (bytes: number, fill: number): Uint8Array => new Uint8Array(bytes).fill(fill)
    for (const [i, bytes] of [70_000, 700_000, 5_000_000, 65_536, 131_072].entries()) {
      db.put(`old ${i}`, large(bytes, 1))
      db.put(`kept ${i}`, large(bytes, i))
      db.put(`old ${i}`, large(10, 2))
      db.put(`k${'e'.repeat(65_000)}y ${i}`, large(bytes, i + 9))
    }
    const report = await db.merge()
    expect(report.recordsWritten).toBeGreaterThan(10)
    for (const [i, bytes] of [70_000, 700_000, 5_000_000, 65_536, 131_072].entries()) {
      expect(isSame(db.get(`kept ${i}`), large(bytes, i))).toBe(true)
      expect(isSame(db.get(`k${'e'.repeat(65_000)}y ${i}`), large(bytes, i + 9))).toBe(true)
    }
    await db.close()
    const again = openSync(path, { valueEncoding: 'bytes' })
    expect((await again.check()).damage).toEqual([])
    expect(isSame(again.get('kept 2'), large(5_000_000, 2))).toBe(true)
    await again.close()
  })

  test('while writes go on loses none of them', async () => {
    const path = freshStore()
    const db = openSync(path, { ...never, maxSegmentBytes: 100_000 })
    const expected = new Map<string, string>()
    const random = new Random(3)
    let serial = 0
    const write = (): void => {
      const key = `key ${random.below(3000)}`
      if (random.chance(0.2)) {
        expected.delete(key)
        db.delete(key)
        return
      }
      const value = `value ${serial++} ${'x'.repeat(random.below(100))}`
      expected.set(key, value)
      db.put(key, value)
    }
    for (let i = 0; i < 20_000; i++) write()
    for (let round = 0; round < 3; round++) {
      const merging = db.merge()
      let isDone = false
      merging.finally(() => {
        isDone = true
      })
      while (!isDone) {
        for (let i = 0; i < 50; i++) write()
        await new Promise((resolve) => setImmediate(resolve))
      }
      await merging
      expect(new Map(db.entries())).toEqual(expected)
      expect(db.size).toBe(expected.size)
    }
    for (const { bytes, liveBytes } of db.stats().segments) expect(liveBytes).toBeLessThanOrEqual(bytes)
    await db.flush()
    expect(new Map(contentsOf(killedCopy(path)).entries)).toEqual(expected)
    await db.close()
    expect(entriesIn(path)).toEqual(expected)
  })

  test('marks the log where it ends, and not where a group is filling', async () => {
    const path = freshStore()
    const db = openSync(path, { merge: false, maxSegmentBytes: 100_000 })
    for (let i = 0; i < 2000; i++) db.put(`key ${i % 500}`, `value ${i} ${'x'.repeat(60)}`)
    await db.flush()
    const merging = db.merge()
    let isDone = false
    merging.finally(() => {
      isDone = true
    })
    let i = 0
    // Whoever waits for a group writes again before a merge that waits for the same one goes on.
    const writer = async (turns: number): Promise<void> => {
      while (!isDone) {
        await db.put(`during ${i++}`, 'x')
        for (let turn = 0; turn < turns; turn++) await undefined
      }
    }
    await Promise.all([0, 1, 2, 3, 4].map(writer))
    await db.flush()
    expect((await db.check()).damage).toEqual([])
    await db.close()
    expect(entriesIn(path).size).toBe(500 + i)
  })

  test('does not pull the files from under an iterator; they go when it is done', async () => {
    const path = freshStore()
    const db = openSync(path, { ...never, cacheBytes: 0, maxSegmentBytes: 20_000 })
    for (let i = 0; i < 2000; i++) db.put(`key ${i % 400}`, `value ${i}`)
    const expected = [...db.entries()]
    const entries = db.entries()
    const first = entries.next().value
    for (let i = 0; i < 400; i++) db.put(`key ${i}`, 'newer')
    const files = segmentsOf(path)
    await db.merge()
    expect(files.every((file) => existsSync(file))).toBe(true)
    expect([first, ...entries]).toEqual(expected)
    while (files.some((file) => existsSync(file))) await new Promise((resolve) => setTimeout(resolve, 1))
    await db.close()
  })

  test('is no damage to who opens beside it, read-only', async () => {
    const path = freshStore()
    const db = openSync(path, { ...never, maxSegmentBytes: 20_000 })
    for (let i = 0; i < 2000; i++) db.put(`key ${i % 400}`, `value ${i} ${'x'.repeat(30)}`)
    let isDone = false
    const work = async (): Promise<void> => {
      for (let round = 0; round < 6; round++) {
        for (let i = 0; i < 800; i++) db.put(`key ${i % 400}`, `value ${i} of ${round} ${'x'.repeat(30)}`)
        await db.merge()
      }
      isDone = true
    }
    const working = work()
    let opened = 0
    while (!isDone) {
      const reader = await open(path, { readOnly: true })
      expect(reader.health().damage).toEqual([])
      expect(reader.size).toBe(400)
      // What it has opened it can read, whatever becomes of the names.
      expect(reader.get('key 7')).toMatch('value')
      await reader.close()
      opened++
    }
    await working
    expect(opened).toBeGreaterThan(1)
    await db.close()
  })

  test('that is closed in between leaves nothing behind, and goes on the next time', async () => {
    const path = freshStore()
    const fill = openSync(path, { ...never, maxSegmentBytes: 50_000 })
    for (let i = 0; i < 20_000; i++) fill.put(`key ${i % 1000}`, `value ${i} ${'x'.repeat(60)}`)
    const expected = new Map(fill.entries())
    await fill.close()
    for (let turns = 0; turns < 40; turns += 3) {
      const db = openSync(path, { ...never, maxSegmentBytes: 50_000 })
      const merging = failure(() => db.merge())
      for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve))
      if (turns % 2 === 0) await db.close()
      else db.closeSync()
      await merging.catch(() => {})
      const again = openSync(path, never)
      expect(new Map(again.entries())).toEqual(expected)
      const named = again.stats().segments.map((segment) => segment.path)
      expect(segmentsOf(path).filter((file) => !named.includes(file))).toEqual([])
      await again.close()
    }
  })

  test('does not launder damage: a damaged segment stays as it is, and is reported', async () => {
    const path = freshStore()
    const db = openSync(path, { ...never, cacheBytes: 0, maxSegmentBytes: 10_000 })
    for (let i = 0; i < 1000; i++) db.put(`key ${i % 300}`, `value ${i} ${'x'.repeat(40)}`)
    await db.flush()
    const damaged = segmentsOf(path)[1]
    flipBit(damaged, 5000 * 8)
    const report = await db.merge()
    expect(report.damaged).toEqual([damaged])
    expect(existsSync(damaged)).toBe(true)
    expect(db.health().damage.map((each) => each.path)).toEqual([damaged])
    expect(await db.merge()).toMatchObject({ recordsRead: 0 })
    await db.close()
    const again = openSync(path, never)
    expect(again.health().ok).toBe(false)
    await again.close()
  })

  test('that can not read back what it wrote leaves no key behind: the next one goes on from there', async () => {
    const path = freshStore()
    let isArmed = false
    let readsToFail = 0
    const host: Partial<Host> = {
      rename: (from, to) => {
        nodeHost.rename(from, to)
        if (isArmed && to.endsWith('MANIFEST')) readsToFail = 1
      },
      read: (file, into, at, bytes, position) => {
        if (readsToFail-- === 1) throw systemError('EIO')
        return nodeHost.read(file, into, at, bytes, position)
      },
    }
    const db = openSyncWith(groundWith(host), path, { ...never, cacheBytes: 0, maxSegmentBytes: 50_000 })
    for (let i = 0; i < 2000; i++) db.put(`key ${i % 500}`, `value ${i} ${'x'.repeat(40)}`)
    const expected = new Map(db.entries())
    await db.flush()
    // The seal of the last segment changes the manifest first.
    await db.merge()
    for (let i = 0; i < 200; i++) db.put(`key ${i}`, `newer ${i}`)
    for (let i = 0; i < 200; i++) expected.set(`key ${i}`, `newer ${i}`)
    db.flushSync()
    const merging = db.merge()
    // Behind the manifest that ends the segment that is written to.
    await new Promise((resolve) => setImmediate(resolve))
    isArmed = true
    const error = await failure(() => merging)
    isArmed = false
    expect(error).toMatchObject({ code: 'CASKY_IO' })
    expect(new Map(db.entries())).toEqual(expected)
    await db.merge()
    expect(new Map(db.entries())).toEqual(expected)
    await db.close()
    expect(entriesIn(path)).toEqual(expected)
  })

  test('aborted, it leaves what it had finished', async () => {
    const path = freshStore()
    const fill = openSync(path, { ...never, maxSegmentBytes: 50_000 })
    for (let i = 0; i < 20_000; i++) fill.put(`key ${i % 1000}`, `value ${i} ${'x'.repeat(60)}`)
    const expected = new Map(fill.entries())
    await fill.close()
    for (let turns = 0; turns < 30; turns++) {
      const db = openSync(path, { ...never, maxSegmentBytes: 50_000 })
      for (let i = 0; i < 900; i++) db.put(`key ${i}`, `value ${turns} ${i} ${'x'.repeat(60)}`)
      for (let i = 0; i < 900; i++) expected.set(`key ${i}`, `value ${turns} ${i} ${'x'.repeat(60)}`)
      const control = new AbortController()
      const merging = db.merge({ signal: control.signal }).catch((error) => error.code)
      for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve))
      control.abort()
      const outcome = await merging
      if (typeof outcome === 'string') expect(outcome).toBe('CASKY_ABORTED')
      await db.merge()
      expect(new Map(db.entries())).toEqual(expected)
      await db.close()
    }
    expect(entriesIn(path)).toEqual(expected)
  })

  test('given up, it frees what it wrote a little at a time', async () => {
    const removed: number[] = []
    const host = {
      remove: (path: string) => {
        if (path.endsWith('.data')) removed.push(statSync(path).size)
        nodeHost.remove(path)
      },
    }
    const path = freshStore()
    const db = openSyncWith(groundWith(host), path, never)
    for (let i = 0; i < 6000; i++) db.put(`key ${i}`, `value ${i} ${'x'.repeat(1000)}`)
    db.delete('key 0')
    const expected = new Map(db.entries())
    const control = new AbortController()
    const onProgress = ({ bytesDone }: { bytesDone: number }): void => {
      if (bytesDone > 4_000_000) control.abort()
    }
    const aborted = db.merge({ onProgress, signal: control.signal })
    expect(await failure(() => aborted)).toMatchObject({ code: 'CASKY_ABORTED' })
    expect(removed.length).toBe(1)
    expect(removed[0]).toBeLessThanOrEqual(2 ** 20)
    expect(segmentsOf(path).length).toBe(1)
    await db.close()
    expect(entriesIn(path)).toEqual(expected)
  })

  test('says so, and changes nothing, where there is no room', async () => {
    const path = freshStore()
    const db = openSyncWith(groundWith({ freeBytes: () => 1000 }), path, {
      ...never,
      maxSegmentBytes: 10_000,
    })
    for (let i = 0; i < 1000; i++) db.put(`key ${i % 300}`, `value ${i} ${'x'.repeat(40)}`)
    await db.flush()
    const before = { files: filesIn(path), segments: db.stats().segments }
    expect(before.segments.at(-1)?.state).toBe('active')
    const refused = await failure(() => db.merge())
    expect(refused).toMatchObject({ code: 'CASKY_NO_SPACE', got: 1000 })
    expect(refused.message).toMatch('nothing was changed')
    expect({ files: filesIn(path), segments: db.stats().segments }).toEqual(before)
    expect(db.get('key 1')).toMatch('value')
    await db.close()
  })

  test('of a store with one segment, which is written to, leaves it so where there is no room', async () => {
    const path = freshStore()
    const db = openSyncWith(groundWith({ freeBytes: () => 1000 }), path, never)
    for (let i = 0; i < 100; i++) db.put(`key ${i % 30}`, `value ${i}`)
    await db.flush()
    const before = { files: filesIn(path), segments: db.stats().segments }
    const [{ liveBytes }] = before.segments
    const expected = 2 ** 20 + liveBytes
    expect(await failure(() => db.merge())).toMatchObject({ code: 'CASKY_NO_SPACE', expected })
    expect({ files: filesIn(path), segments: db.stats().segments }).toEqual(before)
    await db.close()
  })

  test('says what stays where the room goes while it runs', async () => {
    const path = freshStore()
    let asked = 0
    // Asked once before anything is done, and before each run of segments.
    const freeBytes = (): number => (++asked < 3 ? Number.MAX_SAFE_INTEGER : 1000)
    const db = openSyncWith(groundWith({ freeBytes }), path, { ...never, maxSegmentBytes: 10_000 })
    for (let i = 0; i < 600; i++) db.put(`key ${i}`, `value ${i} ${'x'.repeat(40)}`)
    for (let i = 0; i < 600; i += 2) db.put(`key ${i}`, `again ${i} ${'x'.repeat(40)}`)
    const refused = await failure(() => db.merge())
    expect(refused).toMatchObject({ code: 'CASKY_NO_SPACE', got: 1000 })
    expect(refused.message).toMatch('what it had finished stays')
    expect(db.stats().merges.freedBytes).toBeGreaterThan(0)
    expect(db.size).toBe(600)
    await db.close()
    expect(entriesIn(path).size).toBe(600)
  })

  test('goes on where the system can not tell how much room there is', async () => {
    const path = freshStore()
    const freeBytes = (): number => {
      throw systemError('ENOSYS')
    }
    const db = openSyncWith(groundWith({ freeBytes }), path, never)
    for (let i = 0; i < 100; i++) db.put(`key ${i % 30}`, `value ${i}`)
    expect((await db.merge()).freedBytes).toBeGreaterThan(0)
    await db.close()
    expect(entriesIn(path).size).toBe(30)
  })

  test('runs by itself when half of a segment is dead, and not where it is turned off', async () => {
    for (const merge of [{}, false] as const) {
      const path = freshStore()
      const db = await open(path, { sync: 'never', merge, maxSegmentBytes: 50_000 })
      for (let i = 0; i < 20_000; i++) {
        db.put(`key ${i % 300}`, `value ${i} ${'x'.repeat(40)}`)
        if (i % 1000 === 0) await new Promise((resolve) => setTimeout(resolve, 2))
      }
      await db.flush()
      for (let i = 0; i < 300 && merge !== false && db.stats().bytes > 500_000; i++)
        await new Promise((resolve) => setTimeout(resolve, 10))
      const { merges, bytes } = db.stats()
      expect(merges.lastError).toBe(undefined)
      if (merge === false) expect(merges.count).toBe(0)
      else {
        expect(merges.count).toBeGreaterThan(0)
        expect(merges.last?.reason).toMatch(/dead|small/)
        expect(bytes).toBeLessThan(500_000)
      }
      expect(db.size).toBe(300)
      await db.close()
    }
  })

  test('by itself it does nothing where there is no room, says so, and runs once there is', async () => {
    let freeBytes = 1000
    const path = freshStore()
    const db = openSyncWith(groundWith({ freeBytes: () => freeBytes }), path, {
      sync: 'never',
      maxSegmentBytes: 50_000,
    })
    const until = async (isThere: () => boolean): Promise<void> => {
      for (let i = 0; i < 500 && !isThere(); i++) await new Promise((resolve) => setTimeout(resolve, 10))
    }
    for (let i = 0; i < 3000; i++) db.put(`key ${i % 300}`, `value ${i} ${'x'.repeat(40)}`)
    await db.flush()
    await until(() => db.stats().merges.lastError !== undefined)
    const { merges } = db.stats()
    expect(merges).toMatchObject({ count: 0, last: undefined })
    expect(merges.lastError).toMatchObject({ code: 'CASKY_NO_SPACE', got: 1000 })
    freeBytes = Number.MAX_SAFE_INTEGER
    for (let i = 0; i < 3000; i++) db.put(`key ${i % 300}`, `newer ${i} ${'x'.repeat(40)}`)
    await db.flush()
    await until(() => db.stats().merges.count > 0 && !db.stats().merges.isRunning)
    expect(db.stats().merges.lastError).toBe(undefined)
    expect(db.stats().merges.freedBytes).toBeGreaterThan(0)
    expect(db.size).toBe(300)
    await db.close()
  })

  test('by itself it takes what is there when its turn comes, and not what another one has replaced', async () => {
    const path = freshStore()
    const held: (() => void)[] = []
    let holds = true
    const soon = (run: () => void): void => {
      if (holds) held.push(run)
      else nodeHost.soon(run)
    }
    const db = openSyncWith(groundWith({ soon }), path, { sync: 'never', maxSegmentBytes: 10_000 })
    for (let i = 0; i < 1000; i++) db.putSync(`key ${i % 50}`, `value ${i} ${'x'.repeat(40)}`)
    holds = false
    const merging = db.merge()
    // It has its turn, and has not begun: what is looked at now is what it will replace.
    for (const run of held.splice(0)) run()
    await merging
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setTimeout(resolve, 2))
    const { merges } = db.stats()
    expect(merges).toMatchObject({ count: 1, isRunning: false, lastError: undefined })
    expect(db.size).toBe(50)
    await db.close()
  })

  test('expired entries go, and what they hid stays hidden', async () => {
    const path = freshStore()
    const db = openSync(path, { ...never, maxSegmentBytes: 10_000 })
    for (let i = 0; i < 200; i++) db.put(`key ${i}`, 'older')
    await db.merge()
    for (let i = 0; i < 200; i++) db.put(`key ${i}`, 'for a while', { ttlMs: 5 })
    await new Promise((resolve) => setTimeout(resolve, 10))
    expect(db.size).toBe(0)
    await db.expire()
    await db.merge()
    expect(db.size).toBe(0)
    expect(db.stats().segments.reduce((sum, { records }) => sum + records, 0)).toBe(0)
    await db.close()
    expect(entriesIn(path).size).toBe(0)
  })
})

test('nothing is written once the store is closed, whatever a merge was waiting for', async () => {
  let isClosed = false
  let isFailing = false
  const late: string[] = []
  const ground = groundWith({
    open: (path, mode) => {
      if (isClosed) late.push(`${mode} ${path}`)
      return nodeHost.open(path, mode)
    },
    sync: (file) => {
      if (isFailing) throw systemError('EIO')
      nodeHost.sync(file)
    },
  })
  const db = openSyncWith(ground, freshStore(), { sync: 'never', merge: false })
  for (let i = 0; i < 100; i++) db.putSync('a', `${i}`)
  // It was first to wait for the sync that the merge waits for.
  const closed = db.flush().then(() => {
    isFailing = true
    expect(() => db.closeSync()).toThrow(expect.objectContaining({ code: 'CASKY_POISONED' }))
    isFailing = false
    isClosed = true
  })
  const merging = failure(() => db.merge())
  await closed
  expect((await merging).code).toMatch(/^CASKY_(CLOSED|POISONED)$/)
  await new Promise((resolve) => setTimeout(resolve, 20))
  expect(late).toEqual([])
})
