// Logs of the C Casky, written here byte by byte as it wrote them.
import * as fs from 'node:fs'
import { crc32 } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { CaskyCLog, type LogEvent } from '../../src/cli/casky-c'
import { crc32 as ownCrc32 } from '../../src/cli/crc32'
import { openSync } from '../../src/index'
import { oldRecord, record, TIME } from './casky-c-log'
import { casky, freshPath, makeStore, readStore, useCli } from './support'

useCli()

const LATER = 4_102_444_800

function fileOf(...parts: Buffer[]): string {
  const file = freshPath()
  fs.writeFileSync(file, Buffer.concat(parts))
  return file
}

async function load(...parts: Buffer[]) {
  const dir = freshPath()
  const result = await casky(['import', dir, '--format', 'casky-c', fileOf(...parts)])
  return { ...result, dir, entries: fs.existsSync(dir) ? readStore(dir) : undefined }
}

/** What the reader makes of a log, without a store behind it: keys and values, and the other events by kind. */
function read(log: Buffer): {
  entries: Record<string, string>
  others: Exclude<LogEvent, { kind: 'record' }>[]
} {
  const file = {
    bytes: log.length,
    read: (into: Buffer, position: number) => log.copy(into, 0, position),
    close: () => {},
  }
  const entries: Record<string, string> = {}
  const others: Exclude<LogEvent, { kind: 'record' }>[] = []
  for (const event of new CaskyCLog(file).events()) {
    if (event.kind === 'record') entries[event.key.toString()] = event.value.toString()
    else if (event.kind !== 'searching') others.push(event)
  }
  return { entries, others }
}

const A = record('a', 'one')
const B = record('b', 'two')
const C = record('c', 'three')

describe('a sound log', () => {
  test('puts, overwrites, deletes and expiries in their order', async () => {
    const log = [
      A,
      B,
      record('a', 'newer'),
      record('gone', 'x'),
      record('gone', ''),
      record('never', ''),
      record('shadowed', 'old'),
      record('shadowed', 'expired', TIME),
      record('back', 'old'),
      record('back', ''),
      record('back', 'again'),
      record('late', 'x', LATER),
      record('for ever', 'x', 2n ** 64n - 1n),
      record('grüße', Buffer.from([0xff, 0, 10])),
    ]
    const dir = freshPath()
    const { code, text, err } = await casky(['import', dir, '--format', 'casky-c', fileOf(...log)])
    expect({ code, text, err }).toEqual({ code: 0, text: 'imported 11 entries, deleted 2\n', err: '' })
    const store = openSync(dir, { readOnly: true, valueEncoding: 'bytes' })
    expect([...store.keys()]).toEqual(['a', 'b', 'back', 'for ever', 'grüße', 'late'])
    expect(Buffer.from(store.get('a') ?? []).toString()).toBe('newer')
    expect(Buffer.from(store.get('grüße') ?? [])).toEqual(Buffer.from([0xff, 0, 10]))
    expect(store.expiresAtMs('late')).toBe(LATER * 1000)
    expect(store.expiresAtMs('for ever')).toBe(Number.MAX_SAFE_INTEGER)
    store.closeSync()
  })

  test('an expired record shadows what the store held before', async () => {
    const dir = makeStore([['k', 'old']])
    await casky(['import', dir, '--format', 'casky-c', fileOf(record('k', 'new', TIME))])
    expect(readStore(dir)).toEqual({})
  })

  test('every header there ever was, told apart by the CRCs, also in one file', async () => {
    for (const bytes of [16, 20] as const) {
      const log = [oldRecord(bytes, 'a', 'one'), oldRecord(bytes, 'b', 'x'), oldRecord(bytes, 'b', '')]
      expect(await load(...log)).toMatchObject({
        code: 0,
        entries: { a: 'one' },
        text: 'imported 2 entries, deleted 1\n',
        err: '',
      })
    }
    const mixed = await load(
      oldRecord(16, 'a', 'one'),
      oldRecord(20, 'b', 'two'),
      A,
      C,
      oldRecord(16, 'a', 'last'),
    )
    expect(mixed).toMatchObject({ code: 0, err: '', entries: { a: 'last', b: 'two', c: 'three' } })
  })

  test('records longer than what is read at a time', async () => {
    const value = 'v'.repeat(3_000_000)
    const log = [A, record('long', value), B, oldRecord(16, 'x'.repeat(65_535), value), C]
    const { code, entries } = await load(...log)
    expect(code).toBe(0)
    expect(entries?.long).toBe(value)
    expect(entries?.['x'.repeat(65_535)]).toBe(value)
    expect(Object.keys(entries ?? {})).toHaveLength(5)
  })

  test('many small ones across the window', async () => {
    const log = Array.from({ length: 60_000 }, (_, i) => record(`key ${i}`, `value ${i}`))
    const { code, entries, text } = await load(...log)
    expect({ code, text }).toEqual({ code: 0, text: 'imported 60,000 entries\n' })
    expect(entries?.['key 59999']).toBe('value 59999')
  })

  test('an empty log is an empty store', async () => {
    expect(await load()).toMatchObject({ code: 0, text: 'imported 0 entries\n', err: '', entries: {} })
  })

  test('the CRC is the standard one', () => {
    expect(ownCrc32(Buffer.from('123456789'))).toBe(0xcbf43926)
    const bytes = Buffer.from(Array.from({ length: 1000 }, (_, i) => (i * 37) & 255))
    expect(ownCrc32(bytes.subarray(300), ownCrc32(bytes.subarray(0, 300)))).toBe(crc32(bytes))
  })
})

