import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Host } from '../src/host/host'
import { nodeHost } from '../src/host/node'
import { type Casky, dump, open, openSync } from '../src/index'
import { ROOM_BYTES, tornTailOf, writtenEnd } from '../src/room'
import { freshFolder, freshStore } from './support/folders'
import { groundWith, openSyncWith, systemError } from './support/ground'
import { append, killedCopy, overwrite, recordsOf, segmentsOf } from './support/stores'

const durable = { sync: 'always', valueEncoding: 'bytes', merge: false } as const
const following = { readOnly: true, valueEncoding: 'bytes' } as const

/** Fills a segment so far that room is worth making. */
async function fill(db: Casky<'utf8', 'bytes'>, bytes = ROOM_BYTES): Promise<void> {
  await db.put('filling', new Uint8Array(bytes).fill(7))
}

const lastOf = (directory: string): string => segmentsOf(directory).at(-1) ?? ''
const sizeOf = (directory: string): number => statSync(lastOf(directory)).size
const endOf = (directory: string): number => {
  const last = recordsOf(lastOf(directory)).at(-1)
  return last === undefined ? 0 : last.offset + last.bytes
}
const roomOf = (directory: string): number => sizeOf(directory) - endOf(directory)

async function withRoom(): Promise<{ path: string; db: Casky<'utf8', 'bytes'> }> {
  const path = freshStore()
  const db = openSync(path, durable)
  await fill(db)
  await db.put('a', Uint8Array.of(1))
  expect(roomOf(path)).toBe(ROOM_BYTES)
  return { path, db }
}

describe('room behind the end of the log', () => {
  test('is made for short groups that are synced, and written to before there is more', async () => {
    const { path, db } = await withRoom()
    const size = sizeOf(path)
    for (let i = 0; i < 20; i++) await db.put(`k${i}`, new Uint8Array(1000).fill(1))
    expect(sizeOf(path)).toBe(size)
    expect(
      readFileSync(lastOf(path))
        .subarray(endOf(path))
        .every((byte) => byte === 0),
    ).toBe(true)
    for (let i = 0; i < 6; i++) await db.put(`l${i}`, new Uint8Array(50_000).fill(1))
    expect(sizeOf(path)).toBeGreaterThan(size)
    expect(roomOf(path)).toBeGreaterThan(0)
    expect(roomOf(path)).toBeLessThanOrEqual(ROOM_BYTES)
    await db.close()
  })

  test.each([
    ['a short segment', durable, 1000, 100],
    ['long groups', durable, ROOM_BYTES, ROOM_BYTES / 2],
    ['writes that nobody waits for', { ...durable, sync: 'never' as const }, ROOM_BYTES, 100],
  ])('is not made for %s', async (_what, options, filledBytes, valueBytes) => {
    const path = freshStore()
    const db = openSync(path, options)
    await fill(db, filledBytes)
    await db.put('a', new Uint8Array(valueBytes).fill(1))
    expect(roomOf(path)).toBe(0)
    await db.close()
  })

  test('is given back when the segment ends', async () => {
    const { path, db } = await withRoom()
    await db.merge()
    await db.put('b', Uint8Array.of(2))
    await db.close()
    for (const segment of segmentsOf(path)) {
      const last = recordsOf(segment).at(-1)
      expect(last?.kind).toBe(4)
      expect(statSync(segment).size).toBe((last?.offset ?? 0) + (last?.bytes ?? 0))
    }
  })

  test('is no torn tail after a kill, and what is torn in it is told without it', async () => {
    const { path, db } = await withRoom()
    const killed = killedCopy(path)
    const torn = killedCopy(path)
    const offset = endOf(torn)
    overwrite(lastOf(torn), offset, Uint8Array.of(9, 9, 0, 9))
    await db.close()
    for (const readOnly of [true, false, true]) {
      const again = openSync(killed, { ...durable, readOnly })
      expect(again.health()).toMatchObject({ ok: true, tornTails: [] })
      expect(again.get('a')).toEqual(Uint8Array.of(1))
      expect((await again.check()).tornTails).toEqual([])
      if (!readOnly) await again.put('b', Uint8Array.of(2))
      again.closeSync()
      expect([...dump(killed)].filter(({ kind }) => kind === 'torn tail')).toEqual([])
    }
    for (const readOnly of [true, false]) {
      const told = [...dump(torn)].filter(({ kind }) => kind === 'torn tail')
      expect(told).toMatchObject([{ offset, bytes: 4 }])
      const again = openSync(torn, { ...durable, readOnly })
      expect(again.health().tornTails).toMatchObject([{ offset, bytes: 4 }])
      expect(again.get('a')).toEqual(Uint8Array.of(1))
      again.closeSync()
    }
  })

  test('a record that ends in zeros is whole, however much room stands behind it', async () => {
    const { path, db } = await withRoom()
    const value = new Uint8Array(60_000)
    await db.put('zeros', value)
    expect(roomOf(path)).toBeGreaterThan(0)
    const killed = killedCopy(path)
    const follower = await open(path, following)
    expect(follower.get('zeros')).toEqual(value)
    await db.put('more', new Uint8Array(300))
    expect(await follower.refresh()).toMatchObject({ changed: true, writes: 1 })
    expect(follower.get('more')).toEqual(new Uint8Array(300))
    const again = openSync(killed, durable)
    expect(again.get('zeros')).toEqual(value)
    expect(again.health().tornTails).toEqual([])
    again.closeSync()
    follower.closeSync()
    await db.close()
  })

  test('a follower sees what is written to it, though the file grows no longer', async () => {
    const { path, db } = await withRoom()
    const follower = await open(path, following)
    const size = sizeOf(path)
    for (let i = 0; i < 5; i++) {
      await db.put('n', Uint8Array.of(i))
      expect(await follower.refresh()).toMatchObject({ changed: true, writes: 1, isReloaded: false })
      expect(follower.get('n')).toEqual(Uint8Array.of(i))
      expect(await follower.refresh()).toMatchObject({ changed: false, writes: 0 })
      await db.put('n', Uint8Array.of(i + 100))
      expect(await follower.refresh()).toMatchObject({ changed: true, writes: 1 })
      expect(follower.get('n')).toEqual(Uint8Array.of(i + 100))
    }
    expect(sizeOf(path)).toBe(size)
    await db.close()
    await follower.refresh()
    expect(follower.get('n')).toEqual(Uint8Array.of(104))
    expect(follower.health().ok).toBe(true)
    follower.closeSync()
  })

  test('a follower shows nothing of it that came after its sync began', async () => {
    const { path, db } = await withRoom()
    let onSync: (() => void) | undefined
    const syncLater: Host['syncLater'] = (file, done) => {
      onSync?.()
      nodeHost.syncLater(file, done)
    }
    const follower = openSyncWith(groundWith({ syncLater }), path, following)
    // Half of it is there when the follower looks, the rest comes before it reads.
    const record = Buffer.from(readFileSync(lastOf(path)))
    await db.put('late', new Uint8Array(600).fill(3))
    const whole = readFileSync(lastOf(path))
    const half = Buffer.from(whole)
    half.fill(0, endOf(path) - 300)
    writeFileSync(lastOf(path), half)
    onSync = () => writeFileSync(lastOf(path), whole)
    await follower.refresh()
    expect(follower.get('late')).toBeUndefined()
    onSync = undefined
    await follower.refresh()
    expect(follower.get('late')).toEqual(new Uint8Array(600).fill(3))
    expect(record.length).toBe(whole.length)
    follower.closeSync()
    await db.close()
  })

  test.each(['ENOSPC', 'EIO'])(
    'where it can not be made (%s) the write stands, and nobody asks again',
    async (code) => {
      let refusals = 0
      let isFull = true
      const write: Host['write'] = (file, from, at, bytes, position) => {
        if (!isFull || bytes !== ROOM_BYTES || from[at + 5] !== 0)
          return nodeHost.write(file, from, at, bytes, position)
        refusals++
        nodeHost.write(file, from, at, 1000, position)
        throw systemError(code)
      }
      const path = freshStore()
      const db = openSyncWith(groundWith({ write }), path, durable)
      await fill(db)
      await db.put('a', Uint8Array.of(1))
      await db.put('b', Uint8Array.of(2))
      expect(refusals).toBe(1)
      expect(roomOf(path)).toBe(0)
      isFull = false
      await db.put('c', Uint8Array.of(3))
      expect(roomOf(path)).toBe(0)
      expect(db.health().ok).toBe(true)
      await db.close()
      using again = openSync(path, durable)
      expect(again.get('c')).toEqual(Uint8Array.of(3))
      expect(again.health().tornTails).toEqual([])
    },
  )

  test('a write that is refused is cut back, room and all, and the segment gets no more', async () => {
    let code: string | undefined
    const write: Host['write'] = (file, from, at, bytes, position) => {
      if (code === undefined) return nodeHost.write(file, from, at, bytes, position)
      nodeHost.write(file, from, at, bytes >>> 1, position)
      throw systemError(code)
    }
    const path = freshStore()
    const db = openSyncWith(groundWith({ write }), path, durable)
    await fill(db)
    await db.put('a', Uint8Array.of(1))
    const end = endOf(path)
    code = 'EIO'
    await expect(db.put('refused', new Uint8Array(100))).rejects.toMatchObject({ code: 'CASKY_IO' })
    code = undefined
    expect(sizeOf(path)).toBe(end)
    await db.put('b', Uint8Array.of(2))
    expect(roomOf(path)).toBe(0)
    await db.close()
  })
})

