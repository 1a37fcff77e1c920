import {
  copyFile,
  existsSync,
  linkSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { crc32 } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { nodeHost } from '../src/host/node'
import { type BackupProgress, type Casky, openSync, repair, restore } from '../src/index'
import { restoreOn } from '../src/store'
import { Random } from './sim/random'
import { freshFolder, freshStore, useMemory } from './support/folders'
import { failure, groundWith, openSyncWith, openWith, systemError } from './support/ground'
import { contentsOf, flipBit, killedCopy, segmentsOf, truncate } from './support/stores'

useMemory()

const never = { sync: 'never', merge: false, cacheBytes: 0 } as const
const small = { ...never, maxSegmentBytes: 8192 } as const

/** Some writes of every kind; the same for the same seed. */
function churn(db: Casky, random: Random, writes: number): void {
  for (let i = 0; i < writes; i++) {
    const key = `key ${random.below(200)}`
    if (random.chance(0.2)) db.delete(key)
    else if (random.chance(0.1)) {
      db.batch([
        { type: 'put', key, value: `batch ${random.below(1e9)}` },
        { type: 'del', key: `key ${random.below(200)}` },
      ])
    } else db.put(key, `value ${random.below(1e9)} ${'x'.repeat(random.below(60))}`)
  }
}

/** What a store restored from a backup holds; it must be sound, and take writes. */
async function restored(from: string, sequence?: number): Promise<Map<string, string>> {
  const target = freshStore()
  const report = await restore(from, target, sequence === undefined ? {} : { sequence })
  expect(readdirSync(target).filter((name) => !/^(MANIFEST|LOCK|\d{10}\.data)$/.test(name))).toEqual([])
  const { entries, damage, tornTails } = contentsOf(target)
  expect({ damage, tornTails, size: entries.size }).toEqual({ damage: 0, tornTails: 0, size: report.entries })
  const db = openSync(target, { strict: true })
  expect((await db.check()).ok).toBe(true)
  db.putSync('after', 'restore')
  const snapshot = db.snapshot()
  expect(snapshot.sequence).toBe(report.sequence + 1)
  snapshot.release()
  db.closeSync()
  return entries
}

const bytesOf = (db: Casky): number => db.stats().segments.reduce((sum, { bytes }) => sum + bytes, 0)
const backupFiles = (dir: string): string[] => readdirSync(dir).sort()

describe('a full backup', () => {
  test('of a store of several segments: linked where nothing is written any more, and equal when restored', async () => {
    const db = openSync(freshStore(), small)
    churn(db, new Random(1), 1000)
    const dir = freshStore()
    const seen: string[] = []
    const report = await db.backup(dir, { onProgress: ({ phase }) => seen.push(phase) })
    const { segments, takenAtMs, durationMs, longestSliceMs, ...rest } = report
    expect(segments).toBe(segmentsOf(db.path).length)
    expect(segments).toBeGreaterThan(3)
    expect(takenAtMs).toBeGreaterThan(0)
    expect(durationMs).toBeGreaterThan(longestSliceMs)
    const snapshot = db.snapshot()
    snapshot.release()
    expect(rest).toMatchObject({
      sequence: snapshot.sequence,
      since: undefined,
      entries: db.size,
      bytesReused: 0,
    })
    expect(rest.bytesCloned).toBe(0)
    expect(rest.bytesLinked).toBeGreaterThan(3 * 7000)
    expect(rest.bytesCopied).toBeGreaterThan(0)
    expect(rest.bytesLinked + rest.bytesCopied).toBe(bytesOf(db))
    expect(new Set(seen)).toEqual(new Set(['backup', 'verify']))
    expect(backupFiles(dir).filter((name) => !/^\d{10}\.segment$/.test(name))).toEqual([
      `BACKUP-${String(report.sequence).padStart(16, '0')}.json`,
    ])
    expect(await restored(dir)).toEqual(new Map(db.entries()))
    await db.close()
  })

  test('of an empty store, and of one whose only write was deleted', async () => {
    const db = openSync(freshStore(), never)
    const empty = freshStore()
    expect(await db.backup(empty)).toMatchObject({ sequence: 0, entries: 0, segments: 0 })
    expect(await restored(empty)).toEqual(new Map())
    db.putSync('a', '1')
    db.deleteSync('a')
    const deleted = freshStore()
    expect(await db.backup(deleted)).toMatchObject({ sequence: 2, entries: 0, segments: 1 })
    expect(await restored(deleted)).toEqual(new Map())
    await db.close()
  })

  test.each([7, 8, 9])(
    'while somebody writes: the state at its sequence number, batches whole (%i)',
    async (seed) => {
      const db = openSync(freshStore(), { ...never, maxSegmentBytes: 65_536 })
      const random = new Random(seed)
      churn(db, random, 3000)
      const dir = freshStore()
      let isDone = false
      // What the store was at each of the last sequence numbers.
      const states = new Map<number, Map<string, string>>()
      const note = (): void => {
        const snapshot = db.snapshot()
        states.set(snapshot.sequence, new Map(snapshot.entries()))
        snapshot.release()
      }
      note()
      const running = db.backup(dir, { maxBytesPerSecond: 2_000_000 }).finally(() => {
        isDone = true
      })
      while (!isDone) {
        churn(db, random, 5)
        note()
        if (random.chance(0.05)) db.merge()
        await new Promise<void>((resolve) => setImmediate(resolve))
      }
      const { sequence, entries } = await running
      expect(states.size).toBeGreaterThan(20)
      const expected = states.get(sequence)
      expect(expected?.size).toBe(entries)
      expect(await restored(dir)).toEqual(expected)
      await db.close()
    },
  )

  test('with values longer than what is read at a time, bytes of every kind, and expiry', async () => {
    const clock = { nowMs: 1_700_000_000_000 }
    const ground = groundWith({ nowMs: () => clock.nowMs })
    const db = openSyncWith(ground, freshStore(), never)
    db.put('large', 'x'.repeat(3_000_000))
    db.put('empty', '')
    db.put('gone', 'soon', { ttlMs: 10 })
    db.put('goes', 'later', { ttlMs: 10_000 })
    clock.nowMs += 10
    const dir = freshStore()
    expect(await db.backup(dir)).toMatchObject({ sequence: 4, entries: 3 })
    clock.nowMs += 20_000
    const target = freshStore()
    expect(await restoreOn(ground, dir, target, undefined)).toMatchObject({ sequence: 4, entries: 3 })
    const copy = openSyncWith(ground, target)
    expect([...copy.keys()]).toEqual(['empty', 'large'])
    expect(copy.get('large')).toBe('x'.repeat(3_000_000))
    copy.closeSync()
    const kept = join(dir, '0000000001.segment')
    flipBit(kept, 2_000_000 * 8)
    const hurt = await failure(() => restore(dir, freshStore()))
    expect(hurt).toMatchObject({ code: 'CASKY_CORRUPT', path: kept, offset: 96 + 29 + 'large'.length })
    // What was swept and comes back with a clock that ran back is no difference.
    await db.expire()
    clock.nowMs -= 15_000
    expect(await db.backup(freshStore())).toMatchObject({ sequence: 4 })
    await db.close()
  })

  test('while a merge replaces what it is made of: that stays until it was copied', async () => {
    const linkless = {
      link: () => {
        throw systemError('EXDEV')
      },
    }
    const db = openSyncWith(groundWith(linkless), freshStore(), small)
    churn(db, new Random(10), 2000)
    const expected = new Map(db.entries())
    const before = segmentsOf(db.path)
    const dir = freshStore()
    const running = db.backup(dir, { maxBytesPerSecond: 500_000 })
    await new Promise((resolve) => setTimeout(resolve, 30))
    const { segmentsAfter } = await db.merge()
    expect(segmentsAfter).toBeLessThan(before.length / 2)
    expect(segmentsOf(db.path).length).toBeGreaterThanOrEqual(before.length)
    await running
    expect(await restored(dir)).toEqual(expected)
    expect(segmentsOf(db.path).length).toBeLessThan(before.length / 2)
    await db.close()
  })

  test('fails where a sync of the store does: what it has copied may be nowhere else', async () => {
    let isFailing = false
    const path = freshStore()
    const ground = groundWith({
      syncLater: (file, done) =>
        nodeHost.syncLater(file, (error) => {
          const isOfStore = readlinkSync(`/proc/self/fd/${file}`).startsWith(path)
          done(isFailing && isOfStore ? systemError('EIO') : error)
        }),
    })
    const db = openSyncWith(ground, path, { ...small, sync: 'always' })
    // A segment that can't begin refuses a write, and poisons nothing.
    db.putSync('first', 'value')
    const dir = freshStore()
    const stop = setInterval(() => db.put('key', 'value').catch(() => {}), 0)
    const onProgress = (): void => {
      isFailing = true
    }
    expect(await failure(() => db.backup(dir, { onProgress }))).toMatchObject({ code: 'CASKY_POISONED' })
    clearInterval(stop)
    expect(readdirSync(dir)).toEqual([])
    await db.close().catch(() => {})
  })

  test('of a store in which a crash has cut a batch: its numbers are free, and missing nowhere', async () => {
    const written = freshStore()
    const before = openSync(written, { sync: 'never', merge: false })
    before.putSync('a', '1')
    before.batchSync(['b', 'c', 'd'].map((key) => ({ type: 'put', key, value: 'v'.repeat(100) })))
    const path = killedCopy(written)
    before.closeSync()
    const [segment] = segmentsOf(path)
    truncate(segment, readFileSync(segment).length - 150)
    const db = openSync(path, { merge: false })
    expect(db.stats().lastSequence).toBe(1)
    const backups = join(freshFolder(), 'backups')
    expect(await db.backup(backups)).toMatchObject({ sequence: 1, entries: 1 })
    const target = freshStore()
    await restore(backups, target)
    expect(contentsOf(target).entries).toEqual(new Map([['a', '1']]))
    db.closeSync()
  })

  test('of a store that a crash has left: nothing of a torn tail comes along', async () => {
    const db = openSync(freshStore(), small)
    churn(db, new Random(8), 400)
    const killed = killedCopy(db.path)
    const tail = segmentsOf(killed).at(-1) ?? ''
    writeFileSync(tail, 'what was never finished', { flag: 'a' })
    await db.close()
    const again = openSync(killed, small)
    const expected = new Map(again.entries())
    const dir = freshStore()
    await again.backup(dir)
    expect(await restored(dir)).toEqual(expected)
    again.putSync('more', '1')
    await again.backup(dir, { since: 'latest' })
    expect(await restored(dir)).toEqual(new Map(again.entries()))
    expect((await restored(dir)).size).toBe(expected.size + 1)
    await again.close()
  })
})

describe('increments', () => {
  test('five, with merges in between: each holds only what is new, and each is restored', async () => {
    const db = openSync(freshStore(), small)
    const random = new Random(3)
    const dir = freshStore()
    const expected = new Map<number, Map<string, string>>()
    let since: number | undefined
    for (let i = 0; i < 6; i++) {
      churn(db, random, i === 0 ? 1500 : 120)
      if (i === 2 || i === 4) await db.merge()
      const report = await db.backup(
        dir,
        since === undefined ? {} : { since: i % 2 === 0 ? 'latest' : since },
      )
      expect(report.since).toBe(since)
      const total = report.bytesLinked + report.bytesCopied + report.bytesReused
      expect(total).toBe(bytesOf(db))
      if (i === 1 || i === 3 || i === 5) expect(report.bytesReused).toBeGreaterThan(total / 2)
      since = report.sequence
      expected.set(report.sequence, new Map(db.entries()))
    }
    await db.close()
    for (const [sequence, entries] of expected) expect(await restored(dir, sequence)).toEqual(entries)
    expect(await restored(dir)).toEqual(expected.get(since ?? 0))
  })

  test('continue a segment that was active when it was copied, also after an interrupted one has', async () => {
    const path = freshStore()
    const db = openSync(path, never)
    db.putSync('a', '1')
    const dir = freshStore()
    const first = await db.backup(dir)
    db.putSync('b', '2')
    const second = await db.backup(dir, { since: first.sequence })
    expect(second.bytesReused).toBe(first.bytesCopied)
    expect(second.bytesCopied).toBeLessThan(second.bytesReused)
    // As a crash leaves it.
    const [kept] = backupFiles(dir)
    writeFileSync(join(dir, kept), 'torn', { flag: 'a' })
    writeFileSync(join(dir, '0000000009.segment'), 'never finished')
    writeFileSync(join(dir, '0000000001.segment.next'), 'never finished')
    writeFileSync(join(dir, 'BACKUP.next'), 'never finished')
    writeFileSync(join(dir, 'notes.txt'), 'mine')
    db.putSync('c', '3')
    await db.backup(dir, { since: 'latest' })
    expect(backupFiles(dir)).toEqual([
      '0000000001.segment',
      ...[1, 2, 3].map((sequence) => `BACKUP-000000000000000${sequence}.json`),
      'notes.txt',
    ])
    await db.close()
    const again = openSync(path, never)
    again.putSync('d', '4')
    expect(await again.backup(dir, { since: 3 })).toMatchObject({ since: 3, sequence: 4 })
    await again.close()
    for (const [sequence, keys] of ['', 'a', 'ab', 'abc', 'abcd'].entries())
      if (sequence > 0) expect([...(await restored(dir, sequence)).keys()].join('')).toBe(keys)
  })

  test('where nothing was written since: the one that is there is proved again', async () => {
    const db = openSync(freshStore(), small)
    churn(db, new Random(4), 500)
    const dir = freshStore()
    const { sequence } = await db.backup(dir)
    const before = backupFiles(dir)
    await db.merge()
    const again = await db.backup(dir, { since: sequence })
    expect(again).toMatchObject({ sequence, bytesLinked: 0, bytesCopied: 0 })
    expect(again.bytesReused).toBeGreaterThan(0)
    expect(backupFiles(dir)).toEqual(before)
    await db.close()
  })

  test('make anew what somebody has removed, cut, or given a second name', async () => {
    const db = openSync(freshStore(), small)
    const random = new Random(5)
    const dir = freshStore()
    churn(db, random, 500)
    await db.backup(dir)
    const [first, second, ...others] = backupFiles(dir).filter((name) => name.endsWith('.segment'))
    nodeHost.remove(join(dir, first))
    const content = readFileSync(join(dir, second))
    nodeHost.remove(join(dir, second))
    writeFileSync(join(dir, second), content.subarray(0, 100))
    const active = join(dir, others[others.length - 1])
    const elsewhere = join(freshFolder(), 'second name')
    linkSync(active, elsewhere)
    const kept = readFileSync(elsewhere)
    churn(db, random, 300)
    await db.backup(dir, { since: 'latest' })
    expect(readFileSync(elsewhere).equals(kept)).toBe(true)
    expect(await restored(dir)).toEqual(new Map(db.entries()))
    await db.close()
  })
})

test('progress ends where it said that it would, also where most is there already', async () => {
  const db = openSync(freshStore(), small)
  const random = new Random(3)
  const dir = freshStore()
  for (const options of [{}, { since: 'latest' as const }, { since: 'latest' as const }]) {
    churn(db, random, 300)
    const last = new Map<string, number[]>()
    const onProgress = ({ phase, bytesDone, bytesTotal }: BackupProgress): void => {
      last.set(phase, [bytesDone, bytesTotal])
    }
    const { bytesReused } = await db.backup(dir, { ...options, onProgress })
    expect(bytesReused > 0).toBe('since' in options)
    const bytes = bytesOf(db)
    expect([...last]).toEqual([
      ['backup', [bytes, bytes]],
      ['verify', [bytes, bytes]],
    ])
  }
  await db.close()
})

describe('ways', () => {
  const linkless = (code: string) => ({
    link: () => {
      throw systemError(code)
    },
  })
  const cloning = {
    cloneLater: (from: string, to: string, done: (error: unknown) => void) => copyFile(from, to, done),
  }

  test.each(['EXDEV', 'EPERM', 'EMLINK', 'ENOTSUP'])('without links (%s): copied', async (code) => {
    const db = openSyncWith(groundWith(linkless(code)), freshStore(), small)
    churn(db, new Random(1), 400)
    const dir = freshStore()
    const report = await db.backup(dir)
    expect(report).toMatchObject({ bytesLinked: 0, bytesCloned: 0, bytesCopied: bytesOf(db) })
    expect(await restored(dir)).toEqual(new Map(db.entries()))
    await db.close()
  })

  test('copies that there is no room for are refused before the first of them, and leave nothing', async () => {
    const made: string[] = []
    const free = { bytes: Number.MAX_SAFE_INTEGER }
    const ground = groundWith({
      ...linkless('EXDEV'),
      cloneLater: (_from, _to, done) => nodeHost.soon(() => done(systemError('ENOTSUP'))),
      freeBytes: () => free.bytes,
      open: (path, mode) => {
        if (mode === 'create' && path.includes('.segment')) made.push(path)
        return nodeHost.open(path, mode)
      },
    })
    const db = openSyncWith(ground, freshStore(), small)
    const random = new Random(1)
    churn(db, random, 400)
    expect(db.stats().segments.length).toBeGreaterThan(3)
    const dir = freshStore()
    // The first look certifies the log, which makes it a little longer.
    free.bytes = 0
    expect(await failure(() => db.backup(dir))).toMatchObject({ code: 'CASKY_NO_SPACE' })
    const needed = bytesOf(db) + 2 ** 20
    free.bytes = needed - 1
    const refused = await failure(() => db.backup(dir))
    expect(refused).toMatchObject({ code: 'CASKY_NO_SPACE', expected: needed, got: needed - 1 })
    expect(refused.message).toContain(`it needs ${needed} bytes, and ${needed - 1} are free`)
    expect({ made, left: readdirSync(dir) }).toEqual({ made: [], left: [] })
    free.bytes = needed
    const { sequence } = await db.backup(dir)
    // What is there already takes no room.
    churn(db, random, 200)
    const left = readdirSync(dir).sort()
    free.bytes = 2 ** 20
    expect(await failure(() => db.backup(dir, { since: 'latest' }))).toMatchObject({ code: 'CASKY_NO_SPACE' })
    expect(readdirSync(dir).sort()).toEqual(left)
    expect((await restoreOn(groundWith({}), dir, freshStore(), {})).sequence).toBe(sequence)
    const target = freshStore()
    free.bytes = needed - 1
    expect(await failure(() => restoreOn(ground, dir, target, {}))).toMatchObject({ code: 'CASKY_NO_SPACE' })
    expect(existsSync(join(target, 'MANIFEST'))).toBe(false)
    expect(segmentsOf(target)).toEqual([])
    expect((await db.check()).damage).toEqual([])
    await db.close()
  })

  test('without links, with clones: cloned; and restored by clones', async () => {
    const ground = groundWith({ ...linkless('EXDEV'), ...cloning })
    const db = openSyncWith(ground, freshStore(), small)
    const random = new Random(1)
    churn(db, random, 400)
    const dir = freshStore()
    const report = await db.backup(dir)
    expect(report).toMatchObject({ bytesLinked: 0, bytesCloned: bytesOf(db), bytesCopied: 0 })
    const expected = new Map(db.entries())
    churn(db, random, 30)
    await db.backup(dir, { since: 'latest' })
    const target = freshStore()
    const { sequence, bytesCloned, bytesCopied } = await restoreOn(ground, dir, target, {
      sequence: report.sequence,
    })
    expect({ sequence, bytesCloned, bytesCopied }).toEqual({
      sequence: report.sequence,
      bytesCloned: report.bytesCloned,
      bytesCopied: 0,
    })
    expect(contentsOf(target)).toEqual({ entries: expected, damage: 0, tornTails: 0 })
    await db.close()
  })

  test('what is restored shares no byte with the backup', async () => {
    const db = openSync(freshStore(), small)
    churn(db, new Random(1), 400)
    const dir = freshStore()
    await db.backup(dir)
    await db.close()
    const target = freshStore()
    await restore(dir, target)
    for (const file of segmentsOf(target)) expect(nodeHost.status(nodeHost.open(file, 'read')).links).toBe(1)
  })
})

/** A directory with a full backup and an increment, and what the store held at each. */
async function twoBackups(): Promise<{ dir: string; db: Casky; sequences: number[] }> {
  const db = openSync(freshStore(), small)
  const random = new Random(9)
  churn(db, random, 300)
  const dir = freshStore()
  const first = await db.backup(dir)
  churn(db, random, 60)
  const second = await db.backup(dir, { since: 'latest' })
  return { dir, db, sequences: [first.sequence, second.sequence] }
}

const nameOf = (sequence: number): string => `BACKUP-${String(sequence).padStart(16, '0')}.json`

describe('damage', () => {
  test('any byte of a description: refused by name, by a restore and by the next increment', async () => {
    const db = openSync(freshStore(), never)
    db.putSync('a', '1')
    const dir = freshStore()
    const { sequence } = await db.backup(dir)
    const path = join(dir, nameOf(sequence))
    const { length } = readFileSync(path)
    for (let byte = 0; byte < length; byte++) {
      for (const bit of new Set([5, byte % 8])) {
        flipBit(path, byte * 8 + bit)
        const error = await failure(() => restore(dir, join(dir, 'never')))
        expect(error).toMatchObject({ name: 'CaskyError', code: 'CASKY_CORRUPT', path })
        flipBit(path, byte * 8 + bit)
      }
    }
    expect(existsSync(join(dir, 'never'))).toBe(false)
    flipBit(path, 400)
    db.putSync('b', '2')
    const before = backupFiles(dir)
    expect(await failure(() => db.backup(dir, { since: 'latest' }))).toMatchObject({
      code: 'CASKY_CORRUPT',
      path,
    })
    expect(backupFiles(dir)).toEqual(before)
    await db.close()
  })

  test('a flipped bit in a kept segment: refused with file and offset; nothing is left of the restore', async () => {
    const { dir, db, sequences } = await twoBackups()
    const random = new Random(2)
    const named = backupFiles(dir).filter((name) => name.endsWith('.segment'))
    for (let i = 0; i < 40; i++) {
      // Links share their bytes with the store: a copy is hurt.
      const hurt = freshFolder()
      for (const name of backupFiles(dir)) writeFileSync(join(hurt, name), readFileSync(join(dir, name)))
      const path = join(hurt, named[random.below(named.length - 1)])
      const at = random.below(readFileSync(path).length)
      flipBit(path, at * 8 + random.below(8))
      const target = freshStore()
      const error = await failure(() => restore(hurt, target))
      expect(error).toMatchObject({ code: 'CASKY_CORRUPT', path })
      expect(error.message).toContain('the backup is damaged')
      expect(error.offset).toBeLessThanOrEqual(at)
      expect(readdirSync(target)).toEqual(['LOCK'])
    }
    const target = freshStore()
    expect(await restore(dir, target, { sequence: sequences[0] })).toMatchObject({ sequence: sequences[0] })
    await db.close()
  })

  test('a segment that is missing, short, a symbolic link, or of another backup', async () => {
    const { dir, db } = await twoBackups()
    await db.close()
    const [name, other] = backupFiles(dir).filter((each) => each.endsWith('.segment'))
    const path = join(dir, name)
    const content = readFileSync(path)
    const corrupt = { code: 'CASKY_CORRUPT', path }
    nodeHost.remove(path)
    expect(await failure(() => restore(dir, freshStore()))).toMatchObject(corrupt)
    writeFileSync(path, content.subarray(0, 1000))
    expect(await failure(() => restore(dir, freshStore()))).toMatchObject({ ...corrupt, offset: 1000 })
    nodeHost.remove(path)
    const elsewhere = join(freshFolder(), 'elsewhere')
    writeFileSync(elsewhere, content)
    symlinkSync(elsewhere, path)
    expect(await failure(() => restore(dir, freshStore()))).toMatchObject(corrupt)
    nodeHost.remove(path)
    writeFileSync(path, readFileSync(join(dir, other)))
    expect(await failure(() => restore(dir, freshStore()))).toMatchObject(corrupt)
  })

  test('of the store is not passed on, and told apart from damage to the backup', async () => {
    const { dir, db, sequences } = await twoBackups()
    const [path] = segmentsOf(db.path)
    const content = readFileSync(path)
    expect(content.length).toBeGreaterThan(2000)
    // The one that both share.
    flipBit(path, 1000 * 8)
    db.putSync('more', '1')
    const error = await failure(() => db.backup(dir, { since: 'latest' }))
    expect(error).toMatchObject({ code: 'CASKY_CORRUPT', path })
    expect(error.message).toContain('casky repair')
    expect(db.health().ok).toBe(false)
    expect(await failure(() => db.backup(freshStore()))).toMatchObject({ code: 'CASKY_CORRUPT', path })
    expect(backupFiles(dir)).toContain(nameOf(sequences[1]))
    flipBit(path, 1000 * 8)
    await db.close()
    const again = openSync(db.path, small)
    const kept = join(dir, '0000000001.segment')
    nodeHost.remove(kept)
    writeFileSync(kept, content)
    flipBit(kept, 1000 * 8)
    const fault = await failure(() => again.backup(dir, { since: 'latest' }))
    expect(fault).toMatchObject({ code: 'CASKY_CORRUPT', path: kept })
    expect(fault.message).toContain('the store is not')
    await again.backup(freshStore())
    await again.close()
  })

  test('a description that was made up leads nowhere', async () => {
    const { dir, db } = await twoBackups()
    await db.close()
    const name = backupFiles(dir).findLast((each) => each.endsWith('.json')) ?? ''
    const text = readFileSync(join(dir, name), 'utf8')
    // biome-ignore lint/suspicious/noExplicitAny: it is made up on purpose
    const hostile: ((fields: any) => void)[] = [
      (fields) => (fields.segments[0].id = '../../etc/passwd'),
      (fields) => (fields.segments[0].id = 2 ** 40),
      (fields) => (fields.segments[0].bytes = 2 ** 60),
      (fields) => (fields.segments[0].bytes = 4_000_000_000),
      (fields) => (fields.segments[0].bytes -= 40),
      (fields) => (fields.segments[0].records += 1),
      (fields) => (fields.segments[0].header = fields.segments[1].header),
      (fields) => (fields.segments[0].crc32 = '00000000'),
      (fields) => (fields.segments[0].state = 'active'),
      (fields) => (fields.segments[1] = fields.segments[0]),
      (fields) => fields.segments.reverse(),
      (fields) => fields.segments.pop(),
      (fields) => (fields.segments = {}),
      (fields) => (fields.entries += 1),
      (fields) => (fields.sequence += 1),
      (fields) => (fields.nextSegmentId = 1),
      (fields) => (fields.storeId = fields.storeId.replace(/./g, '0')),
      (fields) => (fields.secret = 'zz'),
      (fields) => (fields.kind = 'else'),
    ]
    for (const change of hostile) {
      const fields = JSON.parse(text)
      change(fields)
      writeDescription(join(dir, name), fields)
      const target = freshStore()
      expect(await failure(() => restore(dir, target))).toMatchObject({ code: 'CASKY_CORRUPT' })
      if (existsSync(target)) expect(readdirSync(target)).toEqual(['LOCK'])
    }
    const fields = JSON.parse(text)
    writeDescription(join(dir, name), { ...fields, format: 2 })
    expect(await failure(() => restore(dir, freshStore()))).toMatchObject({
      code: 'CASKY_NEWER_FORMAT',
      got: 2,
    })
    writeDescription(join(dir, name), fields)
    await restored(dir)
  })
})

/** As docs/FORMAT.md has it. */
function writeDescription(path: string, { crc32: _, ...fields }: Record<string, unknown>): void {
  const body = JSON.stringify(fields, undefined, 1).replace(/\n\}$/, ',\n "crc32": "')
  writeFileSync(path, `${body}${crc32(body).toString(16).padStart(8, '0')}"\n}\n`)
}

