import { expect, test } from 'vitest'
import { BlockCache, CACHE_BLOCK_BYTES } from '../src/cache'
import { nodeHost } from '../src/host/node'
import { KEYS_AT_ONCE } from '../src/key-batch'
import { emptyPlace } from '../src/keydir/keydir'
import { freshStore } from './support/folders'
import { groundWith, openSyncWith } from './support/ground'

test('keeps what it was given, at addresses of its own, and forgets in favour of what is used', () => {
  const cache = new BlockCache(64 * CACHE_BLOCK_BYTES)
  const addresses = new Set<number>()
  for (let block = 0; block < 200; block++) {
    expect(cache.find(3, block)).toBe(0)
    const address = cache.make(3, block)
    cache.keep(3, block, address)
    addresses.add(address)
    expect(cache.find(4, block)).toBe(0)
    expect(cache.find(3, 0)).not.toBe(0) // in use all the time
  }
  expect(addresses.size).toBeLessThanOrEqual(64)
  const address = cache.find(3, 199)
  cache.forget(address + 100)
  expect(cache.find(3, 199)).toBe(0)
})

test('finds many records as it finds one, and counts none of that', () => {
  const cache = new BlockCache(64 * CACHE_BLOCK_BYTES)
  for (let block = 0; block < 90; block += 2)
    if (cache.admits(block % 3, block)) cache.keep(block % 3, block, cache.make(block % 3, block))
  const places = Array.from({ length: KEYS_AT_ONCE }, (_, i) => ({
    ...emptyPlace(),
    segment: i % 3,
    offset: i * CACHE_BLOCK_BYTES + i * 63,
    recordBytes: i % 5 === 4 ? 0 : 50,
  }))
  const addresses = new Uint32Array(KEYS_AT_ONCE)
  cache.locateAll(places, KEYS_AT_ONCE, addresses)
  expect([cache.hits, cache.misses]).toEqual([0, 0])
  expect([...addresses]).toEqual(
    places.map(({ segment }, i) => {
      const address = cache.find(segment, i)
      return address === 0 || i % 5 === 4 ? 0 : address + i * 63
    }),
  )
  expect(cache.hits).toBeGreaterThan(20)
  expect(cache.misses).toBeGreaterThan(20)
})

test('once it is full, a block comes in the second time that it is missed', () => {
  const cache = new BlockCache(8 * CACHE_BLOCK_BYTES)
  for (let block = 0; block < 8; block++) {
    expect(cache.admits(1, block)).toBe(true)
    cache.keep(1, block, cache.make(1, block))
  }
  for (let block = 100; block < 200; block++) expect(cache.admits(1, block)).toBe(false)
  for (let block = 0; block < 8; block++) expect(cache.find(1, block)).not.toBe(0)
  expect(cache.admits(1, 199)).toBe(true)
  // It was forgotten in favour of what was missed since.
  expect(cache.admits(1, 100)).toBe(false)
})

test('what is read once does not push out what is read often, and one record of it is read', () => {
  const bytesRead: number[] = []
  const ground = groundWith({
    read: (file, into, at, bytes, position) => {
      bytesRead.push(bytes)
      return nodeHost.read(file, into, at, bytes, position)
    },
  })
  const db = openSyncWith(ground, freshStore(), { sync: 'never', cacheBytes: 32 * CACHE_BLOCK_BYTES })
  // A record a block, with its neighbours.
  const value = 'v'.repeat(1000)
  for (let i = 0; i < 1000; i++) db.putSync(`k${i}`, value)
  const often = [0, 40, 80, 120]
  for (const i of often) for (let round = 0; round < 3; round++) expect(db.get(`k${i}`)).toBe(value)
  for (let i = 0; i < 1000; i += 10) db.get(`k${i}`)
  bytesRead.length = 0
  for (const i of often) expect(db.get(`k${i}`)).toBe(value)
  expect(bytesRead).toEqual([])
  for (let i = 0; i < 5; i++) expect(db.get(`k${905 + 10 * i}`)).toBe(value)
  expect(Math.max(...bytesRead)).toBeLessThan(CACHE_BLOCK_BYTES)
  db.closeSync()
})

