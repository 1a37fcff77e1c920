// Lines that are too long to be taken in one piece, and how a stream is cut into lines.
import { createHash } from 'node:crypto'
import * as fs from 'node:fs'
import { describe, expect, test } from 'vitest'
import { BadLine } from '../../src/cli/bad-line'
import { Lines, LineTooLong } from '../../src/cli/lines'
import { LongText, parseLong } from '../../src/cli/long-text'
import { openSync } from '../../src/index'
import { casky, freshPath, shell, useCli } from './support'

useCli()

const MIB = 2 ** 20

function longValue(line: string | Buffer): LongText {
  const { value } = parseLong(Buffer.from(line)) as { value: unknown }
  expect(value).toBeInstanceOf(LongText)
  return value as LongText
}

describe('a long string', () => {
  const patterns = {
    plain: 'abcdefghij',
    escapes: '\\n\\"\\\\\\u00e9\\/x',
    backslashes: '\\\\',
    'surrogate pairs, escaped': '\\ud834\\udd1e\\uD834\\uDD1E',
    'two, three and four bytes': 'ä€𝄞',
    'all of it': 'aä\\\\€\\ud834\\udd1e𝄞\\"\\u0000',
  }

  test.each(Object.entries(patterns))(
    '%s: comes out as JSON.parse has it, wherever it is cut',
    (_, pattern) => {
      const bytes = Buffer.byteLength(pattern)
      for (let shift = 0; shift < Math.min(bytes, 7); shift++) {
        const text = '.'.repeat(shift) + pattern.repeat(Math.ceil((5 * MIB) / bytes))
        const line = `{"key":"k","value":"${text}"}`
        const expected = Buffer.from((JSON.parse(line) as { value: string }).value)
        expect(Buffer.compare(longValue(line).toBytes('value'), expected), String(shift)).toBe(0)
      }
    },
  )

  test('base64, padded or not, escaped or not', () => {
    for (const length of [5 * MIB, 5 * MIB + 1, 5 * MIB + 2]) {
      const bytes = Buffer.alloc(length, Buffer.from([0xff, 0xfe, 7, 1, 0x3f]))
      const text = bytes.toString('base64')
      for (const written of [text, text.replaceAll('/', '\\/')]) {
        const read = longValue(`{"value":"${written}"}`).fromBase64('value')
        expect(Buffer.compare(read, bytes)).toBe(0)
      }
    }
    for (const bad of ['*', '=', 'QQ=', 'QR==']) {
      const text = `{"value":"${'QUJD'.repeat(MIB)}${bad}"}`
      expect(() => longValue(text).fromBase64('value'), bad).toThrow(BadLine)
      const early = `{"value":"${bad}${'QUJD'.repeat(MIB * 2)}"}`
      expect(() => longValue(early).fromBase64('value'), bad).toThrow(BadLine)
    }
  })

  test('what is wrong in it is found', () => {
    const long = 'x'.repeat(5 * MIB)
    for (const bad of ['\\ud800', '\\udc00', '\\ud800x\\udc00']) {
      expect(() => longValue(`{"value":"${long}${bad}${long}"}`).toBytes('value'), bad).toThrow(
        'lone surrogate',
      )
    }
    const notUtf8 = Buffer.concat([Buffer.from(`{"value":"${long}`), Buffer.from([0xff]), Buffer.from('"}')])
    expect(() => longValue(notUtf8).toBytes('value')).toThrow('not UTF-8')
    for (const bad of ['\\x', '\n', '\\u12g4', '\\u12']) {
      expect(() => longValue(`{"value":"${long}${bad}"}`).toBytes('value'), bad).toThrow(BadLine)
    }
  })

  test('what is around it is JSON, or refused', () => {
    const long = 'x'.repeat(2 * MIB)
    for (const bad of [`{"value":"${long}`, `{"value":"${long}"`, `{"value":"${long}"} x`, `"${long}" "a"`]) {
      expect(() => parseLong(Buffer.from(bad)), bad.slice(0, 20)).toThrow(BadLine)
    }
    const quotes = JSON.stringify({ key: 'a"b\\', value: `"\\${long}\\"` })
    const parsed = parseLong(Buffer.from(quotes)) as { key: string; value: LongText }
    expect(parsed.key).toBe('a"b\\')
    expect(Buffer.from(parsed.value.toBytes('value')).toString()).toBe(`"\\${long}\\"`)
  })
})

describe('lines', () => {
  function cut(text: string, pieceBytes: number, max = 1000): string[] {
    const lines = new Lines(max)
    const bytes = Buffer.from(text)
    const found: string[] = []
    for (let at = 0; at < bytes.length; at += pieceBytes) {
      for (const line of lines.push(bytes.subarray(at, at + pieceBytes))) found.push(line.toString())
    }
    const last = lines.last()
    return last === undefined ? found : [...found, last.toString()]
  }

  test('however the chunks fall', () => {
    for (let pieceBytes = 1; pieceBytes < 40; pieceBytes++) {
      expect(cut('\ufeffa\nbb\r\n\nccc €\n', pieceBytes)).toEqual(['a', 'bb\r', '', 'ccc €'])
      expect(cut('a\n\ufeffb', pieceBytes)).toEqual(['a', '\ufeffb'])
      expect(cut('\ufeff', pieceBytes)).toEqual([''])
      expect(cut('\n\n', pieceBytes)).toEqual(['', ''])
    }
    expect(cut('', 1)).toEqual([])
  })

  test('too long a line is not kept', () => {
    expect(() => cut('x'.repeat(2000), 100)).toThrow(LineTooLong)
    expect(cut('x'.repeat(900), 100)).toHaveLength(1)
  })
})

test('a line of 100 MiB goes in and comes out', async () => {
  const dir = freshPath()
  const file = freshPath()
  const text = Buffer.alloc(70 * MIB, 'aä€𝄞\\"\n')
  const line = `${JSON.stringify({ key: 'k', value: text.toString() })}\n{"key":"z","value":"1"}\n`
  expect(Buffer.byteLength(line)).toBeGreaterThan(75 * MIB)
  fs.writeFileSync(file, line)
  expect(await casky(['import', dir, file])).toMatchObject({ code: 0, text: 'imported 2 entries\n', err: '' })
  const store = openSync(dir, { readOnly: true, valueEncoding: 'bytes' })
  expect(Buffer.compare(store.get('k') ?? Buffer.alloc(0), text)).toBe(0)
  expect(store.has('z')).toBe(true)
  store.closeSync()
  const { text: sum } = await shell(`casky export ${dir} | sha256sum`)
  expect(sum.slice(0, 64)).toBe(createHash('sha256').update(line).digest('hex'))
})
