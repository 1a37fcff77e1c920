// docs/FORMAT.md's worked example is what the store writes, byte for byte, and what the second reader reads.
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { freshStore } from './support/folders'
import { groundWithClock, openSyncWith } from './support/ground'
import { referenceSegment, referenceStore } from './support/reference'

/** The example store of docs/FORMAT.md: fixed clock, and a "random" that counts. */
function exampleStore(): string {
  const path = freshStore()
  const clock = { nowMs: 1_700_000_000_000 }
  const ground = groundWithClock(clock, { random: (bytes) => new Uint8Array(bytes).map((_, i) => i + 1) })
  const db = openSyncWith(ground, path)
  db.putSync('name', 'Ada')
  clock.nowMs += 1000
  db.putSync('name', 'Grace', { expiresAtMs: 1_800_000_000_000 })
  db.batchSync([
    { type: 'put', key: 'a', value: '' },
    { type: 'del', key: 'name' },
  ])
  db.closeSync()
  return path
}

function hexDump(bytes: Buffer): string[] {
  const lines: string[] = []
  for (let at = 0; at < bytes.length; at += 16) {
    const hex = bytes
      .subarray(at, at + 16)
      .toString('hex')
      .replace(/../g, '$& ')
      .trim()
    lines.push(`${at.toString(16).padStart(4, '0')}  ${hex}`)
  }
  return lines
}

function documented(name: string): string[] {
  const text = readFileSync(resolve(import.meta.dirname, '../docs/FORMAT.md'), 'utf8')
  const [, block] = text.split(`<!-- example: ${name} -->`)
  const lines = (block ?? '').split('```')[1]?.split('\n') ?? []
  return lines.filter((line) => /^[0-9a-f]{4} {2}/.test(line)).map((line) => line.replace(/ {3,}.*$/, ''))
}

test.each(['MANIFEST', '0000000001.data'])('the worked example: %s', (name) => {
  const path = exampleStore()
  const written = hexDump(readFileSync(join(path, name)))
  if (process.env.CASKY_PRINT_EXAMPLE) console.log(written.join('\n'))
  expect(documented(name)).toEqual(written)
})

test('the second reader reads the example', () => {
  const path = exampleStore()
  const { records } = referenceSegment(readFileSync(join(path, '0000000001.data')))
  expect(
    records.map(({ kind, flags, sequence, key }) => [kind, flags, Number(sequence), key.toString()]),
  ).toEqual([
    [1, 0, 1, 'name'],
    [1, 0x10, 2, 'name'],
    [1, 0x40, 3, 'a'],
    [2, 0x20, 4, 'name'],
    [4, 0, 4, ''],
  ])
  expect(records[0].timeMs).toBe(1_700_000_000_000n)
  expect(records[1].expiresAtMs).toBe(1_800_000_000_000n)
  expect(referenceStore(path, 0)).toEqual(new Map([['61', Buffer.alloc(0)]]))
})
