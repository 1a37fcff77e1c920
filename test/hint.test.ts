import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { beforeAll, describe, expect, test } from 'vitest'
import { KIND_DELETE } from '../assembly/layout'
import { Catalog } from '../src/catalog'
import { hintSteps, removeHint, removeStaleCaches } from '../src/hinting'
import { nodeHost } from '../src/host/node'
import { filesOf, find, type Opened, openRooms, same, writeHints } from './support/caches'
import { freshStore, useMemory } from './support/folders'
import { systemError } from './support/ground'
import { referenceHint } from './support/reference-caches'
import { flipBit, recordsOf, segmentsOf, truncate } from './support/stores'

beforeAll(useMemory)

const FUTURE_MS = 4_000_000_000_000

/** A closed store of a few segments with everything in it that a log can hold, and no caches. */
function mixedStore(): string {
  const path = freshStore()
  const { db } = openRooms(path, { sync: 'never', maxSegmentBytes: 4096 })
  for (let i = 0; i < 150; i++) {
    db.putSync(`key ${i % 70}`, `value ${i} ${'x'.repeat(i)}`)
    if (i % 7 === 0) db.deleteSync(`key ${i % 50}`)
    if (i % 10 === 0) db.putSync(`expiring ${i}`, 'soon', { expiresAtMs: FUTURE_MS + i })
    if (i % 13 === 0) {
      db.batchSync([
        { type: 'put', key: `batch ${i}`, value: 'a' },
        { type: 'del', key: `key ${(i + 1) % 70}` },
        { type: 'put', key: 'batch', value: `${i}` },
      ])
    }
  }
  db.putSync('k'.repeat(60_000), 'a long key')
  db.putSync('longer than a step', 'y'.repeat(300_000))
  db.putSync('longer than a window', 'z'.repeat(5_000_000))
  db.putSync('the end', '')
  db.closeSync()
  withoutCaches(path)
  return path
}

function withoutCaches(path: string): void {
  for (const name of [...filesOf(path, '.hint'), 'CHECKPOINT']) rmSync(join(path, name), { force: true })
}

/** A closed store of one small segment, and its hint. */
function smallStore(): { path: string; hint: string } {
  const path = freshStore()
  const { db } = openRooms(path)
  db.putSync('a', '1')
  db.putSync('b', '22', { expiresAtMs: FUTURE_MS })
  db.batchSync([
    { type: 'put', key: 'c', value: '333' },
    { type: 'del', key: 'a' },
  ])
  db.closeSync()
  withoutCaches(path)
  hinted(path)
  return { path, hint: join(path, '0000000001.hint') }
}

function hinted(path: string): number {
  const opened = openRooms(path, { readOnly: true })
  const written = writeHints(opened)
  opened.db.closeSync()
  return written
}

function withRooms<T>(path: string, run: (opened: Opened) => T): T {
  const opened = openRooms(path, { readOnly: true })
  try {
    return run(opened)
  } finally {
    opened.db.closeSync()
  }
}

function ways(path: string): { cameFrom: string[]; withoutHint: number[] } {
  const { recovery } = find(path)
  return { cameFrom: recovery.bySegment.map(({ cameFrom }) => cameFrom), withoutHint: recovery.withoutHint }
}

