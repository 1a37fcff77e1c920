// The order of the keys that is kept: exact whatever is written, deleted, forgotten and merged in between.
import { describe, expect, test } from 'vitest'
import { KeyCodec } from '../src/encoding'
import { openSync } from '../src/index'
import { Kernels } from '../src/kernels'
import { KeyOrder, type Run, sortedRun } from '../src/key-order'
import { emptyPlace, Keydir } from '../src/keydir/keydir'
import { rangeOf } from '../src/range'
import { freshStore } from './support/folders'
import { groundWithClock, openSyncWith, randomFrom } from './support/ground'

const never = { sync: 'never', merge: false } as const

const keysOf = (run: Run): string[] =>
  Array.from({ length: run.count }, (_, i) =>
    Buffer.from(run.bytes.subarray(run.keyAt(i), run.keyAt(i) + run.keyBytes(i))).toString(),
  )

function runOf(keys: readonly string[]): Run {
  const place = emptyPlace()
  return sortedRun({
    forEach: (visit) => {
      for (const key of keys) visit(place, Buffer.from(key), 0, Buffer.byteLength(key))
    },
  })
}

describe('a run', () => {
  test('has each key once, in order, and finds what is in a range', () => {
    const run = runOf(['b', 'ab', 'a', 'b', 'abc', 'c', 'ab\u{10ffff}'])
    const keys = keysOf(run)
    expect(keys).toEqual(['a', 'ab', 'abc', 'ab\u{10ffff}', 'b', 'c'])
    const within = (options: object) =>
      keys.slice(...run.within(rangeOf(options, new KeyCodec('utf8'), 'a test')))
    expect(within({})).toEqual(keys)
    expect(within({ prefix: 'ab' })).toEqual(['ab', 'abc', 'ab\u{10ffff}'])
    expect(within({ gt: 'ab', lte: 'b' })).toEqual(['abc', 'ab\u{10ffff}', 'b'])
    expect(within({ gte: 'ab', lt: 'b' })).toEqual(['ab', 'abc', 'ab\u{10ffff}'])
    expect(within({ gt: 'c' })).toEqual([])
    expect(within({ gt: 'b', lt: 'a' })).toEqual([])
    expect(within({ prefix: Uint8Array.of(0xff, 0xff) })).toEqual([])
  })

  test('passes over what is gone, forwards and backwards', () => {
    const random = randomFrom(3)
    const keys = Array.from({ length: 200 }, (_, i) => `k${String(i).padStart(3, '0')}`)
    const run = runOf(keys)
    const there = new Set(keys.keys())
    const look = () => {
      for (let at = 0; at < keys.length; at++) {
        let next = at
        while (next < keys.length && !there.has(next)) next++
        expect(run.pass(at, 1, keys.length)).toBe(next)
        let last = at
        while (last >= 0 && !there.has(last)) last--
        expect(run.pass(at, -1, -1)).toBe(last)
      }
    }
    look()
    for (let i = 40; i < 150; i++) {
      run.markGone(i)
      there.delete(i)
    }
    look()
    for (let i = 0; i < 60; i++) {
      const index = Math.floor(random() * 200)
      run.markGone(index)
      there.delete(index)
    }
    look()
  })
})

test('its runs hold every key of the keydir, and are few and not much larger than that', () => {
  const kernels = new Kernels()
  const keydir = new Keydir(kernels.keyedHash)
  const there = new Set<string>()
  const place = emptyPlace()
  const random = randomFrom(9)
  const hashed = (key: string): [number, number, Uint8Array, number, number] => {
    const bytes = Buffer.from(key)
    kernels.bytes.set(bytes, 0x1_0000)
    kernels.call.hashKey(0x1_0000, bytes.length)
    return [kernels.hashLow, kernels.hashHigh, bytes, 0, bytes.length]
  }
  let order = new KeyOrder(keydir)
  let remade = 0
  for (let round = 0; round < 60; round++) {
    for (let i = 0; i < 700; i++) {
      const key = `k${Math.floor(random() * 3000)}`
      const [low, high, bytes, at, keyBytes] = hashed(key)
      if (random() < 0.5) {
        keydir.remove(low, high, bytes, at, keyBytes)
        there.delete(key)
      } else {
        const isNew = !keydir.put(low, high, bytes, at, keyBytes, place)
        there.add(key)
        if (isNew && !order.add(bytes, at, keyBytes)) {
          order = new KeyOrder(keydir)
          remade++
        }
      }
    }
    if (round % 7 === 6) continue
    const runs = order.current()
    const found = new Set(runs.flatMap(keysOf))
    expect([...there].filter((key) => !found.has(key))).toEqual([])
    expect(runs.reduce((sum, { count }) => sum + count, 0)).toBeLessThanOrEqual(there.size * 2 + 4096)
    expect(runs.length).toBeLessThan(14)
    if (order.isExact) expect(found).toEqual(there)
  }
  expect(remade).toBeLessThan(30)
})

