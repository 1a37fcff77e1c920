// Repair: what can be read is kept, what can't is told, and a crash at any moment costs nothing more.
import {
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { SegmentCopy } from '../src/copier'
import { nodeHost } from '../src/host/node'
import { check, openSync, repair } from '../src/index'
import { Kernels } from '../src/kernels'
import { decodeSegmentHeader } from '../src/segment'
import { repairOn } from '../src/store'
import {
  type Hurt,
  hurtBy,
  type Logged,
  logOf,
  manifestOf,
  mend,
  nameOfRecord,
  remaining,
  richStore,
  soundEntries,
} from './support/damage'
import { freshFolder, freshStore, useMemory } from './support/folders'
import { failure, groundWith, systemError } from './support/ground'
import { append, contentsOf, flipBit, killedCopy, overwrite, segmentsOf, truncate } from './support/stores'

useMemory()
const RICH = richStoreOnce()
/** Where the samples begin: each run takes others. */
const SEED = Number(process.env.CASKY_SEED ?? Date.now() % 1_000_000)
/** Bytes from one flipped bit to the next, and how often with another bit and another beginning: 23 take each byte. */
const STEP = 23
const ROUNDS = Number(process.env.CASKY_FLIP_ROUNDS ?? 1)
const CUT_STEP = 37
/** Each so manieth call that changes something fails; 1 takes them all. */
const CALL_STEP = Number(process.env.CASKY_REPAIR_CALL_STEP ?? 4)
/** At these last ones the new manifest is in force. */
const LAST_CALLS = 6

function richStoreOnce(): () => { directory: string; log: Logged[] } {
  let template: { files: [string, Buffer][]; log: Logged[] } | undefined
  return () => {
    if (template === undefined) {
      const made = richStore()
      const names = readdirSync(made).filter((name) => name !== 'LOCK')
      template = { files: names.map((name) => [name, readFileSync(join(made, name))]), log: logOf(made) }
    }
    const directory = freshFolder()
    for (const [name, bytes] of template.files) writeFileSync(join(directory, name), bytes)
    const log = template.log.map((each) => ({ ...each, file: join(directory, basename(each.file)) }))
    return { directory, log }
  }
}

/** Every file and its bytes, the lock apart. */
function filesOf(directory: string): Map<string, string> {
  return new Map(
    readdirSync(directory, { recursive: true, encoding: 'utf8' })
      .filter((name) => !name.startsWith('LOCK') && statSync(join(directory, name)).isFile())
      .map((name) => [name, readFileSync(join(directory, name)).toString('hex')]),
  )
}

const keysOf = (damage: { keys: Uint8Array[] }[]) =>
  damage.flatMap(({ keys }) => keys.map((key) => Buffer.from(key).toString())).sort()

describe('a store', () => {
  test('with nothing wrong is left alone, its torn tail too', async () => {
    const { directory, log } = RICH()
    append(segmentsOf(directory)[4], Buffer.from('torn'))
    const before = filesOf(directory)
    const report = await repair(directory)
    expect(report).toMatchObject({
      wasSound: true,
      lost: [],
      mended: [],
      rewritten: [],
      originals: undefined,
      segments: 5,
      records: log.length,
      tornTails: [{ bytes: 4 }],
    })
    expect(filesOf(directory)).toEqual(before)
  })

  test('with any one bit flipped anywhere keeps all but the record that it hit', async () => {
    const { directory: first } = RICH()
    let count = 0
    for (let round = 0; round < ROUNDS; round++) {
      for (const name of [...segmentsOf(first), manifestOf(first)].map((file) => basename(file))) {
        const { size } = statSync(join(first, name))
        for (let byte = (SEED + round) % STEP; byte < size; byte += STEP, count++) {
          const { directory, log } = RICH()
          const file = join(directory, name)
          flipBit(file, byte * 8 + ((SEED + byte + round * 5) % 8))
          const hurt = hurtBy(log, file, byte)
          const original = readFileSync(file)
          const { before, report, entries } = await mend(directory)
          const where = `${name}, byte ${byte}`
          expect([where, before.ok]).toEqual([where, false])
          expect([where, entries]).toEqual([where, remaining(log, hurt)])
          expect([where, report.lost.length > 0]).toEqual([where, hurt.size > 0])
          const [lost] = [...hurt].map(([each]) => log.find((record) => nameOfRecord(record) === each))
          if (lost !== undefined) {
            const sequences = report.lost.map(({ firstSequence }) => firstSequence)
            expect([where, sequences]).toEqual([where, expect.arrayContaining([Number(lost.sequence)])])
          }
          expect(readFileSync(join(report.originals ?? '', name)).equals(original)).toBe(true)
          rmSync(directory, { recursive: true })
        }
      }
    }
    expect(count).toBeGreaterThan(60)
  })

  test('cut at any length keeps what is before the cut, and says what is lost', async () => {
    const { directory: first } = RICH()
    for (const index of [1, 2, 4]) {
      const { size } = statSync(segmentsOf(first)[index])
      for (let end = SEED % CUT_STEP; end < size; end += CUT_STEP) {
        const { directory, log } = RICH()
        const file = segmentsOf(directory)[index]
        truncate(file, end)
        const hurt: Hurt = new Map()
        for (const each of log) {
          if (each.file !== file || each.offset + each.bytes <= end) continue
          hurt.set(nameOfRecord(each), 'unreadable')
        }
        const { before, report, entries } = await mend(directory)
        expect([end, before.ok]).toEqual([end, false])
        expect([end, entries]).toEqual([end, remaining(log, hurt)])
        expect([end, report.lost.length > 0]).toEqual([end, hurt.size > 0])
        rmSync(directory, { recursive: true })
      }
    }
  })

  test('with two damages in one segment, and one in another, names all three', async () => {
    const { directory, log } = RICH()
    const [a, b] = log.filter(({ file }) => file === segmentsOf(directory)[0])
    const f = log.find(({ value }) => value.toString() === 'newest f')
    if (f === undefined) throw new Error('no record')
    flipBit(a.file, (a.offset + 20) * 8)
    flipBit(b.file, (b.offset + b.bytes - 1) * 8)
    flipBit(f.file, (f.offset + f.bytes - 1) * 8)
    const untouched = [1, 2, 4].map((index) => readFileSync(segmentsOf(directory)[index]))
    const { before, report, entries } = await mend(directory)
    const hurt: Hurt = new Map([
      [nameOfRecord(a), 'unreadable'],
      [nameOfRecord(b), 'value'],
      [nameOfRecord(f), 'value'],
    ])
    expect(entries).toEqual(remaining(log, hurt))
    expect(entries.has('f')).toBe(false)
    const timeless = (found: typeof report.lost) => found.map((each) => ({ ...each, foundAtMs: 0 }))
    expect(timeless(before.damage)).toEqual(timeless(report.lost))
    expect(report.lost.map(({ firstSequence }) => firstSequence)).toEqual([1, 2, Number(f.sequence)])
    expect(keysOf(report.lost)).toEqual(['b', 'f'])
    expect(report.rewritten.map(({ from }) => from)).toEqual([a.file, f.file])
    expect(report.rewritten.map(({ records }) => records)).toEqual([5, 1])
    expect(report.records).toBe(log.length - 1)
    // One flipped bit rewrites one segment.
    const files = segmentsOf(directory)
    expect(untouched.every((bytes) => files.some((file) => readFileSync(file).equals(bytes)))).toBe(true)
    expect(files.length).toBe(5)
  })

  test('with a hole in a batch loses the batch, and no older value passes for its keys', async () => {
    const { directory, log } = RICH()
    const member = log.find(({ flags, kind }) => flags === 0x60 && kind === 2)
    if (member === undefined) throw new Error('no batch')
    flipBit(member.file, (member.offset + 5) * 8)
    const { report, entries } = await mend(directory)
    expect(entries).toEqual(remaining(log, new Map([[nameOfRecord(member), 'unreadable']])))
    expect(entries.has('c')).toBe(false)
    expect(entries.get('d')).toBe('old d')
    expect(keysOf(report.lost)).toEqual(['c', 'g'])
  })

  test('takes writes afterwards, under numbers that were never used', async () => {
    for (const hurt of [
      (directory: string) => rmSync(segmentsOf(directory)[4]),
      (directory: string) => truncate(segmentsOf(directory)[4], 96),
      (directory: string) => truncate(segmentsOf(directory)[4], 150),
    ]) {
      const { directory, log } = RICH()
      hurt(directory)
      await repair(directory)
      const db = openSync(directory, { strict: true })
      db.putSync('after', '1')
      expect(db.stats().lastSequence).toBe(log.length + 1)
      db.closeSync()
      expect(soundEntries(directory).get('after')).toBe('1')
      // Also where the manifest goes as well.
      rmSync(manifestOf(directory))
      await repair(directory)
      expect(soundEntries(directory).get('after')).toBe('1')
      expect(await check(directory)).toMatchObject({ ok: true })
    }
  })

  test('killed while it was written to is closed at its valid length', async () => {
    const path = freshStore()
    const db = openSync(path)
    for (let i = 0; i < 10; i++) db.putSync(`k${i}`, `value ${i}`)
    const directory = killedCopy(path)
    db.closeSync()
    const [segment] = segmentsOf(directory)
    append(segment, Buffer.from('torn'))
    const log = logOf(directory)
    flipBit(segment, (log[3].offset + log[3].bytes - 1) * 8)
    const { report, entries } = await mend(directory)
    expect(entries).toEqual(remaining(log, new Map([[nameOfRecord(log[3]), 'value']])))
    expect(report.tornTails).toMatchObject([{ bytes: 4 }])
  })

  test('with large records comes out whole, and costs little memory', async () => {
    const path = freshStore()
    const db = openSync(path, { valueEncoding: 'bytes', sync: 'never' })
    const lengths = [10, 300_000, 600_000, 5_000_000, 12_000_000, 1]
    for (const [i, bytes] of lengths.entries()) db.putSync(`k${i}`, Buffer.alloc(bytes, `${i} `))
    db.batchSync(
      lengths.map((bytes, i) => ({ type: 'put', key: `b${i}`, value: Buffer.alloc(bytes, `${i}`) })),
    )
    db.closeSync()
    const log = logOf(path)
    const [segment] = segmentsOf(path)
    const hit = [log[2], log[9]]
    for (const { offset, bytes } of hit) flipBit(segment, (offset + bytes - 7) * 8)
    const { entries } = await mend(path)
    expect([...entries.keys()].sort()).toEqual(
      [...'012345']
        .flatMap((i) => [`b${i}`, `k${i}`])
        .filter((key) => key !== 'k2' && key !== 'b3')
        .sort(),
    )
    for (const [key, value] of entries) expect(value.length).toBe(lengths[Number(key[1])])
  })
})

describe('files', () => {
  test('two that were swapped are known by their headers, and lose nothing', async () => {
    const { directory, log } = RICH()
    const [, second, third] = segmentsOf(directory)
    renameSync(second, join(directory, 'x'))
    renameSync(third, second)
    renameSync(join(directory, 'x'), third)
    const { before, report, entries } = await mend(directory)
    expect(before.damage.map(({ reason }) => reason)).toEqual([
      'segment 2 stands here, under another name than its own',
      'segment 3 stands here, under another name than its own',
    ])
    expect(report.lost).toEqual([])
    expect(entries).toEqual(remaining(log, new Map()))
    expect(report.rewritten.map(({ from }) => from)).toEqual([third, second])
  })

  test('one whose name another has taken is missing, and the other loses nothing', async () => {
    const { directory, log } = RICH()
    const [, second, third] = segmentsOf(directory)
    renameSync(second, third)
    const hurt: Hurt = new Map()
    for (const each of log) if (each.file === third) hurt.set(nameOfRecord(each), 'unreadable')
    const { before, report, entries } = await mend(directory)
    expect(before.damage.map(({ path, reason }) => [path, reason])).toEqual([
      [third, 'segment 2 stands here, under another name than its own'],
      [third, 'this segment is missing: another file has its name'],
    ])
    expect(entries).toEqual(remaining(log, hurt))
    expect(report.lost.length).toBeGreaterThan(0)
  })

  test('one that is missing costs its records, and no more', async () => {
    for (const index of [0, 1, 2, 3, 4]) {
      const { directory, log } = RICH()
      const file = segmentsOf(directory)[index]
      rmSync(file)
      const hurt: Hurt = new Map()
      for (const each of log) if (each.file === file) hurt.set(nameOfRecord(each), 'unreadable')
      const { report, entries } = await mend(directory)
      expect(entries).toEqual(remaining(log, hurt))
      const sequences = log.filter((each) => each.file === file).map(({ sequence }) => Number(sequence))
      expect(report.lost).toMatchObject([{ firstSequence: sequences[0], lastSequence: sequences.at(-1) }])
    }
  })

  test('one that was copied over another costs the other only', async () => {
    const { directory, log } = RICH()
    const files = segmentsOf(directory)
    writeFileSync(files[1], readFileSync(files[2]))
    const hurt: Hurt = new Map()
    for (const each of log) if (each.file === files[1]) hurt.set(nameOfRecord(each), 'unreadable')
    const { entries, report } = await mend(directory)
    expect(entries).toEqual(remaining(log, hurt))
    expect(report.lost.length).toBeGreaterThan(0)
  })

  test('of another store, or unreadable ones, are set aside', async () => {
    const { directory, log } = RICH()
    const other = richStore()
    cpSync(segmentsOf(other)[0], join(directory, '0000000009.data'))
    writeFileSync(join(directory, '0000000011.data'), 'no segment '.repeat(20))
    const { before, report, entries } = await mend(directory)
    expect(before.damage.map(({ reason }) => reason)).toEqual([
      'a segment of another store',
      'no segment can be made out in this file',
    ])
    expect(entries).toEqual(remaining(log, new Map()))
    expect(readdirSync(report.originals ?? '').sort()).toEqual([
      '0000000009.data',
      '0000000011.data',
      'MANIFEST',
    ])
    expect(existsSync(join(directory, '0000000009.data'))).toBe(false)
  })

  test.skipIf(process.platform === 'win32')('links are not followed', async () => {
    const { directory, log } = RICH()
    const outside = join(freshFolder(), 'outside')
    const file = segmentsOf(directory)[1]
    renameSync(file, outside)
    symlinkSync(outside, file)
    const bytes = readFileSync(outside)
    const hurt: Hurt = new Map()
    for (const each of log) if (each.file === file) hurt.set(nameOfRecord(each), 'unreadable')
    const { before, entries } = await mend(directory)
    expect(before.damage[0].reason).toMatch(/link/)
    expect(entries).toEqual(remaining(log, hurt))
    expect(readFileSync(outside).equals(bytes)).toBe(true)
  })
})

describe('the manifest', () => {
  const losses: [string, (directory: string) => void][] = [
    ['lost', (directory) => rmSync(manifestOf(directory))],
    ['empty', (directory) => writeFileSync(manifestOf(directory), '')],
    ['cut', (directory) => truncate(manifestOf(directory), 300)],
    ['zeros', (directory) => writeFileSync(manifestOf(directory), Buffer.alloc(500))],
    ['another file', (directory) => writeFileSync(manifestOf(directory), 'hello '.repeat(100))],
    ['flipped', (directory) => flipBit(manifestOf(directory), 45 * 8)],
  ]

  test.each(losses)('%s: is rebuilt from the segments, and nothing is lost', async (_name, hurt) => {
    const { directory, log } = RICH()
    hurt(directory)
    expect(await failure(() => openSync(directory))).toMatchObject({ name: 'CaskyError' })
    const { report, entries } = await mend(directory)
    expect(report).toMatchObject({ lost: [], isManifestRebuilt: true, rewritten: [], segments: 5 })
    expect(entries).toEqual(remaining(log, new Map()))
    const db = openSync(directory)
    db.putSync('more', '1')
    db.closeSync()
    expect(soundEntries(directory).get('more')).toBe('1')
  })

  test.each(losses)('%s, of a store that was killed, with a damaged record', async (_name, hurt) => {
    const path = richStore()
    const db = openSync(path)
    db.putSync('x', '1')
    db.putSync('y', '2')
    const directory = killedCopy(path)
    db.closeSync()
    const log = logOf(directory)
    const [a] = log
    flipBit(a.file, (a.offset + a.bytes - 1) * 8)
    append(segmentsOf(directory)[5], Buffer.from('torn'))
    hurt(directory)
    const { report, entries } = await mend(directory)
    expect(entries).toEqual(remaining(log, new Map([[nameOfRecord(a), 'value']])))
    expect(report.lost).toMatchObject([{ firstSequence: 1 }])
  })

  test('put back from an older copy: what it does not name is taken in', async () => {
    const { directory, log } = RICH()
    const older = readFileSync(manifestOf(directory))
    for (const key of ['x', 'a']) {
      const db = openSync(directory)
      db.putSync(key, 'later')
      db.closeSync()
    }
    writeFileSync(manifestOf(directory), older)
    const { before, report, entries } = await mend(directory)
    expect(before).toMatchObject({ manifest: 'older', ok: false, segments: 7 })
    expect(report).toMatchObject({ lost: [], isManifestRebuilt: false })
    const expected = new Map([...remaining(log, new Map()), ['a', 'later'], ['x', 'later']] as [
      string,
      string,
    ][])
    expect(entries).toEqual(new Map([...expected].sort(([a], [b]) => (a < b ? -1 : 1))))
  })

  test.each([0, 2, 4])('lost, and the header of segment %i as well: it is found out', async (index) => {
    const { directory, log } = RICH()
    rmSync(manifestOf(directory))
    overwrite(segmentsOf(directory)[index], 0, Buffer.alloc(96))
    const { report, entries } = await mend(directory)
    expect(report.lost).toEqual([])
    expect(entries).toEqual(remaining(log, new Map()))
  })

  test.each([1, 4])('lost, with header and seal of segment %i: its place is found out', async (index) => {
    const { directory, log } = RICH()
    rmSync(manifestOf(directory))
    const file = segmentsOf(directory)[index]
    overwrite(file, 0, Buffer.alloc(96))
    overwrite(file, statSync(file).size - 45, Buffer.alloc(45))
    const { entries } = await mend(directory)
    expect(entries).toEqual(remaining(log, new Map()))
  })

  test('lost, and every header as well: the records tell', async () => {
    const { directory, log } = RICH()
    rmSync(manifestOf(directory))
    for (const file of segmentsOf(directory)) overwrite(file, 0, Buffer.alloc(96, 1))
    const { entries } = await mend(directory)
    expect(entries).toEqual(remaining(log, new Map()))
  })

  test('lost after a repair that was cut short before it removed the old names: nothing comes back', async () => {
    const { directory, log } = RICH()
    const f = log.find(({ value }) => value.toString() === 'newest f')
    if (f === undefined) throw new Error('no record')
    flipBit(f.file, (f.offset + f.bytes - 1) * 8)
    const damaged = readFileSync(f.file)
    await repair(directory)
    writeFileSync(f.file, damaged)
    rmSync(manifestOf(directory))
    const { entries } = await mend(directory)
    expect(entries).toEqual(remaining(log, new Map([[nameOfRecord(f), 'value']])))
  })
})

describe('the manifest lost after the end of a segment was copied into one of its own', () => {
  function withCopiedEnd(left: 'copy' | 'origin' | 'both'): {
    directory: string
    expected: Map<string, string>
  } {
    const path = freshStore()
    const db = openSync(path)
    for (let i = 0; i < 10; i++) db.putSync(`k${i % 3}`, `value ${i}`)
    const directory = killedCopy(path)
    db.closeSync()
    const expected = contentsOf(directory).entries
    const [segment] = segmentsOf(directory)
    const { header } = decodeSegmentHeader(new Kernels(), readFileSync(segment))
    if (header === undefined) throw new Error('no header')
    const end = logOf(directory).slice(6)
    const previous = { id: 1, bytes: end[0].offset, lastSequence: 6, isSealed: false }
    const copies = { generation: 2, segmentId: 1 }
    const copyHeader = { ...header, id: 2, salt: 7, firstSequence: 7, previous, copies }
    const copyPath = join(directory, '0000000002.data')
    const copy = SegmentCopy.create(nodeHost, copyPath, copyHeader)
    const file = nodeHost.open(segment, 'read')
    const source = { ...header, file, path: segment }
    for (const { offset, bytes } of end) copy.append(source, { offset, recordBytes: bytes })
    copy.finish()
    nodeHost.close(file)
    rmSync(manifestOf(directory))
    if (left === 'copy') truncate(segment, end[0].offset)
    // One record of four, and no seal: taken for the newest, it would hide the three behind it.
    if (left === 'origin') truncate(copyPath, 96 + end[0].bytes)
    return { directory, expected }
  }

  test.each([
    ['finished: it is all that is left of that end', 'copy'],
    ['unfinished: what it was made of is whole', 'origin'],
  ] as const)('%s', async (_name, left) => {
    const { directory, expected } = withCopiedEnd(left)
    const { report, entries } = await mend(directory)
    expect(report.lost).toEqual([])
    expect(entries).toEqual(expected)
  })

  test('and something stands behind its seal: the segment that was made after it tells that it was finished', async () => {
    const path = freshStore()
    const first = openSync(path)
    first.putSync('a', '1')
    const directory = killedCopy(path)
    first.closeSync()
    const db = openSync(directory) // copies the end
    db.putSync('b', '2')
    db.closeSync()
    const [origin, copy] = segmentsOf(directory)
    append(copy, Buffer.alloc(700, 1))
    truncate(origin, 100) // The end had never reached the disk.
    rmSync(manifestOf(directory))
    const { report, entries } = await mend(directory)
    expect(report.lost).toEqual([])
    expect(entries).toEqual(
      new Map([
        ['a', '1'],
        ['b', '2'],
      ]),
    )
  })

  test.each([
    // Its last record: there is a seal of 45 bytes behind it.
    ['is damaged', (file: string) => flipBit(file, (statSync(file).size - 45 - 30) * 8)],
    ['can not be read', (file: string) => truncate(file, 96)],
    ['is missing', (file: string) => rmSync(file)],
  ])('and the copy %s: the end that was cut off does not come back', async (_name, hurt) => {
    const { directory } = withCopiedEnd('both')
    await mend(directory)
    hurt(join(directory, '0000000002.data'))
    const { report, entries } = await mend(directory)
    expect(report.lost.length).toBeGreaterThan(0)
    rmSync(manifestOf(directory))
    expect((await mend(directory)).entries).toEqual(entries)
  })
})

describe('what it can not do', () => {
  test('nothing that can be read: says so, and leaves it as it is', async () => {
    const directory = freshFolder()
    writeFileSync(join(directory, '0000000001.data'), 'nothing '.repeat(50))
    const before = filesOf(directory)
    expect(await failure(() => repair(directory))).toMatchObject({ code: 'CASKY_CORRUPT' })
    expect(filesOf(directory)).toEqual(before)
  })

  test('no store, another directory, a live writer, odd options', async () => {
    expect(await failure(() => repair(freshStore()))).toMatchObject({ code: 'CASKY_NOT_FOUND' })
    const folder = freshFolder()
    expect(await failure(() => repair(folder))).toMatchObject({ code: 'CASKY_NOT_FOUND' })
    writeFileSync(join(folder, 'letter.txt'), 'hello')
    expect(await failure(() => repair(folder))).toMatchObject({ code: 'CASKY_NOT_A_STORE' })
    expect(readdirSync(folder)).toEqual(['letter.txt'])
    const { directory } = RICH()
    const db = openSync(directory)
    expect(await failure(() => repair(directory))).toMatchObject({ code: 'CASKY_LOCKED' })
    db.closeSync()
    const odd = { onprogress: () => {} } as object
    expect(await failure(() => repair(directory, odd))).toMatchObject({ code: 'CASKY_INVALID_OPTION' })
  })

  test('an abort at any step leaves it as it was; progress is told', async () => {
    const { directory, log } = RICH()
    for (const each of log) if (each.value.length > 0) flipBit(each.file, (each.offset + each.bytes - 1) * 8)
    const before = filesOf(directory)
    for (let stopAt = 1; ; stopAt++) {
      const stop = new AbortController()
      const phases: string[] = []
      const onProgress = ({
        phase,
        bytesDone,
        bytesTotal,
      }: {
        phase: string
        bytesDone: number
        bytesTotal: number
      }) => {
        phases.push(phase)
        expect(bytesDone).toBeLessThanOrEqual(bytesTotal)
        if (phases.length === stopAt) stop.abort()
      }
      const error = await repair(directory, { onProgress, signal: stop.signal }).then(
        () => undefined,
        (thrown) => thrown,
      )
      if (error === undefined) {
        expect(stopAt).toBeGreaterThan(5)
        // From here on it is done.
        expect(new Set(phases)).toEqual(new Set(['check', 'copy', 'index']))
        break
      }
      expect(error).toMatchObject({ code: 'CASKY_ABORTED' })
      expect(filesOf(directory)).toEqual(before)
    }
  })
})

const MUTATING = [
  'write',
  'truncate',
  'sync',
  'link',
  'rename',
  'remove',
  'syncDirectory',
  'makeDirectory',
] as const

/** A ground on which the `failAt`-th call that changes something fails, and with `isCrash` all that follow. */
function failingGround(failAt: number, isCrash: boolean, code = 'EIO') {
  const state = { calls: 0, isLocking: false }
  const fail = (path: unknown) => {
    if (typeof path === 'string' && path.includes('LOCK')) return
    state.calls++
    if (state.calls === failAt || (isCrash && state.calls > failAt)) throw systemError(code)
  }
  const wrapped = Object.fromEntries(
    MUTATING.map((name) => [
      name,
      (...given: never[]) => {
        if (name !== 'write' || !claims.has(given[0])) fail(given[0])
        return (nodeHost[name] as (...all: never[]) => unknown)(...given)
      },
    ]),
  )
  const claims = new Set<number>()
  const ground = groundWith({
    ...wrapped,
    open: (path, mode) => {
      if (mode !== 'read') fail(path)
      const file = nodeHost.open(path, mode)
      if (path.includes('LOCK')) claims.add(file)
      else claims.delete(file)
      return file
    },
  })
  return { ground, state }
}

/** A sample of the calls that a repair makes, by their numbers. */
async function callsToFail(makeScene: () => Scene): Promise<number[]> {
  const { ground, state } = failingGround(Number.POSITIVE_INFINITY, false)
  const { directory } = makeScene()
  await repairOn(ground, directory, undefined)
  rmSync(directory, { recursive: true })
  expect(state.calls).toBeGreaterThan(15)
  const all = Array.from({ length: state.calls }, (_, i) => i + 1)
  const isLast = (call: number) => call > state.calls - LAST_CALLS
  return all.filter((call) => isLast(call) || (call + SEED) % CALL_STEP === 0)
}

let FOREIGN: Buffer | undefined

interface Scene {
  directory: string
  expected: Map<string, string>
}

function damagedScene(): Scene {
  const { directory, log } = RICH()
  const hit = log.filter(({ value }) => ['newer a', 'batched g', 'newest f'].includes(value.toString()))
  const hurt: Hurt = new Map()
  for (const each of hit) {
    flipBit(each.file, (each.offset + each.bytes - 1) * 8)
    hurt.set(nameOfRecord(each), 'value')
  }
  const member = log.find(({ flags }) => flags === 0x60)
  if (member === undefined) throw new Error('no batch')
  flipBit(member.file, (member.offset + 5) * 8)
  hurt.set(nameOfRecord(member), 'unreadable')
  return { directory, expected: remaining(log, hurt) }
}

const SCENES: [string, () => Scene][] = [
  ['damaged records', damagedScene],
  [
    'no manifest',
    () => {
      const scene = damagedScene()
      rmSync(manifestOf(scene.directory))
      return scene
    },
  ],
  [
    'a damaged manifest, a damaged header, a foreign file, swapped names',
    () => {
      const scene = damagedScene()
      flipBit(manifestOf(scene.directory), 50 * 8)
      const [first, second, , fourth] = segmentsOf(scene.directory)
      overwrite(first, 0, Buffer.alloc(96))
      renameSync(second, join(scene.directory, 'x'))
      renameSync(fourth, second)
      renameSync(join(scene.directory, 'x'), fourth)
      FOREIGN ??= readFileSync(segmentsOf(richStore())[0])
      writeFileSync(join(scene.directory, '0000000009.data'), FOREIGN)
      return scene
    },
  ],
  [
    'a damaged header, swapped names',
    () => {
      const scene = damagedScene()
      const [first, second, , fourth] = segmentsOf(scene.directory)
      overwrite(first, 0, Buffer.alloc(96))
      renameSync(second, join(scene.directory, 'x'))
      renameSync(fourth, second)
      renameSync(join(scene.directory, 'x'), fourth)
      return scene
    },
  ],
  [
    'an older manifest',
    () => {
      const scene = damagedScene()
      const older = readFileSync(manifestOf(scene.directory))
      const db = openSync(scene.directory)
      db.putSync('z', 'later')
      db.closeSync()
      writeFileSync(manifestOf(scene.directory), older)
      return { ...scene, expected: new Map([...scene.expected, ['z', 'later']]) }
    },
  ],
]

describe.each(SCENES)('with %s', (_name, makeScene) => {
  test('an error at any call leaves it as it was, or repaired', async () => {
    let repaired = 0
    for (const failAt of await callsToFail(makeScene)) {
      const { directory, expected } = makeScene()
      const before = filesOf(directory)
      const code = failAt % 2 === 0 ? 'ENOSPC' : 'EIO'
      const { ground, state } = failingGround(failAt, false, code)
      const error = await repairOn(ground, directory, undefined).then(
        () => undefined,
        (thrown) => thrown as { code: string },
      )
      expect(state.calls).toBeGreaterThanOrEqual(failAt)
      if (error === undefined) {
        repaired++
        expect(await check(directory)).toMatchObject({ ok: true })
      } else if (error.code !== 'CASKY_POISONED') {
        expect(['CASKY_IO', 'CASKY_NO_SPACE']).toContain(error.code)
        const after = filesOf(directory)
        after.delete('MANIFEST.next')
        expect([failAt, [...after.keys()]]).toEqual([failAt, [...before.keys()]])
        expect(after).toEqual(before)
      }
      await repair(directory)
      expect([failAt, soundEntries(directory)]).toEqual([failAt, expected])
      expect(await check(directory)).toMatchObject({ ok: true, leftovers: [] })
      rmSync(directory, { recursive: true })
    }
    expect(repaired).toBeGreaterThan(0)
  })

  test('a crash at any call, and another in the repair after it, costs nothing more', async () => {
    let published = 0
    for (const failAt of await callsToFail(makeScene)) {
      const { directory, expected } = makeScene()
      const manifest = readFileSyncOrEmpty(manifestOf(directory))
      const { ground, state } = failingGround(failAt, true)
      await repairOn(ground, directory, undefined).catch(() => undefined)
      expect(state.calls).toBeGreaterThanOrEqual(failAt)
      if (readFileSyncOrEmpty(manifestOf(directory)).equals(manifest)) {
        await repairOn(failingGround(1 + ((failAt * 7) % 23), true).ground, directory, undefined).catch(
          () => {},
        )
        // It may be opened first, or refuse to: that changes nothing.
        if (failAt % 2 === 0) await openAndClose(directory)
        await repair(directory)
      } else {
        // The new manifest is in force: it is repaired, and opens as such.
        published++
        expect(contentsOf(directory)).toMatchObject({ entries: expected, damage: 0 })
      }
      expect([failAt, soundEntries(directory)]).toEqual([failAt, expected])
      expect(await check(directory)).toMatchObject({ ok: true, leftovers: [] })
      rmSync(directory, { recursive: true })
    }
    expect(published).toBeGreaterThan(2)
  })
})

async function openAndClose(directory: string): Promise<void> {
  try {
    openSync(directory, { createIfMissing: false }).closeSync()
  } catch (error) {
    expect(error).toMatchObject({ name: 'CaskyError' })
  }
}

function readFileSyncOrEmpty(path: string): Buffer {
  return existsSync(path) ? readFileSync(path) : Buffer.alloc(0)
}

test('a segment behind one that was written anew keeps its place, without manifest and header', async () => {
  const { directory } = RICH()
  const h = logOf(directory).find(({ key }) => key.toString() === 'h')
  if (h === undefined) throw new Error('no record')
  const db = openSync(directory)
  db.putSync('a', 'the very last a')
  const killed = killedCopy(directory)
  db.closeSync()
  flipBit(join(killed, basename(h.file)), (h.offset + h.bytes - 1) * 8)
  const { entries } = await mend(killed)
  expect(entries.get('a')).toBe('the very last a')
  rmSync(manifestOf(killed))
  overwrite(segmentsOf(killed).at(-1) ?? '', 0, Buffer.alloc(96))
  expect((await mend(killed)).entries).toEqual(entries)
})

test('what no record certifies is copied, so that it is there to stay', async () => {
  const { directory } = RICH()
  const db = openSync(directory)
  db.putSync('last', 'of all')
  const killed = killedCopy(directory)
  db.closeSync()
  const tail = segmentsOf(killed).at(-1) ?? ''
  flipBit(segmentsOf(killed)[0], 120 * 8)
  const { report, entries } = await mend(killed)
  expect(entries.get('last')).toBe('of all')
  expect(report.rewritten.map(({ from }) => from)).toContain(tail)
  expect(existsSync(join(killed, 'damaged-1', basename(tail)))).toBe(true)
})

test('what is missing at the end of a segment of which nothing tells the end is told by the numbers', async () => {
  const { directory, log } = RICH()
  const { file, offset } = log.filter((each) => each.file === segmentsOf(directory)[2])[3]
  truncate(file, offset + 5)
  // With the manifest and the next one's header all is gone that says how long it was.
  rmSync(manifestOf(directory))
  overwrite(segmentsOf(directory)[3], 0, Buffer.alloc(96))
  const { report, entries } = await mend(directory)
  expect(report.lost).toMatchObject([{ path: file, offset, firstSequence: 14, lastSequence: 14 }])
  expect(entries.get('e')).toBe('old e')
})

test.each([0, 2])(
  'with the manifest and segment %i gone, the numbers tell that writes are missing',
  async (index) => {
    const { directory, log } = RICH()
    const file = segmentsOf(directory)[index]
    const gone = log.filter((each) => each.file === file)
    rmSync(manifestOf(directory))
    rmSync(file)
    const { before, report, entries } = await mend(directory)
    const [firstSequence, lastSequence] = [gone[0], gone.at(-1)].map((each) => Number(each?.sequence))
    expect(before.damage).toContainEqual(expect.objectContaining({ firstSequence, lastSequence }))
    expect(report.lost).toMatchObject([{ path: segmentsOf(directory)[index], firstSequence, lastSequence }])
    const hurt: Hurt = new Map(gone.map((each) => [nameOfRecord(each), 'unreadable']))
    expect(entries).toEqual(remaining(log, hurt))
  },
)

describe('what a repair that was cut short left', () => {
  /** A file as a repair of the same store makes it. */
  async function madeFrom(
    directory: string,
    name: string,
  ): Promise<{ bytes: Buffer; entries: Map<string, string> }> {
    const other = freshFolder()
    cpSync(directory, other, { recursive: true })
    await repair(other)
    return { bytes: readFileSync(join(other, name)), entries: soundEntries(other) }
  }

  test('an empty segment that keeps the last number is not taken for a part of the store', async () => {
    const { directory } = RICH()
    truncate(segmentsOf(directory)[4], 96)
    const { bytes, entries } = await madeFrom(directory, '0000000007.data')
    expect(bytes.length).toBe(96)
    writeFileSync(join(directory, '0000000007.data'), bytes)
    expect((await mend(directory)).entries).toEqual(entries)
  })

  /** Begun or finished, whatever a repair has made: the next one comes to what it would have come to. */
  async function expectSameEnd(directory: string): Promise<void> {
    const other = freshFolder()
    cpSync(directory, other, { recursive: true })
    const { report, entries } = await mend(other)
    expect(report.lost.length).toBeGreaterThan(0)
    const expectSame = async (where: string) => {
      const again = freshFolder()
      cpSync(directory, again, { recursive: true })
      expect([where, (await mend(again)).entries]).toEqual([where, entries])
    }
    const isMade = (name: string) => name.endsWith('.data') && !existsSync(join(directory, name))
    const made = readdirSync(other).filter(isMade).sort()
    expect(made.length).toBeGreaterThan(0)
    for (const name of made) {
      const bytes = readFileSync(join(other, name))
      for (const part of [bytes.subarray(0, 96), bytes]) {
        writeFileSync(join(directory, name), part)
        await expectSame(`${name}, ${part.length} bytes`)
      }
    }
    mkdirSync(join(directory, 'damaged-1'))
    for (const name of readdirSync(join(other, 'damaged-1'))) {
      cpSync(join(directory, name), join(directory, 'damaged-1', name))
      await expectSame(`${name} is kept`)
    }
  }

  test('the word of a segment before, repeated in a copy, tells nothing that was not told without it', async () => {
    const path = freshStore()
    const first = openSync(path)
    first.putSync('a', '1')
    const directory = killedCopy(path)
    first.closeSync()
    const db = openSync(directory) // Copies the end.
    db.putSync('b', '2')
    db.putSync('c', '3')
    db.closeSync()
    // Left of the copied end is its header, and that of the segment behind it, both in a damaged manifest only.
    const [, copy, next] = segmentsOf(directory)
    truncate(copy, 33)
    overwrite(next, 0, Buffer.alloc(100))
    flipBit(manifestOf(directory), (statSync(manifestOf(directory)).size - 1) * 8)
    await expectSameEnd(directory)
  })

  test('a copied end whose header is left in the manifest only is known by it, whatever has become of its origin', async () => {
    const path = freshStore()
    const first = openSync(path)
    first.batchSync(['k', 'l', 'm'].map((key) => ({ type: 'put', key, value: key })))
    const directory = killedCopy(path)
    first.closeSync()
    openSync(directory).closeSync() // Copies the end.
    const [, copy] = segmentsOf(directory)
    overwrite(copy, 0, Buffer.alloc(130))
    flipBit(manifestOf(directory), (statSync(manifestOf(directory)).size - 1) * 8)
    await expectSameEnd(directory)
  })

  test('the seal of a copy does not tell where the next segment belongs, as long as the original is there', async () => {
    const directory = freshStore()
    for (const round of ['old', 'new']) {
      const db = openSync(directory)
      for (const key of ['k', 'l', 'm']) db.putSync(key, `${round} ${key}`)
      db.closeSync()
    }
    const [first, second] = segmentsOf(directory)
    // Nobody knows how many writes are missing between the two.
    truncate(first, logOf(directory)[2].offset + 5)
    overwrite(second, 0, Buffer.alloc(96))
    truncate(second, statSync(second).size - 45)
    rmSync(manifestOf(directory))
    await expectSameEnd(directory)
  })

  test('the beginning of a copy of a copy hides nothing, without the manifest', async () => {
    const directory = freshStore()
    const db = openSync(directory)
    for (let i = 0; i < 10; i++) db.putSync(`k${i % 3}`, `value ${i}`)
    db.closeSync()
    const damage = () => {
      const record =
        logOf(directory).find(({ value }) => value.toString() === 'value 5') ?? logOf(directory)[8]
      flipBit(record.file, (record.offset + record.bytes - 1) * 8)
    }
    damage()
    await repair(directory)
    damage()
    rmSync(manifestOf(directory))
    const { bytes, entries } = await madeFrom(directory, '0000000003.data')
    writeFileSync(join(directory, '0000000003.data'), bytes.subarray(0, 96 + logOf(directory)[0].bytes))
    expect((await mend(directory)).entries).toEqual(entries)
  })

  test('an original that has its second name does not come back, without the manifest', async () => {
    const directory = freshStore()
    for (const round of ['old', 'new']) {
      const db = openSync(directory)
      db.batchSync(['k', 'l', 'm'].map((key) => ({ type: 'put', key, value: `${round} ${key}` })))
      db.closeSync()
    }
    const [, , , , m] = logOf(directory)
    truncate(m.file, m.offset + 5)
    const { originals, lost } = await repair(directory)
    const entries = soundEntries(directory)
    expect(lost.length).toBeGreaterThan(0)
    expect(entries.has('k')).toBe(false)
    linkSync(join(originals ?? '', basename(m.file)), m.file)
    rmSync(manifestOf(directory))
    expect((await mend(directory)).entries).toEqual(entries)
  })
})

test('a damaged manifest that can not be read for now is not taken for one that tells nothing', async () => {
  const { directory, log } = RICH()
  flipBit(manifestOf(directory), 45 * 8)
  overwrite(segmentsOf(directory)[4], 0, Buffer.alloc(96))
  const before = filesOf(directory)
  let failures = 0
  for (let failAt = 1; ; failAt++) {
    let opened = 0
    const ground = groundWith({
      open: (path, mode) => {
        if (path === manifestOf(directory) && ++opened === failAt) throw systemError('EIO')
        return nodeHost.open(path, mode)
      },
    })
    const error = await repairOn(ground, directory, undefined).then(
      () => undefined,
      (thrown) => thrown,
    )
    if (error === undefined) break
    expect(error).toMatchObject({ code: 'CASKY_IO' })
    expect(filesOf(directory)).toEqual(before)
    failures++
  }
  expect(failures).toBe(2)
  expect(soundEntries(directory)).toEqual(remaining(log, new Map()))
})

describe('the originals', () => {
  test('stand in the next free directory, and what is in others stays', async () => {
    const { directory, expected } = damagedScene()
    mkdirSync(join(directory, 'damaged-1'))
    writeFileSync(join(directory, 'damaged-1', 'mine'), 'mine')
    writeFileSync(join(directory, 'damaged-2'), 'a file')
    const before = filesOf(directory)
    const { originals } = await repair(directory)
    expect(originals).toBe(join(directory, 'damaged-3'))
    const kept = filesOf(originals ?? '')
    for (const [name, bytes] of kept) expect(bytes).toBe(before.get(name))
    expect([...kept.keys()].sort()).toEqual([
      '0000000002.data',
      '0000000003.data',
      '0000000004.data',
      'MANIFEST',
    ])
    expect(readFileSync(join(directory, 'damaged-1', 'mine'), 'utf8')).toBe('mine')
    expect(soundEntries(directory)).toEqual(expected)
  })

  test('are copied where the file system has no second names', async () => {
    const { directory, expected } = damagedScene()
    const before = filesOf(directory)
    const ground = groundWith({
      link: () => {
        throw systemError('EPERM')
      },
    })
    const { originals } = await repairOn(ground, directory, undefined)
    for (const [name, bytes] of filesOf(originals ?? '')) expect(bytes).toBe(before.get(name))
    expect(soundEntries(directory)).toEqual(expected)
    // A crash before the old names were removed: they say nothing that is not kept.
    for (const name of readdirSync(originals ?? '').filter((each) => each.endsWith('.data'))) {
      cpSync(join(originals ?? '', name), join(directory, name))
    }
    openSync(directory, { strict: true }).closeSync()
    expect(soundEntries(directory)).toEqual(expected)
    expect((await repair(directory)).wasSound).toBe(true)
  })
})