test('a block that was made and not kept is not found', () => {
  const cache = new BlockCache(16 * CACHE_BLOCK_BYTES)
  const address = cache.make(1, 1)
  expect(cache.find(1, 1)).toBe(0)
  cache.keep(1, 1, address)
  expect(cache.find(1, 1)).toBe(address)
})

test('a record counts as verified until its block is made anew', () => {
  const cache = new BlockCache(16 * CACHE_BLOCK_BYTES)
  const address = cache.make(1, 1)
  cache.keep(1, 1, address)
  const offsets = [0, 30, 60, 1000, CACHE_BLOCK_BYTES - 30]
  for (const offset of offsets) {
    expect(cache.isVerified(address + offset)).toBe(false)
    cache.noteVerified(address + offset)
    expect(cache.isVerified(address + offset)).toBe(true)
  }
  const other = cache.make(1, 2)
  expect(cache.isVerified(other)).toBe(false)
  cache.forget(address)
  let again = 0
  for (let block = 10; again !== address; block++) again = cache.make(1, block)
  for (const offset of offsets) expect(cache.isVerified(address + offset)).toBe(false)
})

test('a store reads a whole block once, and the growing end of the log each time', () => {
  let reads = 0
  const ground = groundWith({
    read: (file, into, at, bytes, position) => {
      reads++
      return nodeHost.read(file, into, at, bytes, position)
    },
  })
  const db = openSyncWith(ground, freshStore(), { sync: 'never', cacheBytes: 1 << 20 })
  for (let i = 0; i < 100; i++) db.putSync(`k${i}`, 'v'.repeat(100))
  reads = 0
  for (let round = 0; round < 3; round++)
    for (let i = 0; i < 20; i++) expect(db.get(`k${i}`)).toBe('v'.repeat(100))
  expect(reads).toBe(1)
  reads = 0
  for (let i = 0; i < 5; i++) {
    expect(db.get('k99')).toBe('v'.repeat(100))
    db.putSync('k99', 'v'.repeat(100))
  }
  expect(reads).toBe(5)
  expect(db.stats().cache).toMatchObject({ hits: 59, misses: 1 })
  db.closeSync()
})

test('without a cache each read asks the disk', () => {
  const db = openSyncWith(groundWith({}), freshStore(), { sync: 'never', cacheBytes: 0 })
  for (let i = 0; i < 100; i++) db.putSync(`k${i}`, `value ${i}`)
  for (let i = 0; i < 100; i++) expect(db.get(`k${i}`)).toBe(`value ${i}`)
  expect(db.stats().cache).toEqual({ bytes: 0, hits: 0, misses: 0 })
  db.closeSync()
})

test('a block damaged in memory only is read again from disk', () => {
  let flips = true
  const ground = groundWith({
    read: (file, into, at, bytes, position) => {
      const read = nodeHost.read(file, into, at, bytes, position)
      if (flips && bytes === CACHE_BLOCK_BYTES) into[at + 150] ^= 1
      return read
    },
  })
  const db = openSyncWith(ground, freshStore(), { sync: 'never' })
  for (let i = 0; i < 100; i++) db.putSync(`k${i}`, 'v'.repeat(100))
  expect(db.get('k0')).toBe('v'.repeat(100))
  flips = false
  expect(db.get('k0')).toBe('v'.repeat(100))
  expect(db.health().ok).toBe(true)
  db.closeSync()
})

test('more segments than handles may be open at a time are all read', async () => {
  const open = new Set<number>()
  let most = 0
  const ground = groundWith({
    open: (path, mode) => {
      const file = nodeHost.open(path, mode)
      open.add(file)
      most = Math.max(most, open.size)
      return file
    },
    close: (file) => {
      open.delete(file)
      nodeHost.close(file)
    },
  })
  const db = openSyncWith(ground, freshStore(), { sync: 'never', maxSegmentBytes: 4096, cacheBytes: 0 })
  for (let i = 0; i < 200; i++) db.putSync(`k${i}`, 'v'.repeat(3000))
  expect(db.stats().segments.length).toBe(200)
  for (let round = 0; round < 2; round++)
    for (let i = 0; i < 200; i++) expect(db.get(`k${i}`)?.length).toBe(3000)
  expect(most).toBeLessThan(140)
  db.closeSync()
  // A sync that was under way keeps its file until it is done.
  await expect.poll(() => open.size).toBe(0)
})
