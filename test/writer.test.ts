import { existsSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Host } from '../src/host/host'
import { nodeHost } from '../src/host/node'
import { openSync } from '../src/index'
import { freshStore } from './support/folders'
import { failure, groundWith, groundWithClock, openSyncWith, openWith, systemError } from './support/ground'
import { contentsOf, flipBit, killedCopy, recordsOf, segmentsOf } from './support/stores'

/** A host that counts its syncs and can be told what the next writes and syncs do. */
function hostWith(): {
  overrides: Partial<Host>
  script: {
    write: (string | number)[]
    sync: (string | undefined)[]
    syncs: number
    truncate: string | undefined
  }
} {
  const script = {
    write: [] as (string | number)[],
    sync: [] as (string | undefined)[],
    syncs: 0,
    truncate: undefined as string | undefined,
  }
  const nextSync = (): Error | null => {
    script.syncs++
    const code = script.sync.shift()
    return code === undefined ? null : systemError(code)
  }
  return {
    script,
    overrides: {
      write: (file, from, at, bytes, position) => {
        const next = script.write.shift()
        if (typeof next === 'string') {
          nodeHost.write(file, from, at, Math.floor(bytes / 2), position)
          throw systemError(next)
        }
        return nodeHost.write(file, from, at, next === undefined ? bytes : Math.min(next, bytes), position)
      },
      truncate: (file, bytes) => {
        if (script.truncate !== undefined) throw systemError(script.truncate)
        nodeHost.truncate(file, bytes)
      },
      sync: (file) => {
        const error = nextSync()
        if (error !== null) throw error
        nodeHost.sync(file)
      },
      syncLater: (file, done) => {
        const error = nextSync()
        nodeHost.syncLater(file, (cause) => done(error ?? cause))
      },
    },
  }
}

function entriesOf(directory: string): Record<string, string> {
  return Object.fromEntries(contentsOf(directory).entries)
}

