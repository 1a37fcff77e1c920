import { describe, expect, test } from 'vitest'
import { openSync } from '../../src/index'
import { freshStore } from '../support/folders'
import { flipBit, segmentsOf } from '../support/stores'
import { casky, useCli } from './support'

useCli()

function filled(): string {
  const path = freshStore()
  const db = openSync(path, { sync: 'never', merge: false, maxSegmentBytes: 20_000 })
  for (let i = 0; i < 3000; i++) db.put(`key ${i % 300}`, `value ${i}`)
  for (let i = 0; i < 50; i++) db.put(`brief ${i}`, 'x', { expiresAtMs: 1 })
  db.closeSync()
  return path
}

describe('casky merge', () => {
  test('says what it freed, and the second time that there is nothing to do', async () => {
    const path = filled()
    const first = await casky(['merge', path])
    expect(first).toMatchObject({ code: 0, err: '' })
    expect(first.text).toMatch(
      /^freed [\d.]+ KiB in [\d.]+ s: \d+ segments became \d+, [\d,]+ records of [\d,]+ records kept\n$/,
    )
    expect(await casky(['compact', path])).toMatchObject({ code: 0, text: 'nothing to do\n' })
    expect((await casky(['get', path, 'key 299'])).text).toBe('value 2999')
  })

  test('as JSON', async () => {
    const { text, code } = await casky(['merge', filled(), '--json'])
    expect(code).toBe(0)
    expect(JSON.parse(text)).toMatchObject({ reason: 'asked for', damaged: [] })
  })

  test('leaves a damaged segment, names it, and exits with 1', async () => {
    const path = filled()
    const damaged = segmentsOf(path)[1]
    flipBit(damaged, 5000 * 8)
    const { text, code } = await casky(['merge', path])
    expect(code).toBe(1)
    expect(text).toMatch(`damaged, and left as it is: ${damaged}\n`)
  })

  test('makes no store', async () => {
    expect(await casky(['merge', freshStore()])).toMatchObject({ code: 3 })
  })
})

describe('casky expire', () => {
  test('frees what has expired', async () => {
    const path = filled()
    const { text, code } = await casky(['expire', path])
    expect(code).toBe(0)
    expect(text).toMatch(/^\d+ expired entr(y|ies); freed [\d.]+ KiB\n$/)
    expect(JSON.parse((await casky(['expire', path, '--json'])).text)).toEqual({ expired: 0, freedBytes: 0 })
  })
})
