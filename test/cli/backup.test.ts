// casky backup and casky restore.
import * as fs from 'node:fs'
import * as path from 'node:path'
import { describe, expect, test } from 'vitest'
import { openSync } from '../../src/index'
import { casky, firstSegment, flip, freshPath, makeStore, readStore, start, useCli } from './support'

useCli()

const ENTRIES: [string, string][] = [
  ['a', 'one'],
  ['b', 'two'],
]

describe('backup and restore', () => {
  test('full, an increment, and both restored', async () => {
    const dir = makeStore(ENTRIES)
    const to = freshPath()
    const full = await casky(['backup', dir, to])
    expect({ code: full.code, err: full.err }).toEqual({ code: 0, err: '' })
    expect(full.text).toMatch(
      /^backed up to .* at sequence number 2: 2 entries, 1 segment \(\d+ bytes linked\), verified, in .* m?s\n$/,
    )
    expect((await casky(['put', dir, 'c', 'three'])).code).toBe(0)
    const more = await casky(['backup', dir, to, '--since', 'latest', '--json'])
    expect(JSON.parse(more.text)).toMatchObject({ sequence: 3, since: 2, entries: 3, bytesCloned: 0 })
    const [first, second] = [freshPath(), freshPath()]
    const then = await casky(['restore', to, first, '--sequence', '2'])
    expect(then).toMatchObject({ code: 0, err: '' })
    expect(then.text).toMatch(
      /^restored to .*: sequence number 2, of \d{4}-.*Z: 2 entries, 1 segment, \d+ bytes, verified, in .* m?s\n$/,
    )
    const now = await casky(['restore', to, second, '--json'])
    expect(JSON.parse(now.text)).toMatchObject({ sequence: 3, entries: 3, segments: 2 })
    expect(readStore(first)).toEqual(Object.fromEntries(ENTRIES))
    expect(readStore(second)).toEqual({ ...Object.fromEntries(ENTRIES), c: 'three' })
    expect(await casky(['check', second])).toMatchObject({ code: 0 })
    expect(await casky(['restore', to, freshPath(), '--quiet'])).toMatchObject({ code: 0, text: '', err: '' })
    expect(await casky(['backup', dir, freshPath(), '-q'])).toMatchObject({ code: 0, text: '', err: '' })
  })

  test('what is wrong is said in one line, and nothing is done', async () => {
    const dir = makeStore(ENTRIES)
    const to = freshPath()
    expect(await casky(['backup', dir, to, '--since', '2'])).toMatchObject({ code: 3 })
    expect(await casky(['backup', dir, to, '--since', 'yesterday'])).toMatchObject({ code: 2 })
    expect(await casky(['backup', dir])).toMatchObject({ code: 2 })
    expect(await casky(['backup', freshPath(), to])).toMatchObject({ code: 3 })
    expect(await casky(['restore', to, freshPath()])).toMatchObject({ code: 3 })
    expect(fs.existsSync(to)).toBe(false)
    await casky(['backup', dir, to])
    const twice = await casky(['backup', dir, to])
    expect(twice).toMatchObject({ code: 3, text: '' })
    expect(twice.err).toMatch(/^casky: there are backups here, up to sequence number 2; .*'since'.*\n$/)
    const over = await casky(['restore', to, dir])
    expect(over.err).toMatch(/^casky: .*\(a store is here already\): .*\n$/)
    expect(await casky(['restore', to, freshPath(), '--sequence', '9'])).toMatchObject({
      code: 3,
      err: expect.stringContaining('sequence number 9; there is 2'),
    })
    const holder = openSync(dir)
    expect(await casky(['backup', dir, to, '--since', 'latest'])).toMatchObject({ code: 3 })
    holder.closeSync()
    expect(readStore(dir)).toEqual(Object.fromEntries(ENTRIES))
  })

  test('damage: exit code 1, with file and offset', async () => {
    const dir = makeStore(ENTRIES)
    const to = freshPath()
    await casky(['backup', dir, to])
    flip(firstSegment(dir), 130)
    const passedOn = await casky(['backup', dir, freshPath()])
    expect(passedOn).toMatchObject({ code: 1, text: '' })
    expect(passedOn.err).toContain('casky repair')
    // The link shares what was hurt.
    const restored = await casky(['restore', to, freshPath()])
    expect(restored.code).toBe(1)
    expect(restored.err).toMatch(/^casky: the backup is damaged, .* at byte \d+ of .*0000000001\.segment\n$/)
  })

  test('Ctrl-C: no backup, exit code 130', async () => {
    const dir = freshPath()
    const store = openSync(dir, { sync: 'never' })
    const value = 'x'.repeat(1_000_000)
    for (let i = 0; i < 400; i++) store.putSync(`key ${i}`, value)
    store.closeSync()
    const to = freshPath()
    const { child, result } = start(['backup', dir, to])
    for (let i = 0; i < 2000 && !fs.existsSync(to); i++)
      await new Promise((resolve) => setTimeout(resolve, 1))
    child.kill('SIGINT')
    const { code, err } = await result
    expect({ code, err }).toEqual({
      code: 130,
      err: 'casky: the backup was aborted by its signal; nothing of it was kept\n',
    })
    expect(fs.readdirSync(to)).toEqual([])
    expect((await casky(['backup', dir, to])).code).toBe(0)
    expect(fs.readdirSync(to).some((name) => path.extname(name) === '.json')).toBe(true)
  })
})
