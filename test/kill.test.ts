// A process that writes is killed at random moments, again and again: nothing acknowledged is ever lost.
import { type ChildProcess, spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import { expect, test } from 'vitest'
import { open } from '../src/index'
import { freshFolder, freshStore } from './support/folders'
import { randomFrom } from './support/ground'

const KILLS = Number(process.env.CASKY_KILLS ?? 60)

// Each round writes one counter in several ways; what it prints is acknowledged.
const WRITER = `
import { open } from './casky.mjs'
const [path, from] = process.argv.slice(2)
const db = await open(path, { maxSegmentBytes: 20_000 })
let n = Number(from)
const worker = async (name) => {
  for (;;) {
    const i = n++
    const value = i + ' ' + 'x'.repeat(i % 700)
    if (i % 5 === 0) db.putSync('sync', value)
    if (i % 7 === 0) await db.batch([{ type: 'put', key: 'left', value }, { type: 'put', key: 'right', value }])
    else if (i % 11 === 0) await db.delete(name + (i % 50))
    else await db.put(name + (i % 50), value)
    process.stdout.write(JSON.stringify({ i, name }) + '\\n')
  }
}
process.stdout.write('ready\\n')
for (const name of ['a', 'b', 'c', 'd']) worker(name)
`

interface Acknowledged {
  i: number
  name: string
}

async function runAndKill(child: ChildProcess, delayMs: number): Promise<Acknowledged[]> {
  let output = ''
  let errors = ''
  const exited = new Promise<void>((resolve) => child.on('close', () => resolve()))
  child.stderr?.on('data', (chunk) => {
    errors += chunk
  })
  await new Promise<void>((resolve) => {
    child.stdout?.on('data', (chunk) => {
      if (output === '') setTimeout(() => child.kill('SIGKILL'), delayMs)
      output += chunk
    })
    child.on('close', () => resolve())
  })
  await exited
  expect(errors).toBe('')
  const lines = output.split('\n').slice(1, -1)
  return lines.map((line) => JSON.parse(line) as Acknowledged)
}

test(`${KILLS} kills at random moments lose no acknowledged write`, async () => {
  const folder = freshFolder()
  await build({
    entryPoints: ['src/index.ts'],
    bundle: true,
    platform: 'node',
    format: 'esm',
    outfile: join(folder, 'casky.mjs'),
    logLevel: 'error',
  })
  writeFileSync(join(folder, 'writer.mjs'), WRITER)
  const path = freshStore()
  const random = randomFrom(Number(process.env.CASKY_SEED ?? 20))
  // By key: the newest acknowledged write, as its number. A later one that was not acknowledged may be there too.
  const newest = new Map<string, number>()
  let from = 0
  let acknowledged = 0
  for (let round = 0; round < KILLS; round++) {
    const child = spawn(process.execPath, [join(folder, 'writer.mjs'), path, String(from)], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const lines = await runAndKill(child, random() * 100)
    acknowledged += lines.length
    for (const { i, name } of lines) {
      from = Math.max(from, i + 1)
      const keys = i % 7 === 0 ? ['left', 'right'] : [name + (i % 50)]
      for (const key of keys) newest.set(key, Math.max(newest.get(key) ?? -1, i))
      if (i % 5 === 0) newest.set('sync', Math.max(newest.get('sync') ?? -1, i))
    }
    from += 1000 // numbers that were begun and not acknowledged are not used again
    const db = await open(path)
    expect(db.health()).toMatchObject({ ok: true })
    for (const [key, i] of newest) {
      const value = db.get(key)
      const found = value === undefined ? undefined : Number.parseInt(value, 10)
      const isDelete = i % 11 === 0 && i % 7 !== 0 && key !== 'sync'
      const mayBeLater = found !== undefined && found > i
      if (!mayBeLater && found !== (isDelete ? undefined : i)) {
        // A delete that was begun later and not acknowledged may have taken it.
        const mayBeDeleted = found === undefined && !isDelete && !['left', 'right', 'sync'].includes(key)
        expect(mayBeDeleted, `${key}: acknowledged ${i}, found ${found}`).toBe(true)
      }
      if (value !== undefined) expect(value).toBe(`${found} ${'x'.repeat((found ?? 0) % 700)}`)
    }
    expect(db.get('left')).toBe(db.get('right'))
    await db.close()
  }
  expect(acknowledged).toBeGreaterThan(KILLS)
}, 240_000)
