import { expect, test } from 'vitest'
import { guess, describe as name, show } from '../src/wording'

test('a misspelt word is guessed; one that is like nothing gets the list', () => {
  const known = ['sync', 'readOnly', 'valueEncoding', 'maxSegmentBytes']
  for (const [word, expected] of [
    ['snyc', 'sync'],
    ['readonly', 'readOnly'],
    ['valueEncodng', 'valueEncoding'],
    ['maxSegmentSize', 'maxSegmentBytes'],
  ]) {
    expect(guess(word, known)).toBe(`did you mean '${expected}'?`)
  }
  expect(guess('colour', known)).toBe("known are 'sync', 'readOnly', 'valueEncoding', 'maxSegmentBytes'")
})

test('bytes are shown as text where that is safe, and as hex where not', () => {
  expect(show(Buffer.from('user:1'))).toBe('"user:1"')
  expect(show(Buffer.from('ünï'))).toBe('"ünï"')
  expect(show(Buffer.from('x'.repeat(50)))).toBe(`"${'x'.repeat(40)}…"`)
  for (const unsafe of ['\u001b[31m', 'a\nb', '\u202e', '\u0085', 'a"b', '\0'])
    expect(show(Buffer.from(unsafe))).toMatch(/^0x[0-9a-f]+…?$/)
  expect(show(new Uint8Array([0xff, 1]))).toBe('0xff01')
})

test('values are named shortly', () => {
  class Thing {}
  expect(
    [
      undefined,
      null,
      5,
      5n,
      'text',
      {},
      Object.create(null),
      new Thing(),
      new Error('e'),
      () => 1,
      Symbol('s'),
    ].map(name),
  ).toEqual([
    'undefined',
    'null',
    '5',
    '5n',
    "'text'",
    'an object',
    'an object',
    'a Thing',
    'an Error',
    'a function',
    'Symbol(s)',
  ])
})

test('of an array of a few numbers is said which, of others that it is one', () => {
  expect([[], [25, 3], [2.5, Number.NaN, -0], [1, 2, 3, 4, 5], ['a'], [[1]]].map(name)).toEqual([
    '[]',
    '[25, 3]',
    '[2.5, NaN, 0]',
    'an array',
    'an array',
    'an array',
  ])
})
