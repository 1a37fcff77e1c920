import { expect, test } from 'vitest'
import { KEY_AT, KIND_DELETE, KIND_PUT, WRITE_AT } from '../assembly/layout'
import { Kernels } from '../src/kernels'
import { Memtable } from '../src/memtable'
import { collidingKeys } from './support/colliding'
import { randomFrom } from './support/ground'

const kernels = new Kernels()

function addTo(memtable: Memtable, address: number, key: string, kind: number): number {
  kernels.bytes.set(Buffer.from(key), address + 29)
  memtable.add(address, kind, key.length, 0, 0)
  return address + 29 + key.length
}

function find(memtable: Memtable, key: string): number {
  kernels.bytes.set(Buffer.from(key), KEY_AT)
  kernels.call.hashKey(KEY_AT, key.length)
  return memtable.find(kernels.hashLow, kernels.hashHigh, kernels.bytes, KEY_AT, key.length)
}

test('finds the newest record of each key, group after group', () => {
  const random = randomFrom(9)
  const memtable = new Memtable(kernels)
  for (const size of [1, 10, 8000, 3, 500]) {
    const newest = new Map<string, number>()
    let address = WRITE_AT
    for (let i = 0; i < size; i++) {
      const key = String(Math.floor(random() * size))
      address = addTo(memtable, address, key, random() < 0.5 ? KIND_PUT : KIND_DELETE)
      newest.set(key, i)
    }
    for (let i = 0; i < size; i++) {
      const index = newest.get(String(i)) ?? -1
      expect(find(memtable, String(i))).toBe(index)
    }
    for (let i = 0; i < size; i++) {
      const key = kernels.text.toString('latin1', memtable.keyAt(i), memtable.keyAt(i) + memtable.keyBytes(i))
      expect(memtable.isNewest(i)).toBe(newest.get(key) === i)
    }
    memtable.clear()
    expect(memtable.count).toBe(0)
    for (let i = 0; i < size; i++) expect(find(memtable, String(i))).toBe(-1)
  }
})

test('finds keys that were made to meet, and hashes them by key', () => {
  const calls: number[] = []
  const counting = new Kernels()
  const { keyedHash } = counting
  Object.assign(counting, {
    keyedHash: (source: Uint8Array, at: number, keyBytes: number) => {
      calls.push(at)
      return keyedHash(source, at, keyBytes)
    },
  })
  const memtable = new Memtable(counting)
  const keys = collidingKeys(2048).map(String)
  const fill = (count: number): void => {
    let address = WRITE_AT
    for (const key of keys.slice(0, count)) {
      counting.bytes.set(Buffer.from(key), address + 29)
      memtable.add(address, KIND_PUT, key.length, 0, 0)
      address += 29 + key.length
    }
  }
  const look = (key: string): number => {
    counting.bytes.set(Buffer.from(key), KEY_AT)
    counting.call.hashKey(KEY_AT, key.length)
    return memtable.find(counting.hashLow, counting.hashHigh, counting.bytes, KEY_AT, key.length)
  }
  for (let round = 0; round < 2; round++) {
    fill(1500)
    for (const [i, key] of keys.entries()) expect(look(key)).toBe(i < 1500 ? i : -1)
    expect(calls.length).toBe((round + 1) * (1500 + keys.length))
    memtable.clear()
  }
  fill(20)
  for (const [i, key] of keys.slice(0, 40).entries()) expect(look(key)).toBe(i < 20 ? i : -1)
  expect(calls.length).toBe(2 * (1500 + keys.length))
})
