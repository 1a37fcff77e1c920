// Records copied into a segment of their own: the same writes, at new places, and never a damaged one.
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { SegmentCopy } from '../src/copier'
import { nodeHost } from '../src/host/node'
import { openSync } from '../src/index'
import { Kernels } from '../src/kernels'
import { publishManifest, readManifest } from '../src/manifest'
import { decodeSegmentHeader, type SegmentHeader } from '../src/segment'
import { freshFolder, freshStore } from './support/folders'
import { failure, groundWith, systemError } from './support/ground'
import { type ReferenceRecord, referenceSegment } from './support/reference'
import { contentsOf, flipBit, recordsOf, segmentsOf } from './support/stores'

const kernels = new Kernels()
const LATER = 4_102_444_800_000

function mixed(...large: number[]): { directory: string; segment: string } {
  const directory = freshStore()
  const db = openSync(directory, { valueEncoding: 'bytes', sync: 'never' })
  db.putSync('a', Buffer.from('one'))
  db.putSync('late', Buffer.from('x'), { expiresAtMs: LATER })
  for (const bytes of large) {
    db.putSync(`large ${bytes}`, Buffer.alloc(bytes, `${bytes} `), { expiresAtMs: LATER })
  }
  db.batchSync([
    { type: 'put', key: 'k'.repeat(65_535), value: Buffer.alloc(0) },
    { type: 'del', key: 'a' },
    { type: 'put', key: 'c', value: Buffer.alloc(1000, '7') },
  ])
  db.deleteSync('late')
  for (let i = 0; i < 5000; i++) db.putSync(`many ${i}`, Buffer.alloc(i % 600, `${i}`))
  db.closeSync()
  return { directory, segment: segmentsOf(directory)[0] }
}

function headerOf(path: string): SegmentHeader {
  const { header } = decodeSegmentHeader(kernels, readFileSync(path))
  if (header === undefined) throw new Error('no header')
  return header
}

function copyOf(segment: string, id = 9, host = nodeHost): SegmentCopy {
  const header = { ...headerOf(segment), id, salt: 0xdead_beef, copies: { generation: 3, segmentId: 1 } }
  return SegmentCopy.create(host, join(freshFolder(), 'copy.data'), header)
}

function withSource<T>(path: string, run: (source: Parameters<SegmentCopy['append']>[0]) => T): T {
  const { salt, firstSequence } = headerOf(path)
  const file = nodeHost.open(path, 'read')
  try {
    return run({ file, path, salt, firstSequence })
  } finally {
    nodeHost.close(file)
  }
}

/** As `failure`, for what throws at once. */
function thrown(run: () => unknown): unknown {
  try {
    run()
  } catch (error) {
    return error
  }
  throw new Error('it should have failed, and did not')
}

const writesOf = (records: ReferenceRecord[]) => records.filter(({ kind }) => kind <= 2)
const placeOf = ({ offset, bytes }: ReferenceRecord) => ({ offset, recordBytes: bytes })

/** What must be the same in a copy. */
const essence = (records: ReferenceRecord[]) =>
  writesOf(records).map(({ kind, flags, sequence, timeMs, expiresAtMs, key, value }) => {
    return {
      kind,
      flags,
      sequence,
      timeMs,
      expiresAtMs,
      key: key.toString(),
      value: value.toString('latin1'),
    }
  })

test('every record comes out as it went in, at the place told, and the copy reads as any segment does', () => {
  // Around the lengths where reading and writing in pieces begins.
  const { directory, segment } = mixed(524_287, 524_288, 524_200, 1_048_576, 1_048_577, 3_000_000, 262_144)
  const records = recordsOf(segment)
  const copy = copyOf(segment)
  const offsets = withSource(segment, (source) =>
    writesOf(records).map((record) => copy.append(source, placeOf(record))),
  )
  const entry = copy.finish()
  const file = readFileSync(copy.path)
  const copied = referenceSegment(file)
  expect(essence(copied.records)).toEqual(essence(records))
  expect(writesOf(copied.records).map(({ offset }) => offset)).toEqual(offsets)
  expect(entry).toMatchObject({
    state: 'sealed',
    bytes: file.length,
    records: offsets.length,
    lastSequence: offsets.length,
  })
  const seal = copied.records.at(-1)
  expect(seal).toMatchObject({ kind: 4, sequence: BigInt(offsets.length) })
  expect(seal?.value.readUInt32LE(0)).toBe(offsets.length)
  expect(seal?.value.readUInt32LE(4)).toBe(seal?.offset)
  expect(headerOf(copy.path)).toMatchObject({ id: 9, copies: { generation: 3, segmentId: 1 } })
  // As the store's one segment.
  const before = contentsOf(directory)
  const manifest = readManifest(nodeHost, kernels, directory)
  if (manifest === undefined) throw new Error('no manifest')
  rmSync(segment)
  writeFileSync(join(directory, '0000000009.data'), file)
  publishManifest(nodeHost, kernels, directory, { ...manifest, nextSegmentId: 10, segments: [entry] })
  openSync(directory, { strict: true }).closeSync()
  expect(contentsOf(directory)).toEqual(before)
})

