// What a merge has written stands in for what it was made of, also where a crash kept that, and the manifest is lost.
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { SegmentCopy } from '../src/copier'
import { nodeHost } from '../src/host/node'
import { check, openSync } from '../src/index'
import { Kernels } from '../src/kernels'
import { decodeSegmentHeader, encodeSegmentHeader, type SegmentHeader } from '../src/segment'
import { manifestOf, mend } from './support/damage'
import { freshStore } from './support/folders'
import {
  contentsOf,
  flipBit,
  forgetCaches,
  killedCopy,
  overwrite,
  recordsOf,
  segmentsOf,
  truncate,
} from './support/stores'

const kernels = new Kernels()
const SEAL_BYTES = 45
const TAKEN = 'a segment whose place a copy has taken'

function headerOf(file: string): SegmentHeader {
  const { header } = decodeSegmentHeader(kernels, readFileSync(file))
  if (header === undefined) throw new Error(`no header: ${file}`)
  return header
}

interface Merged {
  directory: string
  entries: Map<string, string>
  /** What was merged, as it was before: name and bytes. */
  inputs: [string, Buffer][]
  output: string
  /** As it was before the merge. */
  manifest: Buffer
}

/** A put of `k`, its delete, and more, in a segment each; then all merged into one that has nothing of `k`. */
async function merged(): Promise<Merged> {
  const directory = freshStore()
  const sessions: ((db: ReturnType<typeof openSync>) => void)[] = [
    (db) => {
      for (const key of ['a', 'b', 'k']) db.putSync(key, `old ${key}`)
    },
    (db) => {
      db.deleteSync('k')
      db.putSync('b', 'new b')
    },
    (db) => {
      db.putSync('c', 'c')
      db.putSync('a', 'new a')
    },
  ]
  for (const write of sessions) {
    const db = openSync(directory, { merge: false })
    write(db)
    db.closeSync()
  }
  const inputs = segmentsOf(directory).map((file): [string, Buffer] => [basename(file), readFileSync(file)])
  const manifest = readFileSync(manifestOf(directory))
  const db = openSync(directory, { merge: false })
  await db.compact()
  await db.close()
  forgetCaches(directory)
  const [output, ...others] = segmentsOf(directory)
  expect(others).toEqual([])
  expect(headerOf(output).copies).toMatchObject({ segmentId: 0, isFolded: true })
  const { entries } = contentsOf(directory)
  expect([...entries]).toEqual([
    ['a', 'new a'],
    ['b', 'new b'],
    ['c', 'c'],
  ])
  return { directory, entries, inputs, output, manifest }
}

/** The store as a crash leaves it that kept these inputs. */
function keep({ directory, inputs }: Merged, kept: number[]): void {
  for (const i of kept) writeFileSync(join(directory, inputs[i][0]), inputs[i][1])
}

function put({ directory, entries }: Merged, key: string): void {
  const db = openSync(directory, { merge: false })
  db.putSync(key, key)
  db.closeSync()
  entries.set(key, key)
}

function dropHeader(file: string): void {
  overwrite(file, 0, Buffer.alloc(96))
}

function dropSeal(file: string): void {
  truncate(file, statSync(file).size - SEAL_BYTES)
}

const SUBSETS = [[0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]].map((kept) => [kept])

/** Without its manifest the store comes to the same, and again once that of the repair is lost. */
async function expectSame({ directory, entries }: Merged, kept: string[]): Promise<void> {
  const { before, report, entries: found } = await mend(directory)
  expect(found).toEqual(entries)
  expect(report.lost).toEqual([])
  const taken = before.damage.filter(({ reason }) => reason === TAKEN).map(({ path }) => basename(path))
  expect(taken).toEqual(kept)
  for (const name of kept) expect(existsSync(join(report.originals ?? '', name))).toBe(true)
  rmSync(manifestOf(directory))
  expect((await mend(directory)).entries).toEqual(entries)
}

