// Holes that were found once and closed; each by the scenario that showed it.
import { readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runInNewContext } from 'node:vm'
import { describe, expect, test } from 'vitest'
import { KEY_AT, KIND_PUT, RECORD_HEADER_BYTES, SCAN_AT, STOP_BAD } from '../assembly/layout'
import { nodeHost } from '../src/host/node'
import { check, open, openSync, repair } from '../src/index'
import { Kernels } from '../src/kernels'
import { emptyPlace, Keydir } from '../src/keydir/keydir'
import { encodeManifest, publishManifest, readManifest } from '../src/manifest'
import { freshStore } from './support/folders'
import { failure, groundWith, openSyncWith, openWith, systemError } from './support/ground'
import {
  contentsOf,
  flipBit,
  forgetCaches,
  killedCopy,
  overwrite,
  recordsOf,
  segmentsOf,
} from './support/stores'

const KIB_3 = 'x'.repeat(3000)

describe('batches', () => {
  test('a sparse array is refused whole, and what follows it is not drawn in', async () => {
    const path = freshStore()
    const db = await open(path)
    // biome-ignore lint/suspicious/noSparseArray: that is the point
    const sparse = [{ type: 'put', key: 'a', value: '1' }, , { type: 'put', key: 'c', value: '1' }]
    expect(await failure(() => db.batch(sparse as never))).toMatchObject({ code: 'CASKY_INVALID_BATCH' })
    expect(db.size).toBe(0)
    await db.put('innocent', '2')
    await db.close()
    expect(contentsOf(path)).toEqual({ entries: new Map([['innocent', '2']]), damage: 0, tornTails: 0 })
  })

  test('a broken batch does not spoil the record behind it', () => {
    const path = freshStore()
    const db = openSync(path)
    db.batchSync([
      { type: 'put', key: 'a', value: '1' },
      { type: 'put', key: 'b', value: '1' },
    ])
    db.putSync('innocent', '2')
    db.closeSync()
    const [segment] = segmentsOf(path)
    // The last of the batch becomes a record of its own: the batch has no end.
    const bytes = readFileSync(segment)
    const { offset } = recordsOf(segment)[1]
    bytes[offset + 28] &= 0x0f
    const seed = (bytes.readUInt32LE(36) ^ offset) >>> 0
    bytes.writeUInt32LE(new Kernels().crc(bytes.subarray(offset + 4, offset + 30), seed), offset)
    writeFileSync(segment, bytes)
    expect(contentsOf(path).entries).toEqual(
      new Map([
        ['a', 'damaged'],
        ['b', '1'],
        ['innocent', '2'],
      ]),
    )
  })

  test('a codec may use its output buffer again', async () => {
    const shared = new Uint8Array(1)
    const db = await open(freshStore(), {
      valueEncoding: {
        encode: (value: number) => {
          shared[0] = value
          return shared
        },
        decode: (bytes: Uint8Array) => bytes[0],
      },
    })
    await db.batch([
      { type: 'put', key: 'a', value: 1 },
      { type: 'put', key: 'b', value: 2 },
    ])
    expect(db.getMany(['a', 'b'])).toEqual([1, 2])
    await db.close()
  })
})

