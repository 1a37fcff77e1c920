import { describe, expect, test } from 'vitest'
import { KEY_AT, ROW_HASH_HIGH, ROW_HASH_LOW, ROW_WORDS } from '../assembly/layout'
import { Kernels } from '../src/kernels'
import { Expiries } from '../src/keydir/expiries'
import { emptyPlace, Keydir, type Place, TABLES, TOUCHED_AT_ONCE } from '../src/keydir/keydir'
import { recordBytes } from '../src/segment'
import { collidingKeys, integerKey } from './support/colliding'
import { randomFrom } from './support/ground'

const kernels = new Kernels()

function placeAt(number: number, keyBytes: number, expiresAtMs?: number): Place {
  const place = emptyPlace()
  place.segment = number % 0x100_0000
  place.offset = (number * 7919) % 0x7fff_ffff
  place.valueBytes = (number * 31) % 0x4000_0001
  place.expiresAtMs = expiresAtMs
  place.isDamaged = number % 5 === 0
  place.recordBytes = recordBytes(keyBytes, place.valueBytes, expiresAtMs !== undefined)
  return place
}

function hash(key: string): [number, number, Uint8Array, number, number] {
  const bytes = Buffer.from(key, 'latin1')
  kernels.bytes.set(bytes, KEY_AT)
  kernels.call.hashKey(KEY_AT, bytes.length)
  return [kernels.hashLow, kernels.hashHigh, kernels.bytes, KEY_AT, bytes.length]
}

function contents(keydir: Keydir): Map<string, Place> {
  const found = new Map<string, Place>()
  keydir.forEach((place, keys, at, keyBytes) => {
    found.set(Buffer.from(keys.subarray(at, at + keyBytes)).toString('latin1'), { ...place })
  })
  return found
}