describe('group commit', () => {
  test('all puts and batches of a group share one promise', async () => {
    const db = openSync(freshStore())
    const first = db.put('a', '1')
    expect(db.put('b', '2')).toBe(first)
    expect(db.batch([{ type: 'put', key: 'c', value: '3' }])).toBe(first)
    await first
    expect(db.put('d', '4')).not.toBe(first)
    await db.close()
  })

  test('while one group syncs the next one fills: a thousand puts at once cost two syncs, not a thousand', async () => {
    const { overrides, script } = hostWith()
    const db = openSyncWith(groundWith(overrides), freshStore())
    await db.put('warm', 'up')
    script.syncs = 0
    const first = db.put('first', '1')
    await Promise.resolve()
    await Promise.all([first, ...Array.from({ length: 1000 }, (_, i) => db.put(`k${i}`, 'v'))])
    expect(script.syncs).toBe(2)
    await db.close()
  })

  test('the first part of a long group syncs while the rest still comes', async () => {
    const { overrides, script } = hostWith()
    let begun = 0
    const syncLater: Host['syncLater'] = (file, done) => {
      begun++
      overrides.syncLater?.(file, done)
    }
    const db = openSyncWith(groundWith({ ...overrides, syncLater }), freshStore())
    db.putSync('first', 'v')
    const puts: Promise<void>[] = []
    for (let i = 0; i < 60; i++) puts.push(db.put(`k${i}`, 'v'.repeat(1000)))
    expect(begun).toBe(0)
    for (let i = 60; i < 200; i++) puts.push(db.put(`k${i}`, 'v'.repeat(1000)))
    expect(begun).toBe(1)
    expect(db.get('k0')).toBe('v'.repeat(1000))
    await Promise.all(puts)
    expect(begun).toBe(2)
    expect(script.syncs).toBeGreaterThanOrEqual(2)
    await db.close()
  })

  test('a put is visible at once, and acknowledged only after its sync', async () => {
    const { overrides } = hostWith()
    const finish: (() => void)[] = []
    const ground = groundWith({ ...overrides, syncLater: (_file, done) => finish.push(() => done(null)) })
    const db = openSyncWith(ground, freshStore())
    db.putSync('first', 'v')
    let isAcknowledged = false
    const put = db.put('k', 'v').then(() => {
      isAcknowledged = true
    })
    expect(db.get('k')).toBe('v')
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(isAcknowledged).toBe(false)
    expect(finish.length).toBe(1)
    finish[0]()
    await put
    expect(isAcknowledged).toBe(true)
    db.closeSync()
  })

  test('a loop that never yields stays within the buffer, and loses nothing', async () => {
    const path = freshStore()
    const db = openSync(path, { sync: 'never' })
    let last: Promise<void> | undefined
    for (let i = 0; i < 20_000; i++) last = db.put(`key ${i}`, `value ${i}`)
    expect(db.get('key 0')).toBe('value 0')
    expect(db.get('key 19999')).toBe('value 19999')
    expect(db.size).toBe(20_000)
    await last
    await db.close()
    expect(contentsOf(path).entries.size).toBe(20_000)
  })

  test('a delete resolves with whether the key was there; a false waits for the delete on which it rests', async () => {
    const finish: (() => void)[] = []
    const ground = groundWith({ syncLater: (_file, done) => finish.push(() => done(null)) })
    const db = openSyncWith(ground, freshStore())
    db.putSync('k', 'v')
    const order: string[] = []
    const first = db.delete('k').then((was) => order.push(`first ${was}`))
    const second = db.delete('k').then((was) => order.push(`second ${was}`))
    await new Promise((resolve) => setTimeout(resolve, 10))
    // The group is written now, and syncs.
    const third = db.delete('k').then((was) => order.push(`third ${was}`))
    await new Promise((resolve) => setTimeout(resolve, 10))
    expect(order).toEqual([])
    finish[0]()
    await Promise.all([first, second, third])
    expect(order).toEqual(['first true', 'second false', 'third false'])
    expect(await db.delete('k')).toBe(false)
    db.closeSync()
  })

  test("with sync 'never' nothing is synced until flush or close; with everyMs on the beat", async () => {
    const { overrides, script } = hostWith()
    const db = openSyncWith(groundWith(overrides), freshStore(), { sync: 'never' })
    await db.put('a', '1')
    const before = script.syncs
    await db.put('b', '2')
    db.putSync('c', '3')
    expect(script.syncs).toBe(before)
    await db.flush()
    expect(script.syncs).toBe(before + 1)
    await db.flush()
    expect(script.syncs).toBe(before + 1)
    db.putSync('d', '4')
    db.flushSync()
    expect(script.syncs).toBe(before + 2)
    await db.close()

    const beating = hostWith()
    const beat = openSyncWith(groundWith(beating.overrides), freshStore(), { sync: { everyMs: 5 } })
    await beat.put('a', '1')
    const atFirst = beating.script.syncs
    await new Promise((resolve) => setTimeout(resolve, 60))
    expect(beating.script.syncs).toBeGreaterThan(atFirst)
    await beat.close()
  })

  test.each([
    ['small values', 500, 10],
    ['long ones', 20, 400_000],
  ])(
    'whoever waits for each write lets others run, also where no sync is waited for: %s',
    async (_, writes, bytes) => {
      using db = openSync(freshStore(), { sync: 'never' })
      // The begin of a segment is waited for.
      db.putSync('begun', '')
      let turns = 0
      let isOver = false
      const turn = (): void => {
        turns++
        if (!isOver) setImmediate(turn)
      }
      setImmediate(turn)
      for (let i = 0; i < writes; i++) await db.put(`key ${i}`, 'v'.repeat(bytes))
      isOver = true
      expect(turns).toBeGreaterThanOrEqual(5)
      expect(turns).toBeLessThan(50)
    },
  )

  test('synchronous and asynchronous writes mix: putSync makes all before it durable', async () => {
    const path = freshStore()
    const db = openSync(path)
    const pending = db.put('a', '1')
    db.putSync('b', '2')
    expect(entriesOf(killedCopy(path))).toEqual({ a: '1', b: '2' })
    await pending
    await db.close()
  })

  test('after a short idle time a marker makes even the last write provable', async () => {
    const path = freshStore()
    const db = openSync(path)
    await db.put('a', '1')
    await db.put('b', '2')
    await expect.poll(() => recordsOf(segmentsOf(path)[0]).at(-1)?.kind, { timeout: 5000 }).toBe(3)
    const directory = killedCopy(path)
    const [segment] = segmentsOf(directory)
    const last = recordsOf(segment)[1]
    flipBit(segment, (last.offset + last.bytes - 1) * 8)
    expect(contentsOf(directory)).toEqual({
      entries: new Map([
        ['a', '1'],
        ['b', 'damaged'],
      ]),
      damage: 1,
      tornTails: 0,
    })
    await db.close()
  })
})

