// The order of writes, syncs and renames on which durability rests, watched at the host interface.
import { basename } from 'node:path'
import { expect, test } from 'vitest'
import type { Host } from '../src/host/host'
import { nodeHost } from '../src/host/node'
import { openSync } from '../src/index'
import { freshStore } from './support/folders'
import { groundWith, openSyncWith, openWith } from './support/ground'
import { killedCopy } from './support/stores'

/** Watches which files hold bytes that no sync has taken to disk, and what happens while they do. */
function watcher(): { host: Partial<Host>; dirty: Set<string>; events: string[] } {
  const names = new Map<number, string>()
  const dirty = new Set<string>()
  const events: string[] = []
  // Hints and the checkpoint are caches: they need not be on disk.
  const isOfStore = (path: string): boolean => !/LOCK|\.hint|CHECKPOINT/.test(path)
  const host: Partial<Host> = {
    open: (path, mode) => {
      const file = nodeHost.open(path, mode)
      names.set(file, path)
      if (isOfStore(path) && mode === 'create') events.push(`create ${basename(path)}`)
      return file
    },
    close: (file) => {
      names.delete(file)
      nodeHost.close(file)
    },
    write: (file, from, at, bytes, position) => {
      const path = names.get(file) ?? ''
      if (isOfStore(path)) dirty.add(basename(path))
      return nodeHost.write(file, from, at, bytes, position)
    },
    sync: (file) => {
      nodeHost.sync(file)
      const path = names.get(file) ?? ''
      dirty.delete(basename(path))
      if (isOfStore(path)) events.push(`sync ${basename(path)}`)
    },
    syncLater: (file, done) => {
      const name = basename(names.get(file) ?? '')
      nodeHost.syncLater(file, (error) => {
        dirty.delete(name)
        done(error)
      })
    },
    rename: (from, to) => {
      nodeHost.rename(from, to)
      if (!isOfStore(to)) return
      // The manifest names what it names for good: all of that, and itself, must be on disk before.
      events.push(`rename to ${basename(to)} with ${[...dirty].join(' ') || 'nothing'} unsynced`)
    },
    remove: (path) => {
      nodeHost.remove(path)
      if (isOfStore(path)) events.push(`remove ${basename(path)}`)
    },
    syncDirectory: (path) => {
      nodeHost.syncDirectory(path)
      events.push(`sync directory ${basename(path)}`)
    },
  }
  return { host, dirty, events }
}

const PUBLISH = [
  'create MANIFEST.next',
  'sync MANIFEST.next',
  'rename to MANIFEST with nothing unsynced',
  'sync directory store',
]
// The segment's name is made to last before a manifest counts on it.
const START = (segment: string) => [
  `create ${segment}`,
  `sync ${segment}`,
  'sync directory store',
  ...PUBLISH,
]

test('a new store: the way to it is synced from the top down, then the manifest is published', () => {
  const { host, events } = watcher()
  const path = `${freshStore()}/a/b`
  openSyncWith(groundWith(host), path).closeSync()
  const names = path.split('/').slice(0, -1)
  expect(events).toEqual([
    ...names.map((name) => `sync directory ${name}`),
    ...PUBLISH.map((event) => event.replace('directory store', 'directory b')),
    // As at every opening: a manifest's name may be in memory only.
    'sync directory b',
  ])
})

test('a first write: the segment is synced, then published, and only then written to', () => {
  const { host, events, dirty } = watcher()
  const path = freshStore()
  const db = openSyncWith(groundWith(host), path)
  events.length = 0
  db.putSync('a', '1')
  expect(events).toEqual([...START('0000000001.data'), 'sync 0000000001.data'])
  expect([...dirty]).toEqual([])
  db.closeSync()
})

test('a rotation: the full segment is synced, sealed and synced before the manifest says how long it is', () => {
  const { host, events, dirty } = watcher()
  const db = openSyncWith(groundWith(host), freshStore(), { maxSegmentBytes: 4096, sync: 'never' })
  db.putSync('a', 'x'.repeat(4000))
  events.length = 0
  expect([...dirty]).toEqual(['0000000001.data'])
  db.putSync('b', 'x'.repeat(4000))
  expect(events).toEqual(['sync 0000000001.data', 'sync 0000000001.data', ...START('0000000002.data')])
  db.closeSync()
})

test('a close: data and seal are synced before the manifest is published', async () => {
  for (const close of ['close', 'closeSync'] as const) {
    const { host, events, dirty } = watcher()
    const db = openSyncWith(groundWith(host), freshStore(), { sync: 'never' })
    db.putSync('a', '1')
    events.length = 0
    await db[close]()
    expect(events.slice(-5)).toEqual(['sync 0000000001.data', ...PUBLISH])
    expect([...dirty]).toEqual([])
  }
})

test('what a kill left uncertified is copied, and the copy synced and published, before it is served', async () => {
  const path = freshStore()
  const db = openSync(path, { sync: 'never' })
  db.putSync('a', '1')
  const copy = killedCopy(path)
  db.closeSync()
  const { host, events } = watcher()
  const again = await openWith(groundWith(host), copy)
  const sync = 'sync 0000000002.data'
  expect(events).toEqual([
    'sync directory store',
    'create 0000000002.data',
    sync, // its header
    sync, // the records
    sync, // the seal
    'sync directory store',
    ...PUBLISH,
  ])
  await again.close()
})

test('an acknowledged write is never unsynced, whichever way it was made', async () => {
  const { host, dirty } = watcher()
  const db = openSyncWith(groundWith(host), freshStore(), { maxSegmentBytes: 16_384, merge: false })
  for (let i = 0; i < 60; i++) {
    db.putSync('a', 'x'.repeat(i * 50))
    expect(dirty.size).toBe(0)
    const writes = [
      db.put('b', 'y'.repeat(i * 40)),
      db.batch([{ type: 'put', key: 'c', value: 'z' }]),
      db.put('large', 'l'.repeat(i * 6000)),
    ]
    await Promise.all(writes)
    expect(dirty.size).toBe(0)
    await db.delete('b')
    expect(dirty.size).toBe(0)
  }
  await db.close()
})