describe('the keydir', () => {
  test('agrees with a Map through random puts, overwrites, expiries and removals', () => {
    const random = randomFrom(7)
    const keydir = new Keydir(kernels.keyedHash)
    const model = new Map<string, Place>()
    // Brought in before they are looked for, keys are where they were, be there any or not.
    const rows = new Int32Array(TOUCHED_AT_ONCE * ROW_WORDS + 4)
    for (let step = 0; step < 25_000; step++) {
      if (step % 50 === 0) {
        const known = [...model.keys()]
        for (let row = step % 5; row + ROW_WORDS <= rows.length; row += ROW_WORDS) {
          const key = random() < 0.8 ? known[Math.floor(random() * known.length)] : undefined
          const [low, high] = hash(key ?? `absent ${row}`)
          rows[row + ROW_HASH_LOW] = low
          rows[row + ROW_HASH_HIGH] = high
        }
        keydir.touchRows(rows, step % 5, TOUCHED_AT_ONCE)
      }
      const key = `k${'x'.repeat(Math.floor(random() * 9))}${Math.floor(random() * 3000)}`
      const isIn = model.has(key)
      if (random() < 0.65) {
        const place = placeAt(step, key.length, random() < 0.3 ? 2 ** 40 + step : undefined)
        expect(keydir.put(...hash(key), place)).toBe(isIn)
        if (isIn) expect(keydir.found).toEqual(model.get(key))
        model.set(key, place)
      } else {
        expect(keydir.remove(...hash(key))).toBe(isIn)
        if (isIn) expect(keydir.found).toEqual(model.get(key))
        model.delete(key)
      }
    }
    expect(keydir.count).toBe(model.size)
    expect(contents(keydir)).toEqual(model)
    for (const [key, place] of model) {
      expect(keydir.find(...hash(key))).toBe(true)
      expect(keydir.found).toEqual(place)
    }
    expect(keydir.find(...hash('absent'))).toBe(false)
  })

  test('takes no more memory in the end where more was expected than came, and finds all', () => {
    for (const expected of [0, 10, 60, 100, 100_000]) {
      const keydir = new Keydir(kernels.keyedHash)
      const plain = new Keydir(kernels.keyedHash)
      keydir.expected = expected
      for (let i = 0; i < 60 * TABLES; i++) {
        // A third of them replaces others.
        const key = `key ${i % (40 * TABLES)}`
        keydir.put(...hash(key), placeAt(i, key.length))
        plain.put(...hash(key), placeAt(i, key.length))
      }
      const { memoryBytes } = keydir
      keydir.fit()
      if (expected === 100_000) expect(keydir.memoryBytes).toBeLessThan(memoryBytes)
      expect(keydir.memoryBytes).toBeLessThan(plain.memoryBytes * 1.1)
      expect(contents(keydir)).toEqual(contents(plain))
      for (let i = 0; i < 40 * TABLES; i++) expect(keydir.remove(...hash(`key ${i}`))).toBe(true)
      expect(keydir.count).toBe(0)
    }
  })

  test('keeps keys apart whose hashes collide wholly', () => {
    const keydir = new Keydir(kernels.keyedHash)
    const keys = Array.from({ length: 500 }, (_, i) => Buffer.from(`colliding ${i}`))
    keys.forEach((key, i) => {
      keydir.put(0x1234_5678, 0x9abc_def0, key, 0, key.length, placeAt(i, key.length))
    })
    expect(keydir.count).toBe(500)
    keys.forEach((key, i) => {
      expect(keydir.find(0x1234_5678, 0x9abc_def0, key, 0, key.length)).toBe(true)
      expect(keydir.found).toEqual(placeAt(i, key.length))
    })
    for (const key of keys.slice(0, 250))
      expect(keydir.remove(0x1234_5678, 0x9abc_def0, key, 0, key.length)).toBe(true)
    keys.forEach((key, i) => {
      expect(keydir.find(0x1234_5678, 0x9abc_def0, key, 0, key.length)).toBe(i >= 250)
    })
  })

  test('holds the longest keys and the largest numbers', () => {
    const keydir = new Keydir(kernels.keyedHash)
    const key = 'k'.repeat(65_535)
    const place = placeAt(1, key.length, Number.MAX_SAFE_INTEGER)
    Object.assign(place, { segment: 0xff_ffff, offset: 0x7fff_ffff, valueBytes: 0x4000_0000 })
    place.recordBytes = recordBytes(key.length, place.valueBytes, true)
    keydir.put(...hash(key), place)
    expect(keydir.find(...hash(key))).toBe(true)
    expect(keydir.found).toEqual(place)
  })

  test('takes at most 32 bytes a key beyond the key at a million keys, and says so itself', () => {
    const keydir = new Keydir(kernels.keyedHash)
    const place = emptyPlace()
    for (let i = 0; i < 1_000_000; i++) {
      place.offset = i
      keydir.put(...hash(`user${String(i).padStart(12, '0')}`), place)
    }
    expect(keydir.count).toBe(1_000_000)
    expect(keydir.memoryBytes / 1_000_000 - 16).toBeLessThanOrEqual(32)
    expect(keydir.memoryBytes / 1_000_000 - 16).toBeGreaterThan(16)
  })

  test('agrees with a Map where all keys were made to meet in one table', () => {
    const random = randomFrom(10)
    const keydir = new Keydir(kernels.keyedHash)
    const model = new Map<string, Place>()
    for (let step = 0; step < 5000; step++) {
      const key = `${Math.floor(random() * 300)} ${'k'.repeat(Math.floor(random() * 3) * 50)}`
      const bytes = Buffer.from(key)
      const place = placeAt(step, bytes.length, random() < 0.3 ? 2 ** 40 + step : undefined)
      const hashLow = (bytes.length * 0x0101_0101) >>> 0
      if (random() < 0.7) {
        expect(keydir.put(hashLow, 0, bytes, 0, bytes.length, place)).toBe(model.has(key))
        model.set(key, place)
      } else {
        expect(keydir.remove(hashLow, 0, bytes, 0, bytes.length)).toBe(model.delete(key))
      }
    }
    expect(contents(keydir)).toEqual(model)
  })

  test('gives back the room of removed keys', () => {
    const keydir = new Keydir(kernels.keyedHash)
    for (let round = 0; round < 20; round++) {
      for (let i = 0; i < 20_000; i++) keydir.put(...hash(`${round}/${i}`), placeAt(i, 6))
      for (let i = 0; i < 20_000; i++) keydir.remove(...hash(`${round}/${i}`))
    }
    expect(keydir.count).toBe(0)
    expect(keydir.memoryBytes).toBeLessThan(20_000 * 100)
  })

  test('gives back room, and keeps what stays, where keys become longer and shorter, and expire or not', () => {
    const random = randomFrom(13)
    const keydir = new Keydir(kernels.keyedHash)
    const model = new Map<string, Place>()
    let most = 0
    for (let step = 0; step < 150_000; step++) {
      // Some stay for ever among those that go; each phase has keys of another length.
      const nameAt = (at: number) => `${at % 4000} ${'x'.repeat((Math.floor(at / 15_000) % 5) * 12)}`
      const key = step % 50 === 0 ? `stays ${step % 20_000}` : nameAt(step)
      const place = placeAt(step, key.length, random() < 0.3 ? 2 ** 40 + step : undefined)
      expect(keydir.put(...hash(key), place)).toBe(model.has(key))
      model.set(key, place)
      const gone = nameAt(Math.max(0, step - 2000))
      expect(keydir.remove(...hash(gone))).toBe(model.delete(gone))
      most = Math.max(most, keydir.memoryBytes)
    }
    expect(contents(keydir)).toEqual(model)
    for (const [key, place] of model) {
      expect(keydir.find(...hash(key))).toBe(true)
      expect(keydir.found).toEqual(place)
    }
    // 14 MB of entries came and went, of at most 12,000 keys at a time.
    expect(most).toBeLessThan(2_500_000)
  })
})

