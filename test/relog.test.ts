// What a crash leaves behind the last certified byte: on a simulated machine, where a power cut takes all that no sync
// has vouched for, and a failed sync loses what it was to write.
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import {
  KIND_DELETE,
  KIND_MARKER,
  KIND_PUT,
  READ_BYTES,
  RECORD_HEADER_BYTES,
  RECORD_KIND_AT,
  RECORD_PREFIX_BYTES_MAX,
  SCAN_BYTES,
  WRITE_AT,
} from '../assembly/layout'
import { isCaskyError } from '../src/errors'
import { nodeHost } from '../src/host/node'
import { type Casky, openSync } from '../src/index'
import { Kernels } from '../src/kernels'
import { recordSeed } from '../src/segment'
import { type Ground, openSyncOn } from '../src/store'
import { choices, crashed } from './sim/crash'
import { SimDisk } from './sim/disk'
import { Random } from './sim/random'
import { type CallKind, type Fault, STORE, World } from './sim/world'
import { freshStore } from './support/folders'
import { failure, groundWith, openSyncWith } from './support/ground'
import { type ReferenceRecord, referenceSegment } from './support/reference'
import { append, killedCopy, recordsOf, segmentsOf as segmentFilesOf } from './support/stores'

const random = new Random(1)
const LATER = 4_102_444_800_000

/** A process on a disk; `fault` befalls its calls. */
function process(disk: SimDisk, fault?: (kind: CallKind, path: string) => Fault | undefined): World {
  const world = new World(disk, random)
  world.watcher = { before: fault }
  return world
}

function open(world: World, options = {}): Casky {
  return openSyncOn<'utf8', 'utf8'>(world.ground, STORE, { maxSegmentBytes: 4096, ...options })
}

/** The power fails: nothing that is pending has reached the disk. */
function powerCut({ disk }: World): SimDisk {
  const [worst] = choices(disk, 0, random)
  return crashed(disk, worst, random)
}

function contentsOf(disk: SimDisk, nowMs?: number): Record<string, string> {
  const world = process(disk)
  world.nowMs = nowMs ?? world.nowMs
  const db = open(world, { readOnly: true })
  expect(db.health()).toMatchObject({ ok: true, damage: [] })
  const contents = Object.fromEntries(db.entries())
  db.closeSync()
  return contents
}

function segmentsOf(disk: SimDisk): string[] {
  const node = disk.find(STORE)
  if (node?.kind !== 'directory') throw new Error('no store')
  return [...node.live.keys()].filter((name) => name.endsWith('.data')).sort()
}

const EIO: Fault = { code: 'EIO' }

/** A store with `a` acknowledged, and `b` whose sync failed; its process is dead. */
function failedSync(): SimDisk {
  let isFailing = false
  const world = process(new SimDisk(), (kind) => (isFailing && kind === 'sync' ? EIO : undefined))
  const db = open(world)
  db.putSync('a', '1')
  isFailing = true
  expect(() => db.putSync('b', '2')).toThrow(/unknown/)
  world.kill()
  return world.disk
}

