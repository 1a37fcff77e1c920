import { readdirSync, rmSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, test } from 'vitest'
import { nodeHost } from '../src/host/node'
import { type Casky, type Change, type ChangesOptions, openSync } from '../src/index'
import { Random } from './sim/random'
import { freshStore, useMemory } from './support/folders'
import { type Clock, failure, groundWith, groundWithClock, openSyncWith, systemError } from './support/ground'
import { flipBit, killedCopy, recordsOf, segmentsOf } from './support/stores'

useMemory()

const never = { sync: 'never', merge: false, cacheBytes: 0 } as const

async function taken<T>(changes: AsyncIterable<T>, atMost = Number.POSITIVE_INFINITY): Promise<T[]> {
  const all: T[] = []
  if (atMost === 0) return all
  for await (const change of changes) if (all.push(change) >= atMost) break
  return all
}

async function* watched<T>(changes: AsyncIterable<T>, count: number, tell: () => void): AsyncGenerator<T> {
  let seen = 0
  for await (const change of changes) {
    if (++seen === count) setTimeout(tell, 5)
    yield change
  }
}

const changesIn = (db: Casky, options?: ChangesOptions): Promise<Change[]> => taken(db.changes(options))

const turn = (ms = 0): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

const lastOf = (change: Change): number => (change.type === 'batch' ? change.lastSequence : change.sequence)

/** What follows `since`: a batch that it lies within comes again. */
const behind = (all: readonly Change[], since: number): Change[] =>
  all.filter((change) => lastOf(change) > since)

/** A store that is written to at random, and what its changes should be. */
class Written {
  db: Casky
  readonly path = freshStore()
  readonly changes: Change[] = []
  private readonly clock: Clock = { nowMs: 1_700_000_000_000 }
  private sequence = 0

  constructor(
    private readonly random: Random,
    private readonly maxSegmentBytes: number,
  ) {
    this.db = this.open()
  }

  private open(): Casky {
    const options = { ...never, maxSegmentBytes: this.maxSegmentBytes }
    return openSyncWith(groundWithClock(this.clock), this.path, options)
  }

  reopen(): void {
    this.db.closeSync()
    this.db = this.open()
  }

  private operation():
    | { type: 'put'; key: string; value: string; expiresAtMs?: number }
    | { type: 'del'; key: string } {
    const { random } = this
    const key = `key ${random.below(30)}`
    if (random.chance(0.2)) return { type: 'del', key }
    const sizes = [0, 10, 100, 100, 1000, random.chance(0.05) ? 90_000 : 50]
    const put = { type: 'put' as const, key, value: `${this.sequence} ${'x'.repeat(random.pick(sizes))}` }
    return random.chance(0.2) ? { ...put, expiresAtMs: this.clock.nowMs + 1 + random.below(2000) } : put
  }

  step(): void {
    const { random, db } = this
    this.clock.nowMs += random.below(50)
    const timeMs = this.clock.nowMs
    if (random.chance(0.25)) {
      const operations = Array.from({ length: random.below(random.chance(0.05) ? 300 : 6) }, () =>
        this.operation(),
      )
      db.batchSync(operations)
      if (operations.length === 0) return
      const sequence = this.sequence + 1
      this.sequence += operations.length
      const [only] = operations
      if (operations.length === 1) this.changes.push({ ...only, sequence, timeMs })
      else this.changes.push({ type: 'batch', sequence, lastSequence: this.sequence, timeMs, operations })
      return
    }
    const operation = this.operation()
    if (operation.type === 'del') {
      if (db.deleteSync(operation.key)) this.changes.push({ ...operation, sequence: ++this.sequence, timeMs })
    } else {
      const { key, value, expiresAtMs } = operation
      db.putSync(key, value, expiresAtMs === undefined ? undefined : { expiresAtMs })
      this.changes.push({ ...operation, sequence: ++this.sequence, timeMs })
    }
  }

  get last(): number {
    return this.sequence
  }
}