describe('refused', () => {
  test('bad input, with nothing done', async () => {
    const db = openSync(freshStore(), never)
    db.putSync('a', '1')
    const dir = freshStore()
    const codeOf = async (run: () => unknown): Promise<string | undefined> => (await failure(run)).code
    // biome-ignore lint/suspicious/noExplicitAny: what the compiler refuses is to be refused at run time too
    const any = (value: unknown): any => value
    for (const path of ['', 'a\0b', 5, undefined]) {
      expect(await codeOf(() => db.backup(any(path)))).toBe('CASKY_INVALID_PATH')
      expect(await codeOf(() => restore(any(path), dir))).toBe('CASKY_INVALID_PATH')
      expect(await codeOf(() => restore(dir, any(path)))).toBe('CASKY_INVALID_PATH')
    }
    for (const since of [-1, 1.5, 'last', 2 ** 60, null])
      expect(await codeOf(() => db.backup(dir, { since: any(since) }))).toBe('CASKY_INVALID_OPTION')
    expect(await codeOf(() => db.backup(dir, any({ sinse: 1 })))).toBe('CASKY_INVALID_OPTION')
    expect(await codeOf(() => db.backup(dir, any(7)))).toBe('CASKY_INVALID_ARGUMENT')
    expect(await codeOf(() => restore(dir, dir, any({ sequence: 'latest' })))).toBe('CASKY_INVALID_OPTION')
    expect(await codeOf(() => restore(dir, freshStore()))).toBe('CASKY_NOT_FOUND')
    expect(await codeOf(() => db.backup(dir, { since: 'latest' }))).toBe('CASKY_NOT_FOUND')
    expect(await codeOf(() => db.backup(dir, { since: 1 }))).toBe('CASKY_NOT_FOUND')
    expect(existsSync(dir)).toBe(false)
    await db.backup(dir)
    expect(await codeOf(() => db.backup(dir))).toBe('CASKY_EXISTS')
    expect(await codeOf(() => db.backup(db.path))).toBe('CASKY_EXISTS')
    const wrong = await failure(() => db.backup(dir, { since: 7 }))
    expect(wrong).toMatchObject({ code: 'CASKY_NOT_FOUND', expected: [1], got: 7 })
    expect(await failure(() => restore(dir, freshStore(), { sequence: 7 }))).toMatchObject({
      code: 'CASKY_NOT_FOUND',
      expected: [1],
      got: 7,
    })
    const other = openSync(freshStore(), never)
    expect(await codeOf(() => other.backup(dir, { since: 'latest' }))).toBe('CASKY_EXISTS')
    await other.close()
    const file = join(freshFolder(), 'file')
    writeFileSync(file, 'x')
    expect(await codeOf(() => db.backup(file))).toBe('CASKY_INVALID_PATH')
    expect(await codeOf(() => db.backup(join(file, 'below')))).toBe('CASKY_INVALID_PATH')
    expect(await codeOf(() => restore(dir, file))).toBe('CASKY_INVALID_PATH')
    expect(await codeOf(() => restore(file, dir))).toBe('CASKY_INVALID_PATH')
    await db.close()
    expect(await codeOf(() => db.backup(dir, { since: 1 }))).toBe('CASKY_CLOSED')
    const reader = openSync(db.path, { readOnly: true })
    expect(await codeOf(() => reader.backup(dir, { since: 1 }))).toBe('CASKY_READ_ONLY')
    reader.closeSync()
    expect(backupFiles(dir)).toEqual(['0000000001.segment', nameOf(1)])
  })

  test('a restore into a store, a backup, or anything else; and a backup is no store', async () => {
    const { dir, db } = await twoBackups()
    const before = backupFiles(dir)
    const mine = freshFolder()
    writeFileSync(join(mine, 'thesis.txt'), 'mine')
    for (const target of [db.path, dir, mine])
      expect(await failure(() => restore(dir, target))).toMatchObject({ code: 'CASKY_EXISTS', path: target })
    expect(readdirSync(mine)).toEqual(['thesis.txt'])
    expect(await failure(() => openSync(dir))).toMatchObject({ code: 'CASKY_NOT_A_STORE' })
    expect(await failure(() => repair(dir))).toMatchObject({ code: 'CASKY_NOT_A_STORE' })
    expect(backupFiles(dir)).toEqual(before)
    await db.close()
  })

  test('an increment of a store that was set back', async () => {
    const { dir, db, sequences } = await twoBackups()
    await db.close()
    const target = freshStore()
    await restore(dir, target, { sequence: sequences[0] })
    const back = openSync(target, small)
    expect(await failure(() => back.backup(dir, { since: 'latest' }))).toMatchObject({ code: 'CASKY_EXISTS' })
    churn(back, new Random(77), 500)
    const error = await failure(() => back.backup(dir, { since: sequences[0] }))
    expect(error).toMatchObject({ code: 'CASKY_EXISTS' })
    expect(error.message).toContain('another history')
    await back.backup(freshStore())
    await back.close()
    await restored(dir)
  })

  test('a second backup to one directory at a time; others wait for each other', async () => {
    const { dir, db } = await twoBackups()
    churn(db, new Random(5), 10)
    const elsewhere = freshStore()
    const [a, b] = await Promise.all([db.backup(dir, { since: 'latest' }), db.backup(elsewhere)])
    expect(a.sequence).toBe(b.sequence)
    expect(await restored(elsewhere)).toEqual(await restored(dir))
    const other = openSync(freshStore(), never)
    const shared = freshStore()
    const both = await Promise.allSettled([db.backup(shared), other.backup(shared)])
    expect(both.map(({ status }) => status)).toEqual(['fulfilled', 'rejected'])
    expect(both[1]).toMatchObject({ reason: { code: 'CASKY_LOCKED' } })
    await other.close()
    await db.close()
  })
})