describe('what a merge was made of, kept by a crash, does not come back', () => {
  test.each(SUBSETS)('without the manifest: %j', async (kept) => {
    const store = await merged()
    keep(store, kept)
    rmSync(manifestOf(store.directory))
    await expectSame(store, namesOf(store, kept))
  })

  test.each(SUBSETS)('with a damaged one: %j', async (kept) => {
    const store = await merged()
    keep(store, kept)
    flipBit(manifestOf(store.directory), 45 * 8)
    await expectSame(store, namesOf(store, kept))
  })

  test.each(SUBSETS)('without their headers: %j', async (kept) => {
    const store = await merged()
    keep(store, kept)
    for (const name of namesOf(store, kept)) dropHeader(join(store.directory, name))
    rmSync(manifestOf(store.directory))
    await expectSame(store, namesOf(store, kept))
  })

  test.each(SUBSETS)('without the header of the output: %j', async (kept) => {
    const store = await merged()
    keep(store, kept)
    dropHeader(store.output)
    rmSync(manifestOf(store.directory))
    await expectSame(store, namesOf(store, kept))
  })

  test.each(SUBSETS)(
    'without the seal of the output, where a later segment tells of it: %j',
    async (kept) => {
      const store = await merged()
      put(store, 'd')
      keep(store, kept)
      flipBit(store.output, (statSync(store.output).size - 5) * 8)
      rmSync(manifestOf(store.directory))
      const { entries, report } = await mend(store.directory)
      expect(entries).toEqual(store.entries)
      expect(report.lost).toEqual([])
    },
  )

  test.each(SUBSETS)(
    'where a damaged manifest alone tells that the output was finished: %j',
    async (kept) => {
      const store = await merged()
      keep(store, kept)
      flipBit(store.output, (statSync(store.output).size - 5) * 8)
      flipBit(manifestOf(store.directory), 45 * 8)
      const { entries } = await mend(store.directory)
      expect(entries).toEqual(store.entries)
    },
  )

  test.each(SUBSETS)('where a repair has written the output anew: %j', async (kept) => {
    for (const isOutputKept of [true, false]) {
      const store = await merged()
      const [record] = recordsOf(store.output).filter(({ key }) => key.toString() === 'a')
      flipBit(store.output, (record.offset + record.bytes - 1) * 8)
      const damaged = readFileSync(store.output)
      const { id } = headerOf(store.output)
      const { entries } = await mend(store.directory)
      expect([...entries.keys()]).toEqual(['b', 'c'])
      const [anew] = segmentsOf(store.directory)
      expect(headerOf(anew).copies).toMatchObject({ segmentId: id, isFolded: true })
      keep(store, kept)
      if (isOutputKept) writeFileSync(store.output, damaged)
      rmSync(manifestOf(store.directory))
      await expectSame({ ...store, entries }, [
        ...namesOf(store, kept),
        ...(isOutputKept ? [basename(store.output)] : []),
      ])
    }
  })

  test.each([[[]], ...SUBSETS])('with the manifest from before the merge: %j', async (kept) => {
    const store = await merged()
    put(store, 'd')
    keep(store, kept)
    writeFileSync(manifestOf(store.directory), store.manifest)
    expect((await check(store.directory)).manifest).toBe('older')
    // Where all of them are there, the output passes for a change that was not finished, which comes to the same.
    await expectSame(store, kept.length === 3 ? [] : namesOf(store, kept))
  })
})

function namesOf({ inputs }: Merged, kept: number[]): string[] {
  return kept.map((i) => inputs[i][0])
}

test('an output that is missing is reported, though some of what it was made of is there', async () => {
  const store = await merged()
  keep(store, [0])
  flipBit(manifestOf(store.directory), 45 * 8)
  rmSync(store.output)
  const { report } = await mend(store.directory)
  expect(report.lost.map(({ path }) => path)).toEqual([store.output])
})