/** Of all searches for what is there: the slots passed, and of these those whose hash is the same. */
function longestSearches(keydir: Keydir): { walked: number; mistaken: number } {
  const longest = { walked: 0, mistaken: 0 }
  for (let index = 0; index < TABLES; index++) {
    const hashes: number[] = []
    keydir.tableAt(index)?.forEachSlot((_, word, entry) => hashes.push(entry === 0 ? -1 : word >>> 8))
    for (const [slot, hash24] of hashes.entries()) {
      if (hash24 < 0) continue
      let mistaken = 0
      let at = Math.floor((hash24 * hashes.length) / 2 ** 24)
      let walked = 0
      for (; at !== slot; at = (at + 1) % hashes.length, walked++) if (hashes[at] === hash24) mistaken++
      longest.walked = Math.max(longest.walked, walked)
      longest.mistaken = Math.max(longest.mistaken, mistaken)
    }
  }
  return longest
}

describe('keys that meet', () => {
  const hashOf = (key: Buffer): [number, number, Uint8Array, number, number] => {
    kernels.bytes.set(key, KEY_AT)
    kernels.call.hashKey(KEY_AT, key.length)
    return [kernels.hashLow, kernels.hashHigh, kernels.bytes, KEY_AT, key.length]
  }
  const soundPlace = (i: number, keyBytes: number): Place => ({
    ...placeAt(i, keyBytes),
    segment: 0,
    isDamaged: false,
  })
  const groups: [string, Buffer[]][] = [
    ['sequential big-endian integers', Array.from({ length: 4 * 65_536 }, (_, i) => integerKey(i))],
    ['keys made to share one hash', collidingKeys(16_384)],
  ]

  test.each(groups)('%s are found as soon as others', (_, keys) => {
    kernels.keepSecret(Buffer.from('of this test ...'))
    let keyedHashes = 0
    const keydir = new Keydir((source, at, keyBytes) => {
      keyedHashes++
      return kernels.keyedHash(source, at, keyBytes)
    })
    for (const [i, key] of keys.entries()) keydir.put(...hashOf(key), soundPlace(i, key.length))
    // A table is hashed anew once.
    expect(keyedHashes).toBeGreaterThan(keys.length / 2)
    expect(keyedHashes).toBeLessThan(keys.length * 3)
    expect(longestSearches(keydir).mistaken).toBeLessThanOrEqual(8)
    expect(longestSearches(keydir).walked).toBeLessThanOrEqual(1024)
    expect(keydir.count).toBe(keys.length)
    const isRight = (key: Buffer, i: number): boolean =>
      keydir.find(...hashOf(key)) && keydir.found.offset === soundPlace(i, key.length).offset
    expect(keys.filter(isRight).length).toBe(keys.length)
    const gone = keys.filter((_, i) => i % 3 === 0)
    expect(gone.filter((key) => keydir.remove(...hashOf(key))).length).toBe(gone.length)
    expect(gone.filter((key) => keydir.find(...hashOf(key))).length).toBe(0)
    expect(keys.filter(isRight).length).toBe(keys.length - gone.length)
  })

  test('are told from those that chance brought close', () => {
    const keydir = new Keydir(() => {
      throw new Error('nobody needs a keyed hash')
    })
    for (let i = 0; i < 1_000_000; i++) keydir.put(...hash(`user${i}`), placeAt(i, 10))
    for (let i = 0; i < 1_000_000; i += 3) keydir.find(...hash(`nobody${i}`))
  })

  test('only in where they stand, in one long row, are noticed where a search passes many', () => {
    const keydir = new Keydir(kernels.keyedHash)
    const bytes = Buffer.alloc(4)
    const random = randomFrom(12)
    const count = 1300
    const order = Array.from({ length: count }, (_, i) => i).sort(() => random() - 0.5)
    for (const i of order) {
      bytes.writeUInt32LE(i)
      // All in one sixteenth of the slots, and no two with one hash.
      const hash24 = (Math.floor((i * 0x10_0000) / count) & ~0xff) + (i % 255)
      keydir.put(hash24 * 256, 0, bytes, 0, 4, soundPlace(i, 4))
    }
    expect(keydir.tableAt(0)?.isKeyed).toBe(true)
    expect(longestSearches(keydir).walked).toBeLessThanOrEqual(300)
    for (let i = 0; i < count; i++) {
      bytes.writeUInt32LE(i)
      expect(keydir.find(0, 0, bytes, 0, 4)).toBe(true)
      expect(keydir.found).toEqual(soundPlace(i, 4))
    }
  })
})