describe('ended early', () => {
  test('by its signal, before and in the middle: no backup, no store, and the next one is fine', async () => {
    const { dir, db, sequences } = await twoBackups()
    churn(db, new Random(6), 400)
    const before = backupFiles(dir)
    const run = async (phase: string, what: (options: object) => Promise<unknown>): Promise<void> => {
      const stop = new AbortController()
      const onProgress = (progress: { phase: string; bytesDone: number }): void => {
        if (progress.phase === phase && progress.bytesDone > 0) stop.abort()
      }
      expect(await failure(() => what({ signal: stop.signal, onProgress }))).toMatchObject({
        code: 'CASKY_ABORTED',
      })
    }
    for (const phase of ['backup', 'verify']) {
      await run(phase, (options) => db.backup(dir, { since: 'latest', ...options }))
      expect(backupFiles(dir)).toEqual(before)
    }
    for (const phase of ['restore', 'verify']) {
      const target = freshStore()
      await run(phase, (options) => restore(dir, target, options))
      expect(readdirSync(target)).toEqual(['LOCK'])
      expect(await restore(dir, target)).toMatchObject({ sequence: sequences[1] })
    }
    const signal = AbortSignal.abort()
    expect(await failure(() => db.backup(dir, { since: 'latest', signal }))).toMatchObject({
      code: 'CASKY_ABORTED',
    })
    expect(await failure(() => restore(dir, freshStore(), { signal }))).toMatchObject({
      code: 'CASKY_ABORTED',
    })
    await db.backup(dir, { since: 'latest' })
    expect(await restored(dir)).toEqual(new Map(db.entries()))
    await db.close()
  })

  test.each(['close', 'closeSync'] as const)(
    'by %s: fails with CASKY_CLOSED, and no file stays open',
    async (how) => {
      const { dir, db } = await twoBackups()
      await db.close()
      for (let turns = 0; turns < 30; turns += 3) {
        const open = new Set<number>()
        const ground = groundWith({
          open: (path, mode) => {
            const file = nodeHost.open(path, mode)
            open.add(file)
            return file
          },
          close: (file) => {
            if (!open.delete(file)) throw new Error('closed twice')
            nodeHost.close(file)
          },
        })
        const again = await openWith(ground, db.path, small)
        churn(again, new Random(turns), 100)
        const running = again.backup(dir, { since: 'latest' }).catch((error) => error)
        for (let i = 0; i < turns; i++) await new Promise<void>((resolve) => setImmediate(resolve))
        if (how === 'close') await again.close()
        else again.closeSync()
        const outcome = await running
        if (outcome instanceof Error) expect(outcome).toMatchObject({ code: 'CASKY_CLOSED' })
        // A sync that is under way closes its file when it ends.
        for (let i = 0; i < 50 && open.size > 0; i++) await new Promise((resolve) => setTimeout(resolve, 2))
        expect(open.size).toBe(0)
        const names = backupFiles(dir)
        expect(names.filter((name) => name.endsWith('.next'))).toEqual([])
        await restored(dir)
      }
    },
  )
})

