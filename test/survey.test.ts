// Check: every byte of a store that need not be open, nor be able to, and what it finds is what opening finds.
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { nodeHost } from '../src/host/node'
import { check, type Damage, open, openSync } from '../src/index'
import { seedOf } from '../src/salt'
import { checkOn, repairOn } from '../src/store'
import { logOf, manifestOf, richStore } from './support/damage'
import { freshFolder, freshStore } from './support/folders'
import { failure, groundWith, randomFrom } from './support/ground'
import { slowCrc32 } from './support/reference'
import { append, flipBit, killedCopy, segmentsOf, truncate } from './support/stores'

/** What a finding says, its time apart. */
const told = (damage: Damage[]) =>
  damage
    .map(({ foundAtMs: _, keys, ...rest }) => ({
      ...rest,
      keys: keys.map((key) => Buffer.from(key).toString()),
    }))
    .sort((a, b) => a.path.localeCompare(b.path) || a.offset - b.offset)

describe('check', () => {
  test('of a sound store says how much is in it', async () => {
    const path = richStore()
    const bytes = segmentsOf(path).reduce((sum, file) => sum + statSync(file).size, 0)
    expect(await check(path)).toEqual({
      ok: true,
      damage: [],
      tornTails: [],
      segments: 5,
      records: logOf(path).length,
      bytes,
      manifest: 'sound',
      leftovers: [],
    })
  })

  test('opening, the open store’s check and this one agree on every flipped bit, and none changes a byte', async () => {
    const path = richStore()
    const damaged = [0, 2].map((index) => segmentsOf(path)[index])
    for (const file of damaged) {
      const pristine = readFileSync(file)
      for (let byte = 0; byte < pristine.length; byte += 5) {
        flipBit(file, byte * 8 + (byte % 8))
        const hurt = readFileSync(file)
        const db = openSync(path, { readOnly: true })
        const opened = told(db.health().damage)
        const again = told((await db.check()).damage)
        db.closeSync()
        const found = await check(path)
        const where = `${basename(file)}, byte ${byte}`
        expect([where, opened.length > 0]).toEqual([where, true])
        expect([where, again]).toEqual([where, opened])
        expect([where, told(found.damage)]).toEqual([where, opened])
        for (const { remedy } of found.damage) expect(remedy).toMatch(/\w/)
        expect(readFileSync(file).equals(hurt)).toBe(true)
        writeFileSync(file, pristine)
      }
    }
  })

  test('damage that came after a store was opened is found by its check, once', async () => {
    const path = richStore()
    const db = openSync(path, { readOnly: true })
    const member = logOf(path).find(({ flags }) => flags === 0x60)
    if (member === undefined) throw new Error('no batch')
    flipBit(member.file, (member.offset + 5) * 8)
    const first = told((await db.check()).damage)
    expect(first.map(({ keys }) => keys)).toEqual([['c', 'g'], []])
    expect(told((await db.check()).damage)).toEqual(first)
    db.closeSync()
  })

  test.each([
    ['lost', 'missing', (path: string) => rmSync(manifestOf(path))],
    ['flipped', 'damaged', (path: string) => flipBit(manifestOf(path), 1000)],
    ['cut', 'damaged', (path: string) => truncate(manifestOf(path), 50)],
  ])('where the manifest is %s', async (_name, manifest, hurt) => {
    const path = richStore()
    const records = logOf(path).length
    hurt(path)
    const names = readdirSync(path)
    const report = await check(path)
    expect(report).toMatchObject({ ok: false, manifest, segments: 5, records, tornTails: [] })
    expect(report.damage).toMatchObject([{ path: manifestOf(path), remedy: 'rebuilt from the segments' }])
    expect(readdirSync(path)).toEqual(names)
  })

  test('a killed store has a torn tail and no damage, with its manifest and without', async () => {
    const path = richStore()
    const db = openSync(path)
    db.putSync('x', '1')
    db.putSync('y', '2')
    const directory = killedCopy(path)
    db.closeSync()
    const [, , , , , file] = segmentsOf(directory)
    append(file, Buffer.from('torn'))
    writeFileSync(join(directory, 'MANIFEST.next'), 'half')
    const tornTails = [{ path: file, offset: statSync(file).size - 4, bytes: 4 }]
    const next = join(directory, 'MANIFEST.next')
    expect(await check(directory)).toMatchObject({ ok: true, tornTails, leftovers: [next] })
    const { records } = await check(directory)
    rmSync(manifestOf(directory))
    expect(await check(directory)).toMatchObject({ tornTails, records, manifest: 'missing' })
  })

  test('wrong counts in the manifest are told', async () => {
    const path = richStore()
    const bytes = readFileSync(manifestOf(path))
    bytes.writeUInt32LE(2, 96 + 100)
    bytes.writeUInt32LE(slowCrc32(bytes.subarray(0, -4)), bytes.length - 4)
    writeFileSync(manifestOf(path), bytes)
    const { damage } = await check(path)
    expect(damage).toMatchObject([{ reason: 'holds 6 records where the manifest says 2' }])
  })

  test('beside a live writer that starts segment after segment finds nothing wrong', async () => {
    const path = freshStore()
    const db = await open(path, { maxSegmentBytes: 4096, sync: 'never' })
    let isOver = false
    const writing = (async () => {
      for (let i = 0; !isOver; i++) {
        db.putSync(`k${i % 500}`, 'v'.repeat(i % 900))
        if (i % 3 === 0) await new Promise((resolve) => setImmediate(resolve))
      }
    })()
    for (let round = 0; round < 30; round++) {
      expect(await check(path)).toMatchObject({ ok: true, damage: [] })
    }
    isOver = true
    await writing
    expect(db.stats().segments.length).toBeGreaterThan(3)
    await db.close()
  })

  test('what is no store; an abort; an option that is none', async () => {
    expect(await failure(() => check(freshStore()))).toMatchObject({ code: 'CASKY_NOT_FOUND' })
    expect(await failure(() => check(freshFolder()))).toMatchObject({ code: 'CASKY_NOT_FOUND' })
    expect(await failure(() => check(''))).toMatchObject({ code: 'CASKY_INVALID_PATH' })
    const folder = freshFolder()
    writeFileSync(join(folder, 'letter.txt'), 'hello')
    expect(await failure(() => check(folder))).toMatchObject({ code: 'CASKY_NOT_A_STORE' })
    const path = richStore()
    const stop = new AbortController()
    const options = { signal: stop.signal, onProgress: () => stop.abort() }
    expect(await failure(() => check(path, options))).toMatchObject({ code: 'CASKY_ABORTED' })
    const odd = { quick: true } as object
    expect(await failure(() => check(path, odd))).toMatchObject({ code: 'CASKY_INVALID_OPTION' })
  })

  test('leaves no handle open, whatever it meets', async () => {
    const path = richStore()
    const handles = new Set<number>()
    let isRepairing = false
    const ground = groundWith({
      open: (name, mode) => {
        if (!isRepairing) expect(mode).toBe('read')
        const file = nodeHost.open(name, mode)
        handles.add(file)
        return file
      },
      close: (file) => {
        handles.delete(file)
        nodeHost.close(file)
      },
    })
    for (const file of segmentsOf(path)) flipBit(file, 900)
    rmSync(manifestOf(path))
    expect((await checkOn(ground, path, {})).ok).toBe(false)
    expect(handles.size).toBe(0)
    const stop = new AbortController()
    const options = { signal: stop.signal, onProgress: () => stop.abort() }
    await failure(() => checkOn(ground, path, options))
    expect(handles.size).toBe(0)
    isRepairing = true
    for (let stopAt = 1; ; stopAt++) {
      let steps = 0
      const end = new AbortController()
      const onProgress = () => {
        if (++steps === stopAt) end.abort()
      }
      await repairOn(ground, path, { signal: end.signal, onProgress }).catch(() => undefined)
      expect(handles.size).toBe(0)
      if (steps < stopAt) break
    }
  })
})

test('a CRC gives the seed back that it was continued from', () => {
  const random = randomFrom(7)
  for (let length = 0; length < 200; length++) {
    const bytes = Uint8Array.from({ length }, () => random() * 256)
    const seed = Math.floor(random() * 2 ** 32)
    expect(seedOf(slowCrc32(bytes, seed), bytes)).toBe(seed)
  }
})
