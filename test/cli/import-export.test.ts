// JSON lines in and out.
import { once } from 'node:events'
import * as fs from 'node:fs'
import { describe, expect, test } from 'vitest'
import { BadLine } from '../../src/cli/bad-line'
import { parseEntry } from '../../src/cli/entry'
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
  shell,
  start,
  useCli,
} from './support'

useCli()

const LATER = 4_102_444_800_000

function lines(...entries: unknown[]): string {
  return entries.map((entry) => `${typeof entry === 'string' ? entry : JSON.stringify(entry)}\n`).join('')
}

describe('export', () => {
  test('text, bytes and expiries, in key order', async () => {
    const dir = makeStore([
      ['b', 'two\n"quoted" \\ \u001b[31m\u009b\u202e\u2028'],
      ['a', '1'],
      ['bytes', Buffer.from([0xff, 0])],
      [Buffer.from([0xfe]), 'text'],
      ['late', 'x', LATER],
      ['gone', 'x', 5],
      ['empty', ''],
      ['\ufeffbom', '\ufeff'],
    ])
    const { code, text, err } = await casky(['export', dir])
    expect({ code, err }).toEqual({ code: 0, err: '' })
    expect(text.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Zl}\u202e]/u)
    expect(
      text
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line)),
    ).toEqual([
      { key: 'a', value: '1' },
      { key: 'b', value: 'two\n"quoted" \\ \u001b[31m\u009b\u202e\u2028' },
      { key: 'Ynl0ZXM=', value: '/wA=', encoding: 'base64' },
      { key: 'empty', value: '' },
      { key: 'late', value: 'x', expiresAtMs: LATER },
      { key: '\ufeffbom', value: '\ufeff' },
      { key: '/g==', value: 'dGV4dA==', encoding: 'base64' },
    ])
  })

  test('comes back through import as it was', async () => {
    const entries: [Uint8Array, Uint8Array, number?][] = []
    for (let i = 0; i < 500; i++) {
      const key = Buffer.from([i & 255, (i * 7) & 255, i >> 8])
      const value = Buffer.from(Array.from({ length: i % 40 }, (_, j) => (i * 31 + j * 17) & 255))
      entries.push(i % 3 === 0 ? [key, value, LATER + i] : [key, value])
    }
    entries.push([Buffer.alloc(65_535, 'k'), Buffer.alloc(7_000_001, 'aä€𝄞\\"\n')])
    entries.push([Buffer.from('long bytes'), Buffer.alloc(7_000_000, Buffer.from([0xff, 1, 2]))])
    const dir = makeStore(entries)
    const copy = freshPath()
    expect(await shell(`casky export ${dir} | casky import ${copy}`)).toMatchObject({
      code: 0,
      text: 'imported 502 entries\n',
      err: '',
    })
    const [from, to] = [dir, copy].map((path) =>
      openSync(path, { readOnly: true, keyEncoding: 'bytes', valueEncoding: 'bytes' }),
    )
    let compared = 0
    for (const [key, value] of from.entries()) {
      const twin = to.get(key)
      expect(twin !== undefined && Buffer.compare(twin, value) === 0).toBe(true)
      expect(to.expiresAtMs(key)).toBe(from.expiresAtMs(key))
      compared++
    }
    expect(compared).toBe(to.size)
    from.closeSync()
    to.closeSync()
    const exported = await casky(['export', dir])
    expect((await casky(['export', copy])).out.equals(exported.out)).toBe(true)
  })

  test('a damaged store: what is whole, and a line for each that is not', async () => {
    const dir = makeStore([
      ['a', 'sound'],
      ['b', 'spoilt'],
      ['c', 'gone'],
      ['d', 'whole'],
    ])
    flip(firstSegment(dir), offsetOf(dir, 'spoilt'))
    flip(firstSegment(dir), offsetOf(dir, 'cgone'))
    const { code, text, err } = await casky(['export', dir])
    expect(code).toBe(1)
    expect(text).toBe(lines({ key: 'a', value: 'sound' }, { key: 'd', value: 'whole' }))
    const told = err.trimEnd().split('\n')
    expect(told).toHaveLength(3)
    expect(told[0]).toContain('2 damaged places')
    expect(told[1]).toContain('"b"')
    expect(told[2]).toContain('no valid record')
    for (const line of told) expect(line).toMatch(/^casky: /)
  })

  test('a torn tail is a notice', async () => {
    const dir = makeStore([['a', '1']])
    fs.appendFileSync(firstSegment(dir), 'half a record')
    const before = contentsOf(dir)
    const { code, text, err } = await casky(['export', dir])
    expect({ code, text }).toEqual({ code: 0, text: lines({ key: 'a', value: '1' }) })
    expect(err).toMatch(/^casky: notice: .*13 bytes.*\n$/)
    expect(contentsOf(dir)).toEqual(before)
  })

  test('a full disk is an error, a closed pipe is none', async () => {
    const dir = makeStore(
      Array.from({ length: 3000 }, (_, i): [string, string] => [`key ${i}`, 'x'.repeat(100)]),
    )
    const full = await shell(`casky export ${dir} > /dev/full`)
    expect(full.code).toBe(3)
    expect(full.err).toMatch(/^casky: .*no space left.*\n$/)
    expect((await shell(`casky get ${dir} 'key 1' > /dev/full`)).code).toBe(3)
    expect((await shell('casky --help > /dev/full')).code).toBe(3)
    const commands = ['export', 'list', 'dump', 'check', 'stats']
    for (const command of commands) {
      const piped = await shell(`casky ${command} ${dir} | head -c 10 > /dev/null; echo \${PIPESTATUS[0]}`)
      expect(piped, command).toMatchObject({ text: '0\n', err: '' })
    }
    expect((await shell(`casky --help | true; echo \${PIPESTATUS[0]}`)).text).toBe('0\n')
  })
})

