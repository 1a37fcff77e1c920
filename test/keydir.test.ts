import { describe, expect, test } from 'vitest'
import { KEY_AT } from '../assembly/layout'
import { Kernels } from '../src/kernels'
import { Expiries } from '../src/keydir/expiries'
import { emptyPlace, Keydir, type Place } from '../src/keydir/keydir'
import { recordBytes } from '../src/segment'
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
    const keydir = new Keydir()
    const model = new Map<string, Place>()
    for (let step = 0; step < 25_000; step++) {
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

  test('keeps keys apart whose hashes collide wholly', () => {
    const keydir = new Keydir()
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
    const keydir = new Keydir()
    const key = 'k'.repeat(65_535)
    const place = placeAt(1, key.length, Number.MAX_SAFE_INTEGER)
    Object.assign(place, { segment: 0xff_ffff, offset: 0x7fff_ffff, valueBytes: 0x4000_0000 })
    place.recordBytes = recordBytes(key.length, place.valueBytes, true)
    keydir.put(...hash(key), place)
    expect(keydir.find(...hash(key))).toBe(true)
    expect(keydir.found).toEqual(place)
  })

  test('takes at most 32 bytes a key beyond the key at a million keys, and says so itself', () => {
    const keydir = new Keydir()
    const place = emptyPlace()
    for (let i = 0; i < 1_000_000; i++) {
      place.offset = i
      keydir.put(...hash(`user${String(i).padStart(12, '0')}`), place)
    }
    expect(keydir.count).toBe(1_000_000)
    expect(keydir.memoryBytes / 1_000_000 - 16).toBeLessThanOrEqual(32)
    expect(keydir.memoryBytes / 1_000_000 - 16).toBeGreaterThan(16)
  })

  test('goes on in another table where keys were made to fill one', () => {
    const random = randomFrom(10)
    const keydir = new Keydir(1000)
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

  test('gives back the room of removed keys when it next grows', () => {
    const keydir = new Keydir()
    for (let round = 0; round < 20; round++) {
      for (let i = 0; i < 20_000; i++) keydir.put(...hash(`${round}/${i}`), placeAt(i, 6))
      for (let i = 0; i < 20_000; i++) keydir.remove(...hash(`${round}/${i}`))
    }
    expect(keydir.count).toBe(0)
    expect(keydir.memoryBytes).toBeLessThan(20_000 * 100)
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
    const keydir = new Keydir()
    keydir.put(...hash('a'), placeAt(1, 1, 2000))
    keydir.put(...hash('b'), placeAt(1, 1))
    expect(keydir.liveCount(1999)).toBe(2)
    expect(keydir.liveCount(2000)).toBe(1)
    expect(keydir.liveCount(1999)).toBe(2)
  })
})
