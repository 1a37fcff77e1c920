// A writer's index comes in piece by piece, and what turns out damaged then is read from the log.
import { existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { beforeAll, describe, expect, test } from 'vitest'
import { CHECKPOINT_HEADER_BYTES } from '../src/checkpoint-file'
import { nodeHost } from '../src/host/node'
import { checkpoint, commit, find, findUncached, type Opened, openRooms, same } from './support/caches'
import { freshStore, useMemory } from './support/folders'
import { randomFrom, systemError } from './support/ground'
import { flipBit, forgetCaches, killedCopy, recordsOf, segmentsOf } from './support/stores'

beforeAll(useMemory)

const KEYS = 12_000
const FUTURE_MS = 4_000_000_000_000
const PIECE_BYTES = 0x8000
/** In the first piece and in the second. */
const PLACES = [0, 5000, PIECE_BYTES + 7777]
const MENDED = 'a part of it is damaged, and was read from the log instead'

/** A closed store with a checkpoint of some pieces, and what is in it. */
function store(options = {}): { path: string; file: string; model: Map<string, string> } {
  const path = freshStore()
  const { db } = openRooms(path, { sync: 'never', maxSegmentBytes: 0x4_0000, merge: false, ...options })
  const model = new Map<string, string>()
  for (let i = 0; i < KEYS; i++) {
    const value = `value ${i}`
    db.putSync(`key ${i}`, value, i % 7 === 0 ? { expiresAtMs: FUTURE_MS } : undefined)
    model.set(`key ${i}`, value)
  }
  for (let i = 0; i < KEYS; i += 5) {
    db.deleteSync(`key ${i}`)
    model.delete(`key ${i}`)
  }
  for (let i = 0; i < KEYS; i += 6) {
    db.putSync(`key ${i}`, 'anew')
    model.set(`key ${i}`, 'anew')
  }
  db.closeSync()
  const file = join(path, 'CHECKPOINT')
  expect(existsSync(file)).toBe(true)
  return { path, file, model }
}

const damaged = (file: string, at: number): void => flipBit(file, (CHECKPOINT_HEADER_BYTES + at) * 8)

/** All that opening without any cache comes to. */
function scanned(path: string): unknown {
  return JSON.parse(JSON.stringify(same(findUncached(path))))
}

function expectModel({ db }: Pick<Opened, 'db'>, model: Map<string, string>): void {
  expect(db.size).toBe(model.size)
  for (let i = 0; i < KEYS; i++) expect(db.get(`key ${i}`)).toBe(model.get(`key ${i}`))
  expect(new Map(db.entries())).toEqual(model)
  expect(db.size).toBe(model.size)
}

function liveBytesOf({ rooms }: Pick<Opened, 'rooms'>): number[] {
  return rooms.catalog.segments.map(({ liveBytes }) => liveBytes)
}

/** As `liveBytesOf`, with what deletes take. */
function countsOf({ rooms }: Pick<Opened, 'rooms'>): [number, number][] {
  return rooms.catalog.segments.map(({ liveBytes, tombstoneBytes }) => [liveBytes, tombstoneBytes])
}

/** What an open that reads all of the log counts, once it has secured the log's end as the other does. */
function whole(path: string): [number, number][] {
  const copy = killedCopy(path)
  forgetCaches(copy)
  const opened = openRooms(copy)
  const counts = countsOf(opened)
  opened.db.closeSync()
  return counts
}

/** A store that was killed with changes of all kinds behind its checkpoint. */
function behind(seed: number): { killed: string; model: Map<string, string> } {
  const { path, model } = store()
  const random = randomFrom(seed)
  const opened = openRooms(path, { sync: 'never', merge: false, maxSegmentBytes: 0x4_0000 })
  const { db } = opened
  const key = (): string => `key ${Math.floor(random() * KEYS)}`
  const put = (name: string, value: string): void => {
    db.putSync(name, value, random() < 0.2 ? { expiresAtMs: FUTURE_MS } : undefined)
    model.set(name, value)
  }
  for (let i = 0; i < 3000; i++) {
    const what = random()
    if (what < 0.2) {
      const name = key()
      db.deleteSync(name)
      model.delete(name)
    } else if (what < 0.3) {
      const name = key()
      // Expired when the store is opened again.
      db.putSync(name, 'short', { expiresAtMs: Date.now() + 1 })
      model.delete(name)
    } else if (what < 0.4) {
      const names = [key(), key()]
      db.batchSync([
        { type: 'put', key: names[0], value: `in a batch ${i}` },
        { type: 'del', key: names[1] },
      ])
      model.set(names[0], `in a batch ${i}`)
      model.delete(names[1])
    } else put(random() < 0.1 ? `new key ${i}` : key(), `behind ${i}`)
  }
  commit(opened)
  const killed = killedCopy(path)
  db.closeSync()
  return { killed, model }
}

describe('changes behind a checkpoint', () => {
  test('wait for the tables that they belong to', () => {
    for (let seed = 1; seed <= 3; seed++) {
      const { killed, model } = behind(seed)
      const expected = whole(killed)
      const opened = openRooms(killed)
      const { keydir } = opened.rooms.ledger
      expect(opened.rooms.recovery.checkpoint).toMatchObject({ used: true, reason: undefined })
      expect(keydir.countInMemory).toBe(0)
      const [[name, value]] = model
      expect(opened.db.get(name)).toBe(value)
      expect(keydir.countInMemory).toBeGreaterThan(0)
      expect(keydir.countInMemory).toBeLessThan(model.size)
      for (const [name, value] of model) expect(opened.db.get(name)).toBe(value)
      expectModel(opened, model)
      expect(countsOf(opened)).toEqual(expected)
      opened.db.closeSync()
      const again = openRooms(killed)
      expectModel(again, model)
      expect(countsOf(again)).toEqual(expected)
      again.db.closeSync()
    }
  })

  test('are there for whoever asks first', async () => {
    const { killed, model } = behind(4)
    const asks: ((opened: Opened) => unknown)[] = [
      ({ db }) => expect(db.size).toBe(model.size),
      ({ rooms }) => expect(rooms.ledger.keydir.liveCount(0)).toBe(model.size),
      ({ db }) => expect(db.stats().liveBytes).toBe(whole(killed).reduce((sum, [live]) => sum + live, 0)),
      ({ db }) => expect(new Map(db.entries())).toEqual(model),
      ({ db }) => expect([...db.keys({ prefix: 'new' })].length).toBeGreaterThan(50),
      ({ db }) => expect(db.getMany([...model.keys()])).toEqual([...model.values()]),
      ({ db }) => db.expire(),
      ({ db }) => db.merge(),
      (opened) => checkpoint(opened),
      async ({ db, rooms }) => {
        const snapshot = db.snapshot()
        for (const name of model.keys()) db.putSync(name, 'after')
        expect(new Map(snapshot.entries())).toEqual(model)
        expect(snapshot.size).toBe(model.size)
        snapshot.release()
        for (const [name, value] of model) db.putSync(name, value)
        while (rooms.ledger.keydir.isFolded) await turn()
      },
      async ({ rooms }) => {
        while (rooms.ledger.keydir.isFolded) await turn()
      },
    ]
    for (const ask of asks) {
      const path = killedCopy(killed)
      const opened = openRooms(path, { sync: 'never', merge: false })
      expect(opened.rooms.ledger.keydir.countInMemory).toBe(0)
      await ask(opened)
      expectModel(opened, model)
      commit(opened)
      const copy = killedCopy(path)
      forgetCaches(copy)
      const reader = openRooms(copy, { readOnly: true })
      expect(countsOf(opened)).toEqual(countsOf(reader))
      reader.db.closeSync()
      await opened.db.close()
      const again = openRooms(path)
      expectModel(again, model)
      again.db.closeSync()
    }
  })

  test('are not taken for dead by the merge that runs by itself', async () => {
    const { killed, model } = behind(5)
    const merge = { triggerDeadRatio: 0.01, deadRatio: 0.01 }
    const opened = openRooms(killed, { sync: 'never', maxSegmentBytes: 0x4_0000, merge })
    const { stats } = opened.rooms.writing?.merger ?? {}
    await expect.poll(() => stats?.isRunning === false && stats.count > 0, { timeout: 20_000 }).toBe(true)
    expect(stats?.lastError).toBeUndefined()
    expectModel(opened, model)
    await opened.db.close()
    const again = openRooms(killed)
    expectModel(again, model)
    again.db.closeSync()
  })
})

describe('an index that comes in later', () => {
  test('is not read when the store is opened, and is all there', () => {
    const { path, file, model } = store()
    const opened = openRooms(path)
    const { checkpoint, bytesRead } = opened.rooms.recovery
    expect(checkpoint.used).toBe(true)
    expect(bytesRead).toBeLessThan(readFileSync(file).length / 2)
    expect(opened.rooms.ledger.keydir.isFolded).toBe(true)
    const { keydir } = opened.rooms.ledger
    expect(keydir.countInMemory).toBe(0)
    expect(opened.db.get('key 1')).toBe('value 1')
    expect(opened.rooms.ledger.keydir.isFolded).toBe(true)
    expect(keydir.countInMemory).toBeGreaterThan(0)
    expect(keydir.countInMemory).toBeLessThan(model.size)
    // Of those that are there: as many as all of them take, not less for what is still to come.
    const bytesPerKey = opened.db.stats().keydir.bytesPerKey
    expectModel(opened, model)
    expect(keydir.countInMemory).toBe(model.size)
    expect(bytesPerKey).toBeGreaterThan(opened.db.stats().keydir.bytesPerKey / 2)
    expect(opened.rooms.ledger.keydir.isFolded).toBe(false)
    expect(opened.rooms.recovery.checkpoint.reason).toBeUndefined()
    opened.db.closeSync()
  })

  test('comes in by itself, and the file is let go', async () => {
    const { path, model } = store()
    const held = new Set<unknown>()
    const host = {
      ...nodeHost,
      open: (...of: Parameters<typeof nodeHost.open>) => {
        const handle = nodeHost.open(...of)
        if (of[0].endsWith('CHECKPOINT')) held.add(handle)
        return handle
      },
      close: (handle: number) => {
        held.delete(handle)
        nodeHost.close(handle)
      },
    }
    const opened = openRooms(path, {}, host)
    expect(held.size).toBe(1)
    while (opened.rooms.ledger.keydir.isFolded) await turn()
    expect(held.size).toBe(0)
    expectModel(opened, model)
    await opened.db.close()
    for (const how of ['close', 'closeSync'] as const) {
      const again = openRooms(path, {}, host)
      expect(held.size).toBe(1)
      await again.db[how]()
      expect(held.size).toBe(0)
    }
  })

  test('comes in from the file that was opened, whatever takes its name', () => {
    const { path, file, model } = store()
    const opened = openRooms(path)
    rmSync(file)
    writeFileSync(file, 'another')
    expectModel(opened, model)
    expect(opened.rooms.recovery.checkpoint.reason).toBeUndefined()
    opened.db.closeSync()
  })

  test('takes writes, and the next checkpoint holds all of it', () => {
    const { path, model } = store()
    const opened = openRooms(path, { sync: 'never' })
    opened.db.putSync('key 1', 'later')
    model.set('key 1', 'later')
    expect(opened.rooms.ledger.keydir.isFolded).toBe(true)
    expect(checkpoint(opened)).toMatchObject({ isWritten: true, entries: model.size })
    expectModel(opened, model)
    opened.db.closeSync()
    const again = openRooms(path)
    expect(again.rooms.recovery.checkpoint.used).toBe(true)
    expectModel(again, model)
    again.db.closeSync()
  })

  test('of a reader is in when it is open', () => {
    const { path, model } = store()
    const opened = openRooms(path, { readOnly: true })
    expect(opened.rooms.ledger.keydir.isFolded).toBe(false)
    expectModel(opened, model)
    opened.db.closeSync()
  })
})

describe('an index that turns out damaged', () => {
  test('is read from the log, wherever that is, and whoever meets it', async () => {
    const { path, file, model } = store()
    const sound = readFileSync(file)
    const expected = scanned(path)
    const liveBytes = liveBytesOf({ rooms: openRooms(path, { readOnly: true }).rooms })
    const meet: ((opened: Opened) => unknown)[] = [
      ({ db }) => db.size,
      ({ db }) => [...db.keys()].length,
      ({ db }) => {
        for (let i = 0; i < KEYS; i++) db.get(`key ${i}`)
      },
      ({ db }) => db.getMany(Array.from({ length: KEYS }, (_, i) => `key ${i}`)),
      ({ rooms }) => rooms.ledger.keydir.liveCount(0),
      async ({ rooms }) => {
        while (rooms.ledger.keydir.isFolded) await turn()
      },
      ({ db }) => db.expire(),
      ({ db }) => {
        const snapshot = db.snapshot()
        for (const _ of snapshot.entries());
        snapshot.release()
      },
    ]
    for (const [i, by] of meet.entries()) {
      writeFileSync(file, sound)
      damaged(file, PLACES[i % PLACES.length])
      const opened = openRooms(path)
      expect(opened.rooms.recovery.checkpoint).toMatchObject({ used: true, reason: undefined })
      await by(opened)
      expectModel(opened, model)
      expect(opened.rooms.recovery.checkpoint).toMatchObject({ used: true, reason: MENDED })
      expect(liveBytesOf(opened)).toEqual(liveBytes)
      expect(opened.db.health()).toMatchObject({ ok: true, damage: [], tornTails: [] })
      opened.db.closeSync()
    }
    rmSync(file)
    expect(JSON.parse(JSON.stringify(same(find(path))))).toEqual(expected)
  })

  test('be it cut or unreadable after the store was opened', () => {
    const { path, file, model } = store()
    const cut = openRooms(path)
    truncateSync(file, CHECKPOINT_HEADER_BYTES + PIECE_BYTES + 100)
    expectModel(cut, model)
    expect(cut.rooms.recovery.checkpoint.reason).toBe(MENDED)
    cut.db.closeSync()
    let isOpen = false
    const checkpoints = new Set<unknown>()
    const host = {
      ...nodeHost,
      open: (...of: Parameters<typeof nodeHost.open>) => {
        const handle = nodeHost.open(...of)
        if (of[0].endsWith('CHECKPOINT')) checkpoints.add(handle)
        return handle
      },
      close: (handle: number) => {
        checkpoints.delete(handle)
        nodeHost.close(handle)
      },
      read: (...of: Parameters<typeof nodeHost.read>) => {
        if (isOpen && checkpoints.has(of[0])) throw systemError('EIO')
        return nodeHost.read(...of)
      },
    }
    const again = store()
    const unreadable = openRooms(again.path, {}, host)
    isOpen = true
    expectModel(unreadable, again.model)
    expect(unreadable.rooms.recovery.checkpoint.reason).toBe(MENDED)
    unreadable.db.closeSync()
  })

  test('by a write: what a snapshot holds, and what is live where, is as it should be', () => {
    for (const at of PLACES) {
      const { path, file, model } = store()
      damaged(file, at)
      const opened = openRooms(path, { sync: 'never' })
      const { db } = opened
      const snapshot = db.snapshot()
      const after = new Map(model)
      // In one group, which is in the log when its first key is looked for.
      let last: Promise<unknown> = Promise.resolve()
      for (let i = 0; i < KEYS; i += 3) {
        last = db.put(`key ${i}`, `by ${i}`)
        after.set(`key ${i}`, `by ${i}`)
      }
      last.catch(() => {})
      commit(opened)
      expect(opened.rooms.recovery.checkpoint.reason).toBe(MENDED)
      for (let i = 0; i < KEYS; i++) expect(snapshot.get(`key ${i}`)).toBe(model.get(`key ${i}`))
      snapshot.release()
      expectModel(opened, after)
      const copy = killedCopy(path)
      forgetCaches(copy)
      const reader = openRooms(copy, { readOnly: true })
      expect(liveBytesOf(opened)).toEqual(liveBytesOf(reader))
      reader.db.closeSync()
      db.closeSync()
    }
  })

  test('with changes that wait for it: they are in the log as well', async () => {
    for (const at of PLACES) {
      const { killed, model } = behind(1)
      damaged(join(killed, 'CHECKPOINT'), at)
      const expected = whole(killed)
      const again = openRooms(killed)
      expect(again.rooms.recovery.checkpoint).toMatchObject({ used: true, reason: undefined })
      expectModel(again, model)
      expect(again.rooms.recovery.checkpoint.reason).toBe(MENDED)
      // What has expired came back as an entry.
      await again.db.expire()
      expect(liveBytesOf(again)).toEqual(expected.map(([liveBytes]) => liveBytes))
      again.db.closeSync()
      const last = openRooms(killed)
      expectModel(last, model)
      // It was written anew.
      expect(last.rooms.recovery.checkpoint).toMatchObject({ used: true, reason: undefined })
      last.db.closeSync()
    }
  })

  test('while more is applied to it than can wait: then all of the log is read', () => {
    const { path, model } = store()
    const opened = openRooms(path, { sync: 'never', merge: false })
    // Long keys: what waits holds them.
    const long = 'k'.repeat(60_000)
    for (let i = 0; i < 1200; i++) {
      opened.db.putSync(`${i}${long}`, '')
      model.set(`${i}${long}`, '')
    }
    opened.db.putSync('key 1', 'behind')
    model.set('key 1', 'behind')
    commit(opened)
    const killed = killedCopy(path)
    opened.db.closeSync()
    const sound = openRooms(killedCopy(killed))
    expect(sound.rooms.recovery.checkpoint).toMatchObject({ used: true, reason: undefined })
    expectModel(sound, model)
    sound.db.closeSync()
    damaged(join(killed, 'CHECKPOINT'), 5000)
    const again = openRooms(killed)
    expect(again.rooms.recovery.checkpoint).toMatchObject({ used: false, reason: 'it is damaged' })
    expectModel(again, model)
    again.db.closeSync()
    const last = openRooms(killed)
    expectModel(last, model)
    last.db.closeSync()
  })

  test('finds what is damaged in the log as well', () => {
    const { path, file } = store()
    const [segment] = segmentsOf(path)
    const record = recordsOf(segment).find(({ key }) => Buffer.from(key).toString() === 'key 1')
    if (record === undefined) throw new Error('it is there')
    damaged(file, 0)
    damaged(file, PIECE_BYTES + 1)
    damaged(file, 2 * PIECE_BYTES + 1)
    damaged(file, 3 * PIECE_BYTES + 1)
    const opened = openRooms(path)
    flipBit(segment, (record.offset + 29 + 'key 1'.length) * 8)
    expect(opened.db.size).toBeGreaterThan(0)
    expect(() => opened.db.get('key 1')).toThrow(/damaged/)
    expect(opened.db.health().damage).toHaveLength(1)
    expect(opened.db.get('key 2')).toBe('value 2')
    opened.db.closeSync()
  })

  test('where the log can not be read: the call fails, and the next one tries again', () => {
    const { path, file, model } = store()
    damaged(file, 0)
    let fails = false
    const host = {
      ...nodeHost,
      read: (...of: Parameters<typeof nodeHost.read>) => {
        if (fails) throw systemError('EIO')
        return nodeHost.read(...of)
      },
    }
    const opened = openRooms(path, {}, host)
    fails = true
    expect(() => [...opened.db.keys()]).toThrow(/EIO/)
    fails = false
    expectModel(opened, model)
    opened.db.closeSync()
  })

  test('at any time, among writes, merges and sweeps, comes to the same', async () => {
    let mended = 0
    for (let seed = 1; seed <= 3; seed++) {
      const random = randomFrom(seed)
      const { path, file, model } = store()
      for (let session = 0; session < 3; session++) {
        if (existsSync(file) && random() < 0.8)
          damaged(file, Math.floor(random() * (readFileSync(file).length - 80_000)))
        const opened = openRooms(path, { sync: 'never', maxSegmentBytes: 0x4_0000, merge: false })
        const { db } = opened
        for (let round = 0; round < 4; round++) {
          for (let n = Math.floor(random() * 40); n > 0; n--) {
            const key = `key ${Math.floor(random() * KEYS)}`
            if (random() < 0.3) {
              await db.delete(key)
              model.delete(key)
            } else {
              await db.put(key, `${seed} ${n}`)
              model.set(key, `${seed} ${n}`)
            }
          }
          const what = random()
          if (what < 0.2) await db.merge()
          else if (what < 0.4) await db.expire()
          else if (what < 0.6) expect(db.size).toBe(model.size)
          else if (what < 0.7) await turn()
        }
        expectModel(opened, model)
        if (opened.rooms.recovery.checkpoint.reason === MENDED) mended++
        commit(opened)
        const copy = killedCopy(path)
        forgetCaches(copy)
        const reader = openRooms(copy, { readOnly: true })
        expect(liveBytesOf(opened)).toEqual(liveBytesOf(reader))
        reader.db.closeSync()
        await db.close()
      }
    }
    expect(mended).toBeGreaterThan(1)
  })
})