describe('changes', () => {
  test('are every write, in order, with what was written', async () => {
    const clock = { nowMs: 1000 }
    const db = openSyncWith(groundWithClock(clock), freshStore(), never)
    expect(await changesIn(db)).toEqual([])
    db.putSync('a', '1')
    clock.nowMs = 2000
    db.putSync('a', '2', { ttlMs: 500 })
    db.deleteSync('a')
    db.deleteSync('a')
    db.batchSync([
      { type: 'put', key: 'b', value: '' },
      { type: 'del', key: 'c' },
      { type: 'put', key: 'd', value: 'x', expiresAtMs: 9000 },
    ])
    db.batchSync([{ type: 'put', key: 'e', value: 'y' }])
    db.batchSync([])
    expect(await changesIn(db)).toStrictEqual([
      { type: 'put', key: 'a', value: '1', sequence: 1, timeMs: 1000 },
      { type: 'put', key: 'a', value: '2', expiresAtMs: 2500, sequence: 2, timeMs: 2000 },
      { type: 'del', key: 'a', sequence: 3, timeMs: 2000 },
      {
        type: 'batch',
        sequence: 4,
        lastSequence: 6,
        timeMs: 2000,
        operations: [
          { type: 'put', key: 'b', value: '' },
          { type: 'del', key: 'c' },
          { type: 'put', key: 'd', value: 'x', expiresAtMs: 9000 },
        ],
      },
      { type: 'put', key: 'e', value: 'y', sequence: 7, timeMs: 2000 },
    ])
    expect(await changesIn(db, { since: 6 })).toHaveLength(1)
    expect(await changesIn(db, { since: 7 })).toEqual([])
    db.closeSync()
  })

  test('what comes is a copy that belongs to the caller, in the encodings of the store', async () => {
    const db = openSync(freshStore(), { ...never, keyEncoding: 'bytes', valueEncoding: 'bytes' })
    db.putSync(new Uint8Array([1]), new Uint8Array([1, 2]))
    db.putSync(new Uint8Array([2]), new Uint8Array(300_000).fill(7))
    const [first, second] = await taken(db.changes())
    if (first.type !== 'put' || second.type !== 'put') throw new Error('puts')
    expect(first.key.buffer.byteLength).toBe(1)
    expect(first.value.buffer.byteLength).toBe(2)
    expect(Buffer.compare(second.value, new Uint8Array(300_000).fill(7))).toBe(0)
    db.closeSync()
    const json = openSync(freshStore(), { ...never, valueEncoding: 'json' })
    json.putSync('a', { b: [1, 2] })
    expect(await taken(json.changes())).toMatchObject([{ value: { b: [1, 2] } }])
    json.closeSync()
    const codec = { encode: (n: number) => new Uint8Array([n]), decode: (bytes: Uint8Array) => bytes[0] }
    const coded = openSync(freshStore(), { ...never, valueEncoding: codec })
    coded.putSync('a', 7)
    expect(await taken(coded.changes())).toMatchObject([{ value: 7 }])
    coded.closeSync()
  })

  test('one that can not be decoded throws at its place', async () => {
    const path = freshStore()
    const bytes = openSync(path, { ...never, valueEncoding: 'bytes' })
    bytes.putSync('a', new Uint8Array([65]))
    bytes.putSync('b', new Uint8Array([0xff]))
    bytes.closeSync()
    const db = openSync(path, never)
    const changes = db.changes()
    expect(await changes.next()).toMatchObject({ value: { value: 'A' } })
    expect(await failure(() => changes.next())).toMatchObject({ code: 'CASKY_INVALID_VALUE' })
    expect(await changes.next()).toEqual({ done: true, value: undefined })
    db.closeSync()
  })

  test('of every random history, from every sequence number, through rotations and reopening', async () => {
    for (let seed = 1; seed <= 5; seed++) {
      const random = new Random(seed)
      const written = new Written(random, random.pick([4096, 20_000, 1_000_000]))
      for (let i = 0; i < 250; i++) {
        written.step()
        if (random.chance(0.01)) written.reopen()
      }
      expect(await changesIn(written.db)).toEqual(written.changes)
      for (let since = 0; since <= written.last; since += 1 + random.below(12)) {
        expect(await changesIn(written.db, { since })).toEqual(behind(written.changes, since))
      }
      written.reopen()
      expect(await changesIn(written.db)).toEqual(written.changes)
      const killed = openSync(killedCopy(written.path), { ...never, readOnly: true })
      expect(await changesIn(killed)).toEqual(written.changes)
      killed.closeSync()
      const revived = openSync(killedCopy(written.path), never)
      revived.putSync('one more', '')
      expect((await changesIn(revived)).slice(0, -1)).toEqual(written.changes)
      expect(await changesIn(revived, { since: written.last })).toMatchObject([
        { sequence: written.last + 1 },
      ])
      revived.closeSync()
      written.db.closeSync()
    }
  })

  test('that merges have folded are refused, with the first place that works, and never left out', async () => {
    let refused = 0
    for (let seed = 1; seed <= 8; seed++) {
      const random = new Random(seed)
      const written = new Written(random, 4096)
      for (let i = 0; i < 300; i++) {
        written.step()
        if (random.chance(0.01)) await written.db.merge()
        if (random.chance(0.01)) written.reopen()
      }
      let lowest = 0
      for (let since = 0; since <= written.last; since++) {
        try {
          const found = await changesIn(written.db, { since })
          expect(since).toBeGreaterThanOrEqual(lowest)
          expect(found).toEqual(behind(written.changes, since))
        } catch (error) {
          expect(error).toMatchObject({ code: 'CASKY_FOLDED', got: since })
          lowest = (error as { expected: number }).expected
          expect(lowest).toBeGreaterThan(since)
          refused++
        }
      }
      expect(lowest).toBeLessThanOrEqual(written.last)
      written.db.closeSync()
    }
    expect(refused).toBeGreaterThan(100)
  })

  test('of segments that were merged into nothing are refused as well', async () => {
    const db = openSync(freshStore(), { ...never, maxSegmentBytes: 4096 })
    for (let i = 0; i < 100; i++) db.putSync(`key ${i}`, 'x'.repeat(100))
    for (let i = 0; i < 100; i++) db.deleteSync(`key ${i}`)
    await db.merge()
    const error = await failure(() => changesIn(db))
    expect(error).toMatchObject({ code: 'CASKY_FOLDED', got: 0, expected: 200 })
    expect(error.message).toContain('200')
    db.putSync('a', '1')
    expect(await changesIn(db, { since: 200 })).toMatchObject([{ sequence: 201 }])
    expect(await failure(() => changesIn(db, { since: 199 }))).toMatchObject({ expected: 200 })
    db.closeSync()
  })

  test('and where nothing of them is left between two segments', async () => {
    const db = openSync(freshStore(), { ...never, maxSegmentBytes: 4096 })
    for (let i = 0; i < 100; i++) db.putSync(`key ${i}`, 'x'.repeat(100))
    for (let i = 0; i < 100; i++) db.deleteSync(`key ${i}`)
    for (let i = 0; i < 3; i++) db.putSync(`large ${i}`, 'x'.repeat(4000))
    await db.merge()
    expect(db.stats().segments.map(({ firstSequence }) => firstSequence)).toEqual([1, 201, 202, 203])
    for (const since of [0, 199]) {
      const error = await failure(() => changesIn(db, { since }))
      expect(error).toMatchObject({ code: 'CASKY_FOLDED', got: since, expected: 200 })
    }
    expect(await changesIn(db, { since: 200 })).toHaveLength(3)
    db.closeSync()
  })

  test('go on from a snapshot without a gap', async () => {
    const db = openSync(freshStore(), { ...never, maxSegmentBytes: 4096 })
    for (let i = 0; i < 200; i++) db.put(`key ${i % 20}`, `value ${i}`)
    await db.merge()
    using snapshot = db.snapshot()
    const copy = new Map(snapshot.entries())
    for (let i = 0; i < 50; i++) db.put(`key ${i}`, `later ${i}`)
    db.delete('key 3')
    for (const change of await changesIn(db, { since: snapshot.sequence })) {
      if (change.type === 'put') copy.set(change.key, change.value)
      if (change.type === 'del') copy.delete(change.key)
    }
    expect(copy).toEqual(new Map(db.entries()))
    await db.close()
  })

  test('behind a snapshot can be had as long as it is held, whatever merges do', async () => {
    const db = openSync(freshStore(), { ...never, maxSegmentBytes: 70_000 })
    for (let i = 1; i <= 1000; i++) db.put(`key ${i % 10}`, 'x'.repeat(100))
    await db.merge()
    const snapshot = db.snapshot()
    for (let round = 0; round < 3; round++) {
      for (let i = 1; i <= 1000; i++) db.put(`key ${i % 10}`, 'x'.repeat(100))
      db.put('large', 'x'.repeat(3_000_000))
      await db.merge()
    }
    const since = snapshot.sequence
    const found = await changesIn(db, { since })
    expect(found.map(({ sequence }) => sequence)).toEqual(Array.from({ length: 3003 }, (_, i) => 1001 + i))
    expect(await failure(() => changesIn(db, { since: since - 1 }))).toMatchObject({ code: 'CASKY_FOLDED' })

    // Let go in the middle, it says so at the next place that is gone.
    const seen: number[] = []
    const error = await failure(async () => {
      for await (const { sequence } of db.changes({ since, live: true })) {
        seen.push(sequence)
        if (seen.length === 1200) snapshot.release()
        if (seen.length > 1200 && seen.length < 1300) db.put('more', 'x'.repeat(10_000))
      }
    })
    expect(error).toMatchObject({ code: 'CASKY_FOLDED', got: seen.at(-1), expected: 4002 })
    expect(seen).toEqual(Array.from(seen, (_, i) => 1001 + i))
    expect(db.health().damage).toEqual([])
    await db.close()
  })

  test('nor is a value read on whose segment goes while it is read', async () => {
    const db = openSync(freshStore(), { ...never, maxSegmentBytes: 4096 })
    db.putSync('a', 'x')
    const snapshot = db.snapshot()
    for (let i = 0; i < 2; i++) db.putSync('large', 'x'.repeat(40_000_000))
    await db.merge()
    const changes = db.changes({ since: 1 })
    const next = changes.next()
    setImmediate(() => setImmediate(() => snapshot.release()))
    expect(await failure(() => next)).toMatchObject({ code: 'CASKY_FOLDED', got: 1 })
    expect(await changes.next()).toEqual({ done: true, value: undefined })
    await db.close()
  })

  test('end with what there was at the call, and a turn of the event loop comes between', async () => {
    const db = openSync(freshStore(), never)
    for (let i = 0; i < 20_000; i++) db.put(`key ${i}`, 'x'.repeat(100))
    const changes = db.changes()
    db.putSync('later', 'x')
    let turns = 0
    const beat = setInterval(() => turns++, 1)
    expect(await taken(changes)).toHaveLength(20_000)
    clearInterval(beat)
    expect(turns).toBeGreaterThan(3)
    await db.close()
  })

  test('answer calls that do not wait for each other in their order', async () => {
    const db = openSync(freshStore(), never)
    for (let i = 1; i <= 5; i++) db.putSync(`key ${i}`, 'x')
    const changes = db.changes()
    const results = await Promise.all(Array.from({ length: 7 }, () => changes.next()))
    expect(results.map(({ value }) => value?.sequence)).toEqual([1, 2, 3, 4, 5, undefined, undefined])
    db.closeSync()
  })
})

