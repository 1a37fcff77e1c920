// dump and check.
import * as fs from 'node:fs'
import * as path from 'node:path'
import { describe, expect, test } from 'vitest'
import { openSync } from '../../src/index'
import { recordsOf } from '../support/stores'
import { casky, contentsOf, firstSegment, flip, freshPath, makeStore, offsetOf, useCli } from './support'

useCli()

const LATER = 4_102_444_800_000

function rows(text: string): Record<string, unknown>[] {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
}

/** A store of one segment with a bit of everything. */
function mixedStore(): string {
  const dir = freshPath()
  const store = openSync(dir)
  store.putSync('a', 'one')
  store.putSync('late\n\u001b[31m', 'x', { expiresAtMs: LATER })
  store.putSync(Buffer.from([0xff, 0]), 'bytes')
  store.batchSync([
    { type: 'put', key: 'b1', value: 'spoilt' },
    { type: 'put', key: 'b2', value: 'x' },
    { type: 'del', key: 'a' },
  ])
  store.closeSync()
  return dir
}

describe('dump', () => {
  test('a line a record', async () => {
    const dir = mixedStore()
    const { code, text, err } = await casky(['dump', dir])
    expect({ code, err }).toEqual({ code: 0, err: '' })
    expect(text.replaceAll('\n', '')).not.toMatch(/\p{Cc}/u)
    const [file, heading, ...records] = text.trimEnd().split('\n')
    expect(file).toBe(firstSegment(dir))
    const at = heading.indexOf('kind')
    const kinds = records.map((line) => line.slice(at, at + 6).trim())
    expect(kinds).toEqual(['put', 'put', 'put', 'put', 'put', 'delete', 'seal'])
    const keyAt = heading.lastIndexOf('key')
    const keys = records.map((line) => line.slice(keyAt))
    expect(keys).toEqual(['a', 'late\\n\\u{1b}[31m', '\\xff\\u{0}', 'b1', 'b2', 'a', ''])
    expect(records[1]).toContain('2100-01-01T00:00:00.000Z')
    expect(records[3]).toContain('first')
    expect(records[5]).toContain('last')
    expect(records[0]).toMatch(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/)
  })

  test('as JSON, of the store and of one file', async () => {
    const dir = mixedStore()
    const { code, text } = await casky(['dump', dir, '--json'])
    expect(code).toBe(0)
    const records = rows(text)
    const file = firstSegment(dir)
    expect(records.map(({ key }) => key)).toEqual([
      'a',
      'late\n\u001b[31m',
      { base64: '/wA=' },
      'b1',
      'b2',
      'a',
      undefined,
    ])
    expect(records[0]).toEqual({
      file,
      offset: expect.any(Number),
      bytes: expect.any(Number),
      kind: 'put',
      sequence: 1,
      timeMs: expect.any(Number),
      key: 'a',
      valueBytes: 3,
    })
    expect(records[1].expiresAtMs).toBe(LATER)
    expect(records[3].batch).toBe('first')
    expect((await casky(['dump', file, '--json'])).text).toBe(text)
  })

  test('damage is marked, and exit code 1; a torn tail is no damage', async () => {
    const dir = mixedStore()
    flip(firstSegment(dir), offsetOf(dir, 'spoilt'))
    flip(firstSegment(dir), offsetOf(dir, 'late'))
    fs.appendFileSync(firstSegment(dir), 'torn')
    const { code, text, err } = await casky(['dump', dir])
    expect(code).toBe(1)
    expect(err).toBe('casky: 2 damaged places in this log\n')
    const marked = text.split('\n').filter((line) => line.startsWith('!!'))
    expect(marked).toHaveLength(2)
    expect(marked[0]).toContain('no valid record')
    expect(marked[1]).toContain('b1 !! the value does not match its CRC')
    expect(text.split('\n').filter((line) => line.startsWith('~~'))).toHaveLength(1)
    const json = await casky(['dump', dir, '--json'])
    expect(json.code).toBe(1)
    const records = rows(json.text)
    expect(records.filter(({ damage }) => damage !== undefined)).toHaveLength(2)
    expect(records.at(-1)).toMatchObject({ kind: 'torn tail', bytes: 4 })
    const torn = makeStore([['k', 'v']])
    fs.appendFileSync(firstSegment(torn), 'torn')
    expect(await casky(['dump', torn])).toMatchObject({ code: 0, err: '' })
  })

  test('what is no segment', async () => {
    const file = freshPath()
    fs.writeFileSync(file, 'hello')
    const { code, err } = await casky(['dump', file])
    expect(code).toBe(1)
    expect(err).toMatch(/^casky: not a segment[^\n]*\n$/)
  })
})