describe('promises', () => {
  /** A store in which a sync is in flight, whose next rotation fails in the way that `fails` says. */
  async function rotationThatFails(fails: (path: string) => string | undefined) {
    const finish: (() => void)[] = []
    let isOn = false
    const check = (path: string): void => {
      const code = isOn ? fails(path) : undefined
      if (code !== undefined) throw systemError(code)
    }
    let directorySyncs = 0
    const ground = groundWith({
      syncLater: (_file, done) => finish.push(() => done(null)),
      open: (path, mode) => {
        if (mode === 'create') check(path)
        return nodeHost.open(path, mode)
      },
      syncDirectory: (path) => {
        if (isOn && ++directorySyncs === 2) check('second directory sync')
        nodeHost.syncDirectory(path)
      },
    })
    const db = openSyncWith(ground, freshStore(), { maxSegmentBytes: 4096 })
    const first = db.put('z', '1')
    await Promise.resolve()
    await Promise.resolve()
    isOn = true
    const second = db.put('a', KIB_3)
    const third = db.put('b', KIB_3)
    return { db, first, second, third, finish }
  }

  test('settle when a rotation fails with a sync in flight, and the store closes', async () => {
    const { db, first, second, third, finish } = await rotationThatFails((path) =>
      path.endsWith('.data') ? 'ENOSPC' : undefined,
    )
    expect(await failure(() => third)).toMatchObject({ code: 'CASKY_NO_SPACE' })
    const closing = db.close()
    for (const done of finish) done()
    await Promise.all([first, second, closing])
  })

  test('settle when a rotation poisons the store', async () => {
    const { db, first, second, third, finish } = await rotationThatFails((path) =>
      path === 'second directory sync' ? 'EIO' : undefined,
    )
    expect(await failure(() => third)).toMatchObject({ code: 'CASKY_POISONED' })
    expect(await failure(() => db.closeSync())).toMatchObject({ code: 'CASKY_POISONED' })
    for (const done of finish) done()
    await Promise.allSettled([first, second])
  })

  test('closeSync during close finishes the work: the lock is free on return', async () => {
    const path = freshStore()
    const db = await open(path)
    const put = db.put('a', '1')
    const closing = db.close()
    db.closeSync()
    openSync(path).closeSync()
    await Promise.all([put, closing])
    expect(contentsOf(path).entries).toEqual(new Map([['a', '1']]))
  })

  test('settle, and the store is poisoned, when the index cannot take in what was written', async () => {
    const db = await open(freshStore())
    const { put } = Keydir.prototype
    Keydir.prototype.put = () => {
      throw new RangeError('Array buffer allocation failed')
    }
    try {
      expect(await failure(() => db.put('a', '1'))).toMatchObject({ code: 'CASKY_POISONED' })
    } finally {
      Keydir.prototype.put = put
    }
    expect(await failure(() => db.put('b', '1'))).toMatchObject({ code: 'CASKY_POISONED' })
    await failure(() => db.close())
  })
})

describe('a failed sync', () => {
  test('what it did not take to disk is not believed after a reopen', async () => {
    let fails = false
    const ground = groundWith({
      syncLater: (file, done) =>
        nodeHost.syncLater(file, (error) => done(fails ? systemError('EIO') : error)),
    })
    const path = freshStore()
    const db = await openWith(ground, path)
    await db.put('sure', '1')
    const { size } = statSync(segmentsOf(path)[0])
    fails = true
    expect(await failure(() => db.put('lost', '2'))).toMatchObject({ code: 'CASKY_POISONED' })
    await failure(() => db.close())
    expect(statSync(segmentsOf(path)[0]).size).toBe(size)
    expect(contentsOf(path)).toEqual({ entries: new Map([['sure', '1']]), damage: 0, tornTails: 0 })
  })

  test("under 'never' the bytes stay: that write was promised to the operating system only", async () => {
    const path = freshStore()
    const made = openSync(path, { sync: 'never' })
    made.putSync('first', '1')
    made.closeSync()
    const db = openSyncWith(
      groundWith({ syncLater: (_file, done) => setImmediate(() => done(systemError('EIO'))) }),
      path,
      { sync: 'never' },
    )
    // The begin of a segment has syncs of its own.
    db.putSync('begun', '1')
    await db.put('kept', '2')
    expect(await failure(() => db.flush())).toMatchObject({ code: 'CASKY_POISONED' })
    await failure(() => db.close())
    expect(contentsOf(path).entries.get('kept')).toBe('2')
  })
})

