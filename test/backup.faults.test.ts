// Backups and restores on a host that fails, or dies, at each of its calls in turn.
import { existsSync, readdirSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import type { FileHandle, Host } from '../src/host/host'
import { nodeHost } from '../src/host/node'
import { type Casky, openSync, restore } from '../src/index'
import { restoreOn } from '../src/store'
import { Random } from './sim/random'
import { freshStore, useMemory } from './support/folders'
import { failure, groundWith, openWith, systemError } from './support/ground'
import { contentsOf } from './support/stores'

useMemory()

const small = { sync: 'never', merge: false, cacheBytes: 0, maxSegmentBytes: 4096 } as const

/** Fails the calls that have to do with a directory, from the `at`th on: one of them, or all. */
class Trouble {
  directory = ''
  at = Number.POSITIVE_INFINITY
  isForGood = false
  code = 'EIO'
  count = 0
  readonly open = new Set<FileHandle>()
  private readonly files = new Set<FileHandle>()

  arm(directory: string, at: number, isForGood = false, code = 'EIO'): void {
    Object.assign(this, { directory, at, isForGood, code, count: 0 })
  }

  private hit(isConcerned: boolean): void {
    if (!isConcerned || this.directory === '') return
    const number = this.count++
    if (number === this.at || (this.isForGood && number > this.at)) throw systemError(this.code)
  }

  private concerns(path: string): boolean {
    return this.directory !== '' && path.startsWith(this.directory) && !path.includes('LOCK')
  }

  readonly overrides: Partial<Host> = {
    open: (path, mode) => {
      const isConcerned = this.concerns(path)
      this.hit(isConcerned)
      const file = nodeHost.open(path, mode)
      this.open.add(file)
      if (isConcerned) this.files.add(file)
      return file
    },
    close: (file) => {
      if (!this.open.delete(file)) throw new Error('closed twice')
      this.files.delete(file)
      nodeHost.close(file)
    },
    read: (file, ...rest) => {
      this.hit(this.files.has(file))
      return nodeHost.read(file, ...rest)
    },
    write: (file, ...rest) => {
      this.hit(this.files.has(file))
      return nodeHost.write(file, ...rest)
    },
    truncate: (file, bytes) => {
      this.hit(this.files.has(file))
      nodeHost.truncate(file, bytes)
    },
    status: (file) => {
      this.hit(this.files.has(file))
      return nodeHost.status(file)
    },
    syncLater: (file, done) => {
      let failed: unknown
      try {
        this.hit(this.files.has(file))
      } catch (error) {
        failed = error
      }
      nodeHost.syncLater(file, (error) => done(failed ?? error))
    },
    syncDirectoryLater: (path, done) => {
      let failed: unknown
      try {
        this.hit(this.concerns(path))
      } catch (error) {
        failed = error
      }
      nodeHost.syncDirectoryLater(path, (error) => done(failed ?? error))
    },
    inspect: (path) => {
      this.hit(this.concerns(path))
      return nodeHost.inspect(path)
    },
    list: (path) => {
      this.hit(this.concerns(path))
      return nodeHost.list(path)
    },
    link: (from, to) => {
      this.hit(this.concerns(to))
      nodeHost.link(from, to)
    },
    rename: (from, to) => {
      this.hit(this.concerns(to))
      nodeHost.rename(from, to)
    },
    remove: (path) => {
      this.hit(this.concerns(path))
      nodeHost.remove(path)
    },
    removeLater: (path, done) => {
      try {
        this.hit(this.concerns(path))
        nodeHost.removeLater(path, done)
      } catch (error) {
        nodeHost.soon(() => done(error))
      }
    },
  }
}

function fill(db: Casky, random: Random, writes: number): void {
  for (let i = 0; i < writes; i++)
    db.put(`key ${random.below(60)}`, `value ${random.below(1e9)} ${'x'.repeat(40)}`)
}

async function expectEqual(from: string, expected: Map<number, Map<string, string>>): Promise<void> {
  for (const [sequence, entries] of expected) {
    const target = freshStore()
    await restore(from, target, { sequence })
    expect(contentsOf(target)).toEqual({ entries, damage: 0, tornTails: 0 })
  }
}

/** Numbers from 0 up, ever further apart: calls at the begin are of more kinds. */
function* spots(end: number): Generator<number> {
  for (let at = 0; at < end; at += 1 + Math.floor(at / 40)) yield at
}

describe.each([
  ['an error at a call', false, 'EIO'],
  ['a full disk at a call', false, 'ENOSPC'],
  ['death at a call', true, 'EIO'],
] as const)('%s', (_, isForGood, code) => {
  test('of a backup: those before it stay whole, and the next one is fine', async () => {
    const trouble = new Trouble()
    const db = await openWith(groundWith(trouble.overrides), freshStore(), small)
    const random = new Random(11)
    fill(db, random, 120)
    const dir = freshStore()
    trouble.arm(dir, Number.POSITIVE_INFINITY)
    const { sequence } = await db.backup(dir)
    const calls = trouble.count
    const expected = new Map([[sequence, new Map(db.entries())]])
    let failures = 0
    for (const at of spots(calls)) {
      fill(db, random, 1 + random.below(30))
      await db.flush()
      const names = readdirSync(dir).sort()
      const handles = trouble.open.size
      trouble.arm(dir, at, isForGood, code)
      const outcome = await db.backup(dir, { since: 'latest' }).catch((error) => error)
      trouble.arm('', 0)
      expect(trouble.open.size - handles).toBe(0)
      if (outcome instanceof Error) {
        failures++
        expect(outcome).toMatchObject({
          name: 'CaskyError',
          code: expect.stringMatching(/IO|NO_SPACE|CORRUPT|INVALID_PATH/),
        })
        const found = readdirSync(dir).filter((name) => name.endsWith('.json'))
        // Whoever is told that there is none finds none, unless taking it back failed too.
        if (!isForGood) expect(found).toEqual(names.filter((name) => name.endsWith('.json')))
      } else expected.set(outcome.sequence, new Map(db.entries()))
      if (at % 5 === 0) await expectEqual(dir, new Map([...expected].slice(-1)))
    }
    expect(failures).toBeGreaterThan(20)
    const last = await db.backup(dir, { since: 'latest' })
    expected.set(last.sequence, new Map(db.entries()))
    await expectEqual(dir, expected)
    expect(db.health().ok).toBe(true)
    await db.close()
    expect(trouble.open.size).toBe(0)
  })

  test('of a first backup: nothing is left that a second one minds', async () => {
    const trouble = new Trouble()
    const db = await openWith(groundWith(trouble.overrides), freshStore(), small)
    fill(db, new Random(12), 120)
    const expected = new Map(db.entries())
    for (let at = 0; ; at++) {
      const dir = freshStore()
      trouble.arm(dir, at, isForGood, code)
      const outcome = await db.backup(dir).catch((error) => error)
      trouble.arm('', 0)
      if (!(outcome instanceof Error)) {
        await expectEqual(dir, new Map([[outcome.sequence, expected]]))
        if (trouble.count <= at) break
        continue
      }
      const hasDescription = existsSync(dir) && readdirSync(dir).some((name) => name.endsWith('.json'))
      const { sequence } = await db.backup(dir, hasDescription ? { since: 'latest' } : {})
      await expectEqual(dir, new Map([[sequence, expected]]))
    }
    await db.close()
    expect(trouble.open.size).toBe(0)
  })

  test('of a restore: there is the whole store or none, and it can be run again', async () => {
    const db = openSync(freshStore(), small)
    fill(db, new Random(13), 100)
    const expected = new Map(db.entries())
    const dir = freshStore()
    const { sequence } = await db.backup(dir)
    await db.close()
    for (let at = 0; ; at++) {
      const trouble = new Trouble()
      const target = freshStore()
      trouble.arm(target, at, isForGood, code)
      const outcome = await restoreOn(groundWith(trouble.overrides), dir, target, undefined).catch(
        (error) => error,
      )
      if (!(outcome instanceof Error)) {
        expect(outcome).toMatchObject({ sequence })
        expect(contentsOf(target)).toEqual({ entries: expected, damage: 0, tornTails: 0 })
        if (trouble.count <= at) break
        continue
      }
      expect(outcome).toMatchObject({
        name: 'CaskyError',
        code: expect.stringMatching(/IO|NO_SPACE|CORRUPT|POISONED|INVALID_PATH/),
      })
      expect(trouble.open.size).toBe(0)
      if (existsSync(target) && readdirSync(target).includes('MANIFEST')) {
        expect(await failure(() => restore(dir, target))).toMatchObject({ code: 'CASKY_EXISTS' })
      } else {
        if (existsSync(target)) {
          const half = await failure(() => openSync(target, { createIfMissing: false }))
          expect(half.code).toMatch(/NOT_A_STORE|NOT_FOUND|CORRUPT/)
        }
        expect(await restore(dir, target)).toMatchObject({ sequence })
      }
      expect(contentsOf(target)).toEqual({ entries: expected, damage: 0, tornTails: 0 })
    }
  })
})

test('what a backup has left goes only once no description of it can come back', async () => {
  const dir = freshStore()
  const calls: string[] = []
  let isFirst = true
  let failsToSync = false
  const db = await openWith(
    groundWith({
      removeLater: (path, done) => {
        if (path.startsWith(dir)) calls.push(`remove ${path.slice(dir.length + 1)}`)
        nodeHost.removeLater(path, done)
      },
      rename: (from, to) => {
        // The last step: what names the backup.
        failsToSync = isFirst && to.startsWith(dir) && to.endsWith('.json')
        nodeHost.rename(from, to)
      },
      syncDirectoryLater: (path, done) => {
        if (path === dir) calls.push('sync')
        nodeHost.syncDirectoryLater(path, (error) => done(failsToSync ? systemError('EIO') : error))
      },
    }),
    freshStore(),
    small,
  )
  fill(db, new Random(13), 120)
  expect(await failure(() => db.backup(dir))).toMatchObject({ code: 'CASKY_IO' })
  expect(readdirSync(dir).some((name) => name.endsWith('.segment'))).toBe(true)
  isFirst = false
  failsToSync = false
  calls.splice(0)
  const { sequence } = await db.backup(dir)
  const [before] = calls
  expect(before).toBe('sync')
  expect(calls.filter((call) => call.endsWith('.segment')).length).toBeGreaterThan(0)
  await expectEqual(dir, new Map([[sequence, new Map(db.entries())]]))
  await db.close()
})