describe('check', () => {
  test('a sound store', async () => {
    const dir = mixedStore()
    const { code, text, err } = await casky(['check', dir])
    expect({ code, err }).toEqual({ code: 0, err: '' })
    expect(text).toMatch(/^checked 1 segment, 6 records, \d+ bytes: no damage\n$/)
    expect(await casky(['check', dir, '--quiet'])).toMatchObject({ code: 0, text: '' })
    expect(rows((await casky(['check', dir, '--json'])).text)).toEqual([
      {
        ok: true,
        segments: 1,
        records: 6,
        bytes: fs.statSync(firstSegment(dir)).size,
        damage: [],
        tornTails: [],
        manifest: 'sound',
        leftovers: [],
      },
    ])
  })

  test('damage and torn tails, a line each, and nothing changed', async () => {
    const dir = mixedStore()
    flip(firstSegment(dir), offsetOf(dir, 'spoilt'))
    flip(firstSegment(dir), offsetOf(dir, 'late'))
    fs.appendFileSync(firstSegment(dir), 'torn')
    const before = contentsOf(dir)
    const { code, text } = await casky(['check', dir])
    expect(code).toBe(1)
    const lines = text.trimEnd().split('\n')
    expect(lines).toHaveLength(4)
    const file = firstSegment(dir)
    const value = offsetOf(dir, 'poilt') - 1
    for (const line of lines.slice(0, 2)) expect(line.startsWith(`damage: ${file}, bytes `)).toBe(true)
    expect(text).toContain(
      `bytes ${value} to ${value + 5} (6 bytes): the value does not match its CRC; sequence number 4; key "b1"; repair: its key is deleted, `,
    )
    expect(text).toContain('no valid record can be read here; sequence number 2; repair: left out; ')
    expect(lines[2]).toMatch(/^torn tail: .*\(4 bytes\)/)
    expect(lines[3]).toMatch(/^checked 1 segment, .*: 2 damaged places, \d+ bytes; 1 torn tail$/)
    const [json] = rows((await casky(['check', dir, '--json'])).text)
    expect(json).toMatchObject({ ok: false, tornTails: [{ path: file, bytes: 4 }] })
    expect((json.damage as { keys: unknown[] }[]).flatMap(({ keys }) => keys)).toEqual(['b1'])
    expect(contentsOf(dir)).toEqual(before)
  })

  test('very many damaged values: the first are named, the rest counted', async () => {
    const dir = makeStore(Array.from({ length: 1200 }, (_, i) => [`k${i}`, 'v']))
    const file = firstSegment(dir)
    const bytes = fs.readFileSync(file)
    for (const { offset, bytes: length } of recordsOf(file)) if (length < 45) bytes[offset + length - 1] ^= 1
    fs.writeFileSync(file, bytes)
    const { code, text } = await casky(['check', dir])
    expect(code).toBe(1)
    const lines = text.trimEnd().split('\n')
    expect(lines.length).toBe(1002)
    expect(lines[1000]).toMatch(
      /, from byte \d+ on \(200 bytes\): 200 more, which end at byte \d+: the value does not match its CRC; sequence numbers 1001 to 1200; 200 keys; repair: /,
    )
    expect(lines[1001]).toMatch(/: 1,200 damaged places, 1,200 bytes$/)
    expect((await casky(['get', dir, 'k1'])).err).toContain('the store has 1,200 damaged places')
    expect((await casky(['repair', dir])).text).toMatch(/; 1,200 losses, as told above\n$/)
  })

  test('a segment that is missing', async () => {
    const dir = makeStore([['k', 'v']])
    fs.rmSync(path.join(dir, '0000000001.data'))
    const { code, text } = await casky(['check', dir])
    expect(code).toBe(1)
    expect(text).toContain('it is missing')
  })

  test('torn tails alone are no damage', async () => {
    const dir = makeStore([['k', 'v']])
    fs.appendFileSync(firstSegment(dir), 'torn')
    const { code, text } = await casky(['check', dir])
    expect(code).toBe(0)
    expect(text).toContain('no damage; 1 torn tail')
  })
})