describe('live changes', () => {
  test('follow the writes, and are done when the store closes', async () => {
    const db = openSync(freshStore(), { cacheBytes: 0 })
    db.putSync('a', '1')
    let tell = (): void => {}
    const told = new Promise<void>((resolve) => {
      tell = resolve
    })
    const all = taken(watched(db.changes({ live: true }), 4, tell))
    const others = taken(db.changes({ live: true, since: 1 }))
    await turn()
    await db.put('b', '2')
    await turn(5)
    db.put('c', '3')
    await db.batch([
      { type: 'put', key: 'd', value: '4' },
      { type: 'del', key: 'a' },
    ])
    await told
    await db.close()
    expect(await all).toMatchObject([
      { sequence: 1 },
      { sequence: 2 },
      { sequence: 3 },
      { sequence: 4, lastSequence: 5 },
    ])
    expect(await others).toEqual((await all).slice(1))
  })

  test('of a store that closes in one call are done as well', async () => {
    const db = openSync(freshStore(), never)
    const all = taken(db.changes({ live: true }))
    await turn()
    db.closeSync()
    expect(await all).toEqual([])
  })

  test('come at once, with every sync mode', async () => {
    for (const sync of ['always', 'never', { everyMs: 1000 }] as const) {
      const db = openSync(freshStore(), { sync })
      const changes = db.changes({ live: true })
      for (let i = 1; i <= 20; i++) {
        const next = changes.next()
        await db.put(`key ${i}`, 'x')
        expect(await next).toMatchObject({ value: { sequence: i } })
      }
      await db.close()
      expect(await changes.next()).toEqual({ done: true, value: undefined })
    }
  })

  test('are never told before they are acknowledged', async () => {
    const syncs: (() => void)[] = []
    const db = openSyncWith(
      groundWith({ syncLater: (_file, done) => syncs.push(() => done(null)) }),
      freshStore(),
    )
    // The begin of a segment has syncs of its own.
    db.putSync('begun', 'x')
    const seen: number[] = []
    let acknowledged = 1
    const reading = (async () => {
      for await (const { sequence } of db.changes({ live: true })) {
        expect(sequence).toBeLessThanOrEqual(acknowledged)
        seen.push(sequence)
      }
    })()
    for (let round = 1; round <= 5; round++) {
      const before = acknowledged
      const puts = Array.from({ length: 3 }, (_, i) => db.put(`key ${round} ${i}`, 'x'))
      await turn(5)
      expect(db.get(`key ${round} 1`)).toBe('x')
      expect(seen).toHaveLength(before)
      expect(await changesIn(db)).toHaveLength(before)
      acknowledged += 3
      for (const done of syncs.splice(0)) done()
      await Promise.all(puts)
      await turn(5)
      expect(seen).toHaveLength(acknowledged)
    }
    db.closeSync()
    await reading
  })

  test('leave out what was refused, and what a failed sync has made uncertain', async () => {
    let failing: 'write' | 'sync' | undefined
    const error = Object.assign(new Error('full'), { code: 'ENOSPC' })
    const ground = groundWith({
      write: (file, from, at, bytes, position) => {
        if (failing !== 'write') return nodeHost.write(file, from, at, bytes, position)
        nodeHost.write(file, from, at, bytes >> 1, position)
        throw error
      },
      syncLater: (file, done) => {
        if (failing === 'sync') setTimeout(() => done(error))
        else nodeHost.syncLater(file, done)
      },
    })
    const db = openSyncWith(ground, freshStore())
    const all = taken(db.changes({ live: true }))
    await db.put('a', '1')
    failing = 'write'
    const batch = Array.from({ length: 20 }, (_, i) => ({
      type: 'put' as const,
      key: `k ${i}`,
      value: 'x'.repeat(50_000),
    }))
    expect(await failure(() => db.batch(batch))).toMatchObject({ code: 'CASKY_NO_SPACE' })
    expect(await failure(() => db.put('b', '2'))).toMatchObject({ code: 'CASKY_NO_SPACE' })
    failing = undefined
    await db.put('c', '3')
    failing = 'sync'
    expect(await failure(() => db.put('d', '4'))).toMatchObject({ code: 'CASKY_POISONED' })
    await turn(10)
    await failure(() => db.close())
    expect((await all).map(({ type, sequence }) => [type, sequence])).toEqual([
      ['put', 1],
      ['put', 2],
    ])
  })

  test('are aborted by their signal, waiting or not', async () => {
    const db = openSync(freshStore(), never)
    db.putSync('a', '1')
    const controller = new AbortController()
    const reason = new Error('enough')
    const changes = db.changes({ live: true, signal: controller.signal })
    await changes.next()
    const waiting = failure(() => changes.next())
    await turn(5)
    controller.abort(reason)
    expect(await waiting).toMatchObject({ code: 'CASKY_ABORTED', cause: reason })
    expect(await changes.next()).toEqual({ done: true, value: undefined })
    expect(await failure(() => changesIn(db, { signal: controller.signal }))).toMatchObject({
      code: 'CASKY_ABORTED',
    })
    db.closeSync()
  })

  test('that are left end, also while a call waits', async () => {
    const db = openSync(freshStore(), never)
    db.putSync('a', '1')
    const changes = db.changes({ live: true })
    await changes.next()
    const waiting = changes.next()
    await turn(5)
    expect(await changes.return?.()).toEqual({ done: true, value: undefined })
    expect(await waiting).toEqual({ done: true, value: undefined })
    for await (const { sequence } of db.changes({ live: true })) if (sequence === 1) break
    db.closeSync()
  })

  test('reads ahead one window and no more, however far the writer is', async () => {
    let readBytes = 0
    const ground = groundWith({
      read: (file, into, at, bytes, position) => {
        readBytes += bytes
        return nodeHost.read(file, into, at, bytes, position)
      },
    })
    const db = openSyncWith(ground, freshStore(), never)
    const changes = db.changes({ live: true })
    const first = changes.next()
    for (let i = 1; i <= 100_000; i++) db.put(`key ${i}`, 'x'.repeat(100))
    expect(await first).toMatchObject({ value: { sequence: 1 } })
    await turn(20)
    expect(readBytes).toBeLessThan(200_000)
    for (let sequence = 2; sequence <= 100_000; sequence++) {
      const { value } = await changes.next()
      if (value?.sequence !== sequence) expect(value?.sequence).toBe(sequence)
      if (sequence % 20_000 === 0) await turn(1)
    }
    await db.close()
  })

  test('a slow reader beside a fast writer and merges misses nothing, or is told so', async () => {
    let complete = 0
    for (const keys of [50, 100_000]) {
      const db = openSync(freshStore(), { ...never, maxSegmentBytes: 50_000 })
      const seen: number[] = []
      const reading = (async () => {
        for await (const change of db.changes({ live: true })) {
          expect(change.sequence).toBe((seen.at(-1) ?? 0) + 1)
          seen.push(lastOf(change))
          if (seen.length % 3000 === 0) await turn(1)
          if (seen.at(-1) === 100_000) complete++
        }
      })().catch((error) => error)
      const merging = (async () => {
        for (let i = 0; i < 10; i++) {
          await turn(20)
          await db.merge()
        }
      })()
      let sequence = 0
      while (sequence < 100_000) {
        for (let i = 0; i < 500; i++) {
          const key = `key ${sequence % keys}`
          if (sequence % 7 === 0) {
            db.batch([
              { type: 'put', key, value: `${sequence}` },
              { type: 'put', key, value: `${sequence} again` },
            ])
            sequence++
          } else {
            db.put(key, `${sequence}`)
          }
          sequence++
        }
        await turn()
      }
      await merging
      await turn(300)
      await db.close()
      const error = await reading
      if (error === undefined) continue
      expect(error).toMatchObject({ code: 'CASKY_FOLDED', got: seen.at(-1) ?? 0 })
      expect(error.expected).toBeGreaterThan(error.got)
    }
    expect(complete).toBeLessThanOrEqual(2)
  }, 30_000)
})

