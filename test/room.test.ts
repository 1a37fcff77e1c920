import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { SCAN_BYTES } from '../assembly/layout'
import type { Host } from '../src/host/host'
import { nodeHost } from '../src/host/node'
import { type Casky, check, dump, open, openSync } from '../src/index'
import { logEnd, ROOM_BYTES, ROOM_MARK_BYTES, roomMark, tornTailOf } from '../src/room'
import { freshFolder, freshStore } from './support/folders'
import { groundWith, openSyncWith, systemError } from './support/ground'
import { referenceSegment } from './support/reference'
import { flipBit, killedCopy, overwrite, recordsOf, segmentsOf } from './support/stores'

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
const saltOf = (segment: string): number => referenceSegment(readFileSync(segment)).header.salt
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
    const room = readFileSync(lastOf(path)).subarray(endOf(path))
    expect(room.subarray(0, ROOM_MARK_BYTES)).toEqual(
      Buffer.from(roomMark({ salt: saltOf(lastOf(path)) }, endOf(path))),
    )
    expect(room.subarray(ROOM_MARK_BYTES).every((byte) => byte === 0)).toBe(true)
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
    ['short segments', { ...durable, maxSegmentBytes: 2 * ROOM_BYTES - 1 }, ROOM_BYTES, 100],
    ['the end of a segment', { ...durable, maxSegmentBytes: 2 * ROOM_BYTES }, ROOM_BYTES + 1, 100],
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
    overwrite(lastOf(torn), offset, Uint8Array.of(9, 9, 0, 9, 0))
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

  /** What the writer's file is between its call that writes a group and the one that marks the room behind it. */
  const unmarkedOf = (content: Buffer, end: number): Buffer => {
    const unmarked = Buffer.from(content)
    unmarked.fill(0, end, end + ROOM_MARK_BYTES)
    return unmarked
  }

  /** A store that was killed with room, as it was after each of three groups; nobody writes to it. */
  async function threeGroups(): Promise<{ path: string; contents: Buffer[]; ends: number[] }> {
    const { path: written, db } = await withRoom()
    const contents: Buffer[] = []
    const ends: number[] = []
    for (const [i, key] of ['g1', 'g2', 'g3'].entries()) {
      await db.put(key, new Uint8Array(100).fill(i + 1))
      contents.push(readFileSync(lastOf(written)))
      ends.push(endOf(written))
    }
    const path = killedCopy(written)
    await db.close()
    return { path, contents, ends }
  }

  test.each([false, true])(
    'a follower shows what it has seen before it syncs, and no more (unmarked: %s)',
    async (isUnmarked) => {
      const { path, contents, ends } = await threeGroups()
      writeFileSync(lastOf(path), contents[0])
      let onSync: (() => void) | undefined
      const syncLater: Host['syncLater'] = (file, done) => {
        onSync?.()
        nodeHost.syncLater(file, done)
      }
      const follower = openSyncWith(groundWith({ syncLater }), path, following)
      expect(follower.get('g1')).toBeDefined()
      writeFileSync(lastOf(path), isUnmarked ? unmarkedOf(contents[1], ends[1]) : contents[1])
      onSync = () => writeFileSync(lastOf(path), contents[2])
      expect(await follower.refresh()).toMatchObject({ writes: 1 })
      expect(follower.get('g3')).toBeUndefined()
      expect(await follower.refresh()).toMatchObject({ writes: 1 })
      expect(follower.get('g3')).toBeDefined()
      follower.closeSync()
    },
  )

  test('what was acknowledged is not missed behind a look that no mark told the end', async () => {
    const { path, contents, ends } = await threeGroups()
    writeFileSync(lastOf(path), unmarkedOf(contents[0], ends[0]))
    const follower = openSync(path, following)
    expect(await follower.refresh()).toMatchObject({ changed: false })
    expect(await follower.refresh()).toMatchObject({ changed: false })
    expect(follower.get('g1')).toBeDefined()
    // The next one is acknowledged, and one more is being written.
    const begun = Buffer.from(contents[1])
    contents[2].copy(begun, ends[1], ends[1], ends[1] + 40)
    writeFileSync(lastOf(path), begun)
    expect(await follower.refresh()).toMatchObject({ writes: 1 })
    expect(follower.get('g2')).toBeDefined()
    writeFileSync(lastOf(path), contents[2])
    expect(follower.refreshSync()).toMatchObject({ writes: 1 })
    expect(follower.health()).toMatchObject({ ok: true, tornTails: [] })
    follower.closeSync()
  })

  test('a follower waits a little for a write call that goes on, and sees what a kill has left unmarked', async () => {
    const { path, contents, ends } = await threeGroups()
    writeFileSync(lastOf(path), contents[0])
    const follower = openSync(path, following)
    const half = unmarkedOf(contents[1], ends[1])
    half.fill(0, ends[0] + 20, ends[0] + 30)
    for (const [content, writes] of [
      [half, 0],
      [unmarkedOf(contents[1], ends[1]), 1],
      [contents[1], 0],
      [unmarkedOf(contents[2], ends[2]), 1],
    ] as const) {
      writeFileSync(lastOf(path), content)
      expect(follower.refreshSync()).toMatchObject({ writes })
      expect(follower.refreshSync()).toMatchObject({ changed: false })
    }
    follower.closeSync()
    // It is done once it is looked at again.
    writeFileSync(lastOf(path), half)
    let looks = 0
    const clockMs: Host['clockMs'] = () => {
      if (++looks === 3) writeFileSync(lastOf(path), contents[1])
      return looks / 10
    }
    const late = openSyncWith(groundWith({ clockMs }), path, following)
    expect(late.get('g2')).toBeDefined()
    expect(looks).toBeLessThan(6)
    late.closeSync()
  })

  test('a follower goes on seeing where room could not be given back', async () => {
    let isFailing = false
    const truncate: Host['truncate'] = (file, bytes) => {
      if (isFailing) throw systemError('EIO')
      nodeHost.truncate(file, bytes)
    }
    const path = freshStore()
    const db = openSyncWith(groundWith({ truncate }), path, durable)
    await fill(db)
    await db.put('a', Uint8Array.of(1))
    const follower = openSync(path, following)
    isFailing = true
    await db.put('long', new Uint8Array(70_000).fill(1))
    isFailing = false
    expect(await follower.refresh()).toMatchObject({ writes: 1 })
    for (let i = 0; i < 5; i++) {
      await db.put('n', Uint8Array.of(i))
      expect(await follower.refresh()).toMatchObject({ writes: 1 })
      expect(follower.get('n')).toEqual(Uint8Array.of(i))
    }
    follower.closeSync()
    await db.close()
  })

  test('a small store whose values end in zeros is not waited for', async () => {
    const path = freshStore()
    const db = openSync(path, durable)
    await db.put('a', Uint8Array.of(1))
    let asked = 0
    const clockMs: Host['clockMs'] = () => ++asked
    const follower = openSyncWith(groundWith({ clockMs }), path, following)
    asked = 0
    await db.put('b', Uint8Array.of(1, 0))
    expect(follower.refreshSync()).toMatchObject({ writes: 1 })
    expect(asked).toBe(0)
    await fill(db, 3 * ROOM_BYTES)
    await db.put('c', new Uint8Array(ROOM_BYTES))
    expect(follower.refreshSync()).toMatchObject({ writes: 2 })
    expect(asked).toBe(0)
    follower.closeSync()
    await db.close()
  })

  test.each([
    ['near the end of what is read at a time', SCAN_BYTES - 100 * 1024, false],
    ['between the two calls of a write', ROOM_BYTES, true],
  ])('dump and check find a log whole that goes on meanwhile, %s', async (_where, bytes, isUnmarked) => {
    const path = freshStore()
    const db = openSync(path, durable)
    await fill(db, bytes)
    await db.put('a', Uint8Array.of(1))
    const marked = readFileSync(lastOf(path))
    const looked = async (look: (goOn: () => void) => Promise<void>): Promise<void> => {
      if (isUnmarked) writeFileSync(lastOf(path), unmarkedOf(readFileSync(lastOf(path)), endOf(path)))
      let writes = 0
      await look(() => {
        if (writes++ === 0) for (let i = 0; i < 400; i++) db.putSync(`k${i}`, new Uint8Array(600).fill(3))
      })
    }
    expect(marked.length).toBeGreaterThan(bytes)
    await looked(async (goOn) => {
      for (const { kind } of dump(path)) {
        expect(kind).toBe('put')
        goOn()
      }
    })
    await looked(async (goOn) => {
      expect(await check(path, { onProgress: goOn })).toMatchObject({ ok: true, tornTails: [] })
    })
    await db.close()
  })

  test('nobody takes for torn what is written while he looks', async () => {
    const { path, db } = await withRoom()
    const follower = openSync(path, following)
    let isOver = false
    const looks = (async () => {
      for (let i = 0; i < 3; i++) {
        await db.check()
        await follower.check()
        expect((await check(path)).tornTails).toEqual([])
        let records = 0
        for (const { kind } of dump(path)) {
          expect(kind).not.toBe('torn tail')
          if (++records % 10 === 0) db.putSync('dumped', new Uint8Array(300).fill(i))
        }
      }
      isOver = true
    })()
    for (let i = 0; !isOver; i++) await db.put(`k${i % 100}`, new Uint8Array(300).fill(i))
    await looks
    expect(db.health().tornTails).toEqual([])
    expect(follower.health().tornTails).toEqual([])
    follower.closeSync()
    await db.close()
  })

  test('a segment ends, and the next begins, where it can not be given back', async () => {
    const truncate: Host['truncate'] = () => {
      throw systemError('EIO')
    }
    const path = freshStore()
    const db = openSyncWith(groundWith({ truncate }), path, { ...durable, maxSegmentBytes: 3 * ROOM_BYTES })
    await fill(db)
    for (let i = 0; i < 20; i++) await db.put(`k${i}`, new Uint8Array(60_000).fill(i))
    await db.close()
    expect(segmentsOf(path).length).toBeGreaterThan(1)
    using again = openSync(path, durable)
    for (let i = 0; i < 20; i++) expect(again.get(`k${i}`)?.[0]).toBe(i)
    expect(again.health()).toMatchObject({ ok: true, tornTails: [] })
    expect(await again.check()).toMatchObject({ ok: true, tornTails: [] })
  })

  test('a damaged record before the last one is damage, with room behind that as without', async () => {
    const { path, db } = await withRoom()
    await db.put('b', Uint8Array.of(2))
    await db.put('c', Uint8Array.of(3))
    const killed = killedCopy(path)
    await db.close()
    const [b, c] = recordsOf(lastOf(killed)).slice(-2)
    flipBit(lastOf(killed), b.offset * 8)
    flipBit(lastOf(killed), (c.offset + c.bytes) * 8 - 1)
    using again = openSync(killed, { ...durable, readOnly: true })
    expect(again.health().damage).toMatchObject([{ offset: b.offset }])
  })

  test.each(['ENOSPC', 'EIO'])(
    'where it can not be made (%s) the write stands, and nobody asks again',
    async (code) => {
      let refusals = 0
      let isFull = true
      const write: Host['write'] = (file, from, at, bytes, position) => {
        if (!isFull || bytes !== ROOM_BYTES || from[at + ROOM_MARK_BYTES] !== 0)
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

describe('where the log ends', () => {
  const header = { salt: 0x0102_0304, mayHaveRoom: true }
  let path = ''
  const withFile = <T>(content: Uint8Array, run: (file: number) => T): T => {
    path = join(freshFolder(), 'file')
    writeFileSync(path, content)
    const file = nodeHost.open(path, 'read')
    try {
      return run(file)
    } finally {
      nodeHost.close(file)
    }
  }
  const endIn = (content: Uint8Array, mayHaveRoom = true): unknown =>
    withFile(content, (file) =>
      logEnd(nodeHost, file, { path, header: { ...header, mayHaveRoom } }, content.length),
    )
  /** A log of so many bytes, and room of so many zeros. */
  const marked = (bytes: number, zeros: number): Uint8Array => {
    const content = new Uint8Array(bytes + ROOM_MARK_BYTES + zeros)
    content.fill(7, 0, bytes)
    content.set(roomMark(header, bytes), bytes)
    return content
  }

  test.each([1, 3, 4, 5, 505, 506, 507, 508, 513, 4096, 5000, 40_000, ROOM_BYTES - ROOM_MARK_BYTES])(
    'at the mark, with %i zeros behind it',
    (zeros) => {
      for (const more of [0, 1, 2, 3, 4, 5, 1000]) {
        const bytes = 2 * ROOM_BYTES + more
        expect(endIn(marked(bytes, zeros))).toEqual({ bytes, by: 'mark' })
      }
    },
  )

  test('at the end of the file, where there is no room or it is not marked', () => {
    const bytes = 2 * ROOM_BYTES
    expect(endIn(marked(bytes, 0))).toEqual({ bytes: bytes + 5, by: 'length' })
    expect(endIn(marked(bytes, ROOM_BYTES + 1))).toEqual({ bytes: bytes + ROOM_BYTES + 6, by: 'nothing' })
    expect(endIn(new Uint8Array(bytes))).toEqual({ bytes, by: 'nothing' })
    expect(endIn(new Uint8Array(bytes - 1))).toEqual({ bytes: bytes - 1, by: 'length' })
    expect(endIn(new Uint8Array(0))).toEqual({ bytes: 0, by: 'length' })
    expect(endIn(marked(bytes, 10), false)).toEqual({ bytes: bytes + 15, by: 'length' })
    const elsewhere = marked(bytes, 10)
    elsewhere.copyWithin(bytes + 1, bytes, bytes + 5)
    expect(endIn(elsewhere)).toEqual({ bytes: bytes + 15, by: 'nothing' })
  })

  test('what stands behind it is torn, but for room', () => {
    const tailOf = (tail: Uint8Array, bytes = ROOM_BYTES, mayHaveRoom = true): unknown => {
      const content = new Uint8Array(bytes + tail.length).fill(1)
      content.set(tail, bytes)
      return withFile(content, (file) =>
        tornTailOf(nodeHost, file, { path, header: { ...header, mayHaveRoom } }, bytes, content.length),
      )
    }
    const offset = ROOM_BYTES
    const mark = roomMark(header, offset)
    expect(tailOf(new Uint8Array(0))).toBeUndefined()
    expect(tailOf(new Uint8Array(2 * ROOM_BYTES))).toBeUndefined()
    expect(tailOf(Uint8Array.of(...mark, 0, 0))).toBeUndefined()
    expect(tailOf(mark)).toBeUndefined()
    expect(tailOf(Uint8Array.of(0, 0, 1, 0, 0))).toEqual({ path, offset, bytes: 3 })
    expect(tailOf(Uint8Array.of(0, ...mark))).toEqual({ path, offset, bytes: 6 })
    expect(tailOf(Uint8Array.of(...mark, 0, 1))).toEqual({ path, offset, bytes: 7 })
    const bytes = 2 * ROOM_BYTES + 1
    expect(tailOf(new Uint8Array(bytes))).toEqual({ path, offset, bytes })
    expect(tailOf(new Uint8Array(9), offset, false)).toEqual({ path, offset, bytes: 9 })
    expect(tailOf(new Uint8Array(9), offset - 1)).toEqual({ path, offset: offset - 1, bytes: 9 })
  })
})