describe('a hint', () => {
  test('brings in what a scan would', () => {
    const path = mixedStore()
    const scanned = find(path)
    const segments = segmentsOf(path).length
    expect(scanned.recovery).toMatchObject({ scanned: segments, hinted: 0 })
    expect(scanned.recovery.withoutHint.length).toBe(segments)
    expect(hinted(path)).toBe(segments)
    const found = find(path)
    expect(same(found)).toEqual(same(scanned))
    expect(found.recovery).toMatchObject({ scanned: 0, hinted: segments, withoutHint: [] })
    expect(found.recovery.records).toBe(scanned.recovery.records)
    expect(found.recovery.bytesRead).toBeLessThan(scanned.recovery.bytesRead / 10)
    const { progress, db } = openRooms(path, { readOnly: true })
    db.closeSync()
    expect(progress.every(({ cameFrom }) => cameFrom === 'hint')).toBe(true)
    const last = progress[progress.length - 1]
    expect([last.bytesDone, last.segment]).toEqual([last.bytesTotal, segments])
  })

  test('lies on disk as the format says', () => {
    const path = mixedStore()
    hinted(path)
    const entries = withRooms(path, ({ rooms }) => rooms.catalog.entries())
    for (const [i, entry] of entries.slice(0, -1).entries()) {
      const segment = segmentsOf(path)[i]
      const hint = readFileSync(segment.replace(/data$/, 'hint'))
      expect(hint.equals(referenceHint(readFileSync(segment), recordsOf(segment), entry))).toBe(true)
    }
  })

  test('is written in small steps', () => {
    const path = mixedStore()
    withRooms(path, ({ rooms }) => {
      let read = 0
      const host = {
        ...nodeHost,
        read: (...of: Parameters<typeof nodeHost.read>) => {
          const bytes = nodeHost.read(...of)
          read += bytes
          return bytes
        },
      }
      for (const segment of rooms.catalog.segments) {
        const steps = hintSteps({ ...rooms, host }, segment)
        for (let step = steps.next(); step.done !== true; step = steps.next()) {
          expect(read).toBeLessThanOrEqual(0x2_0000 + 2 * 65_600)
          read = 0
        }
        read = 0
      }
    })
  })

  test('with any byte flipped is not used', () => {
    const { path, hint } = smallStore()
    const expected = same(find(path))
    const bytes = readFileSync(hint)
    for (let at = 0; at < bytes.length; at++) {
      flipBit(hint, at * 8 + (at % 8))
      const found = find(path)
      expect(same(found)).toEqual(expected)
      expect(found.recovery).toMatchObject({ scanned: 1, hinted: 0, withoutHint: [1] })
      writeFileSync(hint, bytes)
    }
    expect(ways(path)).toEqual({ cameFrom: ['hint'], withoutHint: [] })
  })

  test('of any other length is not used', () => {
    const { path, hint } = smallStore()
    const expected = same(find(path))
    const bytes = readFileSync(hint)
    for (let length = 0; length < bytes.length + 40; length++) {
      if (length === bytes.length) continue
      writeFileSync(hint, Buffer.concat([bytes, Buffer.alloc(40)]).subarray(0, length))
      const found = find(path)
      expect(same(found)).toEqual(expected)
      expect(found.recovery).toMatchObject({ scanned: 1, hinted: 0 })
    }
  })

  test('that ends early under a CRC of its own is not used', () => {
    const { path, hint } = smallStore()
    const expected = same(find(path))
    const bytes = readFileSync(hint)
    const prefixes = recordsOf(segmentsOf(path)[0]).map(
      ({ key, expiresAtMs }) => 29 + key.length + (expiresAtMs === undefined ? 0 : 8),
    )
    let end = 96
    for (const prefix of prefixes) {
      writeFileSync(hint, withCrc(bytes.subarray(0, end)))
      const found = find(path)
      expect(same(found)).toEqual(expected)
      expect(found.recovery).toMatchObject({ scanned: 1, hinted: 0 })
      end += prefix
    }
    expect(end).toBe(bytes.length - 4)
    writeFileSync(hint, withCrc(bytes.subarray(0, end)))
    expect(find(path).recovery.hinted).toBe(1)
  })

  test('of another store, another segment or a newer format is not used', () => {
    const { path, hint } = smallStore()
    const expected = same(find(path))
    const other = smallStore()
    cpSync(other.hint, hint)
    expect(same(find(path))).toEqual(expected)
    expect(ways(path)).toEqual({ cameFrom: ['scan'], withoutHint: [1] })
    const several = mixedStore()
    hinted(several)
    const contents = same(find(several))
    cpSync(join(several, '0000000002.hint'), join(several, '0000000003.hint'))
    expect(same(find(several))).toEqual(contents)
    expect(ways(several).withoutHint).toEqual([3])
    const newer = readFileSync(other.hint)
    newer.writeUInt16LE(2, 8)
    newer.writeUInt32LE(crc32(newer.subarray(0, 12)), 12)
    newer.writeUInt32LE(crc32(newer.subarray(0, 92)), 92)
    writeFileSync(other.hint, withCrc(newer.subarray(0, -4)))
    expect(ways(other.path)).toEqual({ cameFrom: ['scan'], withoutHint: [1] })
  })

  test('of a segment that has since ended elsewhere is not used', () => {
    // Killed before the seal: the next open has the manifest end the segment before what is not certified.
    const killed = freshStore()
    const { db } = openRooms(killed)
    db.putSync('a', '1')
    db.putSync('b', '2')
    const copy = freshStore()
    cpSync(killed, copy, { recursive: true, filter: (name) => !name.endsWith('LOCK') })
    db.closeSync()
    hinted(killed)
    const again = openRooms(copy)
    again.db.putSync('c', '3')
    again.db.closeSync()
    withoutCaches(copy)
    const expected = same(find(copy))
    cpSync(join(killed, '0000000001.hint'), join(copy, '0000000001.hint'))
    const found = find(copy)
    expect(same(found)).toEqual(expected)
    expect(found.recovery.bySegment[0]).toMatchObject({ cameFrom: 'scan', hintReason: expect.any(String) })
  })

  test('is not trusted over its segment', () => {
    const { path } = smallStore()
    const [segment] = segmentsOf(path)
    const bytes = readFileSync(segment)
    const compare = () => {
      const found = find(path)
      expect(found.recovery.hinted).toBe(0)
      const hint = readFileSync(join(path, '0000000001.hint'))
      rmSync(join(path, '0000000001.hint'))
      expect(same(found)).toEqual(same(find(path)))
      writeFileSync(join(path, '0000000001.hint'), hint)
      return found
    }
    truncate(segment, bytes.length - 1)
    expect(compare().findings).toMatchObject({ damage: [{}] })
    writeFileSync(segment, bytes)
    flipBit(segment, 40 * 8)
    expect(compare().findings).toMatchObject({ damage: [{ offset: 0 }] })
    rmSync(segment)
    expect(compare().recovery.bySegment).toMatchObject([{ cameFrom: 'missing' }])
    writeFileSync(segment, Buffer.concat([bytes, Buffer.from('more')]))
    const found = find(path)
    expect(found.recovery.hinted).toBe(1)
    expect(found.findings).toMatchObject({ damage: [], tornTails: [{ offset: bytes.length, bytes: 4 }] })
  })

  test('serves no damaged value: reading it is an error', () => {
    const { path } = smallStore()
    const [segment] = segmentsOf(path)
    const { offset, bytes } = recordsOf(segment)[2]
    flipBit(segment, (offset + bytes - 1) * 8)
    expect(find(path).entries).toContainEqual(['c', 'damaged'])
  })
})