describe('merges beside a reader of changes', () => {
  async function storeWithSegments(later?: (delayMs: number, run: () => void) => () => void): Promise<Casky> {
    const ground = groundWith(later === undefined ? {} : { later })
    const db = openSyncWith(ground, freshStore(), { ...never, maxSegmentBytes: 70_000 })
    for (let i = 1; i <= 5000; i++) db.put(`key ${i % 10}`, 'x'.repeat(100))
    await db.flush()
    return db
  }

  test('leave what it reads in place until it has read it, and go on then', async () => {
    const db = await storeWithSegments()
    const changes = db.changes()
    await changes.next()
    await db.merge()
    expect(segmentsOf(db.path).length).toBeGreaterThan(5)
    const rest = await taken(changes)
    expect(rest.map(({ sequence }) => sequence)).toEqual(Array.from({ length: 4999 }, (_, i) => i + 2))
    await expect.poll(() => segmentsOf(db.path).length).toBeLessThan(3)
    db.closeSync()
  })

  test('and a reader that is left, or fails, lets it go', async () => {
    for (const leave of ['return', 'abort'] as const) {
      const db = await storeWithSegments()
      const controller = new AbortController()
      const changes = db.changes({ signal: controller.signal })
      await changes.next()
      await db.merge()
      if (leave === 'return') await changes.return?.()
      else controller.abort()
      if (leave === 'abort') await failure(() => changes.next())
      await expect.poll(() => segmentsOf(db.path).length).toBeLessThan(3)
      db.closeSync()
    }
  })

  test('nor does one that was dropped hold it; a call that waits is answered all the same', async () => {
    setFlagsFromString('--expose-gc')
    const gc: () => void = runInNewContext('gc')
    const db = await storeWithSegments()
    const waiting = db.changes({ live: true, since: 5000 }).next()
    await (async () => {
      await db.changes().next()
    })()
    await db.merge()
    for (let i = 0; i < 100 && segmentsOf(db.path).length >= 3; i++) {
      await turn(5)
      gc()
    }
    await expect.poll(() => segmentsOf(db.path).length).toBeLessThan(3)
    db.putSync('a', '1')
    expect(await waiting).toMatchObject({ value: { sequence: 5001 } })
    db.closeSync()
  })

  test('one that waits for more holds nothing', async () => {
    const db = await storeWithSegments()
    const changes = db.changes({ live: true })
    for (let i = 0; i < 5000; i++) await changes.next()
    const next = changes.next()
    await turn(5)
    await db.merge()
    await expect.poll(() => segmentsOf(db.path).length).toBeLessThan(3)
    db.putSync('a', '1')
    expect(await next).toMatchObject({ value: { sequence: 5001 } })
    db.closeSync()
  })

  test('one that asks for nothing for a minute loses its hold, and is told what that cost', async () => {
    const timers = new Set<() => void>()
    const later = (delayMs: number, run: () => void): (() => void) => {
      if (delayMs !== 60_000) return nodeHost.later(delayMs, run)
      timers.add(run)
      return () => timers.delete(run)
    }
    const minute = (): void => {
      for (const run of [...timers]) {
        timers.delete(run)
        run()
      }
    }
    const db = await storeWithSegments(later)
    const lucky = await storeWithSegments(later)
    const changes = db.changes()
    const others = lucky.changes()
    await changes.next()
    await others.next()
    minute()
    await db.merge()
    expect(segmentsOf(db.path).length).toBeGreaterThan(5)
    minute()
    await expect.poll(() => segmentsOf(db.path).length).toBeLessThan(3)
    // What was read ahead is still there.
    const seen: number[] = [1]
    const error = await failure(async () => {
      for await (const { sequence } of changes) seen.push(sequence)
    })
    expect(seen.length).toBeGreaterThan(10)
    expect(seen).toEqual(Array.from(seen, (_, i) => i + 1))
    expect(error).toMatchObject({ code: 'CASKY_FOLDED', got: seen.length, expected: 5000 })
    // Without a merge nothing was lost.
    expect(await taken(others)).toHaveLength(4999)
    db.closeSync()
    lucky.closeSync()
  })
})