describe('what a crash left uncertified', () => {
  test('is served only once it is there to stay, though its sync had failed', () => {
    const world = process(failedSync())
    const db = open(world)
    expect(db.get('b')).toBe('2') // it is still in memory
    world.kill()
    expect(contentsOf(powerCut(world))).toEqual({ a: '1', b: '2' })
  })

  test('leaves no hole in front of what is acknowledged after it', () => {
    const world = process(failedSync())
    open(world).putSync('c', '3')
    world.kill()
    expect(contentsOf(powerCut(world))).toEqual({ a: '1', b: '2', c: '3' })
  })

  test('is copied once; a second opening changes nothing', () => {
    const world = process(failedSync())
    open(world).closeSync()
    const segments = segmentsOf(world.disk)
    expect(segments).toEqual(['0000000001.data', '0000000002.data'])
    open(world).closeSync()
    expect(segmentsOf(world.disk)).toEqual(segments)
  })

  test('keeps order, expiry, deletes and batches, and points every key to where it is now', () => {
    const first = process(new SimDisk())
    const db = open(first, { sync: 'never', maxSegmentBytes: 100_000 })
    db.putSync('gone', '1')
    db.putSync('old', '1', { ttlMs: 10 })
    db.putSync('kept', '1', { ttlMs: 1000 })
    db.batchSync([
      { type: 'put', key: 'x', value: 'X'.repeat(2000) },
      { type: 'del', key: 'gone' },
      { type: 'put', key: 'y', value: '' },
    ])
    db.putSync('x', 'again')
    first.kill()
    const second = process(first.disk)
    second.nowMs = first.nowMs + 20
    const again = open(second, { sync: 'never' })
    expect(Object.fromEntries(again.entries())).toEqual({ kept: '1', x: 'again', y: '' })
    expect(again.expiresAtMs('kept')).toBe(first.nowMs + 1000)
    const { segments } = again.stats()
    expect(segments.map(({ state }) => state)).toEqual(['closed', 'sealed'])
    expect(segments[0]).toMatchObject({ records: 0, liveBytes: 0 })
    expect(segments[1]).toMatchObject({ records: 7 })
    again.closeSync()
    expect(contentsOf(powerCut(second), second.nowMs)).toEqual({ kept: '1', x: 'again', y: '' })
  })

  // With few behind many each is looked up; else all that there is is walked through.
  for (const behind of [2, 60]) {
    test(`of ${behind} writes behind a hundred keys: each is found where it is now`, () => {
      const first = process(new SimDisk())
      const db = open(first, { sync: 'never', maxSegmentBytes: 100_000 })
      const expected: Record<string, string> = {}
      for (let i = 0; i < 100; i++) {
        db.putSync(`key ${i}`, `${i}`)
        expected[`key ${i}`] = `${i}`
      }
      db.flushSync()
      for (let i = 0; i < behind; i++) {
        const key = `key ${i + 20}`
        if (i % 5 === 1) {
          db.deleteSync(key)
          delete expected[key]
        } else {
          db.putSync(key, 'anew'.repeat(i))
          expected[key] = 'anew'.repeat(i)
        }
      }
      first.kill()
      const second = process(first.disk)
      const again = open(second, { sync: 'never' })
      expect(Object.fromEntries(again.entries())).toEqual(expected)
      for (const [key, value] of Object.entries(expected)) expect(again.get(key)).toBe(value)
      const numbers = again.stats().segments
      expect(numbers.map(({ state }) => state)).toEqual(['closed', 'sealed'])
      expect(numbers[1].records).toBe(behind)
      again.closeSync()
      const reader = open(process(second.disk), { readOnly: true })
      const liveBytes = (from: typeof numbers) => from.map((segment) => segment.liveBytes)
      expect(liveBytes(reader.stats().segments)).toEqual(liveBytes(numbers))
      reader.closeSync()
      expect(contentsOf(powerCut(second), second.nowMs)).toEqual(expected)
    })
  }

  test('is where it ends when all that is left is a seal that no sync has vouched for', () => {
    let syncs = 0
    const world = process(new SimDisk(), (kind, path) =>
      kind === 'sync' && path.endsWith('0000000001.data') && ++syncs === 3 ? EIO : undefined,
    )
    const db = open(world, { sync: 'never' })
    db.putSync('a', '1')
    expect(() => db.closeSync()).toThrow(/unknown/)
    world.kill()
    const second = process(world.disk)
    open(second).putSync('b', '2')
    second.kill()
    expect(contentsOf(powerCut(second))).toEqual({ a: '1', b: '2' })
  })

  test('is served from where it is on a full disk, and copied by the first write that finds room', () => {
    const disk = failedSync()
    let isFull = true
    const full = (kind: CallKind, path: string): Fault | undefined =>
      isFull && kind === 'write' && !path.includes('LOCK') ? { code: 'ENOSPC' } : undefined
    const world = process(disk, full)
    const db = open(world)
    expect(db.get('b')).toBe('2')
    expect(() => db.putSync('c', '3')).toThrow(/no space/)
    expect(segmentsOf(disk)).toEqual(['0000000001.data'])
    isFull = false
    db.putSync('c', '3')
    world.kill()
    expect(contentsOf(powerCut(world))).toEqual({ a: '1', b: '2', c: '3' })
  })
})

/** What a copy has in common with what it was made of. */
const essence = (records: ReferenceRecord[]) =>
  records
    .filter(({ kind }) => kind <= 2)
    .map(({ kind, flags, sequence, timeMs, expiresAtMs, key, value }) => {
      const text = { key: key.toString('latin1'), value: value.toString('latin1') }
      return { kind, flags, sequence, timeMs, expiresAtMs, ...text }
    })

/** A store that was killed with these entries behind its first one, of which alone a sync has vouched. */
function killedBehind(entries: Record<string, string>): { killed: string; expected: Map<string, string> } {
  const directory = freshStore()
  const db = openSync(directory, { sync: 'never' })
  db.putSync('a', '1')
  db.flushSync()
  for (const [key, value] of Object.entries(entries)) db.putSync(key, value)
  const expected = new Map(db.entries())
  const killed = killedCopy(directory)
  db.closeSync()
  return { killed, expected }
}

