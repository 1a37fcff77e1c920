// Segment files that the manifest doesn't name: what goes, and what stays whatever happens.
import {
  copyFileSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { SegmentCopy } from '../src/copier'
import { nodeHost } from '../src/host/node'
import { openSync } from '../src/index'
import { Kernels } from '../src/kernels'
import { type Manifest, publishManifest, readManifest } from '../src/manifest'
import type { CopyOrigin } from '../src/segment'
import { freshStore } from './support/folders'
import { failure, groundWith, openSyncWith } from './support/ground'
import { contentsOf, killedCopy, overwrite, segmentsOf } from './support/stores'

const kernels = new Kernels()

/** Three sealed segments: a, b, c in one each. */
function threeSegments(): string {
  const path = freshStore()
  for (const key of ['a', 'b', 'c']) {
    const db = openSync(path)
    db.putSync(key, key)
    db.closeSync()
  }
  return path
}

const ABC = new Map(['a', 'b', 'c'].map((key) => [key, key]))

function manifestOf(directory: string): Manifest {
  const manifest = readManifest(nodeHost, kernels, directory)
  if (manifest === undefined) throw new Error('no manifest')
  return manifest
}

const nameOf = (directory: string, id: number) => join(directory, `${String(id).padStart(10, '0')}.data`)

/** A segment of copies with one record in it. */
function addCopy(directory: string, id: number, copies: CopyOrigin | undefined): string {
  const { storeId } = manifestOf(directory)
  const previous = { id: 0, bytes: 0, lastSequence: 0, isSealed: false }
  const header = { storeId, id, salt: 7, createdAtMs: 1, firstSequence: 1, previous, copies }
  const copy = SegmentCopy.create(nodeHost, nameOf(directory, id), header)
  copy.tombstone({ key: Buffer.from('a'), sequence: 1, timeMs: 1, flags: 0 })
  copy.finish()
  return copy.path
}

/** A later manifest without segment 2, whose file is there still. */
function dropSecond(directory: string): string {
  const manifest = manifestOf(directory)
  const segments = manifest.segments.filter(({ header }) => header.id !== 2)
  publishManifest(nodeHost, kernels, directory, { ...manifest, generation: 99, segments })
  return nameOf(directory, 2)
}

async function isRefused(directory: string, file: string): Promise<void> {
  const before = segmentsOf(directory)
  expect(await failure(() => openSync(directory))).toMatchObject({ code: 'CASKY_CORRUPT', path: file })
  expect(segmentsOf(directory)).toEqual(before)
  const reader = openSync(directory, { readOnly: true })
  expect(reader.health().damage.map(({ path }) => path)).toContain(file)
  reader.closeSync()
}

/** Readers say nothing and leave it; a writer removes it. */
function isRemoved(directory: string, file: string, entries: Map<string, string>): void {
  expect(contentsOf(directory)).toEqual({ entries, damage: 0, tornTails: 0 })
  expect(existsSync(file)).toBe(true)
  openSync(directory, { strict: true }).closeSync()
  expect(existsSync(file)).toBe(false)
  expect(contentsOf(directory)).toEqual({ entries, damage: 0, tornTails: 0 })
}

describe('a segment that a later manifest has dropped', () => {
  const AC = new Map([...ABC].filter(([key]) => key !== 'b'))

  test('is removed', () => {
    const path = threeSegments()
    isRemoved(path, dropSecond(path), AC)
  })

  test('stays where a named segment is missing, or is another', async () => {
    const path = threeSegments()
    const file = dropSecond(path)
    const named = nameOf(path, 1)
    renameSync(named, `${path}-1`)
    await isRefused(path, file)
    writeFileSync(named, readFileSync(nameOf(path, 3)))
    await isRefused(path, file)
  })

  test('goes though a named one has a damaged header', () => {
    const path = threeSegments()
    const file = dropSecond(path)
    overwrite(nameOf(path, 1), 20, Buffer.from('damage'))
    openSync(path).closeSync()
    expect(existsSync(file)).toBe(false)
    expect(contentsOf(path)).toMatchObject({ entries: AC, damage: 1 })
  })

  test.each([
    ['file', linkSync],
    ['bytes', copyFileSync],
  ])('stays where its header is damaged, unless a repair keeps the same %s', async (_what, keep) => {
    const path = threeSegments()
    const file = dropSecond(path)
    overwrite(file, 20, Buffer.from('damage'))
    await isRefused(path, file)
    mkdirSync(join(path, 'damaged-1'))
    const other = readFileSync(file)
    other[other.length - 1] ^= 1
    writeFileSync(join(path, 'damaged-1', '0000000002.data'), other)
    await isRefused(path, file)
    mkdirSync(join(path, 'damaged-2'))
    keep(file, join(path, 'damaged-2', '0000000002.data'))
    isRemoved(path, file, AC)
    expect(existsSync(join(path, 'damaged-2', '0000000002.data'))).toBe(true)
  })
})

describe('copies of a change that was not finished', () => {
  test.each([0, 2])('are removed, made of segment %i', (segmentId) => {
    const path = threeSegments()
    const { generation } = manifestOf(path)
    isRemoved(path, addCopy(path, 4, { generation, segmentId }), ABC)
  })

  test.each([
    ['of an earlier manifest', -1, 2],
    ['of a later manifest', 1, 2],
    ['of a segment that is not named', 0, 7],
  ])('stay: %s', async (_name, more, segmentId) => {
    const path = threeSegments()
    const { generation } = manifestOf(path)
    await isRefused(path, addCopy(path, 4, { generation: generation + more, segmentId }))
  })

  test.each([0, 2])('stay where what they were made of is missing: %i', async (segmentId) => {
    const path = threeSegments()
    const { generation } = manifestOf(path)
    const file = addCopy(path, 4, { generation, segmentId })
    rmSync(nameOf(path, 2))
    await isRefused(path, file)
  })
})

describe('the copy of an end, under the manifest from before it was made', () => {
  /** What a kill left of a and b, its end copied to segment 2; and then the manifest from before is put back. */
  function copiedEnd(): { path: string; origin: string; copy: string } {
    const made = freshStore()
    const db = openSync(made)
    db.putSync('a', 'a')
    db.putSync('b', 'b')
    const path = killedCopy(made)
    db.closeSync()
    const older = readFileSync(join(path, 'MANIFEST'))
    openSync(path).closeSync()
    writeFileSync(join(path, 'MANIFEST'), older)
    return { path, origin: nameOf(path, 1), copy: nameOf(path, 2) }
  }

  test('is made anew where the origin still has it', () => {
    const { path } = copiedEnd()
    const sound = { entries: new Map([...ABC].filter(([key]) => key !== 'c')), damage: 0, tornTails: 0 }
    expect(contentsOf(path)).toEqual(sound)
    openSync(path, { strict: true }).closeSync()
    expect(contentsOf(path)).toEqual(sound)
  })

  test.each([
    ['shorter by one byte', (bytes: Buffer) => bytes.subarray(0, -1)],
    ['zeroed behind', (bytes: Buffer) => bytes.fill(0, bytes.length - 8)],
    ['a flipped bit', (bytes: Buffer) => bytes.fill(bytes[bytes.length - 1] ^ 1, bytes.length - 1)],
  ])('is kept aside where the origin has lost it: %s', (_what, change) => {
    const { path, origin, copy } = copiedEnd()
    writeFileSync(origin, change(readFileSync(origin)))
    const copied = readFileSync(copy)
    // A crash may have left it so, too, which is no damage.
    openSync(path, { strict: true }).closeSync()
    expect(contentsOf(path)).toMatchObject({ entries: new Map([['a', 'a']]), damage: 0 })
    expect(readFileSync(join(path, 'damaged-1', '0000000002.data'))).toEqual(copied)
  })

  test('is removed where it was never finished', () => {
    const { path, origin, copy } = copiedEnd()
    writeFileSync(origin, readFileSync(origin).subarray(0, -1))
    writeFileSync(copy, readFileSync(copy).subarray(0, -1))
    openSync(path, { strict: true }).closeSync()
    expect(existsSync(join(path, 'damaged-1'))).toBe(false)
  })
})

describe('what may be the only copy of something', () => {
  test('a segment of another store', async () => {
    const [path, other] = [threeSegments(), threeSegments()]
    cpSync(nameOf(other, 3), nameOf(path, 4))
    await isRefused(path, nameOf(path, 4))
    const file = dropSecond(path)
    cpSync(nameOf(other, 2), file)
    await isRefused(path, file)
  })

  test('a segment under another name than its own', async () => {
    const path = threeSegments()
    renameSync(nameOf(path, 2), nameOf(path, 9))
    await isRefused(path, nameOf(path, 9))
  })

  test('a segment that is newer than the manifest; and then nothing else goes either', async () => {
    const path = threeSegments()
    const older = readFileSync(join(path, 'MANIFEST'))
    const db = openSync(path)
    db.putSync('d', 'd')
    db.closeSync()
    writeFileSync(join(path, 'MANIFEST'), older)
    const file = dropSecond(path)
    await isRefused(path, nameOf(path, 4))
    expect(existsSync(file)).toBe(true)
  })

  test('segments of a store that was copied and went on, under the manifest of the other copy', async () => {
    const path = threeSegments()
    const fork = freshStore()
    cpSync(path, fork, { recursive: true })
    for (const [directory, key] of [
      [path, 'ours'],
      [fork, 'theirs'],
    ]) {
      const db = openSync(directory)
      db.putSync(key, key)
      db.closeSync()
    }
    // The other one has dropped a segment since that is needed here.
    dropSecond(fork)
    cpSync(join(fork, 'MANIFEST'), join(path, 'MANIFEST'))
    await isRefused(path, nameOf(path, 2))
  })
})

test('what goes by itself while it is looked at is no failure: a merge before the last close may have asked for it', () => {
  const path = threeSegments()
  const dropped = dropSecond(path)
  const remove = (file: string): void => {
    nodeHost.remove(file)
    nodeHost.remove(file)
  }
  const db = openSyncWith(groundWith({ remove }), path)
  expect(existsSync(dropped)).toBe(false)
  db.closeSync()
})
