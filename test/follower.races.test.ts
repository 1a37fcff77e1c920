// A follower while the writer does its worst: merges between any two of its calls, a repair, another history.
import {
  copyFileSync,
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Host } from '../src/host/host'
import { nodeHost } from '../src/host/node'
import { type Casky, openSync, repair } from '../src/index'
import { freshStore, useMemory } from './support/folders'
import { groundWith, openSyncWith, systemError } from './support/ground'
import { flipBit, killedCopy, recordsOf, segmentsOf } from './support/stores'

useMemory()

const writing = { sync: 'never', merge: false, cacheBytes: 0, maxSegmentBytes: 4096 } as const
const following = { readOnly: true, cacheBytes: 0 } as const

const contentsOf = (db: Casky): [string, string][] => [...db.entries()]

/** What the store in a directory holds, to who opens it now. */
function freshly(path: string): [string, string][] {
  using db = openSync(path, following)
  return contentsOf(db)
}

/** As a writer and its merge would: new files come, the manifest changes, and what it no longer names goes. */
function turnInto(path: string, later: string): void {
  const put = (name: string): void => {
    copyFileSync(join(later, name), join(path, '.new'))
    renameSync(join(path, '.new'), join(path, name))
  }
  for (const name of readdirSync(later)) if (/\.(data|hint)$|CHECKPOINT/.test(name)) put(name)
  put('MANIFEST')
  for (const name of readdirSync(path)) {
    if (/\.(data|hint)$/.test(name) && !existsSync(join(later, name))) rmSync(join(path, name))
  }
}

/** A host that does something before its n-th call that looks at files. */
function hostWith(before: () => void): Partial<Host> {
  const asked = <A extends unknown[], R>(call: (...args: A) => R) => {
    return (...args: A): R => {
      before()
      return call(...args)
    }
  }
  const { list, open, read, status, inspect, sync } = nodeHost
  return {
    list: asked(list),
    open: asked(open),
    read: asked(read),
    status: asked(status),
    inspect: asked(inspect),
    sync: asked(sync),
  }
}

describe('a merge at any call of a refresh', () => {
  /** A store that goes on, and how it is after a merge. */
  async function histories(): Promise<{ path: string; known: string; merged: string }> {
    const path = freshStore()
    let db = openSync(path, writing)
    for (let i = 0; i < 20; i++) db.putSync(`k${i}`, `${i}-${'v'.repeat(300)}`)
    const known = killedCopy(path)
    for (let i = 0; i < 30; i++) db.putSync(`k${i % 24}`, `${i}+${'v'.repeat(300)}`)
    db.deleteSync('k3')
    db.closeSync()
    const merged = killedCopy(path)
    db = openSync(merged, writing)
    await db.merge()
    db.putSync('end', '1')
    db.closeSync()
    return { path, known, merged }
  }

  test.each([
    ['that goes on', false],
    ['that reads all anew', true],
  ])('%s', async (_, isAnew) => {
    const { path, known, merged } = await histories()
    const final = freshly(merged)
    let calls = Number.POSITIVE_INFINITY
    for (let at = 0; at < calls; at += 3) {
      const place = freshStore()
      cpSync(known, place, { recursive: true })
      let count = Number.NEGATIVE_INFINITY
      const follower = openSyncWith(
        groundWith(hostWith(() => count++ === at && turnInto(place, merged))),
        place,
        following,
      )
      turnInto(place, path)
      // A history that does not go on from there.
      if (isAnew) flipSecret(place)
      count = 0
      follower.refreshSync()
      if (count <= at) calls = 0
      follower.refreshSync()
      if (count > at) {
        expect(contentsOf(follower), `call ${at}`).toEqual(final)
        expect(follower.health(), `call ${at}`).toMatchObject({ ok: true })
        // Nothing was passed over that a later merge would hide.
        using db = openSync(place, writing)
        for (let i = 0; i < 30; i++) db.putSync(`n${i}`, 'v'.repeat(300))
        await db.merge()
        await follower.refresh()
        expect(contentsOf(follower), `call ${at}`).toEqual(contentsOf(db))
      }
      follower.closeSync()
    }
  })

  test('of an open', async () => {
    const { path, merged } = await histories()
    const final = freshly(merged)
    for (let at = 0; ; at += 2) {
      const place = freshStore()
      cpSync(path, place, { recursive: true })
      let count = 0
      const follower = openSyncWith(
        groundWith(hostWith(() => count++ === at && turnInto(place, merged))),
        place,
        following,
      )
      expect(follower.health().ok, `call ${at}`).toBe(true)
      follower.refreshSync()
      if (count <= at) return follower.closeSync()
      // It may have come at the end of that one.
      follower.refreshSync()
      expect(contentsOf(follower), `call ${at}`).toEqual(final)
      follower.closeSync()
    }
  })
})