describe('changes of a damaged store', () => {
  /** Twenty writes: 1 to 9 puts, 10 to 13 a batch, 14 to 20 puts. Hurt where `bit` says. */
  function damaged(bit: (records: ReturnType<typeof recordsOf>) => number): { db: Casky; file: string } {
    const path = freshStore()
    const written = openSync(path, never)
    for (let i = 1; i <= 9; i++) written.putSync(`key ${i}`, `value ${i}`)
    written.batchSync(
      Array.from({ length: 4 }, (_, i) => ({ type: 'put', key: `member ${i}`, value: 'x' }) as const),
    )
    for (let i = 14; i <= 20; i++) written.putSync(`key ${i}`, `value ${i}`)
    written.closeSync()
    const [file] = segmentsOf(path)
    flipBit(file, bit(recordsOf(file)))
    return { db: openSync(path, never), file }
  }

  async function until(db: Casky, options?: ChangesOptions): Promise<{ seen: number[]; error: unknown }> {
    const seen: number[] = []
    const error = await (async () => {
      for await (const change of db.changes(options)) seen.push(change.sequence)
    })().catch((error) => error)
    return { seen, error }
  }

  // The index of the record, where in it (from its end, if negative), and the sequence numbers that are lost.
  test.each([
    ['a header', 4, 10, 5, 5],
    ['a value', 4, -3, 5, 5],
    ['the first of a batch', 9, 10, 10, 13],
    ['a later one of a batch', 11, 10, 10, 13],
    ['the value of the last of a batch', 12, -1, 10, 13],
    ['the last write', 19, 10, 20, 20],
  ])('%s: what stands before it comes, then the error; or the rest', async (_what, index, at, from, to) => {
    const { db, file } = damaged((records) => {
      const { offset, bytes } = records[index]
      return (at < 0 ? offset + bytes + at : offset + at) * 8
    })
    const { seen, error } = await until(db)
    const firsts = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 19, 20]
    expect(seen).toEqual(firsts.filter((sequence) => sequence < from))
    expect(error).toMatchObject({ code: 'CASKY_CORRUPT', path: file })
    const behindIt = await until(db, { since: to })
    expect(behindIt).toEqual({ seen: firsts.filter((sequence) => sequence > to), error: undefined })
    const skipped = await taken(db.changes({ damaged: 'skip' }))
    const lost = skipped.filter((change) => change.type === 'damage')
    expect(lost[0]).toMatchObject({ path: file, firstSequence: from })
    expect(lost.at(-1)).toMatchObject({ lastSequence: to })
    // Every number is told of once, in order.
    let next = 1
    for (const change of skipped) {
      expect(change.type === 'damage' ? change.firstSequence : change.sequence).toBe(next)
      next = 1 + (change.type === 'damage' ? change.lastSequence : lastOf(change))
    }
    expect(next).toBe(21)
    db.closeSync()
  })

  test('a damaged seal or marker costs no change', async () => {
    const { db } = damaged((records) => (records[records.length - 1].offset + 10) * 8)
    expect(await changesIn(db)).toHaveLength(17)
    db.closeSync()
  })

  test('a value that is read piece by piece is verified as well, alone and in a batch', async () => {
    const path = freshStore()
    const written = openSync(path, never)
    const value = 'x'.repeat(3_000_000)
    written.putSync('a', value)
    written.batchSync([
      { type: 'put', key: 'b', value: '1' },
      { type: 'put', key: 'c', value },
      { type: 'put', key: 'd', value: '2' },
    ])
    written.putSync('e', value)
    written.closeSync()
    const sound = openSync(path, { ...never, readOnly: true })
    expect((await changesIn(sound)).map(({ type }) => type)).toEqual(['put', 'batch', 'put'])
    sound.closeSync()
    const [file] = segmentsOf(path)
    const records = recordsOf(file)
    for (const index of [0, 2]) flipBit(file, (records[index].offset + 2_000_000) * 8)
    const db = openSync(path, never)
    expect(await until(db)).toMatchObject({ seen: [], error: { code: 'CASKY_CORRUPT' } })
    expect(await until(db, { since: 1 })).toMatchObject({ seen: [], error: { code: 'CASKY_CORRUPT' } })
    const skipped = await taken(db.changes({ damaged: 'skip' }))
    expect(skipped.map(({ type }) => type)).toEqual(['damage', 'damage', 'damage', 'put'])
    expect(skipped.at(-2)).toMatchObject({ lastSequence: 4 })
    expect(skipped.at(-1)).toMatchObject({ key: 'e', value, sequence: 5 })
    db.closeSync()
  })

  test('a missing segment is told, and what stands behind it can be had', async () => {
    const path = freshStore()
    const db = openSync(path, { ...never, maxSegmentBytes: 4096 })
    for (let i = 1; i <= 100; i++) db.putSync(`key ${i}`, 'x'.repeat(100))
    db.closeSync()
    const [, second] = segmentsOf(path)
    const sequences = recordsOf(second).map(({ sequence }) => Number(sequence))
    rmSync(second)
    for (const name of readdirSync(path))
      if (name.endsWith('.hint') || name === 'CHECKPOINT') rmSync(`${path}/${name}`)
    const hurt = openSync(path, never)
    const first = Math.min(...sequences)
    expect((await until(hurt)).error).toMatchObject({ code: 'CASKY_CORRUPT', path: second })
    const skipped = await taken(hurt.changes({ damaged: 'skip' }))
    expect(skipped.filter(({ type }) => type === 'damage')).toMatchObject([
      { path: second, firstSequence: first, lastSequence: Math.max(...sequences) },
    ])
    hurt.closeSync()
  })
})

