// A full segment ends, and the next begins, off the thread; whoever can't wait finishes that.
import { describe, expect, test } from 'vitest'
import type { Host } from '../src/host/host'
import { nodeHost } from '../src/host/node'
import { Kernels } from '../src/kernels'
import { readManifest } from '../src/manifest'
import { freshStore } from './support/folders'
import { failure, groundWith, openSyncWith, systemError } from './support/ground'
import { contentsOf, killedCopy } from './support/stores'

/** What the system is asked for off the thread, in its order. */
const STAGES = ['segment', 'seal', 'header', 'name', 'manifest', 'its name']

/** A host that keeps what it is asked to do off the thread until it is let go, and counts the syncs on the thread. */
function holding() {
  const held: ((cause?: Error) => void)[] = []
  const state = { holds: false, syncs: 0 }
  const overrides: Partial<Host> = {
    sync: (file) => {
      state.syncs++
      nodeHost.sync(file)
    },
    syncDirectory: (path) => {
      state.syncs++
      nodeHost.syncDirectory(path)
    },
    syncLater: (file, done) => {
      if (!state.holds) nodeHost.syncLater(file, done)
      else held.push((cause) => (cause === undefined ? nodeHost.syncLater(file, done) : done(cause)))
    },
    syncDirectoryLater: (path, done) => {
      if (!state.holds) nodeHost.syncDirectoryLater(path, done)
      else held.push((cause) => (cause === undefined ? nodeHost.syncDirectoryLater(path, done) : done(cause)))
    },
  }
  return { overrides, held, state }
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 1))
}

const OLD = 'x'.repeat(4000)
const NEW = 'y'.repeat(3000)

/** A store whose segment is full, and whose next one is at `stage` of its begin, counted from 0: a put waits for it. */
async function turningAt(stage: number, sync: 'always' | 'never' = 'never') {
  const { overrides, held, state } = holding()
  const path = freshStore()
  const db = openSyncWith(groundWith(overrides), path, { merge: false, maxSegmentBytes: 4096, sync })
  await db.put('a', OLD)
  state.holds = true
  state.syncs = 0
  const put = db.put('b', NEW)
  put.catch(() => {})
  for (let i = 0; i < stage; i++) {
    await until(() => held.length === 1)
    held.shift()?.()
  }
  await until(() => held.length === 1)
  const release = (): void => {
    state.holds = false
    for (const each of held.splice(0)) each()
  }
  return { db, path, held, state, put, release }
}

const inStore = (path: string) => Object.fromEntries(contentsOf(path).entries)
const statesIn = (path: string) =>
  readManifest(nodeHost, new Kernels(), path)?.segments.map(({ state }) => state)

describe.each(['always', 'never'] as const)('a full segment, sync %s', (sync) => {
  test('is followed by another without a sync on the thread; what waits is seen at once', async () => {
    const { db, path, state, put, release } = await turningAt(0, sync)
    let isAcknowledged = false
    put.then(() => {
      isAcknowledged = true
    })
    await new Promise((resolve) => setTimeout(resolve, 5))
    expect([db.get('a'), db.get('b'), isAcknowledged]).toEqual([OLD, NEW, false])
    release()
    await put
    expect(state.syncs).toBe(0)
    expect(db.stats().segments.length).toBe(2)
    expect(statesIn(path)).toEqual(['sealed', 'active'])
    await db.close()
    expect(inStore(path)).toEqual({ a: OLD, b: NEW })
  })

  test.each(STAGES.map((name, i) => [name, i] as const))(
    'a write that can not wait finishes it on the thread: %s',
    async (_, stage) => {
      const { db, path, state, put, release } = await turningAt(stage, sync)
      db.putSync('c', '3')
      expect(state.syncs).toBeGreaterThan(0)
      expect(statesIn(path)).toEqual(['sealed', 'active'])
      expect(inStore(killedCopy(path))).toEqual({ a: OLD, b: NEW, c: '3' })
      release()
      await put
      await db.put('d', '4')
      await db.close()
      expect(inStore(path)).toEqual({ a: OLD, b: NEW, c: '3', d: '4' })
    },
  )

  test.each(STAGES.map((name, i) => [name, i] as const))(
    'closing waits for it, or finishes it: %s',
    async (_, stage) => {
      const waiting = await turningAt(stage, sync)
      let isClosed = false
      const closing = waiting.db.close().then(() => {
        isClosed = true
      })
      await new Promise((resolve) => setTimeout(resolve, 5))
      expect(isClosed).toBe(false)
      waiting.release()
      await closing
      const hurried = await turningAt(stage, sync)
      hurried.db.closeSync()
      hurried.release()
      for (const { path, put } of [waiting, hurried]) {
        await put
        expect(inStore(path)).toEqual({ a: OLD, b: NEW })
        expect(statesIn(path)).toEqual(['sealed', 'sealed'])
      }
    },
  )

  test.each(STAGES.map((name, i) => [name, i] as const))(
    'an error refuses what waits, or poisons: %s',
    async (name, stage) => {
      const { db, path, state, put, held } = await turningAt(stage, sync)
      state.holds = false
      held.shift()?.(systemError('EIO'))
      const isPoison = ['segment', 'seal', 'its name'].includes(name)
      expect(await failure(() => put)).toMatchObject({ code: isPoison ? 'CASKY_POISONED' : 'CASKY_IO' })
      const next = db.put('c', '3')
      if (isPoison) expect(await failure(() => next)).toMatchObject({ code: 'CASKY_POISONED' })
      else {
        await next
        expect([db.get('a'), db.get('b'), db.get('c')]).toEqual([OLD, undefined, '3'])
      }
      await db.close().catch(() => {})
      expect(inStore(path)).toEqual(isPoison ? { a: OLD } : { a: OLD, c: '3' })
    },
  )
})

test('the first write begins a segment without a sync on the thread', async () => {
  const { overrides, state } = holding()
  const path = freshStore()
  const db = openSyncWith(groundWith(overrides), path)
  state.syncs = 0
  await db.put('a', '1')
  expect(state.syncs).toBe(0)
  await db.close()
  expect(inStore(path)).toEqual({ a: '1' })
})

test('much that nobody waits for goes to disk in the background', async () => {
  let syncs = 0
  const syncLater: Host['syncLater'] = (file, done) => {
    syncs++
    nodeHost.syncLater(file, done)
  }
  const db = openSyncWith(groundWith({ syncLater }), freshStore(), { sync: 'never' })
  await db.put('first', '1')
  const before = syncs
  for (let i = 0; i < 20; i++) await db.put(`k${i}`, 'v'.repeat(1_000_000))
  expect(syncs).toBeGreaterThan(before)
  await db.close()
})
