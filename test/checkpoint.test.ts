import { cpSync, existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { crc32 } from 'node:zlib'
import { beforeAll, describe, expect, test } from 'vitest'
import { KEY_AT } from '../assembly/layout'
import { checkpointSteps, writeCheckpointNow } from '../src/checkpoint'
import { type CheckpointBegin, decodeCheckpoint, encodeCheckpoint } from '../src/checkpoint-file'
import { CaskyError } from '../src/errors'
import type { Host } from '../src/host/host'
import { nodeHost } from '../src/host/node'
import { openSync } from '../src/index'
import { Kernels } from '../src/kernels'
import { type FoldedPiece, Keydir, type Place, TABLES } from '../src/keydir/keydir'
import { publishManifest, readManifest } from '../src/manifest'
import type { RecoveryReport } from '../src/recovery'
import {
  checkpoint,
  checkpointRooms,
  commit,
  filesOf,
  find,
  findUncached,
  type Opened,
  openRooms,
  same,
  writeHints,
} from './support/caches'
import { collidingKeys, integerKey } from './support/colliding'
import { freshStore, useMemory } from './support/folders'
import { randomFrom, systemError } from './support/ground'
import { recycled } from './support/memory'
import { type ReferencePlace, referenceCheckpoint } from './support/reference-caches'
import { append, flipBit, killedCopy, overwrite, recordsOf, segmentsOf, truncate } from './support/stores'

beforeAll(useMemory)

const FUTURE_MS = 4_000_000_000_000

/** What opening finds without any cache. */
function scanned(path: string) {
  const found = findUncached(path)
  expect(found.recovery).toMatchObject({ checkpointed: 0, hinted: 0, checkpoint: { used: false } })
  return JSON.parse(JSON.stringify(same(found)))
}

/** Which segment they are counted for is an estimate once an uncertified end was copied. */
function withoutTombstones(found: unknown): unknown {
  return JSON.parse(JSON.stringify(found, (key, value) => (key === 'tombstoneBytes' ? undefined : value)))
}

/** As `scanned`, of the store as it is. */
function opened(path: string): Record<string, unknown> & { recovery: RecoveryReport } {
  const found = find(path)
  return { ...JSON.parse(JSON.stringify(same(found))), recovery: found.recovery }
}

/** Opening has to come to the same as a scan; returns what it says of the way. */
function compare(path: string, expected = scanned(path)) {
  const { recovery, ...found } = opened(path)
  expect(found).toEqual(expected)
  return recovery
}

function writeSome(from: Pick<Opened, 'db'>, random: () => number, model?: Map<string, string>): void {
  const { db } = from
  const key = () => `key ${Math.floor(random() * 60)}`
  const value = () => 'v'.repeat(random() * 50) + Math.floor(random() * 1e6)
  const put = (of = key()) => {
    const text = value()
    const expires = random() < 0.2
    db.putSync(of, text, expires ? { expiresAtMs: FUTURE_MS } : undefined)
    model?.set(of, text)
  }
  const what = random()
  if (what < 0.6) put()
  else if (what < 0.8) {
    const of = key()
    db.deleteSync(of)
    model?.delete(of)
  } else {
    const puts = Array.from({ length: 1 + Math.floor(random() * 4) }, () => [key(), value()])
    const gone = key()
    db.batchSync([
      ...puts.map(([of, text]) => ({ type: 'put' as const, key: of, value: text })),
      { type: 'del', key: gone },
    ])
    for (const [of, text] of puts) model?.set(of, text)
    model?.delete(gone)
  }
}

/** A closed store with a checkpoint that was made at its end. */
function smallStore(): { path: string; file: string } {
  const path = freshStore()
  const first = openRooms(path)
  first.db.putSync('a', '1')
  first.db.putSync('b', '22', { expiresAtMs: FUTURE_MS })
  first.db.putSync('gone', 'x')
  first.db.deleteSync('gone')
  first.db.closeSync()
  rmSync(join(path, 'CHECKPOINT'), { force: true })
  for (const name of filesOf(path, '.hint')) rmSync(join(path, name))
  const again = openRooms(path)
  expect(checkpoint(again)).toMatchObject({ isWritten: true, entries: 2 })
  again.db.closeSync()
  return { path, file: join(path, 'CHECKPOINT') }
}

describe('a checkpoint', () => {
  test('brings in a whole store without reading the log', () => {
    const path = freshStore()
    const first = openRooms(path, { sync: 'never', maxSegmentBytes: 4096 })
    const random = randomFrom(1)
    const model = new Map<string, string>()
    for (let i = 0; i < 500; i++) writeSome(first, random, model)
    first.db.closeSync()
    const again = openRooms(path)
    expect(checkpoint(again)).toMatchObject({ isWritten: true, entries: model.size })
    again.db.closeSync()
    const segments = segmentsOf(path).length
    expect(segments).toBeGreaterThan(5)
    const recovery = compare(path)
    expect(recovery).toMatchObject({ checkpointed: segments, scanned: 0, hinted: 0 })
    expect(recovery.checkpoint).toMatchObject({ used: true, reason: undefined, entries: model.size })
    expect(recovery.bytesRead).toBe(statSync(join(path, 'CHECKPOINT')).size)
    expect(new Map(find(path).entries)).toEqual(model)
    expect(find(path).numbers).toMatchObject({ size: model.size })
    const { progress, db } = openRooms(path, { readOnly: true })
    db.closeSync()
    expect(progress.map(({ bytesDone }) => bytesDone)).toEqual(
      progress.map(({ bytesDone }) => bytesDone).sort((a, b) => a - b),
    )
    const { bytesDone, bytesTotal, segment, cameFrom } = progress[progress.length - 1]
    expect([bytesDone, segment, cameFrom]).toEqual([bytesTotal, segments, 'checkpoint'])
  })

  test('lies on disk as the format says', () => {
    const path = freshStore()
    const store = openRooms(path, { maxSegmentBytes: 4096 })
    const random = randomFrom(7)
    for (let i = 0; i < 150; i++) writeSome(store, random)
    checkpoint(store)
    const file = referenceCheckpoint(readFileSync(join(path, 'CHECKPOINT')))
    const { catalog, ledger } = store.rooms
    const expected = new Map<string, ReferencePlace>()
    ledger.keydir.forEach((place, keys, at, keyBytes) => {
      expected.set(Buffer.from(keys.subarray(at, at + keyBytes)).toString('latin1'), {
        segmentId: catalog.at(place.segment).header.id,
        offset: place.offset,
        valueBytes: place.valueBytes,
        expiresAtMs: place.expiresAtMs === undefined ? undefined : BigInt(place.expiresAtMs),
      })
    })
    expect(file.entries).toEqual(expected)
    const numbers = catalog.segments.map(({ header, state, records, bytes, liveBytes }) => {
      return { id: header.id, isEnded: state !== 'active', records, bytes, liveBytes }
    })
    expect(file.segments).toEqual(numbers)
    const { records, bytes, lastSequence, header } = catalog.segments[catalog.segments.length - 1]
    expect(file.begin).toEqual({ segmentId: header.id, records, bytes, lastSequence })
    store.db.closeSync()
  })

  test('of a store that goes on: only what is behind it is read, after a kill too', () => {
    const path = freshStore()
    const store = openRooms(path, { sync: 'never' })
    const random = randomFrom(2)
    const model = new Map<string, string>()
    for (let i = 0; i < 2000; i++) writeSome(store, random, model)
    expect(checkpoint(store).isWritten).toBe(true)
    const lengthThen = statSync(segmentsOf(path)[0]).size
    for (let i = 0; i < 50; i++) writeSome(store, random, model)
    commit(store)
    const killed = killedCopy(path)
    store.db.closeSync()
    const recovery = compare(killed)
    expect(recovery.bySegment).toMatchObject([
      { cameFrom: 'checkpoint', bytesRead: statSync(segmentsOf(killed)[0]).size - lengthThen },
    ])
    expect(new Map(find(killed).entries)).toEqual(model)
    // The store can be written to from there on, and closed, killed and opened again.
    const again = openRooms(killed)
    for (let i = 0; i < 500; i++) writeSome(again, random, model)
    again.db.closeSync()
    compare(killed)
    expect(new Map(find(killed).entries)).toEqual(model)
  })

  test('loaded, the index goes on as if it had been filled by hand', () => {
    const path = freshStore()
    const store = openRooms(path, { sync: 'never' })
    const model = new Map<string, string>()
    const put = (to: Pick<Opened, 'db'>, key: string, value: string) => {
      to.db.putSync(key, value, value.length === 3 ? { expiresAtMs: FUTURE_MS } : undefined)
      model.set(key, value)
    }
    for (let i = 0; i < 20_000; i++) put(store, `key ${i}`, `${i % 2000}`)
    store.db.closeSync()
    const again = openRooms(path)
    checkpoint(again)
    again.db.closeSync()
    const { rooms, db } = openRooms(path, { sync: 'never' })
    expect(rooms.recovery.checkpoint.used).toBe(true)
    expect(db.size).toBe(model.size)
    const { keydir } = rooms.ledger
    const before = keydir.memoryBytes
    for (let i = 0; i < 20_000; i += 3) {
      db.deleteSync(`key ${i}`)
      model.delete(`key ${i}`)
    }
    for (let i = 0; i < 30_000; i += 2) put({ db }, `key ${i}`, `${i % 3000}`)
    expect(keydir.memoryBytes).toBeGreaterThan(before)
    expect(db.size).toBe(model.size)
    expect(new Map(db.entries())).toEqual(model)
    for (const [key, value] of model) expect(db.get(key)).toBe(value)
    expect(db.stats().expired).toBe(0)
    db.closeSync()
    compare(path)
  })

  test('knows what expires', () => {
    const clock = { nowMs: 1_700_000_000_000 }
    const host = { ...nodeHost, nowMs: () => clock.nowMs }
    const path = freshStore()
    const store = openRooms(path, {}, host)
    for (let i = 0; i < 100; i++)
      store.db.putSync(`key ${i}`, 'value', i < 40 ? { ttlMs: 1000 + i } : undefined)
    store.db.closeSync()
    const again = openRooms(path, {}, host)
    checkpoint(again)
    again.db.closeSync()
    const { rooms, db } = openRooms(path, {}, host)
    expect(rooms.recovery.checkpoint.used).toBe(true)
    expect(db.size).toBe(100)
    clock.nowMs += 1019
    expect(db.size).toBe(80)
    expect([...db.keys()].length).toBe(80)
    db.putSync('key 0', 'back')
    db.deleteSync('key 30')
    expect(db.size).toBe(80)
    clock.nowMs += 1000
    expect(db.size).toBe(61)
    expect(db.get('key 31')).toBeUndefined()
    db.closeSync()
    const later = openRooms(path, { readOnly: true }, host)
    expect(later.db.size).toBe(61)
    later.db.closeSync()
  })

  test('with any byte flipped is not used', () => {
    const { path, file } = smallStore()
    const expected = scanned(path)
    const bytes = readFileSync(file)
    for (let at = 0; at < bytes.length; at++) {
      flipBit(file, at * 8 + (at % 8))
      const { recovery, ...found } = opened(path)
      expect(found).toEqual(expected)
      expect(recovery).toMatchObject({ checkpoint: { used: false, reason: expect.any(String) }, scanned: 1 })
      writeFileSync(file, bytes)
    }
    expect(opened(path).recovery.checkpoint.used).toBe(true)
  })

  test('of any other length is not used', () => {
    const { path, file } = smallStore()
    const expected = scanned(path)
    const bytes = readFileSync(file)
    for (let length = 0; length < bytes.length + 40; length++) {
      if (length === bytes.length) continue
      writeFileSync(file, Buffer.concat([bytes, Buffer.alloc(40)]).subarray(0, length))
      const { recovery, ...found } = opened(path)
      expect(found).toEqual(expected)
      expect(recovery.checkpoint.used).toBe(false)
    }
  })

  test('made up under right CRCs does no harm to the process', () => {
    const { path, file } = smallStore()
    const bytes = readFileSync(file)
    const unchanged = Buffer.from(bytes)
    unchanged.fill(0, HEADER_BYTES - 8, HEADER_BYTES)
    mendCrcs(unchanged)
    expect(unchanged).toEqual(bytes)
    for (let at = 16; at < bytes.length; at++) {
      for (const byte of [0, 0xff, bytes[at] ^ 1]) {
        const made = Buffer.from(bytes)
        made[at] = byte
        mendCrcs(made)
        writeFileSync(file, made)
        // An error of a kind that callers know, or an answer: no crash, and no loop without an end.
        recycled(() => {
          const { db } = openRooms(path, { readOnly: true, keyEncoding: 'bytes' } as object)
          try {
            for (const key of db.keys()) db.get(key)
            db.get('a')
          } catch (error) {
            expect(error).toBeInstanceOf(CaskyError)
          }
          db.closeSync()
        })
      }
    }
  })

  test('with an empty table makes no sense', () => {
    const kernels = new Kernels()
    const empty = { index: 0, count: 0, words: 0, expiring: 0, isKeyed: false }
    const about = { records: 0, bytes: 96, lastSequence: 0 }
    const segment = { id: 1, salt: 2, isEnded: false, ...about, liveBytes: 0, tombstoneBytes: 0 }
    const decoded = [[], [{ tables: [empty], crc: 0 }]].map((pieces) => {
      const made = {
        storeId: new Uint8Array(16),
        secret: new Uint8Array(16),
        begin: { index: 0, ...about },
        entries: 0,
        segments: [segment],
      }
      const { header, lists } = encodeCheckpoint(kernels, { ...made, pieces })
      return decodeCheckpoint(kernels, header, lists)
    })
    expect(decoded).toEqual([expect.objectContaining({ entries: 0 }), 'its lists make no sense'])
  })

  test('keeps tables that are hashed by key; after a repair that is another', () => {
    const keys = [...collidingKeys(200), ...Array.from({ length: 2000 }, (_, i) => integerKey(i * 255))]
    const path = freshStore()
    const first = openRooms(path, { keyEncoding: 'bytes' })
    first.db.batchSync(keys.map((key, i) => ({ type: 'put', key, value: String(i) })))
    checkpoint(first)
    first.db.closeSync()
    const file = join(path, 'CHECKPOINT')
    const written = referenceCheckpoint(readFileSync(file))
    expect(written.keyedTables).toBeGreaterThan(0)
    expect(written.entries.size).toBe(keys.length)
    const lookUp = (used: boolean, reason: string | undefined): void => {
      const { db, rooms } = openRooms(path, { keyEncoding: 'bytes' })
      expect(rooms.recovery.checkpoint).toMatchObject({ used, reason })
      for (const [i, key] of keys.entries()) expect(db.get(key)).toBe(String(i))
      expect(db.size).toBe(keys.length)
      db.closeSync()
    }
    const kept = readFileSync(file)
    lookUp(true, undefined)
    const kernels = new Kernels()
    const manifest = readManifest(nodeHost, kernels, path)
    if (manifest === undefined) throw new Error('the store has a manifest')
    publishManifest(nodeHost, kernels, path, { ...manifest, secret: Buffer.alloc(16, 7) })
    writeFileSync(file, kept)
    lookUp(false, 'it is older than a repair')
  })

  test('of another store, or a newer format, is not used', () => {
    const { path, file } = smallStore()
    const other = smallStore()
    cpSync(other.file, file)
    expect(compare(path).checkpoint).toMatchObject({ used: false, reason: 'it belongs to another store' })
    const newer = readFileSync(other.file)
    newer.writeUInt16LE(2, 8)
    newer.writeUInt32LE(crc32(newer.subarray(0, 12)), 12)
    newer.writeUInt32LE(crc32(newer.subarray(0, 108)), 108)
    writeFileSync(other.file, newer)
    expect(compare(other.path).checkpoint).toMatchObject({ used: false, reason: 'it is of a newer format' })
  })

  test('from any earlier moment is as good, with a longer way from there; one from later is not used', () => {
    const path = freshStore()
    const moments: { store: string; checkpoint: Buffer }[] = []
    const random = randomFrom(3)
    for (let round = 0; round < 6; round++) {
      const store = openRooms(path, { maxSegmentBytes: 4096 })
      for (let i = 0; i < 60; i++) writeSome(store, random)
      expect(checkpoint(store).isWritten).toBe(true)
      const copy = killedCopy(path)
      moments.push({ store: copy, checkpoint: readFileSync(join(copy, 'CHECKPOINT')) })
      store.db.closeSync()
    }
    for (const [i, { store }] of moments.entries()) {
      for (const [j, moment] of moments.entries()) {
        writeFileSync(join(store, 'CHECKPOINT'), moment.checkpoint)
        expect(compare(store).checkpoint.used).toBe(j <= i)
      }
    }
  })

  test('is not used once a segment that it speaks of is gone, or has another in its place', () => {
    const path = freshStore()
    const store = openRooms(path, { maxSegmentBytes: 4096 })
    const random = randomFrom(4)
    for (let i = 0; i < 200; i++) writeSome(store, random)
    store.db.closeSync()
    const again = openRooms(path)
    checkpoint(again)
    writeHints(again)
    again.db.closeSync()
    expect(compare(path).checkpoint.used).toBe(true)
    const { manifest, kernels } = again.rooms
    const lists = [
      manifest.segments.slice(1),
      manifest.segments.slice(0, -1),
      manifest.segments.filter((_segment, i) => i !== 1),
    ]
    for (const segments of lists) {
      publishManifest(nodeHost, kernels, path, { ...manifest, segments })
      const gone = manifest.segments.filter((segment) => !segments.includes(segment))
      const kept = gone.map(({ header }) => segmentsOf(path)[header.id - 1])
      const bytes = kept.map((name) => readFileSync(name))
      for (const name of kept) rmSync(name)
      const recovery = compare(path)
      expect(recovery).toMatchObject({ checkpoint: { used: false }, hinted: segments.length })
      for (const [i, name] of kept.entries()) writeFileSync(name, bytes[i])
    }
  })

  test('is not trusted over the files', () => {
    const { path } = smallStore()
    const [segment] = segmentsOf(path)
    const bytes = readFileSync(segment)
    truncate(segment, bytes.length - 1)
    expect(compare(path).checkpoint).toMatchObject({ used: false, reason: 'a segment is too short' })
    writeFileSync(segment, bytes)
    flipBit(segment, 40 * 8)
    expect(compare(path).checkpoint).toMatchObject({ used: false, reason: "a segment's header is damaged" })
    rmSync(segment)
    expect(compare(path).checkpoint).toMatchObject({ used: false, reason: 'a segment is missing' })
    writeFileSync(segment, Buffer.concat([bytes, Buffer.from('more')]))
    expect(compare(path).checkpoint.used).toBe(true)
    writeFileSync(segment, bytes)
    const { offset, bytes: recordBytes } = recordsOf(segment)[0]
    flipBit(segment, (offset + recordBytes - 1) * 8)
    expect(opened(path).entries).toEqual([
      ['a', 'damaged'],
      ['b', '22'],
    ])
  })

  test('takes a segment that went on by its hint, where there is one', () => {
    const path = freshStore()
    const store = openRooms(path, { maxSegmentBytes: 4096 })
    const random = randomFrom(5)
    for (let i = 0; i < 10; i++) writeSome(store, random)
    expect(checkpoint(store).isWritten).toBe(true)
    for (let i = 0; i < 300; i++) writeSome(store, random)
    store.db.closeSync()
    const file = readFileSync(join(path, 'CHECKPOINT'))
    const again = openRooms(path, { readOnly: true })
    const segments = writeHints(again)
    again.db.closeSync()
    writeFileSync(join(path, 'CHECKPOINT'), file)
    const recovery = compare(path)
    expect(recovery).toMatchObject({ checkpoint: { used: true }, hinted: segments, scanned: 0 })
    // Damaged behind where the checkpoint was made: what it has handed on by then must not stand.
    const hint = join(path, '0000000001.hint')
    const bytes = readFileSync(hint)
    const expected = scanned(path)
    for (let at = 96; at < bytes.length; at += 11) {
      flipBit(hint, at * 8)
      expect(compare(path, expected).bySegment[0]).toMatchObject({
        cameFrom: 'scan',
        hintReason: 'it is damaged',
      })
      writeFileSync(hint, bytes)
    }
  })
})

describe('a fuzzy checkpoint', () => {
  test('gives the right index for a log that reaches it, and is not used for any other', () => {
    let used = 0
    let unused = 0
    let damaged = 0
    for (let seed = 1; seed <= 25; seed++) {
      const random = randomFrom(seed)
      const path = freshStore()
      const sync = random() < 0.5 ? 'never' : 'always'
      const maxSegmentBytes = random() < 0.5 ? 4096 : 1 << 20
      const store = openRooms(path, { sync, maxSegmentBytes })
      const model = new Map<string, string>()
      const some = (most: number) => {
        for (let i = Math.floor(random() * most); i > 0; i--) writeSome(store, random, model)
      }
      some(200)
      writeSome(store, random, model)
      commit(store)
      const steps = checkpointSteps(checkpointRooms(store.rooms))
      let endBytes = 0
      let segmentAtEnd = ''
      let step = steps.next()
      for (; step.done !== true; step = steps.next()) {
        if (step.value === 'sync') {
          segmentAtEnd = segmentsOf(path).at(-1) ?? ''
          endBytes = statSync(segmentAtEnd).size
          some(10)
          store.db.flushSync()
        } else some(20)
      }
      expect(step.value).toMatchObject({ isWritten: true })
      some(30)
      commit(store)
      const killed = killedCopy(path)
      store.db.closeSync()
      expect(compare(killed).checkpoint.used).toBe(true)
      expect(new Map(find(killed).entries)).toEqual(model)
      const last = segmentsOf(killed).at(-1) ?? ''
      const isSameSegment = last.endsWith(segmentAtEnd.slice(-15))
      const whole = readFileSync(last)
      for (let cut = 0; cut < 12; cut++) {
        const length = 96 + Math.floor(random() * (whole.length - 95))
        truncate(last, length)
        const { checkpoint: report } = compare(killed)
        expect(report.used).toBe(!isSameSegment || length >= endBytes)
        if (report.used) used++
        else unused++
        writeFileSync(last, whole)
      }
      // Damage among what only some of the tables were copied with, and behind that.
      const { begin } = step.value as { begin: CheckpointBegin }
      const from = isSameSegment && begin.index === segmentsOf(killed).length - 1 ? begin.bytes : 96
      for (let hit = 0; hit < 6; hit++) {
        const at = from + Math.floor(random() * (whole.length - from))
        if (at + 20 > whole.length) continue
        overwrite(last, at, Buffer.alloc(20, 7))
        expect(compare(killed).checkpoint.used).toBe(!isSameSegment || at >= endBytes)
        damaged++
        writeFileSync(last, whole)
      }
    }
    expect(damaged).toBeGreaterThan(20)
    expect(used).toBeGreaterThan(20)
    expect(unused).toBeGreaterThan(20)
  }, 120_000)

  test('is given up when the segments change, when damage is found, and when the log is poisoned', () => {
    const reasons: [string, (opened: Opened) => void][] = [
      [
        'the segments have changed meanwhile',
        ({ rooms: { catalog } }) => {
          catalog.segments[0] = { ...catalog.segments[0] }
        },
      ],
      [
        'the store is damaged',
        ({ rooms }) =>
          rooms.health.addDamage({ path: 'x', offset: 0, bytes: 1, reason: 'made up', foundAtMs: 0 }),
      ],
      [
        'the log could not be synced',
        ({ rooms }) => {
          rooms.health.poisoned = new CaskyError('CASKY_POISONED', 'made up')
        },
      ],
    ]
    for (const [reason, happen] of reasons) {
      const path = freshStore()
      const store = openRooms(path)
      const random = randomFrom(9)
      for (let i = 0; i < 50; i++) writeSome(store, random)
      const steps = checkpointSteps(checkpointRooms(store.rooms))
      expect(steps.next()).toEqual({ done: false, value: 'slice' })
      happen(store)
      expect(steps.next()).toEqual({ done: true, value: { isWritten: false, reason } })
      expect(filesOf(path, '.next')).toEqual([])
      expect(existsSync(join(path, 'CHECKPOINT'))).toBe(false)
      try {
        store.db.closeSync()
      } catch {
        // The one that was poisoned says so.
      }
    }
  })
})

describe('tables in bulk', () => {
  test('come back as they were, and only when they are used', () => {
    const kernels = new Kernels()
    const hash = (key: string): [number, number, Uint8Array, number, number] => {
      const bytes = Buffer.from(key)
      kernels.bytes.set(bytes, KEY_AT)
      kernels.call.hashKey(KEY_AT, bytes.length)
      // Few indexes, so that many keys meet in one table.
      return [kernels.hashLow, (kernels.hashHigh & 0xe03f_ffff) >>> 0, kernels.bytes, KEY_AT, bytes.length]
    }
    const placeOf = (i: number): Place => {
      const expiresAtMs = i % 3 === 0 ? FUTURE_MS + i : undefined
      const recordBytes = 29 + `key ${i}`.length + i + (expiresAtMs === undefined ? 0 : 8)
      return { segment: i % 4, offset: i * 7, valueBytes: i, recordBytes, expiresAtMs, isDamaged: false }
    }
    const from = new Keydir(kernels.keyedHash)
    for (let i = 0; i < 20_000; i++) from.put(...hash(`key ${i}`), placeOf(i))
    for (let i = 0; i < 20_000; i += 5) from.remove(...hash(`key ${i}`))
    from.tableAt(0)?.rekey(kernels.keyedHash)
    Object.assign(from.tableAt(0) ?? {}, { isStrained: true })
    const to = new Keydir(kernels.keyedHash)
    const indexes = Int32Array.from([2, 1, 0, 3])
    const liveBytes = new Float64Array(4)
    const { folded, wordsOf } = foldedOf(from, indexes, liveBytes)
    const read: FoldedPiece[] = []
    let isClosed = false
    to.adopt(folded, {
      read: (piece) => {
        read.push(piece)
        return wordsOf(piece)
      },
      close: () => {
        isClosed = true
      },
    })
    expect(folded.pieces).toBe(8)
    expect(read).toEqual([])
    expect(to.count).toBe(from.count)
    expect(to.liveCount(FUTURE_MS + 3000)).toBe(from.liveCount(FUTURE_MS + 3000))
    const expectedBytes = [0, 0, 0, 0]
    for (let i = 0; i < 20_000; i++) {
      expect(to.find(...hash(`key ${i}`))).toBe(i % 5 !== 0)
      if (i % 5 === 0) continue
      const place = placeOf(i)
      expect(to.found).toEqual({ ...place, segment: indexes[place.segment] })
      expectedBytes[indexes[place.segment]] += place.recordBytes
    }
    expect(read.length).toBe(folded.pieces)
    expect(new Set(read.map(({ position }) => position)).size).toBe(folded.pieces)
    expect([to.isFolded, isClosed]).toEqual([false, true])
    expect([...liveBytes]).toEqual(expectedBytes)
    for (let i = 0; i < 30_000; i++) to.put(...hash(`key ${i}`), placeOf(i))
    expect(to.count).toBe(30_000)
    let seen = 0
    to.forEach(() => {
      seen++
    })
    expect(seen).toBe(30_000)
    to.clear()
    expect(to.find(...hash('key 1'))).toBe(false)
    expect([to.count, to.liveCount(0)]).toEqual([0, 0])
    const damaged = new Keydir(kernels.keyedHash)
    damaged.put(...hash('a'), { ...placeOf(1), isDamaged: true })
    const index = Array.from({ length: TABLES }).findIndex((_, i) => damaged.imageWordsOf(i) > 0)
    const words = new Uint32Array(damaged.imageWordsOf(index))
    expect(damaged.exportOf(index, words, 0, indexes, liveBytes)).toBeUndefined()
  })
})

/** A keydir as a checkpoint would keep it, a piece for each index. */
function foldedOf(from: Keydir, indexes: Int32Array, liveBytes: Float64Array) {
  const pieces: FoldedPiece[] = []
  const words: Uint32Array[] = []
  const pieceOf = new Int32Array(TABLES).fill(-1)
  for (let index = 0; index < TABLES; index++) {
    const ofPiece = new Uint32Array(from.imageWordsOf(index))
    if (ofPiece.length === 0) continue
    const image = from.exportOf(index, ofPiece, 0, indexes, liveBytes)
    if (image === undefined) throw new Error('none is damaged')
    pieceOf[index] = pieces.length
    pieces.push({ position: pieces.length, bytes: ofPiece.byteLength, crc: 0, tables: [image] })
    words.push(ofPiece)
  }
  const sum = (of: 'count' | 'expiring') =>
    pieces.reduce((total, { tables }) => tables.reduce((part, table) => part + table[of], total), 0)
  const folded = {
    count: sum('count'),
    expiring: sum('expiring'),
    bytes: pieces.reduce((total, { bytes }) => total + bytes, 0),
    segments: indexes.length,
    pieces: pieces.length,
    pieceOf,
    pieceAt: (piece: number) => pieces[piece],
  }
  const wordsOf = ({ position }: FoldedPiece) => new Uint8Array(words[position].buffer.slice(0))
  return { folded, wordsOf }
}

describe('caches of any age', () => {
  test('come to the same as a scan, through closings, kills and torn tails', () => {
    const ways = { checkpoint: 0, hint: 0, scan: 0, missing: 0 }
    for (let seed = 1; seed <= 12; seed++) {
      const random = randomFrom(seed * 77)
      const model = new Map<string, string>()
      let path = freshStore()
      for (let session = 0; session < 8; session++) {
        const store = openRooms(path, { sync: random() < 0.5 ? 'never' : 'always', maxSegmentBytes: 4096 })
        const some = () => {
          for (let i = Math.floor(random() * 60); i > 0; i--) writeSome(store, random, model)
        }
        some()
        if (random() < 0.5) checkpoint(store)
        some()
        if (random() < 0.5) writeHints(store)
        some()
        commit(store)
        if (random() < 0.5) {
          const killed = killedCopy(path)
          store.db.closeSync()
          path = killed
          const last = segmentsOf(path).at(-1)
          // As from a group that was being written.
          if (last !== undefined && random() < 0.5) append(last, Buffer.alloc(random() * 100, 1))
        } else {
          store.db.closeSync()
        }
        const { recovery, ...found } = opened(path)
        expect(withoutTombstones(found)).toEqual(withoutTombstones(scanned(path)))
        for (const { cameFrom } of recovery.bySegment) ways[cameFrom]++
        expect(new Map(find(path).entries)).toEqual(model)
      }
    }
    expect(ways.checkpoint).toBeGreaterThan(50)
    expect(ways.hint).toBeGreaterThan(50)
    expect(ways.scan).toBeGreaterThan(50)
    expect(ways.missing).toBe(0)
  })
})

describe('writing a checkpoint', () => {
  test('that fails at any call, or is ended early, leaves the one before', () => {
    const { path, file } = smallStore()
    const before = readFileSync(file)
    const store = openRooms(path)
    for (let i = 0; i < 20; i++) store.db.putSync(`new ${i}`, 'value')
    for (let failing = 1, isDone = false; !isDone; failing++) {
      let calls = 0
      const failAt = <A extends unknown[], R>(run: (...of: A) => R) => {
        return (...of: A): R => {
          if (++calls === failing) throw systemError('ENOSPC')
          return run(...of)
        }
      }
      const { write, rename, inspect } = nodeHost
      const open = failAt(nodeHost.open)
      const host = {
        ...nodeHost,
        // The one that is replaced is opened for its own sake: see below.
        open: (...of: Parameters<typeof open>) => (of[0] === file ? nodeHost.open(...of) : open(...of)),
        write: failAt(write),
        rename: failAt(rename),
        inspect: failAt(inspect),
      }
      isDone = checkpoint(store, host).isWritten
      expect(isDone).toBe(calls < failing)
      expect(filesOf(path, '.next')).toEqual([])
      if (!isDone) expect(readFileSync(file).equals(before)).toBe(true)
    }
    const refusing = (path: string, mode: 'read' | 'write' | 'create') => {
      if (path === file) throw systemError('EMFILE')
      return nodeHost.open(path, mode)
    }
    expect(checkpoint(store, { ...nodeHost, open: refusing }).isWritten).toBe(true)
    const now = readFileSync(file)
    const steps = checkpointSteps(checkpointRooms(store.rooms))
    steps.next()
    expect(filesOf(path, '.next')).toEqual(['CHECKPOINT.next'])
    steps.return({ isWritten: false, reason: 'enough' })
    expect(filesOf(path, '.next')).toEqual([])
    const unsynced = () => {
      throw systemError('EIO')
    }
    expect(() => writeCheckpointNow(checkpointRooms(store.rooms), unsynced)).toThrow(/EIO/)
    expect(filesOf(path, '.next')).toEqual([])
    expect(readFileSync(file).equals(now)).toBe(true)
    store.db.closeSync()
  })

  test('is refused for an empty store, a damaged one, and one whose end is in doubt', () => {
    const empty = openRooms(freshStore())
    expect(checkpoint(empty)).toEqual({ isWritten: false, reason: 'there is nothing in the store' })
    empty.db.closeSync()
    const { path, file } = smallStore()
    rmSync(file)
    const [segment] = segmentsOf(path)
    flipBit(segment, (recordsOf(segment)[0].offset + 20) * 8)
    const damaged = openRooms(path)
    expect(checkpoint(damaged)).toEqual({ isWritten: false, reason: 'the store is damaged' })
    damaged.db.closeSync()
    const store = openRooms(freshStore())
    store.db.putSync('a', '1')
    store.db.putSync('b', '2')
    const doubtful = { ...checkpointRooms(store.rooms), isWriting: () => false }
    expect(writeCheckpointNow(doubtful, () => {}).isWritten).toBe(false)
    store.db.closeSync()
  })

  test('numbers the segments anew where their slots have holes', () => {
    const path = freshStore()
    const store = openRooms(path, { maxSegmentBytes: 4096 })
    const random = randomFrom(6)
    for (let i = 0; i < 300; i++) writeSome(store, random)
    store.db.closeSync()
    const again = openRooms(path)
    const { catalog, ledger, kernels } = again.rooms
    const index = catalog.segments.findIndex(({ liveBytes }) => liveBytes > 0)
    const former = catalog.segments[index]
    const entry = catalog.entries()[index]
    expect(index).toBeLessThan(catalog.segments.length - 1)
    // As a merge does, with a segment that is merged into itself.
    const merged = catalog.replace([former], entry)
    if (merged === undefined) throw new Error('there is one')
    Object.assign(merged, { tombstoneBytes: former.tombstoneBytes })
    const moves: { key: Uint8Array; offset: number }[] = []
    ledger.keydir.forEach((place, source, at, keyBytes) => {
      if (place.segment === former.slot)
        moves.push({ key: source.slice(at, at + keyBytes), offset: place.offset })
    })
    for (const { key, offset } of moves) {
      kernels.bytes.set(key, KEY_AT)
      kernels.call.hashKey(KEY_AT, key.length)
      const { hashLow, hashHigh, bytes } = kernels
      const from = { segment: former.slot, offset }
      ledger.move(hashLow, hashHigh, bytes, KEY_AT, key.length, from, { segment: merged.slot, offset })
    }
    catalog.forget(former)
    expect(merged.slot).not.toBe(index)
    expect(moves.length).toBeGreaterThan(0)
    expect(checkpoint(again).isWritten).toBe(true)
    again.db.closeSync()
    expect(compare(path).checkpoint.used).toBe(true)
  })

  test('works in small steps', () => {
    const path = freshStore()
    const store = openRooms(path, { sync: 'never' })
    for (let i = 0; i < 60_000; i++) store.db.putSync(`key number ${i}`, '')
    commit(store)
    let written = 0
    const host = {
      ...nodeHost,
      write: (...of: Parameters<typeof nodeHost.write>) => {
        const bytes = nodeHost.write(...of)
        written += bytes
        return bytes
      },
    }
    const steps = checkpointSteps(checkpointRooms(store.rooms, host))
    let count = 0
    for (let step = steps.next(); step.done !== true; step = steps.next(), count++) {
      expect(written).toBeLessThanOrEqual(0x2_0000 + 0x8000)
      written = 0
      if (step.value === 'sync') store.db.flushSync()
    }
    // 2 MB of entries.
    expect(count).toBeGreaterThan(50)
    store.db.closeSync()
    expect(compare(path).checkpoint.used).toBe(true)
  })

  test('is on disk before it takes the place of another, which goes off the thread', async () => {
    const { path, file } = smallStore()
    const calls: string[] = []
    const named = new Map<number, string>()
    const nameOf = (handle: number): string => named.get(handle) ?? '?'
    const host: Host = {
      ...nodeHost,
      open: (place, mode) => {
        const handle = nodeHost.open(place, mode)
        named.set(handle, basename(place))
        return handle
      },
      write: (handle, ...of) => {
        calls.push(`write ${nameOf(handle)}`)
        return nodeHost.write(handle, ...of)
      },
      syncLater: (handle, done) => {
        calls.push(`sync ${nameOf(handle)}`)
        nodeHost.syncLater(handle, done)
      },
      rename: (from, to) => {
        calls.push(`rename ${basename(from)}`)
        nodeHost.rename(from, to)
      },
      closeLater: (handle) => {
        calls.push(`close ${nameOf(handle)}`)
        nodeHost.closeLater(handle)
      },
    }
    const store = openRooms(path)
    for (let i = 0; i < 20; i++) store.db.putSync(`new ${i}`, 'value')
    const before = readFileSync(file)
    const steps = checkpointSteps(checkpointRooms(store.rooms, host))
    let step = steps.next()
    for (; step.done !== true; step = steps.next()) {
      const { value } = step
      if (value === 'sync') store.db.flushSync()
      else if (value !== 'slice') await new Promise((resolve) => value(resolve))
    }
    expect(step.value.isWritten).toBe(true)
    expect(calls.slice(-4)).toEqual([
      'write CHECKPOINT.next',
      'sync CHECKPOINT.next',
      'rename CHECKPOINT.next',
      'close CHECKPOINT',
    ])
    expect(readFileSync(file).equals(before)).toBe(false)
    store.db.closeSync()
    expect(compare(path).checkpoint.used).toBe(true)
  })

  test('that is ended while it is synced keeps its handle until that is over, and leaves the one before', () => {
    const { path, file } = smallStore()
    const store = openRooms(path)
    store.db.putSync('new', 'value')
    const before = readFileSync(file)
    const open = new Set<number>()
    const syncs: ((error: unknown) => void)[] = []
    const host: Host = {
      ...nodeHost,
      open: (place, mode) => {
        const handle = nodeHost.open(place, mode)
        open.add(handle)
        return handle
      },
      close: (handle) => {
        open.delete(handle)
        nodeHost.close(handle)
      },
      syncLater: (_handle, done) => {
        syncs.push(done)
      },
    }
    const steps = checkpointSteps(checkpointRooms(store.rooms, host))
    for (let step = steps.next(); step.done !== true && syncs.length === 0; step = steps.next()) {
      if (step.value === 'sync') store.db.flushSync()
      else if (step.value !== 'slice') {
        step.value(() => {})
        break
      }
    }
    steps.return({ isWritten: false, reason: 'enough' })
    expect(open.size).toBe(1)
    expect(filesOf(path, '.next')).toEqual([])
    for (const done of syncs) done(null)
    expect(open.size).toBe(0)
    expect(readFileSync(file).equals(before)).toBe(true)
    store.db.closeSync()
  })
})

const HEADER_BYTES = 112

/** Right CRCs for a checkpoint of one segment, whatever else stands in it. */
function mendCrcs(bytes: Buffer): void {
  const listsAt = HEADER_BYTES + Math.min(bytes.readUInt32LE(40), bytes.length - HEADER_BYTES)
  let image = HEADER_BYTES
  for (let at = listsAt + 48; at + 8 <= bytes.length; ) {
    const crcAt = at + 4
    let length = 0
    const tables = bytes.readUInt32LE(at)
    at += 8
    for (let table = 0; table < tables && at + 16 <= bytes.length; table++, at += 16)
      length += bytes.readUInt32LE(at + 8) * 4
    if (image + length > bytes.length) break
    bytes.writeUInt32LE(crc32(bytes.subarray(image, image + length)), crcAt)
    image += length
  }
  bytes.writeUInt32LE(crc32(bytes.subarray(listsAt)), HEADER_BYTES - 8)
  bytes.writeUInt32LE(crc32(bytes.subarray(0, HEADER_BYTES - 4)), HEADER_BYTES - 4)
}

test('a merge of a segment before the last leaves no checkpoint that names what is gone', async () => {
  const path = freshStore()
  const options = { sync: 'never', merge: false, maxSegmentBytes: 0x4_0000 } as const
  let db = openSync(path, options)
  const put = (from: number, to: number) => {
    for (let i = from; i < to; i++) db.putSync(`key ${i}`, 'v'.repeat(1000))
  }
  // Dead bytes in the first segment only.
  put(0, 100)
  put(0, 300)
  put(1000, 1200)
  db.closeSync()
  db = openSync(path, options)
  expect(db.stats().recovery.checkpoint.used).toBe(true)
  const last = segmentsOf(path).at(-1)
  const { segmentsAfter } = await db.merge()
  expect(segmentsAfter).toBeGreaterThan(1)
  expect(segmentsOf(path)).toContain(last)
  db.closeSync()
  db = openSync(path, options)
  expect(db.stats().recovery.checkpoint).toMatchObject({ used: true })
  db.closeSync()
})