describe('opening', () => {
  test.each([
    ['a flipped bit in its header', (segment: string) => flipBit(segment, 200)],
    ['a damaged first record', (segment: string) => overwrite(segment, 100, Buffer.alloc(8))],
    ['nothing wrong with it', () => {}],
  ])('never removes a segment with data that the manifest does not name: %s', async (_name, hurt) => {
    const path = freshStore()
    const db = openSync(path)
    db.putSync('a', '1')
    db.closeSync()
    const older = readFileSync(join(path, 'MANIFEST'))
    const again = openSync(path)
    again.putSync('b', '2')
    again.closeSync()
    writeFileSync(join(path, 'MANIFEST'), older)
    const [, second] = segmentsOf(path)
    hurt(second)
    expect(await failure(() => openSync(path))).toMatchObject({ code: 'CASKY_CORRUPT', path: second })
    expect(segmentsOf(path).length).toBe(2)
  })

  test('of very many damaged values the first are listed, and all are counted, by whoever looks', async () => {
    const path = freshStore()
    const db = openSync(path, { sync: 'never' })
    for (let i = 0; i < 30_000; i++) void db.put(`k${i}`, 'v')
    db.closeSync()
    const [segment] = segmentsOf(path)
    const bytes = readFileSync(segment)
    for (let at = 96; at < bytes.length - 45; ) {
      at += 29 + bytes.readUInt16LE(at + 20) + 1
      bytes[at - 1] ^= 1
    }
    writeFileSync(segment, bytes)
    forgetCaches(path)
    const reader = openSync(path, { readOnly: true })
    const { damage } = reader.health()
    expect(damage.length).toBe(1001)
    expect(damage[999]).toMatchObject({ places: 1, firstSequence: 1000, moreKeys: 0 })
    expect(damage[999].keys.map((key) => Buffer.from(key).toString())).toEqual(['k999'])
    const rest = { places: 29_000, bytes: 29_000, keys: [], moreKeys: 29_000 }
    expect(damage[1000]).toMatchObject({ ...rest, firstSequence: 1001, lastSequence: 30_000 })
    expect(damage[1000].reason).toMatch(
      /^29000 more, which end at byte \d+: the value does not match its CRC$/,
    )
    // Looking again counts nothing twice, nor does reading one of them.
    expect(() => reader.get('k29999')).toThrow(/damaged/)
    const timeless = (found: typeof damage) => found.map((each) => ({ ...each, foundAtMs: 0 }))
    expect(timeless((await reader.check()).damage)).toEqual(timeless(damage))
    reader.closeSync()
    expect(timeless((await check(path)).damage)).toEqual(timeless(damage))
    expect(timeless((await repair(path)).lost)).toEqual(timeless(damage))
    expect(await check(path)).toMatchObject({ ok: true })
  })

  test('errorIfExists is asked again once the lock is held', async () => {
    const path = freshStore()
    const holder = openSync(path)
    rmSync(join(path, 'MANIFEST'))
    const opening = failure(() => open(path, { errorIfExists: true }))
    holder.closeSync()
    expect(['CASKY_LOCKED', 'CASKY_EXISTS', undefined]).toContain(
      (await opening.catch(() => undefined))?.code,
    )
  })
})

