// The end of a segment for a merge: off the thread, with writes that wait for it, or that can't.
import { describe, expect, test } from 'vitest'
import type { Host } from '../src/host/host'
import { nodeHost } from '../src/host/node'
import { Kernels } from '../src/kernels'
import { readManifest } from '../src/manifest'
import { freshStore } from './support/folders'
import { failure, groundWith, openSyncWith, systemError } from './support/ground'
import { contentsOf, segmentsOf } from './support/stores'

/** A host whose later syncs wait to be let go, once they are held, and that counts those on the thread. */
function holding(): {
  overrides: Partial<Host>
  held: ((cause?: Error) => void)[]
  state: { holds: boolean; syncs: number; fails: string | undefined }
} {
  const held: ((cause?: Error) => void)[] = []
  const state = { holds: false, syncs: 0, fails: undefined as string | undefined }
  const overrides: Partial<Host> = {
    sync: (file) => {
      state.syncs++
      if (state.fails === 'sync') throw systemError('EIO')
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
    write: (file, from, at, bytes, position) => {
      if (state.fails === 'write') throw systemError('ENOSPC')
      return nodeHost.write(file, from, at, bytes, position)
    },
    rename: (from, to) => {
      if (state.fails === 'rename') throw systemError('EIO')
      nodeHost.rename(from, to)
    },
  }
  return { overrides, held, state }
}

const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5))

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await turn()
}

/** A store with two keys in one segment, whose end is under way, and waits for its first sync. */
async function ending(options: { maxSegmentBytes?: number } = {}) {
  const { overrides, held, state } = holding()
  const path = freshStore()
  const db = openSyncWith(groundWith(overrides), path, { merge: false, ...options })
  await db.put('a', '1')
  await db.put('b', '2')
  state.holds = true
  state.syncs = 0
  const merge = db.merge()
  merge.catch(() => {})
  await until(() => held.length === 1)
  const release = (): void => {
    state.holds = false
    for (const each of held.splice(0)) each()
  }
  return { db, path, held, state, merge, release }
}

const both = { a: '1', b: '2' }
const namedStates = (path: string) =>
  readManifest(nodeHost, new Kernels(), path)?.segments.map(({ state }) => state)
const inStore = (path: string) => Object.fromEntries(contentsOf(path).entries)

