import { existsSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { openSync } from '../src/index'
import { freshStore, useMemory } from './support/folders'
import { failure, groundWithClock, openSyncWith } from './support/ground'
import { recycled } from './support/memory'
import { slowCrc32 } from './support/reference'
import {
  append,
  contentsOf,
  flipBit,
  forgetCaches,
  killedCopy,
  overwrite,
  recordsOf,
  segmentsOf,
  truncate,
} from './support/stores'

useMemory()

/** A killed store: keys k0 to k9, one group each, so each record certifies the one before. */
function tenKeys(): { directory: string; segment: string } {
  const path = freshStore()
  const db = openSync(path)
  for (let i = 0; i < 10; i++) db.putSync(`k${i}`, `value ${i}`)
  const directory = killedCopy(path)
  db.closeSync()
  return { directory, segment: segmentsOf(directory)[0] }
}

const TEN = new Map(Array.from({ length: 10 }, (_, i) => [`k${i}`, `value ${i}`]))

function without(...keys: string[]): Map<string, string> {
  return new Map([...TEN].filter(([key]) => !keys.includes(key)))
}

describe('a torn tail', () => {
  test('TruncatedAnywhereIsCutToTheLastWholeRecord', () => {
    const { directory, segment } = tenKeys()
    const records = recordsOf(segment)
    const bytes = statSync(segment).size
    for (let end = bytes; end >= 96; end--) {
      truncate(segment, end)
      const whole = records.filter((record) => record.offset + record.bytes <= end).length
      const found = contentsOf(directory)
      expect([...found.entries.keys()]).toEqual([...TEN.keys()].slice(0, whole))
      const isWhole = end === 96 || records.some((record) => record.offset + record.bytes === end)
      expect(found).toMatchObject({ damage: 0, tornTails: isWhole ? 0 : 1 })
    }
  })

  test.each([
    ['zeros', Buffer.alloc(5000)],
    ['0xff', Buffer.alloc(5000, 0xff)],
    ['text', Buffer.from('not a record '.repeat(99))],
    ['one byte', Buffer.from([1])],
  ])('GarbageBehindTheLastRecordIsCutOff: %s', (_name, garbage) => {
    const { directory, segment } = tenKeys()
    append(segment, garbage)
    expect(contentsOf(directory)).toEqual({ entries: TEN, damage: 0, tornTails: 1 })
  })

  test('RecordsBehindAHoleInTheUncertifiedTailAreNotServed', () => {
    const path = freshStore()
    const db = openSync(path, { sync: 'never' })
    for (let i = 0; i < 10; i++) db.putSync(`k${i}`, `value ${i}`)
    const directory = killedCopy(path)
    db.closeSync()
    const [segment] = segmentsOf(directory)
    const records = recordsOf(segment)
    overwrite(segment, records[4].offset, Buffer.alloc(records[4].bytes))
    expect(contentsOf(directory)).toEqual({
      entries: without('k4', 'k5', 'k6', 'k7', 'k8', 'k9'),
      damage: 0,
      tornTails: 1,
    })
  })

  test('AValueDamagedBehindTheLastCertifiedByteIsTorn', () => {
    const { directory, segment } = tenKeys()
    flipBit(segment, (statSync(segment).size - 1) * 8)
    expect(contentsOf(directory)).toEqual({ entries: without('k9'), damage: 0, tornTails: 1 })
  })

  test('IsNeverWrittenTo_TheNextWriteStartsAnotherSegment', () => {
    const { directory, segment } = tenKeys()
    append(segment, Buffer.from('torn'))
    const before = readFileSync(segment)
    const db = openSync(directory)
    db.putSync('new', 'write')
    db.closeSync()
    expect(readFileSync(segment).equals(before)).toBe(true)
    // The record that none certifies has a segment of its own, and so has the new one.
    expect(segmentsOf(directory).length).toBe(3)
    const again = contentsOf(directory)
    expect(again.entries).toEqual(new Map([...TEN, ['new', 'write']]))
    // Reported once: from then on it is known where the old segment ends.
    expect(again).toMatchObject({ damage: 0, tornTails: 0 })
  })

  test('ABatchCutByTheTailIsNotThere', () => {
    const path = freshStore()
    const db = openSync(path)
    db.putSync('before', '1')
    db.batchSync([
      { type: 'put', key: 'a', value: 'A' },
      { type: 'del', key: 'before' },
      { type: 'put', key: 'b', value: 'B' },
    ])
    const directory = killedCopy(path)
    db.closeSync()
    const [segment] = segmentsOf(directory)
    const whole = statSync(segment).size
    const begin = recordsOf(segment)[1].offset
    expect([...contentsOf(directory).entries.keys()]).toEqual(['a', 'b'])
    for (let end = whole - 1; end > begin; end--) {
      truncate(segment, end)
      const found = contentsOf(directory)
      expect(found.entries).toEqual(new Map([['before', '1']]))
      expect(found).toMatchObject({ damage: 0, tornTails: 1 })
    }
    const db2 = openSync(directory)
    expect(db2.health().tornTails).toEqual([{ path: segment, offset: begin, bytes: 1 }])
    db2.putSync('after', '2')
    db2.closeSync()
    expect(contentsOf(directory).entries).toEqual(
      new Map([
        ['after', '2'],
        ['before', '1'],
      ]),
    )
  })
})

describe('damage', () => {
  test('ADamagedHeaderCostsItsRecordOnly', () => {
    const { directory, segment } = tenKeys()
    const record = recordsOf(segment)[3]
    flipBit(segment, (record.offset + 20) * 8)
    expect(contentsOf(directory)).toEqual({ entries: without('k3'), damage: 1, tornTails: 0 })
    const db = openSync(directory, { readOnly: true })
    expect(db.health().damage).toMatchObject([
      {
        path: segment,
        offset: record.offset,
        bytes: record.bytes,
        firstSequence: 4,
        lastSequence: 4,
        keys: [],
      },
    ])
    db.closeSync()
  })

  test('ADamagedValueNamesItsKeyAndGetThrows', async () => {
    const { directory, segment } = tenKeys()
    const record = recordsOf(segment)[3]
    flipBit(segment, (record.offset + record.bytes - 1) * 8)
    const db = openSync(directory, { readOnly: true })
    expect(db.health()).toMatchObject({ ok: false, damage: [{ firstSequence: 4, lastSequence: 4 }] })
    expect(Buffer.from(db.health().damage[0].keys[0]).toString()).toBe('k3')
    const error = await failure(() => db.get('k3'))
    expect(error).toMatchObject({ code: 'CASKY_CORRUPT', path: segment, offset: record.offset })
    expect(Buffer.from(error.key ?? []).toString()).toBe('k3')
    expect(db.get('k4')).toBe('value 4')
    expect([...db.keys()]).toContain('k3')
    expect(() => [...db.entries()]).toThrow(/k3/)
    expect([...db.entries({ damaged: 'skip' })]).toEqual([...without('k3')])
    expect([...db.values({ damaged: 'skip', reverse: true })]).toEqual([...without('k3').values()].reverse())
    db.closeSync()
  })

  test('DamageFoundOnlyWhenReadIsReportedThen', async () => {
    const { directory, segment } = tenKeys()
    const db = openSync(directory, { readOnly: true })
    expect(db.health().ok).toBe(true)
    const record = recordsOf(segment)[5]
    flipBit(segment, (record.offset + record.bytes - 1) * 8)
    expect(await failure(() => db.get('k5'))).toMatchObject({ code: 'CASKY_CORRUPT' })
    expect(db.health().damage).toMatchObject([
      { path: segment, offset: record.offset + record.bytes - 7, bytes: 7 },
    ])
    db.closeSync()
  })

  test('EverySingleBitFlippedIsReportedAndCostsAtMostItsRecord', () => {
    const { directory, segment } = tenKeys()
    const records = recordsOf(segment)
    const last = records[9]
    const pristine = readFileSync(segment)
    for (let bit = 0; bit < pristine.length * 8; bit++) {
      const hurt = Buffer.from(pristine)
      hurt[bit >>> 3] ^= 1 << (bit & 7)
      writeFileSync(segment, hurt)
      const found = contentsOf(directory)
      const hit = records.findIndex(({ offset, bytes }) => bit >>> 3 >= offset && bit >>> 3 < offset + bytes)
      if (bit >>> 3 >= last.offset) {
        // The last group: nothing behind it says that it was acknowledged.
        expect(found).toEqual({ entries: without('k9'), damage: 0, tornTails: 1 })
        continue
      }
      expect(found).toMatchObject({ damage: 1, tornTails: 0 })
      for (const [key, value] of TEN) {
        if (key !== `k${hit}`) expect(found.entries.get(key)).toBe(value)
        else expect([undefined, 'damaged']).toContain(found.entries.get(key))
      }
    }
    // Thousands of openings.
  }, 180_000)

  test('OnceSealedEvenTheLastRecordsDamageIsDamage', () => {
    const path = freshStore()
    const db = openSync(path)
    db.putSync('a', '1')
    db.putSync('b', '2')
    db.closeSync()
    const [segment] = segmentsOf(path)
    const record = recordsOf(segment)[1]
    flipBit(segment, (record.offset + record.bytes - 1) * 8)
    expect(contentsOf(path)).toEqual({
      entries: new Map([
        ['a', '1'],
        ['b', 'damaged'],
      ]),
      damage: 1,
      tornTails: 0,
    })
  })

  test('ABatchWithAHoleIsNotAppliedAndItsReadableKeysThrow', async () => {
    const path = freshStore()
    const db = openSync(path)
    db.putSync('a', 'old')
    db.batchSync(['a', 'b', 'c', 'd'].map((key) => ({ type: 'put' as const, key, value: `new ${key}` })))
    db.putSync('z', 'later')
    db.closeSync()
    const [segment] = segmentsOf(path)
    for (const hole of [1, 2, 3, 4]) {
      const pristine = readFileSync(segment)
      flipBit(segment, (recordsOf(segment)[hole].offset + 5) * 8)
      const reader = openSync(path, { readOnly: true })
      const holed = 'abcd'[hole - 1]
      for (const key of ['a', 'b', 'c', 'd'].filter((each) => each !== holed)) {
        expect(await failure(() => reader.get(key))).toMatchObject({ code: 'CASKY_CORRUPT' })
      }
      // What the hole took can't be known: its key keeps its older value, and the warning stands.
      expect(reader.get(holed)).toBe(holed === 'a' ? 'old' : undefined)
      expect(reader.get('z')).toBe('later')
      expect(reader.health().ok).toBe(false)
      reader.closeSync()
      writeFileSync(segment, pristine)
    }
  })

  test('AValueThatHoldsARecordIsNeverTakenForOne', () => {
    const path = freshStore()
    const db = openSync(path, { valueEncoding: 'bytes' })
    db.putSync('inner', Buffer.from('secret'))
    const image = readFileSync(segmentsOf(path)[0]).subarray(96)
    db.putSync('outer', image)
    db.putSync('last', Buffer.from('1'))
    db.closeSync()
    const [segment] = segmentsOf(path)
    const outer = recordsOf(segment)[1]
    flipBit(segment, outer.offset * 8)
    const reader = openSync(path, { readOnly: true })
    expect([...reader.keys()]).toEqual(['inner', 'last'])
    reader.closeSync()
  })

  test('AMissingSegmentIsReportedAndTheRestServed', () => {
    const path = freshStore()
    for (const key of ['a', 'b', 'c']) {
      const db = openSync(path)
      db.putSync(key, key)
      db.closeSync()
    }
    rmSync(segmentsOf(path)[1])
    expect(contentsOf(path)).toEqual({
      entries: new Map([
        ['a', 'a'],
        ['c', 'c'],
      ]),
      damage: 1,
      tornTails: 0,
    })
  })

  test('ATruncatedSealedSegmentIsDamage', () => {
    const path = freshStore()
    const db = openSync(path)
    db.putSync('a', '1')
    db.putSync('b', '2')
    db.closeSync()
    const [segment] = segmentsOf(path)
    truncate(segment, recordsOf(segment)[1].offset + 3)
    expect(contentsOf(path)).toMatchObject({ entries: new Map([['a', '1']]), tornTails: 0 })
    expect(contentsOf(path).damage).toBeGreaterThan(0)
  })

  test('TwoSegmentsSwappedAreReportedAndNothingWrongIsServed', () => {
    const path = freshStore()
    for (const key of ['a', 'b']) {
      const db = openSync(path)
      db.putSync(key, key)
      db.closeSync()
    }
    const [first, second] = segmentsOf(path)
    renameSync(first, `${path}/x`)
    renameSync(second, first)
    renameSync(`${path}/x`, second)
    const found = contentsOf(path)
    expect(found.entries).toEqual(new Map())
    expect(found.damage).toBeGreaterThanOrEqual(2)
  })

  test('StrictRefusesADamagedStore_AndOpensAnUndamagedOne', async () => {
    const { directory, segment } = tenKeys()
    openSync(directory, { strict: true }).closeSync()
    flipBit(segment, (recordsOf(segment)[3].offset + 20) * 8)
    expect(await failure(() => openSync(directory, { strict: true }))).toMatchObject({
      code: 'CASKY_CORRUPT',
      path: segment,
    })
    openSync(directory).closeSync()
  })

  test('DamageStandsAfterFurtherWritesAndReopening', () => {
    const { directory, segment } = tenKeys()
    flipBit(segment, (recordsOf(segment)[3].offset + 20) * 8)
    for (let round = 0; round < 3; round++) {
      const db = openSync(directory)
      expect(db.health().damage.length).toBe(1)
      db.putSync(`more ${round}`, '1')
      db.closeSync()
    }
    const db = openSync(directory)
    db.putSync('k3', 'written anew')
    expect(db.get('k3')).toBe('written anew')
    expect(db.health().ok).toBe(false)
    db.closeSync()
  })

  test('CheckFindsWhatOpeningFinds_AndReadsEveryByte', async () => {
    const { directory, segment } = tenKeys()
    const db = openSync(directory)
    expect(await db.check()).toMatchObject({ ok: true, damage: [] })
    const records = recordsOf(segment)
    flipBit(segment, (records[2].offset + 20) * 8)
    flipBit(segment, (records[6].offset + records[6].bytes - 1) * 8)
    const health = await db.check()
    expect(health.damage).toMatchObject([
      { offset: records[2].offset, bytes: records[2].bytes, firstSequence: 3, lastSequence: 3 },
      { firstSequence: 7, lastSequence: 7 },
    ])
    expect(Buffer.from(health.damage[1].keys[0]).toString()).toBe('k6')
    db.closeSync()
  })
})

describe('the manifest', () => {
  test('OfANewerFormatIsRefusedByName', async () => {
    const { directory } = tenKeys()
    const manifest = join(directory, 'MANIFEST')
    const { Kernels } = await import('../src/kernels')
    const bytes = readFileSync(manifest)
    bytes.writeUInt16LE(2, 8)
    bytes.writeUInt32LE(new Kernels().crc(bytes.subarray(0, 12)), 12)
    writeFileSync(manifest, bytes)
    expect(await failure(() => openSync(directory))).toMatchObject({
      code: 'CASKY_NEWER_FORMAT',
      path: manifest,
      got: 2,
    })
  })

  test('EverySingleBitFlippedIsRefused', async () => {
    const { directory } = tenKeys()
    const manifest = join(directory, 'MANIFEST')
    const pristine = readFileSync(manifest)
    for (let bit = 0; bit < pristine.length * 8; bit += 3) {
      const hurt = Buffer.from(pristine)
      hurt[bit >>> 3] ^= 1 << (bit & 7)
      writeFileSync(manifest, hurt)
      const { code } = await failure(() =>
        recycled(() => openSync(directory, { readOnly: true, cacheBytes: 0 })),
      )
      expect(code).toBe('CASKY_CORRUPT')
    }
  })

  test('LostIsRefusedAndPointsToRepair', async () => {
    const { directory } = tenKeys()
    rmSync(join(directory, 'MANIFEST'))
    const error = await failure(() => openSync(directory))
    expect(error).toMatchObject({ code: 'CASKY_CORRUPT' })
    expect(error.message).toMatch(/repair/)
    expect(segmentsOf(directory).length).toBe(1)
  })

  test('PutBackFromAnOlderCopyIsRefusedInsteadOfDroppingTheNewerSegment', async () => {
    const path = freshStore()
    openSync(path).closeSync()
    const old = readFileSync(join(path, 'MANIFEST'))
    const db = openSync(path)
    db.putSync('a', '1')
    db.closeSync()
    writeFileSync(join(path, 'MANIFEST'), old)
    expect(await failure(() => openSync(path))).toMatchObject({ code: 'CASKY_CORRUPT' })
    expect(segmentsOf(path).length).toBe(1)
  })

  test('ASegmentThatACrashKeptOutOfItIsRemoved', () => {
    const { directory, segment } = tenKeys()
    const orphan = segment.replace('0000000001', '0000000002')
    writeFileSync(orphan, readFileSync(segment).subarray(0, 50))
    writeFileSync(join(directory, 'MANIFEST.next'), 'half')
    const db = openSync(directory)
    // Its name is taken anew, for what no record certified.
    expect(readFileSync(orphan).subarray(0, 50).equals(readFileSync(segment).subarray(0, 50))).toBe(false)
    expect(existsSync(join(directory, 'MANIFEST.next'))).toBe(false)
    db.putSync('more', '1')
    db.closeSync()
    expect(contentsOf(directory).entries).toEqual(new Map([...TEN, ['more', '1']]))
  })

  test('ThatCountsOtherRecordsThanTheSegmentHoldsIsReported', () => {
    const path = freshStore()
    const db = openSync(path)
    db.putSync('a', '1')
    db.closeSync()
    const file = join(path, 'MANIFEST')
    const bytes = readFileSync(file)
    bytes.writeUInt32LE(2, 96 + 100)
    bytes.writeUInt32LE(slowCrc32(bytes.subarray(0, -4)), bytes.length - 4)
    writeFileSync(file, bytes)
    expect(contentsOf(path)).toEqual({ entries: new Map([['a', '1']]), damage: 1, tornTails: 0 })
  })

  test('ADamagedSegmentHeaderCostsNoRecord', () => {
    const { directory, segment } = tenKeys()
    overwrite(segment, 0, Buffer.alloc(96))
    expect(contentsOf(directory)).toEqual({ entries: TEN, damage: 1, tornTails: 0 })
  })
})

describe('opening', () => {
  test('AndReadingChangesNothingOnDisk', () => {
    const { directory, segment } = tenKeys()
    openSync(directory).closeSync() // What the kill has left uncertified is made lasting once.
    const segments = segmentsOf(directory)
    const manifest = readFileSync(join(directory, 'MANIFEST'))
    const db = openSync(directory)
    expect(db.get('k1')).toBe('value 1')
    db.closeSync()
    expect(readFileSync(join(directory, 'MANIFEST')).equals(manifest)).toBe(true)
    expect(segmentsOf(directory)).toEqual(segments)
    expect(segments).toEqual([segment, segment.replace('0000000001', '0000000002')])
  })

  test('AfterAFlushALongEndIsNotCopied', async () => {
    const copiedBytes = async (isFlushed: boolean): Promise<number> => {
      const path = freshStore()
      const db = openSync(path, { sync: 'never' })
      for (let i = 0; i < 30; i++) db.putSync(`k${i}`, 'v'.repeat(100_000))
      if (isFlushed) await db.flush()
      const directory = killedCopy(path)
      db.closeSync()
      const bytes = (): number =>
        segmentsOf(directory).reduce((sum, segment) => sum + statSync(segment).size, 0)
      const before = bytes()
      const reopened = openSync(directory)
      expect([...reopened.keys()].length).toBe(30)
      const copied = bytes() - before
      reopened.closeSync()
      return copied
    }
    expect(await copiedBytes(true)).toBeLessThan(4096)
    expect(await copiedBytes(false)).toBeGreaterThan(1_000_000)
  })

  test('LargeValuesAcrossManyScanWindowsComeBack', () => {
    const path = freshStore()
    const db = openSync(path, { valueEncoding: 'bytes', sync: 'never' })
    const value = (bytes: number): Buffer => Buffer.alloc(bytes, `${bytes} `)
    const lengths = [
      1, 5_000_000, 3_999_999, 100, 4_194_304, 4_194_303, 2_500_000, 9_000_000, 0, 2_500_000, 262_144,
      262_100,
    ]
    for (const [i, bytes] of lengths.entries()) db.putSync(`k${i}`, value(bytes))
    db.batchSync(lengths.map((bytes, i) => ({ type: 'put' as const, key: `b${i}`, value: value(bytes) })))
    const copy = killedCopy(path)
    db.closeSync()
    for (const directory of [path, copy]) {
      const reader = openSync(directory, { valueEncoding: 'bytes' })
      expect(reader.health()).toMatchObject({ ok: true, tornTails: [] })
      lengths.forEach((bytes, i) => {
        for (const key of [`k${i}`, `b${i}`]) {
          const found = reader.get(key)
          expect(found !== undefined && Buffer.compare(found, value(bytes)) === 0).toBe(true)
        }
      })
      reader.closeSync()
    }
  })

  test('ADamagedByteInAVeryLargeValueIsFound', async () => {
    const path = freshStore()
    const db = openSync(path, { valueEncoding: 'bytes' })
    db.putSync('large', Buffer.alloc(9_000_000, 1))
    db.putSync('small', Buffer.from('1'))
    db.closeSync()
    flipBit(segmentsOf(path)[0], 5_000_000 * 8)
    forgetCaches(path)
    const reader = openSync(path, { valueEncoding: 'bytes' })
    expect(reader.health().damage.length).toBe(1)
    expect(await failure(() => reader.get('large'))).toMatchObject({ code: 'CASKY_CORRUPT' })
    expect(reader.get('small')).toEqual(new Uint8Array(Buffer.from('1')))
    reader.closeSync()
  })

  test('SegmentsRotateAndAllOfThemAreRead', () => {
    const path = freshStore()
    const db = openSync(path, { maxSegmentBytes: 4096, sync: 'never' })
    const expected = new Map<string, string>()
    for (let i = 0; i < 500; i++) {
      const key = `key ${i % 170}`
      db.putSync(key, `value ${i} `.repeat(10))
      expected.set(key, `value ${i} `.repeat(10))
    }
    const copy = killedCopy(path)
    expect(db.stats().segments.length).toBeGreaterThan(10)
    for (const segment of db.stats().segments) expect(segment.bytes).toBeLessThanOrEqual(4096 + 45)
    db.closeSync()
    for (const directory of [path, copy]) {
      expect(contentsOf(directory).entries).toEqual(
        new Map([...expected].sort(([a], [b]) => (a < b ? -1 : 1))),
      )
    }
  })

  test('AnExpiredRecordShadowsAnOlderOneAfterAReopen', () => {
    const clock = { nowMs: 1000 }
    const path = freshStore()
    const db = openSyncWith(groundWithClock(clock), path)
    db.putSync('k', 'for ever')
    db.putSync('k', 'for a while', { ttlMs: 100 })
    db.closeSync()
    for (const [nowMs, expected] of [
      [1099, 'for a while'],
      [1100, undefined],
    ] as const) {
      clock.nowMs = nowMs
      const reader = openSyncWith(groundWithClock(clock), path)
      expect(reader.get('k')).toBe(expected)
      expect(reader.size).toBe(expected === undefined ? 0 : 1)
      reader.closeSync()
    }
  })

  test('TheClockOrdersNothing', () => {
    const clock = { nowMs: 2_000_000 }
    const path = freshStore()
    const db = openSyncWith(groundWithClock(clock), path)
    db.putSync('k', 'first')
    clock.nowMs = 1
    db.putSync('k', 'second')
    db.closeSync()
    const reader = openSyncWith(groundWithClock(clock), path)
    expect(reader.get('k')).toBe('second')
    reader.closeSync()
  })
})