/** As a repair does. */
function flipSecret(path: string): void {
  const manifest = join(path, 'MANIFEST')
  const bytes = readFileSync(manifest)
  bytes[60] ^= 1
  bytes.writeUInt32LE(crcOf(bytes.subarray(0, bytes.length - 4)), bytes.length - 4)
  writeFileSync(manifest, bytes)
}

function crcOf(bytes: Uint8Array): number {
  let crc = ~0
  for (const byte of bytes) {
    crc ^= byte
    for (let i = 0; i < 8; i++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0)
  }
  return ~crc >>> 0
}

describe('another history', () => {
  test('what a repair brings back is shown as it is', async () => {
    const path = freshStore()
    using db = openSync(path, writing)
    for (let i = 0; i < 40; i++) db.putSync(`k${i}`, `old ${'v'.repeat(300)}`)
    for (let i = 0; i < 12; i++) db.putSync(`k${i}`, `new ${'v'.repeat(300)}`)
    db.closeSync()
    using follower = openSync(path, following)
    const hurt = segmentsOf(path).find((segment) =>
      recordsOf(segment).some(({ value }) => value.toString().startsWith('new')),
    )
    const record = recordsOf(String(hurt)).find(({ value }) => value.toString().startsWith('new'))
    // Its header: not even the key can be told.
    flipBit(String(hurt), 8 * (Number(record?.offset) + 20))
    await repair(path)
    expect(await follower.refresh()).toMatchObject({ isReloaded: true })
    expect(contentsOf(follower)).toEqual(freshly(path))
  })

  test('a copy that was put back and has come as far is another one', () => {
    const path = freshStore()
    const first = openSync(path, writing)
    first.putSync('a', '1')
    first.closeSync()
    const copy = killedCopy(path)
    const write = (value: string): void => {
      const db = openSync(path, writing)
      db.putSync('a', value)
      db.closeSync()
    }
    write('2')
    using follower = openSync(path, following)
    rmSync(path, { recursive: true })
    cpSync(copy, path, { recursive: true })
    write('3')
    expect(follower.refreshSync()).toMatchObject({ changed: true, isReloaded: true })
    expect(follower.get('a')).toBe('3')
  })

  test('what was refused, and written over by as much, is not what was seen', () => {
    const path = freshStore()
    using db = openSync(path, writing)
    db.putSync('a', '1')
    db.putSync('b', 'seen')
    using follower = openSync(path, following)
    follower.refreshSync()
    const [segment] = segmentsOf(path)
    const [, { offset }] = recordsOf(segment)
    const bytes = readFileSync(segment)
    writeFileSync(segment, bytes.subarray(0, Number(offset)))
    writeFileSync(
      segment,
      Buffer.concat([bytes.subarray(0, Number(offset)), Buffer.alloc(bytes.length - Number(offset) + 10, 7)]),
    )
    expect(follower.refreshSync()).toMatchObject({ isReloaded: true })
    expect(contentsOf(follower)).toEqual([['a', '1']])
  })

  test('a writer that was killed, and begins anew, costs what is new', async () => {
    const path = freshStore()
    const first = openSync(path, { ...writing, sync: 'always', maxSegmentBytes: 1 << 20 })
    for (let i = 0; i < 500; i++) first.put(`k${i}`, 'v'.repeat(500))
    await first.flush()
    // A marker comes once it is idle.
    await new Promise((resolve) => setTimeout(resolve, 250))
    const place = killedCopy(path)
    first.closeSync()
    using follower = openSync(place, following)
    using db = openSync(place, writing)
    db.putSync('k7', 'new')
    const report = await follower.refresh()
    expect(report).toMatchObject({ isReloaded: false, writes: 1 })
    expect(report.bytesRead).toBeLessThan(5000)
    expect(contentsOf(follower)).toEqual(contentsOf(db))
  })
})

test('one that fails leaves no file open, however often', () => {
  const path = freshStore()
  using db = openSync(path, writing)
  for (let i = 0; i < 30; i++) db.putSync(`k${i}`, 'v'.repeat(300))
  let open = 0
  let left = Number.POSITIVE_INFINITY
  const mayFail = <A extends unknown[], R>(call: (...args: A) => R) => {
    return (...args: A): R => {
      if (left-- === 0) throw systemError('EIO')
      return call(...args)
    }
  }
  const ground = groundWith({
    ...nodeHost,
    status: mayFail(nodeHost.status),
    read: mayFail(nodeHost.read),
    open: mayFail((...args: Parameters<Host['open']>) => {
      const file = nodeHost.open(...args)
      open++
      return file
    }),
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
  for (let i = 0; i < 200; i++) {
    db.putSync(`k${i % 30}`, `${i}`)
    left = i % 20
    try {
      follower.refreshSync()
    } catch (error) {
      expect(error).toMatchObject({ code: 'CASKY_IO' })
    }
  }
  left = Number.POSITIVE_INFINITY
  follower.refreshSync()
  expect(contentsOf(follower)).toEqual(contentsOf(db))
  expect(open).toBeLessThan(30)
  follower.closeSync()
  expect(open).toBe(0)
})
