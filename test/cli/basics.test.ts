// put, get, del, list, and how wrong usage is answered.
import * as fs from 'node:fs'
import * as path from 'node:path'
import { describe, expect, test } from 'vitest'
import pkg from '../../package.json'
import { openSync } from '../../src/index'
import { casky, contentsOf, firstSegment, flip, freshPath, makeStore, offsetOf, useCli } from './support'

useCli()

const CONTROL = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u

/** One line on standard error, marked, and nothing in it that a terminal would obey. */
function expectOneLine(err: string): void {
  expect(err).toMatch(/^casky: [^\n]+\n$/)
  expect(err.slice(0, -1)).not.toMatch(CONTROL)
  expect(err).not.toMatch(/\n\s+at /)
}

describe('put, get and del', () => {
  test('a value comes back bare', async () => {
    const dir = freshPath()
    expect(await casky(['put', dir, 'user:1', 'Ada'])).toMatchObject({ code: 0, text: '', err: '' })
    expect(await casky(['get', dir, 'user:1'])).toMatchObject({ code: 0, text: 'Ada', err: '' })
    expect(await casky(['del', dir, 'user:1'])).toMatchObject({ code: 0, text: '', err: '' })
    const gone = await casky(['get', dir, 'user:1'])
    expect(gone).toMatchObject({ code: 1, text: '', err: 'casky: no such key: user:1\n' })
    expect(await casky(['del', dir, 'user:1'])).toMatchObject({
      code: 1,
      err: 'casky: no such key: user:1\n',
    })
  })

  test('standard input is read byte by byte', async () => {
    const dir = freshPath()
    const value = Buffer.from([0, 255, 10, 13, 0xc3, 0x28, 0])
    expect((await casky(['put', dir, 'bytes', '-'], value)).code).toBe(0)
    expect((await casky(['get', dir, 'bytes'])).out).toEqual(value)
    expect((await casky(['put', dir, 'empty', '-'])).code).toBe(0)
    expect(await casky(['get', dir, 'empty'])).toMatchObject({ code: 0, text: '' })
    const long = Buffer.alloc(5_000_000, 'long ')
    expect((await casky(['put', dir, 'long', '-'], long)).code).toBe(0)
    expect((await casky(['get', dir, 'long'])).out.equals(long)).toBe(true)
  })

  test('empty values, negative numbers and what begins with a dash', async () => {
    const dir = freshPath()
    expect((await casky(['put', dir, 'empty', ''])).code).toBe(0)
    expect(await casky(['get', dir, 'empty'])).toMatchObject({ code: 0, text: '' })
    expect((await casky(['put', dir, 'n', '-5'])).code).toBe(0)
    expect((await casky(['get', dir, 'n'])).text).toBe('-5')
    expect((await casky(['put', dir, '--', '-k', '--v'])).code).toBe(0)
    expect((await casky(['get', dir, '--', '-k'])).text).toBe('--v')
    const refused = await casky(['put', dir, 'k', '-x'])
    expect(refused.code).toBe(2)
    expect(refused.err).toContain('goes behind --')
  })

  test('--ttl-ms and --expires-at-ms', async () => {
    const dir = freshPath()
    expect((await casky(['put', dir, 'soon', 'x', '--ttl-ms', '1'])).code).toBe(0)
    expect((await casky(['get', dir, 'soon'])).code).toBe(1)
    expect((await casky(['put', dir, 'late', 'x', '--expires-at-ms', '4102444800000'])).code).toBe(0)
    const store = openSync(dir, { readOnly: true })
    expect(store.expiresAtMs('late')).toBe(4102444800000)
    store.closeSync()
    for (const flags of [
      ['--ttl-ms', '0'],
      ['--ttl-ms', '-1'],
      ['--ttl-ms', '1.5'],
      ['--ttl-ms', ''],
      ['--ttl-ms', '99999999999999999999'],
      ['--ttl-ms', '9007199254740991'],
      ['--expires-at-ms', '0'],
      ['--expires-at-ms', '5', '--ttl-ms', '5'],
    ]) {
      const { code, err } = await casky(['put', dir, 'k', 'v', ...flags])
      expect(code, flags.join(' ')).toBe(2)
      expectOneLine(err)
    }
  })

  test('--base64 for all that has no place on a command line', async () => {
    const dir = freshPath()
    const key = Buffer.from([0, 0xff, 10])
    const value = Buffer.from([0xfe, 0])
    const [key64, value64] = [key.toString('base64'), value.toString('base64')]
    expect((await casky(['put', '--base64', dir, key64, value64])).code).toBe(0)
    expect((await casky(['get', '--base64', dir, key64])).text).toBe(value64)
    expect((await casky(['list', '--base64', '--values', dir])).text).toBe(`${key64}\t${value64}\n`)
    expect((await casky(['list', '--base64', '--prefix', 'AA==', dir])).text).toBe(`${key64}\n`)
    expect((await casky(['put', '--base64', dir, 'YQ==', '-'], 'Yg==\n')).code).toBe(0)
    expect((await casky(['get', dir, 'a'])).text).toBe('b')
    expect((await casky(['del', '--base64', dir, key64])).code).toBe(0)
    for (const bad of ['*', 'YQ', 'YR==', 'Y Q==', 'YQ==\n']) {
      const { code, err } = await casky(['get', '--base64', dir, bad])
      expect(code, bad).toBe(2)
      expectOneLine(err)
    }
  })

  test('a reader works beside a writer, a second writer does not', async () => {
    const dir = freshPath()
    const store = openSync(dir)
    store.putSync('k', 'v')
    expect((await casky(['get', dir, 'k'])).text).toBe('v')
    expect((await casky(['list', dir])).text).toBe('k\n')
    expect((await casky(['check', dir])).code).toBe(0)
    const second = await casky(['put', dir, 'k', 'w'])
    expect(second.code).toBe(3)
    expectOneLine(second.err)
    expect(second.err).toContain(String(process.pid))
    store.closeSync()
    expect((await casky(['put', dir, 'k', 'w'])).code).toBe(0)
  })

  test('reading makes and changes nothing', async () => {
    const dir = makeStore([['k', 'v']])
    const before = contentsOf(dir)
    for (const args of [
      ['get', dir, 'k'],
      ['list', dir],
      ['export', dir],
      ['dump', dir],
      ['check', dir],
      ['stats', dir],
    ]) {
      expect((await casky(args)).code, args[0]).toBe(0)
    }
    expect(contentsOf(dir)).toEqual(before)
    const missing = freshPath()
    for (const args of [
      ['get', missing, 'k'],
      ['del', missing, 'k'],
      ['list', missing],
      ['export', missing],
      ['dump', missing],
      ['check', missing],
      ['stats', missing],
    ]) {
      const { code, err, text } = await casky(args)
      expect(code, args[0]).toBe(3)
      expect(text).toBe('')
      expectOneLine(err)
    }
    expect(fs.existsSync(missing)).toBe(false)
  })

  test('what is no store is refused', async () => {
    const foreign = freshPath()
    fs.mkdirSync(foreign)
    fs.writeFileSync(path.join(foreign, 'notes.txt'), 'hello')
    expect((await casky(['put', foreign, 'k', 'v'])).code).toBe(3)
    const file = freshPath()
    fs.writeFileSync(file, 'hello')
    const { code, err } = await casky(['list', file])
    expect(code).toBe(3)
    expectOneLine(err)
  })
})

