import { readdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { nodeHost } from '../src/host/node'
import { open, openSync, repair } from '../src/index'
import { repairOn } from '../src/store'
import { freshStore, useMemory } from './support/folders'
import { groundWith, systemError } from './support/ground'
import { flipBit, recordsOf, segmentsOf } from './support/stores'

useMemory()

/** Some segments long enough for a hint, the second of them damaged. */
async function hurtStore(): Promise<{ path: string; key: string }> {
  const path = freshStore()
  const db = await open(path, { maxSegmentBytes: 100_000, merge: false, sync: 'never' })
  for (let i = 0; i < 5000; i++) db.put(`key ${i}`, `${i}`.padEnd(60, 'v'))
  await db.close()
  const [, second] = segmentsOf(path)
  const { offset, key } = recordsOf(second)[7]
  flipBit(second, 8 * (Number(offset) + 5))
  return { path, key: key.toString() }
}

const cachesOf = (path: string): string[] =>
  readdirSync(path).filter((name) => name === 'CHECKPOINT' || name.includes('.hint'))

describe('after a repair', () => {
  test('the index is there: the next open reads none of the log', async () => {
    const { path, key } = await hurtStore()
    const phases = new Set<string>()
    const report = await repair(path, { onProgress: ({ phase }) => phases.add(phase) })
    expect(report.wasSound).toBe(false)
    expect([...phases]).toEqual(['check', 'copy', 'index'])
    const long = segmentsOf(path).filter((segment) => statSync(segment).size >= 65_536)
    expect(cachesOf(path).filter((name) => name.endsWith('.hint')).length).toBe(long.length)
    using db = openSync(path, { readOnly: true })
    const { recovery } = db.stats()
    expect(recovery.checkpoint.used).toBe(true)
    expect(recovery.scanned).toBe(0)
    expect(db.has(key)).toBe(false)
    expect(db.size).toBe(4999)
    expect(await db.check()).toMatchObject({ ok: true })
  })

  test('a store that was sound is left as it is', async () => {
    const { path } = await hurtStore()
    await repair(path)
    for (const name of cachesOf(path)) rmSync(join(path, name))
    expect(await repair(path)).toMatchObject({ wasSound: true })
    expect(cachesOf(path)).toEqual([])
  })

  test('where it can not be written the store is sound all the same', async () => {
    const { path } = await hurtStore()
    for (const name of cachesOf(path)) rmSync(join(path, name))
    const ground = groundWith({
      open: (name, mode) => {
        if (mode === 'create' && /hint|CHECKPOINT/.test(name)) throw systemError('ENOSPC')
        return nodeHost.open(name, mode)
      },
    })
    expect((await repairOn(ground, path, {})).wasSound).toBe(false)
    expect(cachesOf(path)).toEqual([])
    using db = openSync(path, { readOnly: true })
    expect(db.health().ok).toBe(true)
    expect(db.size).toBe(4999)
  })
})