/** Reads the byte at `at` of a file with the bits flipped that `bitsOf` gives, the first time, the second, and so on. */
function misreading(file: string, at: number, bitsOf: (time: number) => number): Ground {
  let handle: number | undefined
  let timesRead = 0
  return groundWith({
    open: (path, mode) => {
      const opened = nodeHost.open(path, mode)
      if (path === file) handle = opened
      return opened
    },
    read: (from, into, begin, bytes, position) => {
      const read = nodeHost.read(from, into, begin, bytes, position)
      // The look for where the file's last zeros begin is no reading of a record.
      const isLook = into.buffer.byteLength <= 512
      const isInside = from === handle && !isLook && position <= at && at < position + read
      if (isInside) into[begin + at - position] ^= bitsOf(++timesRead)
      return read
    },
  })
}

describe('the copy of what a crash left uncertified', () => {
  test('holds the same records, in the same order, however long they are and however many', () => {
    const directory = freshStore()
    const db = openSync(directory, { valueEncoding: 'bytes', sync: 'never' })
    const put = (key: string, bytes: number, options = {}) =>
      db.putSync(key, Buffer.alloc(bytes, `${bytes} `), options)
    put('certified', 10)
    db.flushSync()
    put('a', 3)
    put('late', 1, { expiresAtMs: LATER })
    // As long as what is taken at a time; and longer by one, in a batch that goes on behind it, with the longest key.
    put('k', READ_BYTES - 30)
    db.batchSync([
      { type: 'put', key: 'before', value: Buffer.alloc(1000, 'b') },
      { type: 'put', key: 'long', value: Buffer.alloc(READ_BYTES + 1 - 33, 'l') },
      { type: 'del', key: 'a' },
      { type: 'put', key: 'k'.repeat(65_535), value: Buffer.alloc(0) },
    ])
    // More than the scan's table has rows for, of one window.
    for (let i = 0; i < 36_000; i++) put(`${i % 10}`, 0)
    db.deleteSync('k')
    const expected = new Map(db.entries())
    const killed = killedCopy(directory)
    db.closeSync()
    const before = recordsOf(segmentFilesOf(killed)[0])
    const again = openSync(killed, { valueEncoding: 'bytes', sync: 'never' })
    expect(new Map(again.entries())).toEqual(expected)
    expect(again.stats().segments).toMatchObject([{ records: 1, lastSequence: 1 }, { firstSequence: 2 }])
    again.closeSync()
    const copied = referenceSegment(readFileSync(segmentFilesOf(killed)[1]))
    expect(essence(copied.records)).toEqual(essence(before).slice(1))
    // Nothing of it is certified but by its seal.
    const seal = copied.records.at(-1)
    expect(seal).toMatchObject({ kind: 4, certifiedBytes: seal?.offset })
    expect(new Set(copied.records.slice(0, -1).map((record) => record.certifiedBytes))).toEqual(new Set([96]))
    openSync(killed, { strict: true }).closeSync()
  })

  test('leaves out markers, also between writes, and each key is found where it is now', () => {
    const directory = freshStore()
    const db = openSync(directory, { sync: 'never' })
    for (let i = 0; i < 100; i++) db.putSync(`key ${i}`, `${i}`)
    db.flushSync()
    const expected = new Map(db.entries())
    const killed = killedCopy(directory)
    db.closeSync()
    const [file] = segmentFilesOf(killed)
    const { header, records } = referenceSegment(readFileSync(file))
    const { length: certifiedBytes } = readFileSync(file)
    const kernels = new Kernels()
    let sequence = 99
    let offset = certifiedBytes
    const write = (kind: number, key = '', value = '') => {
      kernels.bytes.set(Buffer.from(key), WRITE_AT + 29)
      kernels.bytes.set(Buffer.from(value), WRITE_AT + 29 + key.length)
      if (kind !== KIND_MARKER) sequence++
      const seed = recordSeed(header.salt, offset)
      kernels.call.encodeRecord(
        WRITE_AT,
        kind,
        key.length,
        value.length,
        sequence,
        1,
        0,
        certifiedBytes,
        seed,
      )
      const bytes = 29 + key.length + value.length
      append(file, kernels.bytes.slice(WRITE_AT, WRITE_AT + bytes))
      offset += bytes
    }
    expect(records.filter(({ kind }) => kind === KIND_PUT)).toHaveLength(100)
    for (const key of ['key 1', 'key 2', 'new', 'key 3', 'key 1']) {
      write(KIND_MARKER)
      write(KIND_PUT, key, `${key} anew`)
      write(KIND_MARKER)
      expected.set(key, `${key} anew`)
    }
    write(KIND_DELETE, 'key 2')
    expected.delete('key 2')
    const again = openSync(killed, { sync: 'never' })
    for (const key of ['key 2', 'key 4', ...expected.keys()]) expect(again.get(key)).toBe(expected.get(key))
    expect(new Map(again.entries())).toEqual(expected)
    const { segments } = again.stats()
    expect(segments.map(({ records }) => records)).toEqual([100, 6])
    again.closeSync()
    expect(recordsOf(segmentFilesOf(killed)[1]).map(({ kind }) => kind)).toEqual([1, 1, 1, 1, 1, 2, 4])
  })

  test('holds nothing that is read otherwise than before: the opening fails, and the next one finds all', async () => {
    const { killed, expected } = killedBehind({ b: '2', c: 'see', long: 'l'.repeat(600_000) })
    const [file] = segmentFilesOf(killed)
    const [, , c, long] = recordsOf(file).filter(({ kind }) => kind === KIND_PUT)
    for (const [at, code] of [
      [c.offset + c.bytes - 1, 'CASKY_CORRUPT'],
      [long.offset + long.bytes - 1, 'CASKY_CORRUPT'],
      [c.offset + 29, 'CASKY_IO'],
    ] as const) {
      const ground = misreading(file, at, (time) => (time > 1 ? 1 : 0))
      expect(await failure(() => openSyncWith(ground, killed))).toMatchObject({ code, path: file })
      expect(segmentFilesOf(killed)).toEqual([file])
      const reader = openSync(killed, { readOnly: true })
      expect(new Map(reader.entries())).toEqual(expected)
      reader.closeSync()
    }
    const again = openSync(killed)
    expect(new Map(again.entries())).toEqual(expected)
    again.closeSync()
    expect(segmentFilesOf(killed)).toHaveLength(2)
  })
})