/** Notes, in their order, the changes to a directory, and what of them has not reached the disk yet. */
class Watch {
  readonly pending = new Set<string>()
  readonly renamed: { to: string; pending: string[] }[] = []
  private readonly paths = new Map<number, string>()

  constructor(private readonly directory: string) {}

  private change(path: string): void {
    if (path.startsWith(this.directory) && !path.includes('LOCK')) this.pending.add(path)
  }

  readonly overrides: Partial<typeof nodeHost> = {
    open: (path, mode) => {
      const file = nodeHost.open(path, mode)
      this.paths.set(file, path)
      if (mode === 'create') this.change(`${path} (name)`)
      return file
    },
    write: (file, ...rest) => {
      this.change(this.paths.get(file) ?? '')
      return nodeHost.write(file, ...rest)
    },
    truncate: (file, bytes) => {
      this.change(this.paths.get(file) ?? '')
      nodeHost.truncate(file, bytes)
    },
    link: (from, to) => {
      this.change(`${to} (name)`)
      nodeHost.link(from, to)
    },
    cloneLater: (from, to, done) => {
      this.change(to)
      this.change(`${to} (name)`)
      copyFile(from, to, done)
    },
    syncLater: (file, done) => {
      const path = this.paths.get(file) ?? ''
      const isPending = this.pending.has(path)
      nodeHost.syncLater(file, (error) => {
        if (isPending) this.pending.delete(path)
        done(error)
      })
    },
    syncDirectoryLater: (path, done) => {
      const names = [...this.pending].filter((each) => each.endsWith('(name)') && dirname(each) === path)
      nodeHost.syncDirectoryLater(path, (error) => {
        for (const name of names) this.pending.delete(name)
        done(error)
      })
    },
    rename: (from, to) => {
      this.renamed.push({ to, pending: [...this.pending].filter((each) => !each.startsWith(`${from} `)) })
      if (this.pending.delete(from)) this.pending.add(to)
      this.pending.delete(`${from} (name)`)
      this.change(`${to} (name)`)
      nodeHost.rename(from, to)
    },
  }
}