test('a damaged record is refused, wherever the bit, and the copy goes on without it', () => {
  const { segment } = mixed(600_000)
  const records = writesOf(recordsOf(segment))
  const pristine = readFileSync(segment)
  for (const index of [0, 1, 2, 3, 4, 5]) {
    const { offset, bytes, key } = records[index]
    const spread = [4, 8, 12, 16, 20, 22, 28, 29, 37, bytes - key.length, bytes >> 1, bytes - 1]
    for (const at of new Set(spread.filter((at) => at >= 0 && at < bytes))) {
      flipBit(segment, (offset + at) * 8 + (at % 8))
      const copy = copyOf(segment)
      withSource(segment, (source) => {
        const error = thrown(() => copy.append(source, placeOf(records[index])))
        expect(error).toMatchObject({ code: 'CASKY_CORRUPT', path: segment, offset })
      })
      withSource(segment, (source) => copy.append(source, placeOf(records[6])))
      copy.finish()
      expect(essence(referenceSegment(readFileSync(copy.path)).records)).toEqual(essence([records[6]]))
      writeFileSync(segment, pristine)
    }
  }
})

test('a record at another place than told, or of another length, is refused', () => {
  const { segment } = mixed()
  const [first, second] = writesOf(recordsOf(segment))
  const copy = copyOf(segment)
  withSource(segment, (source) => {
    for (const place of [
      { offset: first.offset + 1, recordBytes: first.bytes },
      { offset: first.offset, recordBytes: first.bytes + 1 },
      { offset: first.offset, recordBytes: first.bytes + second.bytes },
      { offset: first.offset, recordBytes: 3_000_000 },
      { offset: 1_000_000_000, recordBytes: first.bytes },
    ]) {
      expect(thrown(() => copy.append(source, place))).toMatchObject({ code: 'CASKY_CORRUPT' })
    }
  })
  expect(copy.finish()).toMatchObject({ state: 'closed', bytes: 96, records: 0, lastSequence: 0 })
})

test('tombstones keep their number, time and place in a batch; batch flags can be left out', () => {
  const { segment } = mixed()
  const records = writesOf(recordsOf(segment))
  const copy = copyOf(segment)
  copy.tombstone({ key: Buffer.from('gone'), sequence: 3, timeMs: 1234, flags: 0x40 })
  withSource(segment, (source) => copy.append(source, placeOf(records[3])))
  withSource(segment, (source) => copy.append(source, placeOf(records[4]), false))
  const entry = copy.finish(77)
  expect(entry).toMatchObject({ records: 3, lastSequence: 77 })
  const copied = referenceSegment(readFileSync(copy.path)).records
  expect(copied).toMatchObject([
    { kind: 2, flags: 0x40, sequence: 3n, timeMs: 1234n, key: Buffer.from('gone') },
    { kind: 2, flags: 0x60, sequence: 4n },
    { kind: 1, flags: 0, sequence: 5n },
    { kind: 4, sequence: 77n },
  ])
})

test('an order or a number that the format cannot hold is refused, and makes no file', async () => {
  const { segment } = mixed()
  const copy = copyOf(segment)
  const tombstone = { key: Buffer.from('k'), timeMs: 1, flags: 0 }
  copy.tombstone({ ...tombstone, sequence: 5 })
  for (const sequence of [5, 2 ** 32 + 1]) {
    const thrown = await failure(() => copy.tombstone({ ...tombstone, sequence }))
    expect(thrown).toMatchObject({ code: 'CASKY_CORRUPT' })
  }
  copy.tombstone({ ...tombstone, sequence: 2 ** 32 })
  copy.discard()
  copy.discard()
  expect(existsSync(copy.path)).toBe(false)
})

test('an error of the system at any call leaves no file and no handle', async () => {
  const { segment } = mixed(2_000_000)
  const records = writesOf(recordsOf(segment))
  for (const code of ['ENOSPC', 'EIO']) {
    let isDone = false
    for (let failAt = 1; !isDone; failAt++) {
      let calls = 0
      const open = new Set<number>()
      const fail = () => {
        if (++calls === failAt) throw systemError(code)
      }
      const { host } = groundWith({
        open: (path, mode) => {
          fail()
          const file = nodeHost.open(path, mode)
          open.add(file)
          return file
        },
        close: (file) => {
          open.delete(file)
          nodeHost.close(file)
        },
        write: (...call) => {
          fail()
          return nodeHost.write(...call)
        },
        sync: (file) => {
          fail()
          nodeHost.sync(file)
        },
      })
      let copy: SegmentCopy | undefined
      const error = await failure(() => {
        copy = copyOf(segment, 9, host)
        const made = copy
        withSource(segment, (source) => {
          for (const record of records.slice(0, 2000)) made.append(source, placeOf(record))
        })
        made.finish()
        isDone = true
        throw new Error('done')
      })
      expect(open.size).toBe(0)
      if (isDone) {
        expect(failAt).toBeGreaterThan(8)
        break
      }
      expect(error).toMatchObject({ code: code === 'EIO' ? 'CASKY_IO' : 'CASKY_NO_SPACE' })
      if (copy !== undefined) expect(existsSync(copy.path)).toBe(false)
    }
  }
})
