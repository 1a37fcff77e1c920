// Backups and restores onto a disk that is really full: refused by name, nothing half-made left, and nothing harmed.
import * as fs from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type Casky, openSync, restore } from '../../src/index'
import { freshStore } from '../support/folders'
import { failure } from '../support/ground'
import { contentsOf } from '../support/stores'
import { makeDisk, type SmallDisk, whyNoDisk } from './ground'

const MIB = 2 ** 20
const KIB = 1024
const PIECE = Buffer.alloc(64 * KIB)
const noDisk = whyNoDisk()
const onDisk = noDisk === undefined ? '' : ` (skipped: ${noDisk})`

async function fill(db: Casky, from: number, count: number): Promise<void> {
  for (let i = from; i < from + count; i++) db.put(`key ${i}`, `value ${i} ${'x'.repeat(KIB)}`)
  await db.flush()
}

/** Takes all the room that there is, as another process does; returns what gives it back. */
function hog(disk: SmallDisk): () => void {
  const path = join(disk.path, 'hog')
  const file = fs.openSync(path, 'w')
  try {
    for (;;) fs.writeSync(file, PIECE)
  } catch (error) {
    expect(error).toMatchObject({ code: 'ENOSPC' })
  }
  fs.closeSync(file)
  return () => fs.rmSync(path)
}

const namesIn = (directory: string): string[] => fs.readdirSync(directory).sort()

async function expectRestored(from: string, expected: ReadonlyMap<string, string>): Promise<void> {
  const target = freshStore()
  await restore(from, target)
  expect(contentsOf(target)).toEqual({ entries: expected, damage: 0, tornTails: 0 })
}

describe(`a backup onto a full disk${onDisk}`, () => {
  test.runIf(noDisk === undefined)('too small from the start, or filled meanwhile', async () => {
    const disk = makeDisk(9 * MIB)
    const path = freshStore()
    const db = openSync(path, { sync: 'never', merge: false, maxSegmentBytes: MIB })
    try {
      await fill(db, 0, 5000)
      const dir = join(disk.path, 'backups')
      let letGo = hog(disk)
      expect(await failure(() => db.backup(dir))).toMatchObject({ code: 'CASKY_NO_SPACE' })
      expect(namesIn(dir)).toEqual([])
      letGo()
      let isHogged = false
      const onProgress = ({ phase, bytesDone }: { phase: string; bytesDone: number }): void => {
        if (isHogged || phase !== 'backup' || bytesDone < 2 * MIB) return
        isHogged = true
        letGo = hog(disk)
      }
      const refused = await failure(() => db.backup(dir, { onProgress }))
      expect(refused).toMatchObject({ code: 'CASKY_NO_SPACE', path: expect.stringContaining(dir) })
      expect(isHogged).toBe(true)
      expect(namesIn(dir)).toEqual([])
      letGo()
      await db.backup(dir)
      const first = new Map(db.entries())

      // Now what is to be added has no room, then none meanwhile.
      await fill(db, 5000, 2500)
      letGo = hog(disk)
      const names = namesIn(dir)
      const since = 'latest'
      expect(await failure(() => db.backup(dir, { since }))).toMatchObject({ code: 'CASKY_NO_SPACE' })
      expect(namesIn(dir)).toEqual(names)
      letGo()
      disk.remount(`size=${14 * MIB}`)
      isHogged = false
      const onIncrement = ({ phase, bytesDone }: { phase: string; bytesDone: number }): void => {
        if (isHogged || phase !== 'backup' || bytesDone < 6 * MIB) return
        isHogged = true
        letGo = hog(disk)
      }
      const again = await failure(() => db.backup(dir, { since, onProgress: onIncrement }))
      expect(again).toMatchObject({ code: 'CASKY_NO_SPACE' })
      expect(isHogged).toBe(true)
      expect(namesIn(dir)).toEqual(names)
      await expectRestored(dir, first)

      // The store never noticed, and what is there can be added to.
      letGo()
      expect((await db.check()).damage).toEqual([])
      await db.backup(dir, { since })
      await expectRestored(dir, new Map(db.entries()))
    } finally {
      await db.close()
      disk.release()
    }
  })

  test.runIf(noDisk === undefined)(
    'beside its store: neither is harmed, nor does a restore begin',
    async () => {
      const disk = makeDisk(8 * MIB)
      try {
        const db = openSync(join(disk.path, 'store'), { sync: 'never', merge: false, maxSegmentBytes: MIB })
        await fill(db, 0, 3000)
        for (let i = 0; i < 3000; i += 2) db.delete(`key ${i}`)
        await db.flush()
        const dir = join(disk.path, 'backups')
        const letGo = hog(disk)
        // Its full segments are linked, and the one that is written to has to be copied.
        expect(await failure(() => db.backup(dir))).toMatchObject({ code: 'CASKY_NO_SPACE' })
        expect(namesIn(dir)).toEqual([])
        const before = db.stats().segments
        expect(await failure(() => db.merge())).toMatchObject({ code: 'CASKY_NO_SPACE' })
        expect(db.stats().segments).toEqual(before)
        letGo()
        await db.backup(dir)
        const target = join(disk.path, 'restored')
        const letGoAgain = hog(disk)
        expect(await failure(() => restore(dir, target))).toMatchObject({ code: 'CASKY_NO_SPACE' })
        expect(namesIn(target).filter((name) => name !== 'LOCK')).toEqual([])
        letGoAgain()
        const expected = new Map(db.entries())
        expect(expected.size).toBe(1500)
        await expectRestored(dir, expected)
        await db.close()
        expect(contentsOf(join(disk.path, 'store')).damage).toBe(0)
      } finally {
        disk.release()
      }
    },
  )
})