describe('changes of a read-only store', () => {
  test('are all that it sees, which it puts on disk first', async () => {
    const path = freshStore()
    const db = openSync(path, never)
    for (let i = 1; i <= 5; i++) db.putSync(`key ${i}`, 'x')
    const beside = openSync(path, { readOnly: true })
    expect(await changesIn(beside)).toHaveLength(5)
    beside.closeSync()
    db.closeSync()
    const after = openSync(path, { readOnly: true })
    expect(await changesIn(after, { since: 2 })).toHaveLength(3)
    const live = taken(after.changes({ live: true }))
    await turn(5)
    after.closeSync()
    expect(await live).toHaveLength(5)
  })

  test('are those that the writer says are on disk, where nobody can put more there', async () => {
    const path = freshStore()
    const db = openSync(path)
    for (let i = 1; i <= 5; i++) await db.put(`key ${i}`, 'x')
    const sync = (): void => {
      throw systemError('EIO')
    }
    const ground = groundWith({ sync })
    const now = openSyncWith(ground, path, { readOnly: true })
    expect(await changesIn(now)).toHaveLength(4)
    now.closeSync()
    await turn(250)
    const later = openSyncWith(ground, path, { readOnly: true })
    expect(await changesIn(later)).toHaveLength(5)
    later.closeSync()
    await db.close()
  })

  test('go on behind what was refreshed, also where it was merged meanwhile', async () => {
    const path = freshStore()
    const db = openSync(path, { ...never, maxSegmentBytes: 4096 })
    for (let i = 1; i <= 50; i++) db.putSync(`key ${i % 9}`, 'v'.repeat(300))
    const follower = openSync(path, { readOnly: true })
    const changes = follower.changes({ live: true })
    const seen = [await changes.next()]
    await db.merge()
    db.putSync('last', 'x')
    await follower.refresh()
    while (seen.length < 51) seen.push(await changes.next())
    expect(seen.map(({ value }) => value?.sequence)).toEqual(Array.from({ length: 51 }, (_, i) => i + 1))
    expect(await failure(() => changesIn(follower))).toMatchObject({ code: 'CASKY_FOLDED' })
    follower.closeSync()
    db.closeSync()
  })
})