describe('an output that was not finished', () => {
  test.each(SUBSETS)(
    'is nothing where all that it began to copy is there, else all that counts: %j',
    async (kept) => {
      const store = await merged()
      keep(store, kept)
      dropSeal(store.output)
      rmSync(manifestOf(store.directory))
      const { before, report, entries } = await mend(store.directory)
      expect(entries).toEqual(store.entries)
      const isWhole = kept.length === 3
      expect(report.lost.length > 0).toBe(!isWhole)
      const reasons = before.damage.map(({ reason }) => reason)
      expect(reasons).toContain(isWhole ? 'a segment 4 that is no part of the store any more' : TAKEN)
      expect(existsSync(join(report.originals ?? '', basename(store.output)))).toBe(true)
      rmSync(manifestOf(store.directory))
      expect((await mend(store.directory)).entries).toEqual(store.entries)
    },
  )

  test('takes the place of nothing that a manifest names, also where one of its inputs is missing', async () => {
    const store = await merged()
    keep(store, [1, 2])
    dropSeal(store.output)
    writeFileSync(manifestOf(store.directory), store.manifest)
    const { before, report, entries } = await mend(store.directory)
    expect(entries).toEqual(store.entries)
    expect(before.damage.map(({ reason }) => reason)).not.toContain(TAKEN)
    expect(report.lost).toMatchObject([{ firstSequence: 1, lastSequence: 3 }])
  })

  test('is taken where nothing else is left', async () => {
    const store = await merged()
    dropSeal(store.output)
    rmSync(manifestOf(store.directory))
    const { entries } = await mend(store.directory)
    expect(entries).toEqual(store.entries)
  })
})

describe('a segment that holds nothing, and begins with the number with which an output begins', () => {
  test.each([
    ['and nothing stands behind its header', 0],
    ['and what was never acknowledged stands behind its header', 40],
  ])('still tells the end of the segment before, %s', async (_name, tornBytes) => {
    const directory = freshStore()
    for (const keys of [['a', 'b'], ['c']]) {
      const db = openSync(directory, { merge: false })
      for (const key of keys) db.putSync(key, key)
      db.closeSync()
    }
    const [before, source] = segmentsOf(directory)
    const [{ offset: cutBytes }] = recordsOf(before).slice(1)
    const { header, nothing } = { header: headerOf(source), nothing: join(directory, '0000000003.data') }
    const previous = { id: 1, bytes: cutBytes, lastSequence: 1, isSealed: false }
    const bytes = encodeSegmentHeader(kernels, { ...header, id: 3, firstSequence: 2, previous })
    writeFileSync(nothing, Buffer.concat([bytes, Buffer.alloc(tornBytes, 1)]))
    const copy = SegmentCopy.create(nodeHost, join(directory, '0000000005.data'), {
      ...header,
      id: 5,
      firstSequence: 2,
      previous: { id: 3, bytes: 96, lastSequence: 1, isSealed: false },
      copies: { generation: 9, segmentId: 4, isFolded: true },
    })
    const file = nodeHost.open(source, 'read')
    const [{ offset, bytes: recordBytes }] = recordsOf(source)
    copy.append({ ...header, file, path: source }, { offset, recordBytes })
    copy.finish()
    nodeHost.close(file)
    rmSync(source)
    dropSeal(before)
    rmSync(manifestOf(directory))
    const { entries, report } = await mend(directory)
    expect(report.lost).toEqual([])
    expect([...entries.keys()]).toEqual(['a', 'c'])
    rmSync(manifestOf(directory))
    expect([...(await mend(directory)).entries.keys()]).toEqual(['a', 'c'])
  })
})

test('one that has lost its seal takes the place of an end that was copied, and of its copy', async () => {
  const first = freshStore()
  using killed = openSync(first, { sync: 'never', merge: false })
  killed.putSync('a', 'a')
  killed.closeSync()
  using begun = openSync(first, { sync: 'never', merge: false })
  begun.putSync('k', 'old')
  const path = killedCopy(first)
  const db = openSync(path, { merge: false })
  db.putSync('k', 'newer')
  db.putSync('b', 'b')
  // What the crash left uncertified was copied; its segment ends before it, and its file does not.
  const inputs = segmentsOf(path).map((file) => [file, readFileSync(file)] as const)
  expect(inputs.map(([file]) => recordsOf(file).map(({ key }) => key.toString()))).toEqual([
    ['a', ''],
    ['k'],
    ['k', ''],
    ['k', 'b'],
  ])
  await db.merge()
  db.closeSync()
  const [output] = segmentsOf(path)
  for (const [file, bytes] of inputs.slice(1)) writeFileSync(file, bytes)
  rmSync(join(path, 'MANIFEST'))
  forgetCaches(path)
  flipBit(output, 8 * (statSync(output).size - 20))
  const { entries } = await mend(path)
  expect(entries).toEqual(new Map(Object.entries({ a: 'a', b: 'b', k: 'newer' })))
})