describe('a full disk', () => {
  test('short writes are completed', async () => {
    const { overrides, script } = hostWith()
    const path = freshStore()
    const db = openSyncWith(groundWith(overrides), path)
    db.putSync('a', '1')
    script.write = [1, 2, 3, 5, 7]
    await db.put('b', 'a longer value')
    expect(entriesOf(killedCopy(path))).toEqual({ a: '1', b: 'a longer value' })
    await db.close()
  })

  test.each(['ENOSPC', 'EDQUOT', 'EIO'])(
    '%s refuses the group, cuts it back, and writes resume when there is room',
    async (code) => {
      const { overrides, script } = hostWith()
      const path = freshStore()
      const db = openSyncWith(groundWith(overrides), path)
      await db.put('kept', '1')
      const [segment] = segmentsOf(path)
      const { size } = statSync(segment)
      script.write = [code]
      const puts = [db.put('refused', '2'), db.put('kept', 'overwritten'), db.delete('kept')]
      expect(db.get('refused')).toBe('2')
      const results = await Promise.allSettled(puts)
      for (const result of results) {
        expect(result).toMatchObject({
          status: 'rejected',
          reason: { code: code === 'EIO' ? 'CASKY_IO' : 'CASKY_NO_SPACE', path: segment },
        })
      }
      expect(statSync(segment).size).toBe(size)
      expect(db.get('refused')).toBe(undefined)
      expect(db.get('kept')).toBe('1')
      expect(db.size).toBe(1)
      expect(db.health().ok).toBe(true)
      await db.put('later', '3')
      expect(entriesOf(killedCopy(path))).toEqual({ kept: '1', later: '3' })
      await db.close()
      expect(entriesOf(path)).toEqual({ kept: '1', later: '3' })
      expect(recordsOf(segment).map((record) => Number(record.sequence))).toEqual([1, 2, 2])
    },
  )

  test('in the middle of a large value, or of a large batch, takes all of it back', async () => {
    const { overrides, script } = hostWith()
    const path = freshStore()
    const db = openSyncWith(groundWith(overrides), path)
    db.putSync('kept', '1')
    const { size } = statSync(segmentsOf(path)[0])
    const large = 'x'.repeat(2_000_000)
    script.write = [1e9, 1e9, 'ENOSPC']
    expect(await failure(() => db.put('large', large))).toMatchObject({ code: 'CASKY_NO_SPACE' })
    script.write = [1e9, 'ENOSPC']
    const batch = Array.from({ length: 3000 }, (_, i) => ({
      type: 'put' as const,
      key: `k${i}`,
      value: 'y'.repeat(1000),
    }))
    expect(await failure(() => db.batch(batch))).toMatchObject({ code: 'CASKY_NO_SPACE' })
    expect(statSync(segmentsOf(path)[0]).size).toBe(size)
    expect([...db.keys()]).toEqual(['kept'])
    await db.batch(batch)
    await db.put('large', large)
    expect(db.size).toBe(3002)
    await db.close()
    expect(contentsOf(path).entries.size).toBe(3002)
  })

  test('when a segment cannot be started, the put fails, nothing changes, and the next one tries again', async () => {
    const path = freshStore()
    const failing: { create: string | undefined; rename: string | undefined } = {
      create: undefined,
      rename: undefined,
    }
    const ground = groundWith({
      open: (name, mode) => {
        if (mode === 'create' && failing.create !== undefined && name.includes(failing.create))
          throw systemError('ENOSPC')
        return nodeHost.open(name, mode)
      },
      rename: (from, to) => {
        if (failing.rename !== undefined && to.includes(failing.rename)) throw systemError('EIO')
        nodeHost.rename(from, to)
      },
    })
    const db = openSyncWith(ground, path, { maxSegmentBytes: 4096 })
    const value = 'v'.repeat(900)
    const expected: Record<string, string> = {}
    for (let i = 0; i < 20; i++) {
      for (const broken of [{ create: '.data' }, { create: 'MANIFEST' }, { rename: 'MANIFEST' }]) {
        Object.assign(failing, { create: undefined, rename: undefined }, broken)
        const segments = segmentsOf(path).length
        try {
          db.putSync(`maybe ${i}`, value)
          expected[`maybe ${i}`] = value
        } catch (error) {
          expect((error as { code: string }).code).toMatch(/CASKY_(NO_SPACE|IO)/)
          expect(db.has(`maybe ${i}`)).toBe(`maybe ${i}` in expected)
          expect(segmentsOf(path).length).toBe(segments)
          expect(existsSync(join(path, 'MANIFEST.next'))).toBe(false)
        }
      }
      Object.assign(failing, { create: undefined, rename: undefined })
      db.putSync(`sure ${i}`, value)
      expected[`sure ${i}`] = value
      expect(entriesOf(killedCopy(path))).toEqual(expected)
    }
    db.closeSync()
    expect(entriesOf(path)).toEqual(expected)
  })

  test('when the failed write cannot be cut back, writes are refused until the store is reopened', async () => {
    const { overrides, script } = hostWith()
    const path = freshStore()
    const db = openSyncWith(groundWith(overrides), path)
    db.putSync('kept', '1')
    script.write = ['ENOSPC']
    script.truncate = 'EIO'
    expect(await failure(() => db.put('refused', '2'))).toMatchObject({ code: 'CASKY_POISONED' })
    expect(await failure(() => db.put('more', '3'))).toMatchObject({ code: 'CASKY_POISONED' })
    expect(db.get('kept')).toBe('1')
    expect(await failure(() => db.close())).toMatchObject({ code: 'CASKY_POISONED' })
    const again = openSync(path)
    expect([...again.entries()]).toEqual([['kept', '1']])
    expect(again.health()).toMatchObject({ ok: true, tornTails: [{ offset: expect.any(Number) }] })
    again.putSync('more', '3')
    again.closeSync()
  })

  test('closing on a full disk keeps everything and frees the lock', async () => {
    const { overrides, script } = hostWith()
    const path = freshStore()
    const db = openSyncWith(groundWith(overrides), path)
    await db.put('a', '1')
    script.write = ['ENOSPC']
    await db.close()
    expect(entriesOf(path)).toEqual({ a: '1' })
    openSync(path).closeSync()
  })
})