describe('directories', () => {
  test('a store that was moved away does not write into the one that took its place', async () => {
    const path = freshStore()
    const old = await open(path, { maxSegmentBytes: 4096 })
    await old.put('a', '1')
    renameSync(path, `${path}-old`)
    const fresh = await open(path)
    await fresh.put('precious', '1')
    await old.put('b', KIB_3)
    expect(await failure(() => old.put('c', KIB_3))).toMatchObject({ code: 'CASKY_IO', path })
    expect(await failure(() => old.close())).toMatchObject({ code: 'CASKY_IO' })
    await fresh.close()
    expect(contentsOf(path)).toEqual({ entries: new Map([['precious', '1']]), damage: 0, tornTails: 0 })
    expect([...contentsOf(`${path}-old`).entries.keys()]).toEqual(['a', 'b'])
  })

  test('another store’s manifest costs no segment', async () => {
    const paths = [freshStore(), freshStore()]
    for (const [i, path] of paths.entries()) {
      for (let round = 0; round < 3 - i; round++) {
        const db = openSync(path)
        db.putSync(`k${round}`, 'v')
        db.closeSync()
      }
    }
    const [ours, theirs] = paths
    const manifest = readFileSync(join(ours, 'MANIFEST'))
    writeFileSync(join(ours, 'MANIFEST'), readFileSync(join(theirs, 'MANIFEST')))
    expect(await failure(() => openSync(ours))).toMatchObject({ code: 'CASKY_CORRUPT' })
    expect(segmentsOf(ours).length).toBe(3)
    writeFileSync(join(ours, 'MANIFEST'), manifest)
    expect(contentsOf(ours).entries.size).toBe(3)
  })

  test('an older manifest is reported to readers too', () => {
    const path = freshStore()
    const db = openSync(path)
    db.putSync('k', 'old')
    db.closeSync()
    const older = readFileSync(join(path, 'MANIFEST'))
    const again = openSync(path)
    again.putSync('k', 'new')
    again.closeSync()
    expect(contentsOf(path)).toMatchObject({ entries: new Map([['k', 'new']]), damage: 0 })
    writeFileSync(join(path, 'MANIFEST'), older)
    expect(contentsOf(path)).toMatchObject({ entries: new Map([['k', 'old']]), damage: 1 })
  })

  test.skipIf(process.platform !== 'linux')(
    'below one that takes no directories fails, and does not hang',
    async () => {
      expect(await failure(() => openSync('/proc/casky/store'))).toMatchObject({ code: 'CASKY_IO' })
    },
  )

  test('without handles to spare, those kept for later are given up', () => {
    const path = freshStore()
    const db = openSync(path, { sync: 'never', maxSegmentBytes: 4096 })
    for (let i = 0; i < 40; i++) db.putSync(`k${i}`, KIB_3)
    db.closeSync()
    const open = new Set<number>()
    const ground = groundWith({
      open: (name, mode) => {
        if (open.size >= 10) throw systemError('EMFILE')
        const file = nodeHost.open(name, mode)
        open.add(file)
        return file
      },
      close: (file) => {
        open.delete(file)
        nodeHost.close(file)
      },
    })
    const reader = openSyncWith(ground, path, { readOnly: true })
    for (let i = 0; i < 40; i++) expect(reader.get(`k${i}`)).toBe(KIB_3)
    reader.closeSync()
    expect(open.size).toBe(0)
  })
})

describe('arrays that are not what they seem', () => {
  test('of another realm are taken; of a subclass, by what they hold; detached or fake ones are refused', async () => {
    const db = openSync(freshStore(), { keyEncoding: 'bytes', valueEncoding: 'bytes' })
    const foreign = runInNewContext('new Uint8Array([1, 2, 3])') as Uint8Array
    db.putSync(foreign, foreign)
    expect(db.get(new Uint8Array([1, 2, 3]))).toEqual(new Uint8Array([1, 2, 3]))
    class Long extends Uint8Array {
      override get length(): number {
        return 200
      }
    }
    db.putSync(foreign, new Long([7, 7]))
    expect(db.get(foreign)).toEqual(new Uint8Array([7, 7]))
    const detached = new Uint8Array(50)
    structuredClone(detached.buffer, { transfer: [detached.buffer] })
    for (const value of [
      detached,
      Object.create(Uint8Array.prototype),
      new Proxy(new Uint8Array(3), {}),
      new Uint16Array(3),
    ]) {
      expect(await failure(() => db.put(foreign, value as Uint8Array))).toMatchObject({
        code: 'CASKY_INVALID_VALUE',
      })
      expect(await failure(() => db.put(value as Uint8Array, foreign))).toMatchObject({
        code: 'CASKY_INVALID_KEY',
      })
    }
    expect(db.get(foreign)).toEqual(new Uint8Array([7, 7]))
    db.closeSync()
  })
})

describe('the marker', () => {
  test('is not written to a segment that holds no write', async () => {
    const path = freshStore()
    let fails = false
    const ground = groundWith({
      write: (file, from, at, bytes, position) => {
        if (fails && bytes > 1000) throw systemError('ENOSPC')
        return nodeHost.write(file, from, at, bytes, position)
      },
    })
    const db = openSyncWith(ground, path, { maxSegmentBytes: 4096 })
    await db.put('a', KIB_3)
    fails = true
    expect(await failure(() => db.put('b', KIB_3))).toMatchObject({ code: 'CASKY_NO_SPACE' })
    await new Promise((resolve) => setTimeout(resolve, 350))
    const copy = killedCopy(path)
    fails = false
    await db.put('c', '1')
    expect(db.stats().lastSequence).toBe(2)
    await db.close()
    const again = openSync(copy)
    again.putSync('c', '1')
    expect(again.stats().lastSequence).toBe(2)
    again.closeSync()
  })
})