test('whatever is read otherwise once, between recovery and copy, nothing is lost and nothing is taken for certified', async () => {
  const { killed, expected } = killedBehind({
    b: '2',
    c: 'see',
    // So that the next one begins at the end of a window, and its header is read once more.
    pad: 'p'.repeat(READ_BYTES - RECORD_PREFIX_BYTES_MAX / 2),
    huge: 'h'.repeat(SCAN_BYTES + 1),
    d: '4',
  })
  const [, b, , , huge, d] = recordsOf(segmentFilesOf(killed)[0]).filter(({ kind }) => kind === KIND_PUT)
  const outcomes = new Map<string, number>()
  for (const { offset } of [b, huge, d]) {
    // Its kind, and its key.
    for (const at of [offset + RECORD_KIND_AT, offset + RECORD_HEADER_BYTES]) {
      for (let time = 2; time <= 6; time++) {
        const path = killedCopy(killed)
        const [file] = segmentFilesOf(path)
        // A put becomes a marker, a key another.
        const ground = misreading(file, at, (timesRead) => (timesRead === time ? 2 : 0))
        let outcome = 'opened'
        try {
          const opened = openSyncWith(ground, path)
          expect(new Map(opened.entries())).toEqual(expected)
          expect(opened.stats().segments.map(({ records }) => records)).toEqual([1, 5])
          opened.closeSync()
        } catch (error) {
          if (!isCaskyError(error)) throw error
          outcome = error.code
        }
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
        const again = openSync(path)
        expect(new Map(again.entries())).toEqual(expected)
        again.closeSync()
      }
    }
  }
  expect([...outcomes.keys()].sort()).toEqual(['CASKY_CORRUPT', 'CASKY_IO', 'opened'])
})

describe('opening makes lasting', () => {
  test('a cut that nobody has synced: a refused write does not return', () => {
    let isFailing = false
    const world = process(new SimDisk(), (kind) => (isFailing && kind === 'sync' ? EIO : undefined))
    const db = open(world)
    db.putSync('a', '1')
    isFailing = true
    expect(() => db.putSync('b', '2')).toThrow(/unknown/)
    expect(() => db.closeSync()).toThrow(/unknown/)
    world.kill()
    const second = process(world.disk)
    open(second)
    second.kill()
    // Whatever of it had reached the disk: the file has been cut, and that was synced.
    for (const choice of choices(second.disk, 50, random)) {
      expect(contentsOf(crashed(second.disk, choice, random))).toEqual({ a: '1' })
    }
  })

  test('a manifest whose writer died before it synced the directory', () => {
    const first = process(new SimDisk())
    open(first).closeSync()
    let db: Casky | undefined
    const dying = process(first.disk)
    dying.watcher = {
      after: (kind, path) => {
        if (kind === 'rename' && path.endsWith('MANIFEST.next')) dying.kill()
      },
    }
    db = open(dying)
    expect(() => db?.putSync('a', '1')).toThrow()
    const second = process(dying.disk)
    db = open(second)
    second.watcher = {
      after: (kind) => {
        if (kind === 'create') second.kill()
      },
    }
    expect(() => db?.putSync('b', '2')).toThrow()
    expect(contentsOf(powerCut(second))).toEqual({})
  })
})