describe('list', () => {
  test('prefix, limit, reverse and values', async () => {
    const dir = makeStore([
      ['b', '2'],
      ['a:1', 'one'],
      ['a:2', 'two'],
      ['a:3', 'three'],
    ])
    const list = async (...flags: string[]): Promise<string> => (await casky(['list', dir, ...flags])).text
    expect(await list()).toBe('a:1\na:2\na:3\nb\n')
    expect(await list('--prefix', 'a:')).toBe('a:1\na:2\na:3\n')
    expect(await list('--prefix', 'a:', '--limit', '2', '--reverse')).toBe('a:3\na:2\n')
    expect(await list('--limit', '0')).toBe('')
    expect(await list('--prefix', '')).toBe('a:1\na:2\na:3\nb\n')
    expect(await list('--values', '--limit', '1')).toBe('a:1\tone\n')
    expect(await list('--json', '--prefix', 'b')).toBe('{"key":"b","value":"2"}\n')
    expect((await casky(['list', dir, '--limit', 'x'])).code).toBe(2)
  })

  test('nothing raw reaches the terminal, and all of it can be told apart', async () => {
    const keys = [
      'line\nfeed',
      'tab\there',
      'back\\slash',
      '\\n as typed',
      'escape\u001b[31m',
      'c1 \u009b31m',
      'bidi \u202e',
      'zero\u200bwidth',
      'separator\u2028',
      'delete\u007f',
      'grüße €𝄞',
    ]
    const bytes = Buffer.from([0x61, 0xff, 0xc3, 0x28, 0xe2, 0x82, 0x5c])
    const dir = makeStore([...keys.map((key): [string, string] => [key, `${key}!`]), [bytes, bytes]])
    const { out, text, code } = await casky(['list', dir])
    expect(code).toBe(0)
    expect(text.replaceAll('\n', '')).not.toMatch(CONTROL)
    const lines = out.toString().trimEnd().split('\n')
    expect(lines).toHaveLength(keys.length + 1)
    expect(new Set(lines).size).toBe(lines.length)
    for (const shown of [
      'line\\nfeed',
      'tab\\there',
      'back\\\\slash',
      '\\\\n as typed',
      'escape\\u{1b}[31m',
      'c1 \\u{9b}31m',
      'bidi \\u{202e}',
      'zero\\u{200b}width',
      'separator\\u{2028}',
      'delete\\u{7f}',
      'grüße €𝄞',
      'a\\xff\\xc3(\\xe2\\x82\\\\',
    ]) {
      expect(lines).toContain(shown)
    }
    const values = (await casky(['list', dir, '--values'])).text
    expect(values).toContain('tab\\there\ttab\\there!\n')
    expect(values.replaceAll(/[\n\t]/g, '')).not.toMatch(CONTROL)
    const json = (await casky(['list', dir, '--json'])).text
    expect(json.replaceAll('\n', '')).not.toMatch(CONTROL)
    const parsed = json
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { key: string })
    for (const key of keys) expect(parsed.some((entry) => entry.key === key)).toBe(true)
  })
})

