// What an iteration goes through, in order: more entries than are sorted by comparing.
import { describe, expect, test } from 'vitest'
import { compareRanges } from '../src/bytes'
import { KeyCodec } from '../src/encoding'
import type { Keydir, Place } from '../src/keydir/keydir'
import { OrderedView } from '../src/ordered'
import { rangeOf } from '../src/range'
import { recordBytes } from '../src/segment'
import { randomFrom } from './support/ground'

type Entry = { key: Uint8Array; place: Place }

function viewOf(entries: readonly Entry[], options: object): OrderedView {
  const keydir: Pick<Keydir, 'forEach'> = {
    forEach: (visit) => {
      for (const { key, place } of entries) visit(place, Buffer.concat([Buffer.of(1, 2), key]), 2, key.length)
    },
  }
  return new OrderedView(keydir, rangeOf(options, new KeyCodec('bytes'), 'a test'), 0)
}

function listed(view: OrderedView): { key: string; place: Place }[] {
  const into = new Uint8Array(70_000)
  return Array.from({ length: view.length }, (_, position) => {
    const keyBytes = view.writeKey(position, into, 3)
    const place = { ...view.placeAt(position) }
    return { key: Buffer.from(into.subarray(3, 3 + keyBytes)).toString('hex'), place }
  })
}

/** Where two lists first differ, with what the one and the other hold there; undefined where they are alike. */
function difference(a: readonly string[], b: readonly string[]): unknown {
  const at = [...a, undefined].findIndex((each, i) => each !== b[i])
  return at < 0 || (at === a.length && at === b.length) ? undefined : { at, one: a[at], other: b[at] }
}

const hex = (key: Uint8Array): string => Buffer.from(key).toString('hex')
const byKey = (a: Entry, b: Entry): number => compareRanges(a.key, 0, a.key.length, b.key, 0, b.key.length)
const byPlace = (a: Entry, b: Entry): number =>
  a.place.segment - b.place.segment || a.place.offset - b.place.offset

function entriesWith(count: number, keyOf: (i: number, random: () => number) => Uint8Array): Entry[] {
  const random = randomFrom(count)
  const entries = new Map<string, Entry>()
  for (let i = 0; i < count; i++) {
    const key = keyOf(i, random)
    const offset = Math.floor(random() * 2 ** 31)
    const valueBytes = Math.floor(random() * 2 ** 27)
    const expiresAtMs = random() < 0.2 ? 1 + random() * 2 ** 45 : undefined
    const bytes = recordBytes(key.length, valueBytes, expiresAtMs !== undefined)
    const segment = Math.floor(random() ** 4 * 2 ** 24)
    const isDamaged = random() < 0.1
    const place = { segment, offset, valueBytes, recordBytes: bytes, expiresAtMs, isDamaged }
    entries.set(hex(key), { key, place })
  }
  return [...entries.values()]
}

const KEYS: Record<string, (i: number, random: () => number) => Uint8Array> = {
  'that share a beginning': (i) => Buffer.from(`user/${String((i * 7919) % 100_000).padStart(12, '0')}`),
  'of random bytes and lengths': (_, random) =>
    Uint8Array.from({ length: 1 + Math.floor(random() * 12) }, () => Math.floor(random() * 256)),
  'of zeros, told apart by their lengths': (i) => new Uint8Array(1 + (i % 5000)),
  'that are alike far beyond what is not compared': (i, random) =>
    Buffer.from(`${random() < 0.5 ? 'a' : 'b'}${'x'.repeat(30)}${i}`),
  'of one byte, of which there are few': (i) => Uint8Array.of(i % 256),
}

describe('keys', () => {
  for (const [name, keyOf] of Object.entries(KEYS)) {
    test(`${name} come in their order, forwards, backwards and in part`, () => {
      const entries = entriesWith(10_000, keyOf)
      const keys = entries.toSorted(byKey).map(({ key }) => hex(key))
      const keysIn = (options: object) => listed(viewOf(entries, options)).map(({ key }) => key)
      expect(difference(keysIn({}), keys)).toBeUndefined()
      expect(difference(keysIn({ reverse: true }), keys.toReversed())).toBeUndefined()
      expect(difference(keysIn({ limit: 100 }), keys.slice(0, 100))).toBeUndefined()
    })
  }
})

describe('any order', () => {
  for (const count of [10, 10_000]) {
    test(`${count} entries come in the order of the log, each with its place`, () => {
      const entries = entriesWith(count, KEYS['of random bytes and lengths'])
      const expected = entries.toSorted(byPlace).map(({ key, place }) => {
        // When it expires is not asked any more.
        return { key: hex(key), place: { ...place, expiresAtMs: undefined } }
      })
      const texts = (list: unknown[]) => list.map((each) => JSON.stringify(each))
      const found = listed(viewOf(entries, { order: 'any' }))
      expect(difference(texts(found), texts(expected))).toBeUndefined()
    })
  }

  test('of all in one segment', () => {
    const entries = entriesWith(10_000, KEYS['that share a beginning'])
    for (const { place } of entries) place.segment = 3
    const expected = entries.toSorted(byPlace).map(({ key }) => hex(key))
    expect(
      difference(
        listed(viewOf(entries, { order: 'any' })).map(({ key }) => key),
        expected,
      ),
    ).toBeUndefined()
  })
})