describe('a cut', () => {
  test('is made last by the next sync of either kind, and the store comes to rest', async () => {
    const path = freshStore()
    let fails = false
    let syncs = 0
    const ground = groundWith({
      write: (...write) => {
        if (fails) throw systemError('ENOSPC')
        return nodeHost.write(...write)
      },
      syncLater: (file, done) => {
        syncs++
        nodeHost.syncLater(file, done)
      },
    })
    const db = openSyncWith(ground, path)
    await db.put('a', '1')
    fails = true
    expect(await failure(() => db.put('b', '2'))).toMatchObject({ code: 'CASKY_NO_SPACE' })
    fails = false
    await db.put('c', '3')
    const before = syncs
    await db.flush()
    expect(syncs).toBe(before)
    // At rest the last group is certified by a marker.
    await expect.poll(() => recordsOf(segmentsOf(path)[0]).at(-1)?.kind, { timeout: 5000 }).toBe(3)
    await db.close()
  })
})

describe('expiring keys', () => {
  test('that are refreshed again and again take no more memory than their number', () => {
    const kernels = new Kernels()
    const keydir = new Keydir(kernels.keyedHash)
    const place = emptyPlace()
    const refresh = (count: number): void => {
      for (let i = 0; i < count; i++) {
        place.expiresAtMs = 1_000_000 + i
        keydir.put(1, 1, kernels.bytes, KEY_AT, 8, place)
      }
    }
    refresh(1)
    const before = keydir.memoryBytes
    refresh(200_000)
    expect(keydir.memoryBytes).toBeLessThan(before + 10_000)
    expect(keydir.liveCount(0)).toBe(1)
    refresh(200_000)
    expect(keydir.liveCount(0)).toBe(1)
    expect(keydir.memoryBytes).toBeLessThan(before + 10_000)
    expect(keydir.liveCount(2_000_000)).toBe(0)
  })
})

describe('check', () => {
  test('finds a manifest that is gone, or another than the open one', async () => {
    for (const hurt of [
      (file: string) => rmSync(file),
      (file: string, older: Buffer) => writeFileSync(file, older),
    ]) {
      const path = freshStore()
      const db = openSync(path)
      const file = join(path, 'MANIFEST')
      const older = readFileSync(file)
      db.putSync('a', '1')
      expect((await db.check()).ok).toBe(true)
      hurt(file, older)
      expect((await db.check()).damage).toMatchObject([{ path: file }])
      db.closeSync()
    }
  })

  test('and a read report one damaged value once', async () => {
    const path = freshStore()
    const db = openSync(path)
    db.putSync('a', 'value')
    db.putSync('b', 'value')
    const [segment] = segmentsOf(path)
    const [{ offset, bytes }] = recordsOf(segment)
    flipBit(segment, (offset + bytes - 1) * 8)
    expect(await failure(() => db.get('a'))).toMatchObject({ code: 'CASKY_CORRUPT', offset })
    expect((await db.check()).damage).toMatchObject([{ offset: offset + 30, bytes: 5 }])
    db.closeSync()
  })
})