describe('the identity of the directory', () => {
  const inspectFailing = (times: { left: number }): Partial<Host> => ({
    inspect: (path) => {
      if (path.endsWith('/.') && times.left-- > 0) throw systemError('EIO')
      return nodeHost.inspect(path)
    },
  })

  test('that the system does not tell at open is an error then, not a store that refuses every write', () => {
    const path = freshStore()
    const times = { left: 1 }
    expect(() => openSyncWith(groundWith(inspectFailing(times)), path)).toThrow(
      expect.objectContaining({ code: 'CASKY_IO' }),
    )
    const db = openSyncWith(groundWith(inspectFailing(times)), path)
    db.putSync('k', 'v')
    db.closeSync()
  })

  test('that the system does not tell at a write refuses that one, and no more', async () => {
    const times = { left: 0 }
    const db = openSyncWith(groundWith(inspectFailing(times)), freshStore())
    times.left = 1
    expect(await failure(() => db.put('k', 'v'))).toMatchObject({ code: 'CASKY_IO' })
    await db.put('k', 'v')
    await db.close()
  })
})

describe('a failed sync', () => {
  test('rejects its group as unknown, refuses writes until the store is reopened, and is never retried', async () => {
    const { overrides, script } = hostWith()
    const path = freshStore()
    const db = openSyncWith(groundWith(overrides), path)
    await db.put('sure', '1')
    script.sync = ['EIO']
    const { syncs } = script
    const unknown = db.put('unknown', '2')
    await Promise.resolve()
    const next = db.put('next', '3')
    expect(await failure(() => unknown)).toMatchObject({ code: 'CASKY_POISONED' })
    expect(await failure(() => next)).toMatchObject({ code: 'CASKY_POISONED' })
    expect(await failure(() => db.put('k', 'v'))).toMatchObject({ code: 'CASKY_POISONED' })
    expect(await failure(() => db.flush())).toMatchObject({ code: 'CASKY_POISONED' })
    expect(await failure(() => db.putSync('k', 'v'))).toMatchObject({ code: 'CASKY_POISONED' })
    expect(await failure(() => db.deleteSync('sure'))).toMatchObject({ code: 'CASKY_POISONED' })
    expect(db.get('next')).toBe(undefined)
    expect(db.get('sure')).toBe('1')
    expect(db.health()).toMatchObject({ ok: false, poisoned: { code: 'CASKY_POISONED' } })
    expect(await failure(() => db.close())).toMatchObject({ code: 'CASKY_POISONED' })
    expect(script.syncs).toBe(syncs + 1)
    const again = openSync(path)
    expect(again.get('sure')).toBe('1')
    expect([undefined, '2']).toContain(again.get('unknown'))
    await again.put('k', 'v')
    await again.close()
  })

  test('in a synchronous write, too', async () => {
    const { overrides, script } = hostWith()
    const db = openSyncWith(groundWith(overrides), freshStore())
    db.putSync('sure', '1')
    script.sync = ['EIO']
    expect(await failure(() => db.putSync('unknown', '2'))).toMatchObject({ code: 'CASKY_POISONED' })
    expect(await failure(() => db.putSync('more', '3'))).toMatchObject({ code: 'CASKY_POISONED' })
    expect(await failure(() => db.closeSync())).toMatchObject({ code: 'CASKY_POISONED' })
  })

  test('is not made good by another that was under way, and then succeeds: the data may be gone', async () => {
    const { overrides, script } = hostWith()
    const finish: (() => void)[] = []
    const ground = groundWith({ ...overrides, syncLater: (_file, done) => finish.push(() => done(null)) })
    const db = openSyncWith(ground, freshStore())
    db.putSync('sure', '1')
    const unknown = db.put('unknown', '2')
    await new Promise((resolve) => setTimeout(resolve, 10))
    expect(finish.length).toBe(1)
    // A write is refused, and the sync of its cut fails.
    script.write = ['EIO']
    script.sync = ['EIO']
    expect(await failure(() => db.putSync('refused', '3'))).toMatchObject({ code: 'CASKY_POISONED' })
    finish[0]()
    expect(await failure(() => unknown)).toMatchObject({ code: 'CASKY_POISONED' })
    expect(await failure(() => db.close())).toMatchObject({ code: 'CASKY_POISONED' })
  })

  test('under a sync of another kind is not hidden: each has a handle of its own', async () => {
    const files = { sync: new Set<number>(), later: new Set<number>() }
    const ground = groundWith({
      sync: (file) => {
        files.sync.add(file)
        nodeHost.sync(file)
      },
      syncLater: (file, done) => {
        files.later.add(file)
        nodeHost.syncLater(file, done)
      },
    })
    const db = await openWith(ground, freshStore())
    db.putSync('warm', 'up')
    files.sync.clear()
    await db.put('a', '1')
    db.putSync('b', '2')
    expect(files.later.size).toBe(1)
    expect(files.sync.size).toBe(1)
    expect([...files.sync]).not.toEqual([...files.later])
    await db.close()
  })

  test('of the directory, after the manifest was replaced, poisons too', async () => {
    const path = freshStore()
    let fails = false
    let isLate = false
    let calls = 0
    const ground = groundWith({
      syncDirectory: (directory) => {
        if (fails && (!isLate || ++calls === 2)) throw systemError('EIO')
        nodeHost.syncDirectory(directory)
      },
    })
    const db = openSyncWith(ground, path, { maxSegmentBytes: 4096 })
    db.putSync('a', 'x'.repeat(3000))
    fails = true
    // Before the manifest changes nothing has happened yet; after it, either may be in force.
    expect(await failure(() => db.putSync('b', 'x'.repeat(3000)))).toMatchObject({ code: 'CASKY_IO' })
    expect(db.has('b')).toBe(false)
    isLate = true
    expect(await failure(() => db.putSync('b', 'x'.repeat(3000)))).toMatchObject({ code: 'CASKY_POISONED' })
    expect(await failure(() => db.putSync('c', '1'))).toMatchObject({ code: 'CASKY_POISONED' })
    expect(await failure(() => db.closeSync())).toMatchObject({ code: 'CASKY_POISONED' })
    expect(contentsOf(path).entries.has('a')).toBe(true)
    const again = openSync(path)
    again.putSync('d', '2')
    again.closeSync()
    expect([...contentsOf(path).entries.keys()]).toEqual(['a', 'd'])
  })

  test('a segment deleted under a running store is noticed at the next sync', async () => {
    const path = freshStore()
    const db = openSync(path)
    await db.put('a', '1')
    rmSync(path, { recursive: true })
    expect(await failure(() => db.put('b', '2'))).toMatchObject({ code: 'CASKY_POISONED' })
    await db.close().catch(() => {})
  })
})