describe('damage', () => {
  test('a damaged value is an error of its own, and every command warns', async () => {
    const dir = makeStore([
      ['good', 'sound'],
      ['bad', 'spoilt'],
    ])
    flip(firstSegment(dir), offsetOf(dir, 'spoilt'))
    const bad = await casky(['get', dir, 'bad'])
    expect(bad.code).toBe(1)
    expect(bad.text).toBe('')
    expect(bad.err).toContain('damaged')
    const good = await casky(['get', dir, 'good'])
    expect(good).toMatchObject({ code: 0, text: 'sound' })
    expectOneLine(good.err)
    expect(good.err).toContain('1 damaged place')
    expect(good.err).toContain('casky check')
    const keys = await casky(['list', dir])
    expect(keys).toMatchObject({ code: 1, text: 'bad\ngood\n' })
    const values = await casky(['list', dir, '--values'])
    expect(values).toMatchObject({ code: 1, text: 'good\tsound\n' })
    expect(values.err.trimEnd().split('\n')).toHaveLength(2)
    expect((await casky(['stats', dir])).err).toContain('warning')
    expect(await casky(['put', dir, 'bad', 'new'])).toMatchObject({ code: 0 })
    expect((await casky(['get', dir, 'bad'])).text).toBe('new')
  })

  test('a damaged manifest is one line and exit code 1', async () => {
    const dir = makeStore([['k', 'v']])
    flip(path.join(dir, 'MANIFEST'), 20)
    for (const command of ['list', 'stats', 'export', 'dump']) {
      const { code, err } = await casky([command, dir])
      expect(code, command).toBe(1)
      expectOneLine(err)
    }
    // To a check it is a finding among others.
    expect(await casky(['check', dir])).toMatchObject({ code: 1, err: '' })
  })
})

describe('usage', () => {
  test('help and version', async () => {
    expect(await casky(['--version'])).toMatchObject({ code: 0, text: `${pkg.version}\n`, err: '' })
    const help = await casky(['--help'])
    expect(help.code).toBe(0)
    for (const command of ['put', 'get', 'del', 'list', 'import', 'export', 'dump', 'check', 'stats']) {
      expect(help.text).toContain(`\n  ${command} `)
      const own = await casky([command, '--help'])
      expect(own, command).toMatchObject({ code: 0, err: '' })
      expect(own.text).toMatch(new RegExp(`Examples?:\n  .*casky ${command} `))
    }
    const bare = await casky([])
    expect(bare).toMatchObject({ code: 2, text: '' })
    expect(bare.err).toContain('Usage: casky COMMAND DIR')
  })

  test('wrong usage is one line, exit code 2, with a guess', async () => {
    const cases: [string[], string][] = [
      [['ptu', 'd'], 'put'],
      [['exprot', 'd'], 'export'],
      [['nothing-like-it'], '--help'],
      [['list', 'd', '--jsn'], '--json'],
      [['list', 'd', '--prefx', 'a'], '--prefix'],
      [['--verison'], '--version'],
      [['get', 'd'], 'KEY'],
      [['get'], 'DIR'],
      [['put', 'd', 'k'], 'VALUE'],
      [['get', 'd', 'a', 'b'], 'too many'],
      [['list', ''], 'DIR'],
      [['import', 'd', 'f', '--format', 'casky-d'], 'casky-c'],
      [['get', 'd', '\u001b[31m', 'x\ny'], 'too many'],
      [['\u001b[31m\u009b'], 'unknown command'],
    ]
    for (const [args, expected] of cases) {
      const { code, err, text } = await casky(args)
      expect(code, args.join(' ')).toBe(2)
      expect(text).toBe('')
      expectOneLine(err)
      expect(err).toContain(expected)
    }
  })

  test('keys that no store takes', async () => {
    const dir = makeStore([['k', 'v']])
    for (const args of [
      ['put', dir, '', 'v'],
      ['get', dir, ''],
      ['del', dir, ''],
      ['put', dir, 'x'.repeat(65_536), 'v'],
    ]) {
      const { code, err } = await casky(args)
      expect(code, args[0]).toBe(2)
      expectOneLine(err)
    }
    expect((await casky(['put', dir, 'x'.repeat(65_535), 'v'])).code).toBe(0)
  })

  test('a message shows no raw control character of a key or a path', async () => {
    const dir = makeStore([['k', 'v']])
    expectOneLine((await casky(['get', dir, 'no\u001b]0;\u0007\nsuch\u202e'])).err)
    expectOneLine((await casky(['list', `${dir}/no\u001b[31m\nsuch`])).err)
  })
})