describe('where what was written ends', () => {
  const find = (from: number, content: Uint8Array): number => {
    const path = join(freshFolder(), 'file')
    writeFileSync(path, content)
    const file = nodeHost.open(path, 'read')
    try {
      return writtenEnd(nodeHost, file, path, from, content.length)
    } finally {
      nodeHost.close(file)
    }
  }

  test.each([0, 1, 3, 4, 5, 511, 512, 513, 4096, 5000, 40_000, 300_000, 700_001])(
    'behind the last byte that is not zero, %i zeros before the end',
    (zeros) => {
      for (const written of [1, 2, 3, 4, 5, 1000]) {
        const content = new Uint8Array(written + zeros)
        content[written - 1] = 255
        expect(find(0, content)).toBe(written)
        expect(find(written - 1, content)).toBe(written)
        expect(find(written, content)).toBe(written)
        if (zeros > 2) expect(find(written + 2, content)).toBe(written + 2)
      }
    },
  )

  test('a tail is torn where it is not all zeros, or longer than room is', () => {
    const path = join(freshFolder(), 'tail')
    const tailOf = (content: Uint8Array): unknown => {
      writeFileSync(path, new Uint8Array(10).fill(1))
      append(path, content)
      const file = nodeHost.open(path, 'read')
      const tail = tornTailOf(nodeHost, file, path, 10, 10 + content.length)
      nodeHost.close(file)
      return tail
    }
    expect(tailOf(new Uint8Array(0))).toBeUndefined()
    expect(tailOf(new Uint8Array(2 * ROOM_BYTES))).toBeUndefined()
    expect(tailOf(Uint8Array.of(0, 0, 1, 0, 0))).toEqual({ path, offset: 10, bytes: 3 })
    const bytes = 2 * ROOM_BYTES + 1
    expect(tailOf(new Uint8Array(bytes))).toEqual({ path, offset: 10, bytes })
  })
})