describe('a torn tail', () => {
  test('at every length', () => {
    for (let bytes = 1; bytes < C.length; bytes++) {
      const { entries, others } = read(Buffer.concat([A, B, C.subarray(0, bytes)]))
      expect(entries, String(bytes)).toEqual({ a: 'one', b: 'two' })
      expect(others).toEqual([{ kind: 'torn', offset: A.length + B.length, bytes }])
    }
  })

  test('is a notice, and exit code 0', async () => {
    const { code, entries, err } = await load(A, B, C.subarray(0, 30))
    expect({ code, entries }).toEqual({ code: 0, entries: { a: 'one', b: 'two' } })
    const at = A.length + B.length
    expect(err).toBe(`casky: notice: the last 30 bytes, from byte ${at} on, are no whole record; left out\n`)
  })

  test('zeros are no deletes', async () => {
    for (const length of [1, 16, 20, 28, 56, 4096, 3_000_000]) {
      const { code, entries, text } = await load(A, Buffer.alloc(length))
      expect({ code, entries, text }, String(length)).toEqual({
        code: 0,
        entries: { a: 'one' },
        text: 'imported 1 entry\n',
      })
    }
  })

  test('lengths of 4 GiB are not believed', async () => {
    const header = Buffer.alloc(28, 0xff)
    const keyOnly = Buffer.from(A)
    keyOnly.writeUInt32LE(0xffff_ffff, 20)
    const valueOnly = Buffer.from(A)
    valueOnly.writeUInt32LE(0xffff_ffff, 24)
    for (const tail of [header, keyOnly, valueOnly]) {
      expect(await load(B, tail)).toMatchObject({ code: 0, entries: { b: 'two' } })
    }
    const middle = await load(B, keyOnly, C)
    expect(middle).toMatchObject({ code: 1, entries: { b: 'two', c: 'three' } })
  })
})

