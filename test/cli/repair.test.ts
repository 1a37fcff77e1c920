// casky repair, and casky check of stores that can't be opened.
import * as fs from 'node:fs'
import * as path from 'node:path'
import { describe, expect, test } from 'vitest'
import { openSync } from '../../src/index'
import {
  casky,
  contentsOf,
  firstSegment,
  flip,
  freshPath,
  makeStore,
  offsetOf,
  readStore,
  useCli,
} from './support'

useCli()

const NASTY = 'k\n\u001b[31m'

function store(): string {
  return makeStore([
    ['a', 'one'],
    [NASTY, 'spoilt'],
    ['c', 'three'],
  ])
}

describe('repair', () => {
  test('nothing wrong: nothing changed, exit code 0', async () => {
    const dir = store()
    const before = contentsOf(dir)
    const { code, text, err } = await casky(['repair', dir])
    expect({ code, err }).toEqual({ code: 0, err: '' })
    expect(text).toMatch(
      /^nothing to repair: 1 segment, 3 records, \d+ bytes, no damage; nothing was changed\n$/,
    )
    expect(contentsOf(dir)).toEqual(before)
    expect(await casky(['repair', dir, '--quiet'])).toMatchObject({ code: 0, text: '' })
    const json = JSON.parse((await casky(['repair', dir, '--json'])).text)
    expect(json).toMatchObject({ wasSound: true, lost: [], mended: [], records: 3 })
  })

  test('a lost record is named, the rest is there, the originals are kept, exit code 1', async () => {
    const dir = store()
    flip(firstSegment(dir), offsetOf(dir, 'spoilt'))
    const damaged = fs.readFileSync(firstSegment(dir))
    const { code, text, err } = await casky(['repair', dir])
    expect({ code, err }).toEqual({ code: 1, err: '' })
    expect(text.replaceAll('\n', '')).not.toMatch(/\p{Cc}/u)
    const lines = text.trimEnd().split('\n')
    expect(lines[0]).toMatch(
      /^lost: .*0000000001\.data, bytes \d+ to \d+ \(6 bytes\): the value does not match/,
    )
    expect(lines[0]).toContain('sequence number 2; key "k\\n\\u{1b}[31m"')
    expect(lines[1]).toMatch(/^rewritten: .*0000000001\.data: now .*0000000002\.data \(3 records\)$/)
    expect(lines[2]).toContain(path.join(dir, 'damaged-1'))
    expect(lines[3]).toMatch(/^repaired: 1 segment, 3 records, .*; 1 loss, as told above$/)
    expect(readStore(dir)).toEqual({ a: 'one', c: 'three' })
    expect(fs.readFileSync(path.join(dir, 'damaged-1', '0000000001.data')).equals(damaged)).toBe(true)
    expect(await casky(['check', dir])).toMatchObject({ code: 0 })
    expect(await casky(['repair', dir])).toMatchObject({ code: 0 })
  })

  test('as JSON', async () => {
    const dir = store()
    flip(firstSegment(dir), offsetOf(dir, 'spoilt'))
    flip(firstSegment(dir), 20)
    const { code, text } = await casky(['repair', dir, '--json'])
    expect(code).toBe(1)
    expect(text).not.toMatch(/\u001b/)
    expect(JSON.parse(text)).toMatchObject({
      wasSound: false,
      lost: [{ firstSequence: 2, lastSequence: 2, keys: [NASTY] }],
      mended: [{ offset: 0, bytes: 96 }],
      rewritten: [{ records: 3 }],
      isManifestRebuilt: false,
      originals: path.join(dir, 'damaged-1'),
    })
  })

  test('a lost manifest is rebuilt: nothing lost, exit code 0', async () => {
    const dir = store()
    fs.rmSync(path.join(dir, 'MANIFEST'))
    const checked = await casky(['check', dir])
    expect(checked).toMatchObject({ code: 1, err: '' })
    expect(checked.text).toMatch(
      /MANIFEST: the manifest is missing beside its segments; repair: rebuilt from/,
    )
    const { code, text } = await casky(['repair', dir])
    expect(code).toBe(0)
    expect(text).toContain('the manifest was rebuilt')
    expect(readStore(dir)).toEqual({ a: 'one', [NASTY]: 'spoilt', c: 'three' })
  })

  test('what it can not do: exit code 3, and all is as it was', async () => {
    expect(await casky(['repair', freshPath()])).toMatchObject({ code: 3 })
    const dir = freshPath()
    fs.mkdirSync(dir)
    expect(await casky(['repair', dir])).toMatchObject({ code: 3 })
    expect(await casky(['check', dir])).toMatchObject({ code: 3 })
    fs.writeFileSync(path.join(dir, '0000000001.data'), 'nothing '.repeat(50))
    const before = contentsOf(dir)
    const { code, err } = await casky(['repair', dir])
    expect(code).toBe(3)
    expect(err).toMatch(/^casky: nothing here can be read as a part of a store[^\n]*\n$/)
    expect(contentsOf(dir)).toEqual(before)
    const live = store()
    const db = openSync(live)
    expect(await casky(['repair', live])).toMatchObject({ code: 3, err: expect.stringContaining('open') })
    db.closeSync()
  })
})