test('whoever goes through a store in order meets what was there at the call, through everything', async () => {
  const clock = { nowMs: 1_700_000_000_000 }
  const db = openSyncWith(groundWithClock(clock), freshStore(), { ...never, maxSegmentBytes: 60_000 })
  const random = randomFrom(21)
  const model = new Map<string, { value: string; expiresAtMs: number }>()
  const live = () =>
    [...model]
      .filter(([, { expiresAtMs }]) => expiresAtMs > clock.nowMs)
      .map(([key, { value }]): [string, string] => [key, value])
      .sort(([a], [b]) => (a < b ? -1 : 1))
  const open: { iterator: IterableIterator<unknown>; rest: unknown[]; seen: unknown[] }[] = []
  const snapshots: { snapshot: ReturnType<typeof db.snapshot>; expected: [string, string][] }[] = []
  for (let step = 0; step < 1500; step++) {
    const key = `k${Math.floor(random() * 400)}`
    const what = random()
    if (what < 0.35) {
      const ttlMs = random() < 0.2 ? 1 + Math.floor(random() * 50) : undefined
      const value = `${step} ${'v'.repeat(random() * 60)}`
      void db.put(key, value, ttlMs === undefined ? {} : { ttlMs })
      model.set(key, {
        value,
        expiresAtMs: ttlMs === undefined ? Number.POSITIVE_INFINITY : clock.nowMs + ttlMs,
      })
    } else if (what < 0.55) {
      void db.delete(key)
      model.delete(key)
    } else if (what < 0.6) {
      clock.nowMs += Math.floor(random() * 10)
    } else if (what < 0.62) {
      await (random() < 0.5 ? db.expire() : db.merge())
    } else if (what < 0.64) {
      snapshots.push({ snapshot: db.snapshot(), expected: live() })
      if (snapshots.length > 3) snapshots.shift()?.snapshot.release()
    } else if (what < 0.9) {
      const from = snapshots.length > 0 && random() < 0.4 ? snapshots[step % snapshots.length] : undefined
      const options = {
        reverse: random() < 0.3,
        order: random() < 0.2 ? ('any' as const) : ('key' as const),
        ...(random() < 0.5 ? { prefix: key.slice(0, 2) } : {}),
        ...(random() < 0.3 ? { gte: `k${Math.floor(random() * 400)}` } : {}),
        ...(random() < 0.3 ? { lt: `k${Math.floor(random() * 400)}` } : {}),
      }
      const expected = (from?.expected ?? live()).filter(
        ([each]) =>
          each.startsWith(options.prefix ?? '') && each >= (options.gte ?? '') && each < (options.lt ?? 'z'),
      )
      if (options.reverse) expected.reverse()
      const reader = from?.snapshot ?? db
      const isOfKeys = random() < 0.3
      const iterator = isOfKeys ? reader.keys(options) : reader.entries(options)
      const rest: unknown[] = isOfKeys ? expected.map(([each]) => each) : expected
      if (options.order === 'any') {
        expect([...iterator].sort()).toEqual([...rest].sort())
      } else if (random() < 0.5 || from !== undefined) {
        expect([...iterator]).toEqual(rest)
      } else {
        open.push({ iterator, rest, seen: [] })
      }
    } else if (open.length > 0) {
      const at = Math.floor(random() * open.length)
      const { iterator, rest, seen } = open[at]
      for (let i = 0; i < 20; i++) {
        const next = iterator.next()
        if (next.done === true) {
          expect(seen).toEqual(rest)
          open.splice(at, 1)
          break
        }
        seen.push(next.value)
      }
    }
  }
  for (const { iterator, rest, seen } of open) expect([...seen, ...iterator]).toEqual(rest)
  expect([...db]).toEqual(live())
  for (const { snapshot } of snapshots) snapshot.release()
  db.closeSync()
})

test('a queue whose first entry is taken again and again', () => {
  const db = openSync(freshStore(), never)
  for (let i = 0; i < 3000; i++) void db.put(`job ${String(i).padStart(6, '0')}`, `${i}`)
  for (let i = 0; i < 6000; i++) {
    const [key] = db.keys({ limit: 1 })
    expect(key).toBe(`job ${String(i).padStart(6, '0')}`)
    void db.delete(key)
    void db.put(`job ${String(i + 3000).padStart(6, '0')}`, `${i}`)
    if (i % 1000 === 0) expect([...db.keys({ limit: 1, reverse: true })][0]).toContain(String(i + 3000))
  }
  expect(db.size).toBe(3000)
  db.closeSync()
})