describe('expiries', () => {
  test('count exactly what has expired, through removals and any order of times', () => {
    const random = randomFrom(8)
    const expiries = new Expiries()
    const model: number[] = []
    let nowMs = 1000
    for (let step = 0; step < 20_000; step++) {
      const roll = random()
      if (roll < 0.5) {
        const at = nowMs - 50 + Math.floor(random() * 1000)
        expiries.add(at)
        model.push(at)
      } else if (roll < 0.7 && model.length > 0) {
        const [gone] = model.splice(Math.floor(random() * model.length), 1)
        expiries.remove(gone)
      } else {
        nowMs += Math.floor(random() * 40)
        if (expiries.needsStart(nowMs)) {
          expiries.start()
          for (const at of model) expiries.add(at)
        }
        expect(expiries.countExpired(nowMs)).toBe(model.filter((at) => at <= nowMs).length)
      }
    }
  })

  test('the live count is right when the clock goes back', () => {
    const keydir = new Keydir(kernels.keyedHash)
    keydir.put(...hash('a'), placeAt(1, 1, 2000))
    keydir.put(...hash('b'), placeAt(1, 1))
    expect(keydir.liveCount(1999)).toBe(2)
    expect(keydir.liveCount(2000)).toBe(1)
    expect(keydir.liveCount(1999)).toBe(2)
  })
})