describe('the end of a segment', () => {
  test('syncs nothing on the thread', async () => {
    const { db, path, state, merge, release } = await ending()
    release()
    await merge
    expect(state.syncs).toBe(0)
    await db.close()
    expect(inStore(path)).toEqual(both)
  })

  test('holds up writes until it is there; they are seen at once, and begin the next segment', async () => {
    const { db, path, state, merge, held, release } = await ending()
    let isAcknowledged = false
    const put = db.put('c', '3').then(() => {
      isAcknowledged = true
    })
    const del = db.delete('a')
    await turn()
    expect([db.get('c'), db.get('a')]).toEqual(['3', undefined])
    expect([state.syncs, held.length, isAcknowledged]).toEqual([0, 1, false])
    release()
    expect(await del).toBe(true)
    await put
    await merge
    expect(db.get('a')).toBeUndefined()
    await db.close()
    expect(inStore(path)).toEqual({ b: '2', c: '3' })
  })

  for (const stage of [1, 2]) {
    test(`is finished on the thread by a write that can't wait, at its sync ${stage}`, async () => {
      const { db, path, state, held, merge, release } = await ending()
      if (stage === 2) {
        held.shift()?.()
        await until(() => held.length === 1)
      }
      db.putSync('c', '3')
      expect(state.syncs).toBeGreaterThan(0)
      expect(inStore(path)).toEqual({ ...both, c: '3' })
      release()
      await merge
      await db.close()
      expect(inStore(path)).toEqual({ ...both, c: '3' })
    })

    test(`closing waits for its sync ${stage}, also where a write has finished it`, async () => {
      const { db, path, held, merge, release } = await ending()
      if (stage === 2) {
        held.shift()?.()
        await until(() => held.length === 1)
      }
      db.putSync('c', '3')
      let isClosed = false
      const closing = db.close().then(() => {
        isClosed = true
      })
      await turn()
      expect(isClosed).toBe(false)
      release()
      await closing
      expect(await failure(() => merge)).toMatchObject({ code: 'CASKY_CLOSED' })
      expect(inStore(path)).toEqual({ ...both, c: '3' })
    })

    test(`a store that is closed at its sync ${stage} is closed whole`, async () => {
      const { db, path, held, merge, release } = await ending()
      if (stage === 2) {
        held.shift()?.()
        await until(() => held.length === 1)
      }
      const put = db.put('c', '3')
      db.closeSync()
      await put
      release()
      expect(await failure(() => merge)).toMatchObject({ code: 'CASKY_CLOSED' })
      expect(namedStates(path)).toEqual(['sealed', 'sealed'])
      expect(inStore(path)).toEqual({ ...both, c: '3' })
    })

    test(`poisons where its sync ${stage} fails, and whoever waits hears of it`, async () => {
      const { db, path, state, held, merge } = await ending()
      if (stage === 2) {
        held.shift()?.()
        await until(() => held.length === 1)
      }
      const put = db.put('c', '3')
      state.holds = false
      held.shift()?.(systemError('EIO'))
      expect(await failure(() => put)).toMatchObject({ code: 'CASKY_POISONED' })
      expect(await failure(() => merge)).toMatchObject({ code: 'CASKY_POISONED' })
      expect(await failure(() => db.put('d', '4'))).toMatchObject({ code: 'CASKY_POISONED' })
      await failure(() => db.close())
      expect(inStore(path)).toEqual(both)
    })
  }

  test('poisons where a write has to finish it, and the sync fails', async () => {
    const { db, path, state, merge, release, held } = await ending()
    held.shift()?.()
    await until(() => held.length === 1)
    const put = db.put('c', '3')
    state.fails = 'sync'
    expect(await failure(() => db.putSync('d', '4'))).toMatchObject({ code: 'CASKY_POISONED' })
    expect(await failure(() => put)).toMatchObject({ code: 'CASKY_POISONED' })
    release()
    expect(await failure(() => merge)).toMatchObject({ code: 'CASKY_POISONED' })
    state.fails = undefined
    await failure(() => db.close())
    expect(inStore(path)).toEqual(both)
  })

  test('without room for the seal the segment stays, and takes what has waited', async () => {
    const { db, path, state, merge, held, release } = await ending()
    state.fails = 'write'
    held.shift()?.()
    expect(await failure(() => merge)).toMatchObject({ code: 'CASKY_NO_SPACE' })
    state.fails = undefined
    release()
    await db.put('c', '3')
    expect(segmentsOf(path).length).toBe(1)
    await db.merge()
    await db.close()
    expect(inStore(path)).toEqual({ ...both, c: '3' })
  })

  test('where the manifest can not be written the merge fails, and closing names what has ended', async () => {
    const { db, path, state, merge, release } = await ending()
    state.fails = 'rename'
    release()
    expect(await failure(() => merge)).toMatchObject({ code: 'CASKY_IO' })
    state.fails = undefined
    expect(namedStates(path)).toEqual(['active'])
    await db.close()
    expect(namedStates(path)).toEqual(['sealed'])
    expect(inStore(path)).toEqual(both)
  })

  test('what waits for it never passes the bound of a segment, nor of the buffer', async () => {
    const { db, path, merge, release } = await ending({ maxSegmentBytes: 4096 })
    const puts: Promise<void>[] = []
    const expected: Record<string, string> = { ...both }
    for (let i = 0; i < 3000; i++) {
      puts.push(db.put(`k${i}`, `${i}`.padEnd(150)))
      expected[`k${i}`] = `${i}`.padEnd(150)
    }
    release()
    await Promise.all(puts)
    await merge
    expect(Object.fromEntries(db.entries())).toEqual(expected)
    for (const segment of db.stats().segments) expect(segment.bytes).toBeLessThan(4096 + 200)
    await db.close()
    expect(inStore(path)).toEqual(expected)
  })
})