describe('what was made up', () => {
  test('a manifest whose next segment id is not above the live ones is neither read nor written', async () => {
    const path = freshStore()
    const db = openSync(path)
    db.putSync('a', '1')
    db.closeSync()
    const kernels = new Kernels()
    const manifest = readManifest(nodeHost, kernels, path)
    if (manifest === undefined) throw new Error('no manifest')
    const before = readFileSync(join(path, 'MANIFEST'))
    for (const nextSegmentId of [0, 1, 2 ** 32]) {
      const made = { ...manifest, nextSegmentId }
      const refused = await failure(() => publishManifest(nodeHost, kernels, path, made))
      expect(refused).toMatchObject({ code: 'CASKY_CORRUPT', path: join(path, 'MANIFEST') })
      expect(readFileSync(join(path, 'MANIFEST')).equals(before)).toBe(true)
      if (nextSegmentId > 1) continue
      const bytes = encodeManifest(kernels, made)
      writeFileSync(join(path, 'MANIFEST'), bytes)
      expect((await failure(() => openSync(path))).message).toMatch(/its next segment id/)
      expect(await repair(path)).toMatchObject({ lost: [], isManifestRebuilt: true })
      expect(contentsOf(path).entries).toEqual(new Map([['a', '1']]))
      writeFileSync(join(path, 'MANIFEST'), before)
    }
  })

  test('a claim with what a terminal would obey is told of in what it only shows', async () => {
    const path = freshStore()
    openSync(path).closeSync()
    const token = '0'.repeat(32)
    const claim = { format: 1, token, pid: 1, runtime: '\x1b[31mred\n', hostName: '\u202eevil'.repeat(1000) }
    writeFileSync(join(path, 'LOCK', `${token}.claim`), JSON.stringify(claim))
    const { message, got } = await failure(() => openSync(path))
    expect(message).toContain('\\u{1b}[31mred\\u{a}')
    for (const text of [message, JSON.stringify(got)]) {
      expect(text).not.toMatch(/[\p{Cc}\p{Cf}]/u)
      expect(text.length).toBeLessThan(1000)
    }
  })

  test('sequence numbers do not begin anew behind the last that four bytes hold', () => {
    const kernels = new Kernels()
    const { call, bytes } = kernels
    let used = 0
    for (const sequence of [0xffff_ffff, 0, 1]) {
      bytes.set(Buffer.from('k'), SCAN_AT + used + RECORD_HEADER_BYTES)
      call.encodeRecord(SCAN_AT + used, KIND_PUT, 1, 0, sequence, 0, 0, 96, (96 + used) >>> 0)
      used += RECORD_HEADER_BYTES + 1
    }
    expect(call.scan(SCAN_AT, used, used, 96, 0, 0)).toBe(1)
    expect(kernels.scanResult()).toMatchObject({ stop: STOP_BAD, nextSequence: 2 ** 32 })
  })
})

describe('no handle left', () => {
  test('a directory that can not be listed for want of one is no invalid path', async () => {
    const path = freshStore()
    openSync(path).closeSync()
    const ground = groundWith({
      list: () => {
        throw systemError('EMFILE')
      },
    })
    expect(await failure(() => openSyncWith(ground, path))).toMatchObject({ code: 'CASKY_IO', path })
  })

  test('those that are kept for reading are given back for a segment, a manifest, a directory', () => {
    const path = freshStore()
    for (let i = 0; i < 5; i++) {
      const db = openSync(path)
      db.putSync(`k${i}`, '1')
      db.closeSync()
    }
    const free = { count: 0 }
    let open = 0
    const take = <T>(run: () => T): T => {
      if (open >= 7 + free.count) throw systemError('EMFILE')
      return run()
    }
    const ground = groundWith({
      open: (name, mode) => {
        const file = take(() => nodeHost.open(name, mode))
        open++
        return file
      },
      openDirectory: (directory) => {
        const file = take(() => nodeHost.openDirectory(directory))
        open++
        return file
      },
      close: (file) => {
        open--
        nodeHost.close(file)
      },
      list: (directory) => take(() => nodeHost.list(directory)),
      syncDirectory: (directory) => take(() => nodeHost.syncDirectory(directory)),
    })
    // With the fewest handles at which it opens and writes, each place comes to be the one that wants one more.
    for (free.count = -1; free.count < 8; free.count++) {
      const db = openSyncWith(ground, path)
      db.putSync(`free ${free.count}`, '1')
      for (let i = 0; i < 5; i++) expect(db.get(`k${i}`)).toBe('1')
      db.closeSync()
      expect(open).toBe(0)
    }
  })
})