describe('import', () => {
  test('makes the store, replaces, counts', async () => {
    const dir = freshPath()
    const first = await casky(['import', dir, '-'], lines({ key: 'a', value: '1' }, { key: 'b', value: '2' }))
    expect(first).toMatchObject({ code: 0, text: 'imported 2 entries\n', err: '' })
    const file = freshPath()
    fs.writeFileSync(file, lines({ key: 'a', value: 'new' }))
    expect(await casky(['import', dir, file, '--quiet'])).toMatchObject({ code: 0, text: '', err: '' })
    expect(readStore(dir)).toEqual({ a: 'new', b: '2' })
    expect(await casky(['import', dir], '')).toMatchObject({ code: 0, text: 'imported 0 entries\n' })
    expect((await casky(['import', dir], lines({ key: 'c', value: '' }))).text).toBe('imported 1 entry\n')
    expect(readStore(dir)).toEqual({ a: 'new', b: '2', c: '' })
  })

  test('CRLF, a BOM, blank lines, and a last line without its end', async () => {
    const dir = freshPath()
    const text =
      '\ufeff{"key":"a","value":"1"}\r\n\r\n  \n{"key":"b","value":"2"}\r\n { "value" : "3" , "key":"c" } '
    expect(await casky(['import', dir], text)).toMatchObject({ code: 0, text: 'imported 3 entries\n' })
    expect(readStore(dir)).toEqual({ a: '1', b: '2', c: '3' })
  })

  test('lines cut anywhere by the pipe', async () => {
    const dir = freshPath()
    const bytes = Buffer.from(
      `\ufeff${lines({ key: 'grüße', value: '𝄞'.repeat(5) }, { key: 'b', value: '2' })}`,
    )
    const { child, result } = start(['import', dir])
    for (const byte of bytes) {
      child.stdin?.write(Buffer.from([byte]))
      await new Promise((resolve) => setImmediate(resolve))
    }
    child.stdin?.end()
    expect(await result).toMatchObject({ code: 0, text: 'imported 2 entries\n' })
    expect(readStore(dir)).toEqual({ grüße: '𝄞'.repeat(5), b: '2' })
  })

  test('what has expired counts, and shadows what was there', async () => {
    const dir = makeStore([['a', 'old']])
    const entries = lines(
      { key: 'a', value: 'dead', expiresAtMs: 5 },
      { key: 'b', value: 'x', expiresAtMs: LATER },
    )
    expect((await casky(['import', dir], entries)).text).toBe('imported 2 entries\n')
    expect(readStore(dir)).toEqual({ b: 'x' })
    expect((await casky(['export', dir])).text).toBe(lines({ key: 'b', value: 'x', expiresAtMs: LATER }))
  })

  test('a bad line is named, what came before it is kept, what comes after is not read', async () => {
    const cases: [string, RegExp][] = [
      ['{', /not JSON/],
      ['hello', /not JSON/],
      ['{"key":"a","value":"1"} x', /not JSON/],
      ['[]', /an array/],
      ['null', /null/],
      ['7', /7/],
      ['{"value":"x"}', /no key/],
      ['{"key":"k"}', /no value/],
      ['{"key":"k","vlaue":"x"}', /unknown field 'vlaue'; did you mean 'value'\?/],
      ['{"key":"k","value":"x","expires_at_ms":5}', /did you mean 'expiresAtMs'\?/],
      ['{"key":"k","value":"x","colour":5}', /unknown field 'colour'; known are/],
      ['{"key":"k","value":"x","__proto__":{}}', /unknown field '__proto__'/],
      ['{"key":1,"value":"x"}', /the key is a string, not 1/],
      ['{"key":"k","value":{}}', /the value is a string, not an object/],
      ['{"key":"k","value":null}', /the value is a string, not null/],
      ['{"key":"k","value":"x","encoding":"hex"}', /encoding is 'base64'/],
      ['{"key":"k","value":"eA","encoding":"base64"}', /the key is not base64/],
      ['{"key":"aw==","value":"e*==","encoding":"base64"}', /the value is not base64/],
      ['{"key":"aw==","value":"eB==","encoding":"base64"}', /the value is not base64/],
      ['{"key":"k","value":"\\ud800"}', /the value holds a lone surrogate/],
      ['{"key":"\\udc00","value":"x"}', /the key holds a lone surrogate/],
      ['{"key":"","value":"x"}', /at least one byte/],
      [`{"key":"${'x'.repeat(65_536)}","value":"x"}`, /at most 65535 bytes/],
      [`{"key":"${'ä'.repeat(32_768)}","value":"x"}`, /at most 65535 bytes/],
      ['{"key":"k","value":"x","expiresAtMs":0}', /expiresAtMs is a whole number.*not 0/],
      ['{"key":"k","value":"x","expiresAtMs":1.5}', /not 1\.5/],
      ['{"key":"k","value":"x","expiresAtMs":"5"}', /not '5'/],
      ['{"key":"k","value":"x","expiresAtMs":1e300}', /not 1e\+300/],
      ['{"key":"k","value":"x","\u001b[31m":1}', /not JSON|unknown field/],
    ]
    const good = lines({ key: 'a', value: '1' }, '', { key: 'b', value: '2' })
    const check = async ([bad, expected]: [string, RegExp]): Promise<void> => {
      const dir = freshPath()
      const { code, text, err } = await casky(
        ['import', dir],
        good + lines(bad, { key: 'z', value: 'never' }),
      )
      expect({ code, text }, bad.slice(0, 80)).toEqual({ code: 3, text: '' })
      expect(err).toMatch(/^casky: line 4: [^\n\u001b]+; 2 entries before it are imported\n$/)
      expect(err).toMatch(expected)
      expect(err.length).toBeLessThan(400)
      expect(readStore(dir)).toEqual({ a: '1', b: '2' })
    }
    // One process for each would take long: the parser says most of it, the store the rest.
    const isOfTheStore = ([, expected]: [string, RegExp]): boolean => /byte/.test(expected.source)
    for (const [bad, expected] of cases.filter((each) => !isOfTheStore(each))) {
      expect(() => parseEntry(Buffer.from(bad)), bad).toThrow(BadLine)
      expect(() => parseEntry(Buffer.from(bad)), bad).toThrow(expected)
    }
    const [first, , , , , , , , typo] = cases
    for (const each of [first, typo, cases.at(-1) as [string, RegExp], ...cases.filter(isOfTheStore)])
      await check(each)
    const dir = freshPath()
    const notUtf8 = Buffer.concat([Buffer.from(good), Buffer.from('{"key":"k","value":"\xff"}\n', 'latin1')])
    const { code, err } = await casky(['import', dir], notUtf8)
    expect(code).toBe(3)
    expect(err).toContain('line 4: it is not UTF-8')
    expect((await casky(['import', freshPath()], '{')).err).toMatch(/line 1: .*nothing is imported/)
  })

  test('a file that is not there makes no store', async () => {
    const dir = freshPath()
    for (const file of [freshPath(), '/']) {
      const { code, err } = await casky(['import', dir, file])
      expect(code).toBe(3)
      expect(err).toMatch(/^casky: can't read [^\n]+\n$/)
    }
    expect(fs.existsSync(dir)).toBe(false)
  })

  test('a named pipe is read as a file is', async () => {
    const dir = freshPath()
    const piped = await shell(
      `casky import ${dir} <(printf '{"key":"a","value":"1"}\\n{"key":"b","value":"2"}')`,
    )
    expect(piped).toMatchObject({ code: 0, text: 'imported 2 entries\n', err: '' })
    expect(readStore(dir)).toEqual({ a: '1', b: '2' })
  })

  test.skipIf(!fs.existsSync('/proc/self/status'))('does not hold its input in memory', async () => {
    const { child, result } = start(['import', freshPath()])
    const chunk = Buffer.from(
      Array.from({ length: 1000 }, (_, i) => lines({ key: `key ${i}`, value: 'x'.repeat(1000) })).join(''),
    )
    for (let written = 0; written < 200_000_000; written += chunk.length) {
      if (child.stdin?.write(chunk) === false) await once(child.stdin, 'drain')
    }
    const [, peakKib] = /VmHWM:\s+(\d+) kB/.exec(fs.readFileSync(`/proc/${child.pid}/status`, 'utf8')) ?? []
    child.stdin?.end()
    expect((await result).code).toBe(0)
    expect(Number(peakKib)).toBeLessThan(200_000)
  })
})