describe('damage', () => {
  test('any flipped bit costs its own record only', () => {
    const log = Buffer.concat([A, B, C])
    for (let bit = A.length * 8; bit < (A.length + B.length) * 8; bit++) {
      const spoilt = Buffer.from(log)
      spoilt[bit >> 3] ^= 1 << (bit & 7)
      const { entries, others } = read(spoilt)
      expect(entries, String(bit)).toEqual({ a: 'one', c: 'three' })
      expect(others).toEqual([{ kind: 'damage', offset: A.length, bytes: B.length }])
    }
  })

  test('is named with its place, and exit code 1', async () => {
    const spoilt = Buffer.concat([A, B, C])
    spoilt[A.length + 29] ^= 0x10
    const { code, entries, err } = await load(spoilt)
    expect({ code, entries }).toEqual({ code: 1, entries: { a: 'one', c: 'three' } })
    expect(err).toBe(`casky: ${B.length} damaged bytes at byte ${A.length} (CRC mismatch); left out\n`)
  })

  test('in the first record, and in the last', async () => {
    const first = Buffer.concat([A, B])
    first[30] ^= 1
    expect(await load(first)).toMatchObject({ code: 1, entries: { b: 'two' } })
    const last = Buffer.concat([A, B])
    last[last.length - 1] ^= 1
    const { code, err, entries } = await load(last)
    expect({ code, entries }).toEqual({ code: 1, entries: { a: 'one' } })
    expect(err).toContain(`at byte ${A.length} (CRC mismatch)`)
  })

  test('what looks like a record inside a damaged value is none', async () => {
    const nest = record('outer', Buffer.concat([Buffer.from('xx'), record('inner', 'forged')]))
    nest[nest.indexOf('xx')] ^= 1
    expect(await load(A, nest, B)).toMatchObject({ code: 1, entries: { a: 'one', b: 'two' } })
    expect(await load(A, nest)).toMatchObject({ code: 1, entries: { a: 'one' } })
  })

  test('garbage between records is skipped', async () => {
    const noise = Buffer.from(Array.from({ length: 2_500_000 }, (_, i) => (i * i * 31 + (i >> 7)) & 255))
    const { code, entries, err } = await load(A, noise, B, Buffer.alloc(5000), C)
    expect({ code, entries }).toEqual({ code: 1, entries: { a: 'one', b: 'two', c: 'three' } })
    expect(err.trimEnd().split('\n')).toHaveLength(2)
    expect(err).toContain(`2,500,000 damaged bytes at byte ${A.length} `)
  })

  test('a log that is made to take long does not', async () => {
    // Every four bytes the lengths of a record that would reach far.
    const trap = Buffer.alloc(4_000_000)
    for (let at = 0; at < trap.length; at += 4) trap.writeUInt32LE(60_000, at)
    const startedAtMs = Date.now()
    const { code } = await load(A, trap, B)
    expect(code).toBe(1)
    expect(Date.now() - startedAtMs).toBeLessThan(10_000)
  })

  test('keys that no store takes are left out and named', async () => {
    const { code, entries, err } = await load(A, record('', 'x'), record('k'.repeat(65_536), 'x'), B)
    expect({ code, entries }).toEqual({ code: 1, entries: { a: 'one', b: 'two' } })
    expect(err).toContain('its key is empty')
    expect(err).toContain('its key has 65536 bytes')
  })
})

describe('what is no log', () => {
  test('is refused, and no store is made', async () => {
    for (const text of ['{"key":"a","value":"1"}\n', 'x', '\0'.repeat(100)]) {
      const { code, err, entries } = await load(Buffer.from(text))
      expect({ code, entries }).toEqual({ code: 3, entries: undefined })
      expect(err).toMatch(/^casky: there is no record of a C Casky in [^\n]+\n$/)
    }
    const dir = freshPath()
    expect((await casky(['import', dir, '--format', 'casky-c', freshPath()])).code).toBe(3)
    expect((await casky(['import', dir, '--format', 'casky-c', '/'])).code).toBe(3)
    const piped = await casky(['import', dir, '--format', 'casky-c'], A)
    expect(piped.code).toBe(2)
    expect(piped.err).toContain('read from a file')
    expect(fs.existsSync(dir)).toBe(false)
  })
})
