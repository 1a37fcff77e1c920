import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Pace } from '../src/pace'
import { makeWorkshop, removeAll } from './real/ground'
import { freshStore } from './support/folders'
import { groundWith } from './support/ground'

/** A slice of 2 ms, and then a rest during which each turn of the event loop takes a quarter of one; in turns. */
async function turnsOfRest(operations: () => number): Promise<number> {
  let clockMs = 0
  let turns = 0
  const { host } = groundWith({
    clockMs: () => clockMs,
    soon: (run) => {
      turns++
      clockMs += 0.25
      setImmediate(run)
    },
  })
  const pace = new Pace(host, 0, operations)
  clockMs = 2
  expect(pace.isDue).toBe(true)
  await pace.rest()
  expect(pace.isDue).toBe(false)
  expect(pace.longestSliceMs).toBe(2)
  return turns
}

test('a slice is followed by the next one where nobody else does anything', async () => {
  expect(await turnsOfRest(() => 7)).toBe(1)
})

test('where others do something, they get as long as the slice took', async () => {
  let operations = 0
  expect(await turnsOfRest(() => operations++)).toBe(8)
})

test('or until they have done', async () => {
  let operations = 0
  expect(await turnsOfRest(() => Math.min(3, operations++ >> 1))).toBeLessThan(8)
})

test('a process that waits for a merge or a backup of so many bytes a second lives until it is done', async () => {
  const workshop = await makeWorkshop()
  try {
    const script = join(workshop, 'slow.mjs')
    writeFileSync(
      script,
      `import { open } from './casky.mjs'
      const [path, to] = process.argv.slice(2)
      const db = await open(path, { sync: 'never', merge: false })
      for (let i = 0; i < 2000; i++) db.put('key ' + (i % 1000), 'x'.repeat(100))
      await db.flush()
      const merged = await db.merge({ maxBytesPerSecond: 2_000_000 })
      const copied = await db.backup(to, { maxBytesPerSecond: 1_000_000 })
      console.log(merged.recordsRead, copied.entries)
      await db.close()`,
    )
    const { status, stdout } = spawnSync(process.execPath, [script, freshStore(), freshStore()], {
      encoding: 'utf8',
    })
    expect({ status, stdout }).toEqual({ status: 0, stdout: '2000 1000\n' })
  } finally {
    removeAll(workshop)
  }
})