describe('the order of things', () => {
  test.each(['links', 'clones', 'copies'])(
    'a description comes last, and so does a manifest (%s)',
    async (how) => {
      const dir = freshStore()
      const refuse = {
        link: () => {
          throw systemError('EXDEV')
        },
      }
      const noClones = {
        cloneLater: (_from: string, _to: string, done: (error: unknown) => void) =>
          setImmediate(done, systemError('ENOTSUP')),
      }
      const waysOf = (watch: Watch): object => ({
        ...watch.overrides,
        ...(how === 'links' ? {} : refuse),
        ...(how === 'clones' ? {} : noClones),
      })
      const watch = new Watch(dir)
      const db = openSyncWith(groundWith(waysOf(watch)), freshStore(), small)
      const random = new Random(21)
      for (let i = 0; i < 4; i++) {
        churn(db, random, 100)
        watch.renamed.length = 0
        await db.backup(dir, i === 0 ? {} : { since: 'latest' })
        expect(watch.renamed.at(-1)?.to).toMatch(/BACKUP-\d+\.json$/)
        expect(watch.renamed.at(-1)?.pending).toEqual([])
        expect([...watch.pending]).toEqual([])
      }
      await db.close()
      const target = freshStore()
      const other = new Watch(target)
      await restoreOn(groundWith(waysOf(other)), dir, target, undefined)
      expect(other.renamed.at(-1)?.to).toMatch(/MANIFEST$/)
      expect(other.renamed.at(-1)?.pending).toEqual([])
      // Taking the mark away may come to nothing: a store is a store with it too.
      expect([...other.pending]).toEqual([])
    },
  )
})