describe('what changes refuse', () => {
  test('options that are none', () => {
    const db = openSync(freshStore(), never)
    db.putSync('a', '1')
    const call = (options: unknown) => () => db.changes(options as ChangesOptions)
    for (const since of [-1, 1.5, 2, Number.NaN, '1', null, 2 ** 53, 1n]) {
      expect(call({ since })).toThrow(expect.objectContaining({ code: 'CASKY_INVALID_OPTION', expected: 1 }))
    }
    expect(call({ live: 1 })).toThrow(expect.objectContaining({ code: 'CASKY_INVALID_OPTION' }))
    expect(call({ signal: {} })).toThrow(expect.objectContaining({ code: 'CASKY_INVALID_OPTION' }))
    expect(call({ damaged: 'ignore' })).toThrow(expect.objectContaining({ code: 'CASKY_INVALID_OPTION' }))
    expect(call({ from: 1 })).toThrow(expect.objectContaining({ code: 'CASKY_INVALID_OPTION' }))
    expect(call(1)).toThrow(expect.objectContaining({ code: 'CASKY_INVALID_ARGUMENT' }))
    db.closeSync()
    expect(call(undefined)).toThrow(expect.objectContaining({ code: 'CASKY_CLOSED' }))
  })

  test('to pass for whole when the store closes before their end', async () => {
    const db = openSync(freshStore(), never)
    for (let i = 0; i < 3; i++) db.putSync(`key ${i}`, 'x')
    const changes = db.changes()
    await changes.next()
    db.closeSync()
    expect(await failure(() => changes.next())).toMatchObject({ code: 'CASKY_CLOSED' })
  })
})