describe('handles', () => {
  test('all are closed again, whatever was done and however it failed', async () => {
    const open = new Set<number>()
    let failWith: string | undefined
    const ground = groundWith({
      open: (path, mode) => {
        if (failWith !== undefined && path.endsWith('.data')) throw systemError(failWith)
        const file = nodeHost.open(path, mode)
        open.add(file)
        return file
      },
      close: (file) => {
        if (!open.delete(file)) throw new Error(`closed twice: ${file}`)
        nodeHost.close(file)
      },
    })
    const path = freshStore()
    const db = openSyncWith(ground, path, { maxSegmentBytes: 4096 })
    for (let i = 0; i < 200; i++) db.put(`k${i}`, 'v'.repeat(500)).catch(() => {})
    await db.flush()
    for (const [, value] of db.entries()) expect(value.length).toBe(500)
    await db.check()
    await db.close()
    expect(open.size).toBe(0)
    failWith = 'EMFILE'
    expect(await failure(() => openSyncWith(ground, path))).toMatchObject({ code: 'CASKY_IO' })
    expect(open.size).toBe(0)
    failWith = undefined
    const again = await openWith(ground, path)
    expect(again.size).toBe(200)
    again.closeSync()
    expect(open.size).toBe(0)
  })

  test('the time of each record is in the log, in milliseconds', () => {
    const clock = { nowMs: 1_700_000_000_123 }
    const path = freshStore()
    const db = openSyncWith(groundWithClock(clock), path)
    db.putSync('a', '1')
    clock.nowMs += 7
    db.putSync('b', '2')
    const times = recordsOf(segmentsOf(path)[0]).map((record) => Number(record.timeMs))
    expect(times).toEqual([1_700_000_000_123, 1_700_000_000_130])
    db.closeSync()
  })

  test('a record of 16 + 100 bytes in a bulk load costs at most 32 bytes more on disk', async () => {
    const path = freshStore()
    const db = openSync(path, { sync: 'never' })
    for (let i = 0; i < 10_000; i++) db.put(`key-${String(i).padStart(12, '0')}`, 'v'.repeat(100))
    await db.batch(
      Array.from({ length: 1000 }, (_, i) => ({
        type: 'put' as const,
        key: `bat-${String(i).padStart(12, '0')}`,
        value: 'v'.repeat(100),
      })),
    )
    await db.close()
    const bytes = segmentsOf(path).reduce((sum, segment) => sum + readFileSync(segment).length, 0)
    expect(bytes / 11_000 - 116).toBeLessThanOrEqual(32)
  })
})