describe('writing a hint', () => {
  const litter = (path: string) => filesOf(path, '.next')

  test('leaves out a segment with damage, and one that is written to', () => {
    const { path, hint } = smallStore()
    rmSync(hint)
    const [segment] = segmentsOf(path)
    const pristine = readFileSync(segment)
    for (const { offset, bytes } of recordsOf(segment).filter(({ kind }) => kind !== KIND_DELETE)) {
      for (const at of [offset + 20, offset + bytes - 1]) {
        flipBit(segment, at * 8)
        expect(hinted(path)).toBe(0)
        writeFileSync(segment, pristine)
      }
    }
    expect(litter(path)).toEqual([])
    const opened = openRooms(freshStore())
    opened.db.putSync('a', '1')
    expect(writeHints(opened)).toBe(0)
    opened.db.closeSync()
  })

  test('that fails at any call, or is ended early, leaves nothing behind', () => {
    const { path, hint } = smallStore()
    rmSync(hint)
    withRooms(path, ({ rooms }) => {
      for (let failing = 1, isDone = false; !isDone; failing++) {
        let calls = 0
        const failAt = <A extends unknown[], R>(run: (...of: A) => R) => {
          return (...of: A): R => {
            if (++calls === failing) throw systemError('EIO')
            return run(...of)
          }
        }
        const { open, read, write, rename, status } = nodeHost
        const host = {
          ...nodeHost,
          open: failAt(open),
          read: failAt(read),
          write: failAt(write),
          rename: failAt(rename),
          status: failAt(status),
        }
        isDone = writeHints({ rooms }, host) === 1
        expect(isDone).toBe(calls < failing)
        expect(litter(path)).toEqual([])
        expect(existsSync(hint)).toBe(isDone)
      }
      const steps = hintSteps(rooms, rooms.catalog.segments[0])
      steps.next()
      expect(litter(path)).toEqual(['0000000001.hint.next'])
      steps.return(false)
      expect(litter(path)).toEqual([])
    })
  })

  test('leftovers and hints of segments that are gone can be removed', async () => {
    const path = mixedStore()
    hinted(path)
    for (const name of ['CHECKPOINT.next', '0000000001.hint.next', '0000000999.hint', 'not ours'])
      writeFileSync(join(path, name), 'x')
    const { rooms, db } = openRooms(path, { readOnly: true })
    const before = filesOf(path, '.hint').length
    removeStaleCaches(nodeHost, rooms.catalog)
    expect(litter(path)).toEqual([])
    expect(filesOf(path, '.hint').length).toBe(before - 1)
    expect(existsSync(join(path, 'not ours'))).toBe(true)
    await removeHint(nodeHost, rooms.catalog, 1)
    await removeHint(nodeHost, rooms.catalog, 1)
    expect(filesOf(path, '.hint').length).toBe(before - 2)
    db.closeSync()
    removeStaleCaches(nodeHost, new Catalog(nodeHost, join(path, 'missing')))
  })
})

function withCrc(bytes: Uint8Array): Buffer {
  const whole = Buffer.alloc(bytes.length + 4)
  whole.set(bytes)
  whole.writeUInt32LE(crc32(bytes), bytes.length)
  return whole
}
