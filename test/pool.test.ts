import { describe, expect, test } from 'vitest'
import { openSync } from '../src/index'
import { Pool, SHARING_BYTES_MAX } from '../src/pool'
import { freshStore, useMemory } from './support/folders'

useMemory()

describe('copies', () => {
  const memory = new ArrayBuffer(8192)
  const bytes = new Uint8Array(memory)
  const words = new Uint32Array(memory)
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 7 + (i >> 8)) & 0xff

  test('are what stands there, at every alignment and length, and stay so', () => {
    const pool = new Pool()
    const made: [Uint8Array, number, number][] = []
    for (let length = 0; length <= SHARING_BYTES_MAX + 5; length += length < 300 ? 1 : 13) {
      for (let at = 1000; at < 1008; at++) made.push([pool.copy(bytes, words, at, length), at, length])
    }
    made.push([pool.copy(bytes, words, bytes.length - 9, 9), bytes.length - 9, 9])
    for (const [copied, at, length] of made) {
      expect(copied.length).toBe(length)
      expect(Buffer.compare(copied, bytes.subarray(at, at + length))).toBe(0)
    }
  })

  test('change alone', () => {
    const pool = new Pool()
    const copies = Array.from({ length: 500 }, (_, i) => pool.copy(bytes, words, i, i % 40))
    const kept = copies.map((copied) => copied.slice())
    for (let i = 0; i < copies.length; i += 2) copies[i].fill(0xee)
    for (let i = 1; i < copies.length; i += 2) expect(copies[i]).toEqual(kept[i])
  })

  test('share buffers of 8 KiB, and long ones share nothing', () => {
    const pool = new Pool()
    for (const length of [1, SHARING_BYTES_MAX]) {
      expect(pool.copy(bytes, words, 0, length).buffer.byteLength).toBe(8192)
    }
    const long = pool.copy(bytes, words, 0, SHARING_BYTES_MAX + 1)
    expect(long.buffer.byteLength).toBe(long.length)
  })
})

test('a value that is handed to another thread takes none of the others with it', () => {
  const db = openSync(freshStore(), { sync: 'never', keyEncoding: 'bytes', valueEncoding: 'bytes' })
  for (let i = 0; i < 50; i++) db.putSync(Buffer.from([i + 1]), Buffer.alloc(60, i))
  const values = [...db.values()]
  const keys = [...db.keys()]
  for (const given of [values[7], keys[9]]) {
    try {
      structuredClone(given, { transfer: [given.buffer as ArrayBuffer] })
    } catch (error) {
      expect((error as Error).name).toBe('DataCloneError')
    }
  }
  expect(values.map((value) => value.length)).toEqual(values.map(() => 60))
  expect(keys.map(([key]) => key)).toEqual(keys.map((_, i) => i + 1))
  for (const [i, value] of values.entries()) expect(value.every((byte) => byte === i)).toBe(true)
  db.closeSync()
})
