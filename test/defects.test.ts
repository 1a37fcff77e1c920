// The defects found in the C original, each with a test that its counterpart here is none. Number 18 is the server's.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import { describe, expect, test } from 'vitest'
import { nodeHost } from '../src/host/node'
import { dump, open, openSync } from '../src/index'
import { Kernels } from '../src/kernels'
import { freshFolder, freshStore } from './support/folders'
import { failure, groundWith, groundWithClock, openSyncWith, systemError } from './support/ground'
import { append, contentsOf, flipBit, killedCopy, overwrite, recordsOf, segmentsOf } from './support/stores'

function storeWith(entries: Record<string, string>): string {
  const path = freshStore()
  const db = openSync(path)
  for (const [key, value] of Object.entries(entries)) db.putSync(key, value)
  db.closeSync()
  return path
}

describe('casky in C', () => {
  test('defect 1: the CRC is not checked at open, and a flipped byte is served as data', async () => {
    const path = storeWith({ a: 'right', b: 'right' })
    const [segment] = segmentsOf(path)
    flipBit(segment, (recordsOf(segment)[0].offset + recordsOf(segment)[0].bytes - 1) * 8)
    const db = openSync(path)
    expect(db.health().ok).toBe(false)
    expect(await failure(() => db.get('a'))).toMatchObject({ code: 'CASKY_CORRUPT' })
    expect(db.get('b')).toBe('right')
    db.closeSync()
  })

  test('defect 2: after deleting a missing key the next call hangs', async () => {
    const db = await open(freshStore())
    expect(await db.delete('missing')).toBe(false)
    expect(db.deleteSync('missing')).toBe(false)
    await db.put('next', 'call')
    expect(db.get('next')).toBe('call')
    await db.close()
  })

  test('defect 3: a key overwritten with a ttl that ran out comes back with its older value', () => {
    const clock = { nowMs: 1000 }
    const path = freshStore()
    const db = openSyncWith(groundWithClock(clock), path)
    db.putSync('k', 'older')
    db.putSync('k', 'newer', { ttlMs: 10 })
    const copy = killedCopy(path)
    db.closeSync()
    clock.nowMs = 1010
    for (const directory of [path, copy]) {
      const again = openSyncWith(groundWithClock(clock), directory)
      expect(again.get('k')).toBe(undefined)
      again.closeSync()
    }
  })

  test('defect 4: get of an expired key reads freed memory', () => {
    const clock = { nowMs: 1000 }
    const db = openSyncWith(groundWithClock(clock), freshStore())
    db.putSync('k', 'value', { ttlMs: 10 })
    clock.nowMs = 1010
    for (let i = 0; i < 3; i++) expect(db.get('k')).toBe(undefined)
    db.putSync('k', 'new')
    expect(db.get('k')).toBe('new')
    db.closeSync()
  })

  test('defect 5: an empty value is a delete after a reopen', () => {
    const path = storeWith({ empty: '' })
    expect(contentsOf(path).entries).toEqual(new Map([['empty', '']]))
  })

  test('defect 6: a torn tail is never cut off, and the next put is lost behind it', () => {
    const path = freshStore()
    const db = openSync(path)
    db.putSync('a', '1')
    const copy = killedCopy(path)
    db.closeSync()
    append(segmentsOf(copy)[0], Buffer.from('torn in the middle of'))
    const again = openSync(copy)
    again.putSync('b', '2')
    again.closeSync()
    expect(contentsOf(copy).entries).toEqual(
      new Map([
        ['a', '1'],
        ['b', '2'],
      ]),
    )
  })

  test('defect 7: write errors are ignored: with a full disk, put says OK', async () => {
    let isFull = false
    const ground = groundWith({
      write: (...write) => {
        if (isFull) throw systemError('ENOSPC')
        return nodeHost.write(...write)
      },
    })
    const db = openSyncWith(ground, freshStore())
    db.putSync('a', '1')
    isFull = true
    expect(await failure(() => db.put('b', '2'))).toMatchObject({ code: 'CASKY_NO_SPACE' })
    expect(await failure(() => db.putSync('b', '2'))).toMatchObject({ code: 'CASKY_NO_SPACE' })
    isFull = false
    db.putSync('b', '2')
    db.closeSync()
  })

  test('defect 8: a key length of 0xFFFFFFFF overflows the allocation', () => {
    const path = storeWith({ a: '1', b: '2' })
    const [segment] = segmentsOf(path)
    const { offset } = recordsOf(segment)[0]
    overwrite(segment, offset + 16, Buffer.alloc(6, 0xff))
    expect(contentsOf(path)).toMatchObject({ entries: new Map([['b', '2']]), damage: 1 })
    // Also with the header's CRC mended, as an attacker would.
    const bytes = readFileSync(segment)
    const salt = bytes.readUInt32LE(36)
    bytes.writeUInt32LE(
      new Kernels().crc(bytes.subarray(offset + 4, offset + 30), (salt ^ offset) >>> 0),
      offset,
    )
    writeFileSync(segment, bytes)
    expect(contentsOf(path)).toMatchObject({ entries: new Map([['b', '2']]), damage: 1 })
  })

  test('defect 9: a tail of zero bytes parses as deletes of the empty key', () => {
    const path = freshStore()
    const db = openSync(path)
    db.putSync('a', '1')
    const copy = killedCopy(path)
    db.closeSync()
    append(segmentsOf(copy)[0], Buffer.alloc(1_000_000))
    expect(contentsOf(copy)).toEqual({ entries: new Map([['a', '1']]), damage: 0, tornTails: 1 })
    expect([...dump(copy)].map((record) => record.kind)).toEqual(['put', 'torn tail'])
  })

  test('defect 10: a missing file opens as an empty store without an error', async () => {
    const path = freshStore()
    expect(await failure(() => openSync(path, { readOnly: true }))).toMatchObject({ code: 'CASKY_NOT_FOUND' })
    expect(await failure(() => openSync(path, { createIfMissing: false }))).toMatchObject({
      code: 'CASKY_NOT_FOUND',
    })
    expect(await failure(() => [...dump(path)])).toMatchObject({ code: 'CASKY_NOT_FOUND' })
    expect(existsSync(path)).toBe(false)
  })

  test('defect 11: rewriting leaks a handle, does not sync the directory, changes the mode', () => {
    const open = new Set<number>()
    const calls: string[] = []
    const ground = groundWith({
      open: (path, mode) => {
        const file = nodeHost.open(path, mode)
        open.add(file)
        return file
      },
      close: (file) => {
        open.delete(file)
        nodeHost.close(file)
      },
      rename: (from, to) => {
        if (to.endsWith('MANIFEST')) calls.push('rename')
        nodeHost.rename(from, to)
      },
      syncDirectory: (path) => {
        calls.push('sync directory')
        nodeHost.syncDirectory(path)
      },
    })
    const path = freshStore()
    const db = openSyncWith(ground, path, { maxSegmentBytes: 4096 })
    const mode = statSync(`${path}/MANIFEST`).mode
    for (let i = 0; i < 20; i++) db.putSync(`k${i}`, 'v'.repeat(1000))
    db.closeSync()
    expect(statSync(`${path}/MANIFEST`).mode).toBe(mode)
    expect(open.size).toBe(0)
    const renames = calls.flatMap((call, i) => (call === 'rename' ? [i] : []))
    expect(renames.length).toBeGreaterThan(4)
    for (const i of renames) expect(calls[i + 1]).toBe('sync directory')
  })

  test('defect 12: two writers lose each other’s data without a word', async () => {
    const path = freshStore()
    const db = await open(path)
    expect(await failure(() => open(path))).toMatchObject({ code: 'CASKY_LOCKED' })
    await db.close()
  })

  test('defect 13: memory is changed before the log, with no way back when the log fails', async () => {
    let fails = false
    const ground = groundWith({
      write: (...write) => {
        if (fails) throw systemError('EIO')
        return nodeHost.write(...write)
      },
    })
    const db = openSyncWith(ground, freshStore())
    db.putSync('k', 'old')
    fails = true
    await failure(() => db.put('k', 'new'))
    await failure(() => db.delete('k'))
    expect(db.get('k')).toBe('old')
    expect(db.size).toBe(1)
    fails = false
    db.closeSync()
  })

  test('defect 14: all values live in memory, and a lookup costs more the more keys there are', () => {
    const db = openSync(freshStore(), { sync: 'never', valueEncoding: 'bytes', cacheBytes: 0 })
    const value = new Uint8Array(100_000)
    const before = process.memoryUsage()
    for (let i = 0; i < 2000; i++) void db.put(`k${i}`, value)
    db.flushSync()
    const after = process.memoryUsage()
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(50_000_000)
    expect(db.stats().keydir.bytes).toBeLessThan(2_000_000)
    expect(db.stats().bytes).toBeGreaterThan(200_000_000)
    db.closeSync()
  })

  test('defect 15: keys and values are C strings: no binary', () => {
    const path = freshStore()
    const db = openSync(path, { keyEncoding: 'bytes', valueEncoding: 'bytes' })
    const every = new Uint8Array(256).map((_, i) => i)
    db.putSync(every, every)
    db.putSync(new Uint8Array([0]), new Uint8Array([0, 0]))
    db.closeSync()
    const again = openSync(path, { keyEncoding: 'bytes', valueEncoding: 'bytes' })
    expect(again.get(every)).toEqual(every)
    expect([...again.entries()]).toEqual([
      [new Uint8Array([0]), new Uint8Array([0, 0])],
      [every, every],
    ])
    again.closeSync()
  })

  test('defect 16: the format changed with no version mark', async () => {
    const path = storeWith({ a: '1' })
    for (const file of [`${path}/MANIFEST`, segmentsOf(path)[0]]) {
      const pristine = readFileSync(file)
      const newer = Buffer.from(pristine)
      newer.writeUInt16LE(2, 8)
      newer.writeUInt32LE(new Kernels().crc(newer.subarray(0, 12)), 12)
      writeFileSync(file, newer)
      expect(await failure(() => openSync(path))).toMatchObject({
        code: 'CASKY_NEWER_FORMAT',
        path: file,
        got: 2,
        expected: 1,
      })
      writeFileSync(file, pristine)
    }
  })

  test('defect 17: stats drift: overwrites never subtract, expiry never counts', () => {
    const clock = { nowMs: 1000 }
    const db = openSyncWith(groundWithClock(clock), freshStore())
    for (let i = 0; i < 100; i++) db.putSync(`k${i % 10}`, 'v')
    for (let i = 0; i < 3; i++) db.deleteSync(`k${i}`)
    db.putSync('expires', 'v', { ttlMs: 10 })
    expect(db.stats()).toMatchObject({ entries: 8, expired: 0, liveBytes: 7 * 32 + 45 })
    clock.nowMs = 1010
    expect(db.stats()).toMatchObject({ entries: 7, expired: 1 })
    db.closeSync()
  })

  test('defect 19: the dump tool exits 0 on a corrupt file and prints raw control bytes', async () => {
    const path = storeWith({ 'a\u001b[31m': '1', b: '2', c: '3' })
    const [segment] = segmentsOf(path)
    flipBit(segment, (recordsOf(segment)[1].offset + 20) * 8)
    const records = [...dump(path)]
    expect(records.map((record) => record.kind)).toEqual(['put', 'damage', 'put', 'seal'])
    expect(records[1].damage).toBeTruthy()
    const outfile = join(freshFolder(), 'cli.mjs')
    const js = "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);"
    const entryPoints = ['src/cli/main.ts']
    await build({
      entryPoints,
      outfile,
      bundle: true,
      platform: 'node',
      format: 'esm',
      banner: { js },
      logLevel: 'error',
    })
    const cli = spawnSync(process.execPath, [outfile, 'dump', path], { encoding: 'utf8' })
    expect(cli.status).toBe(1)
    expect(cli.stdout).not.toMatch(/\u001b/)
    expect(cli.stdout).toContain('[31m')
  })
})
