// On the real file system and all three runtimes: killed at each call, a full disk, one that can't be written to, no
// handles, a directory that goes away, and races for the lock.
import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Runtime } from '../runtimes/runtime'
import { freshFolder } from '../support/folders'
import { deathRounds } from './deaths'
import { fillDisk } from './disks'
import { ask, makeDisk, makeWorkshop, RUNTIMES, removeAll, whyNoDisk } from './ground'
import { killRounds } from './kills'
import { raceRound } from './races'

const SEED = Number(process.env.CASKY_SEED ?? Date.now() % 1_000_000)
const KILLS = Number(process.env.CASKY_REAL_KILLS ?? 6)
const DEATHS = Number(process.env.CASKY_DEATHS ?? 9)
const ATTEMPTS = Number(process.env.CASKY_RACES ?? 15)
const LONG_MS = 600_000

let workshop: string
beforeAll(async () => {
  workshop = await makeWorkshop()
})
afterAll(() => removeAll(workshop))

const each = RUNTIMES.map((runtime) => ({ name: runtime.name, runtime }))
const noDisk = whyNoDisk()
const onDisk = noDisk === undefined ? '' : ` (skipped: ${noDisk})`

test(
  `${KILLS} kills at random moments, each opened by another runtime, with seed ${SEED}`,
  async () => {
    const counts = await killRounds({ workshop, runtimes: RUNTIMES, seed: SEED, kills: KILLS })
    console.log(`real kills: ${counts.kills}, with ${counts.acknowledged} acknowledged writes`)
    expect(counts.kills).toBe(KILLS)
    expect(counts.acknowledged).toBeGreaterThan(KILLS)
  },
  LONG_MS,
)

test(
  `${DEATHS} deaths at single calls, with seed ${SEED}`,
  async () => {
    const counts = await deathRounds({ workshop, runtimes: RUNTIMES, seed: SEED, deaths: DEATHS })
    console.log(`real deaths: ${counts.deaths} of ${counts.all}; ${counts.calls}`)
    expect(counts.deaths).toBe(Math.min(DEATHS, counts.all))
    expect(counts.all).toBeGreaterThan(1000)
  },
  LONG_MS,
)

test(
  `${ATTEMPTS} openings by each of three writers at once: never two inside, no count lost`,
  async () => {
    const counts = await raceRound(workshop, RUNTIMES, ATTEMPTS)
    console.log(`real races: ${JSON.stringify(counts)}`)
    expect(counts.wins).toBeGreaterThan(0)
    expect(counts.losses).toBeGreaterThan(0)
  },
  LONG_MS,
)

describe(`a disk that is full${onDisk}`, () => {
  test.runIf(noDisk === undefined).each(each)(
    '$name: refuses, keeps what it acknowledged, and goes on when there is room',
    async ({ runtime }) => {
      const filled = await fillDisk(workshop, runtime, SEED)
      expect(filled.acknowledged).toBeGreaterThan(50)
      const ways = Object.keys(filled.refusals)
      expect(ways).toEqual(
        expect.arrayContaining(['group', 'batch', 'large', 'sync'].map((way) => `${way} CASKY_NO_SPACE`)),
      )
    },
  )
})

interface Tried {
  read: unknown
  dumped: unknown
  entries: unknown
  write: { code: string; path: string; message: string }
  make: { code: string; path: string; message: string }
  leaked: number
}

/** A store with an entry, made in place. */
async function makeStore(path: string): Promise<void> {
  const { openSync } = await import('../../src/index')
  const db = openSync(path)
  db.putSync('key', 'value')
  db.closeSync()
}

function expectReadable(tried: Tried, store: string, code: string): void {
  expect(tried).toMatchObject({ read: 'fine', dumped: 'fine', entries: [['key', 'value']], leaked: 0 })
  for (const { code: got, path, message } of [tried.write, tried.make]) {
    expect(got).toMatch(/^CASKY_(IO|INVALID_PATH)$/)
    expect(path.startsWith(store)).toBe(true)
    expect(message).toContain(store)
    expect(message).toContain(code)
  }
}

describe(`a disk that can only be read${onDisk}`, () => {
  test.runIf(noDisk === undefined).each(each)(
    '$name: is read, and refuses a writer by name',
    async ({ runtime }) => {
      const disk = makeDisk(1024 * 1024)
      try {
        const store = join(disk.path, 'store')
        await makeStore(store)
        disk.remount('ro')
        const tried = (await ask(runtime, workshop, 'chores', ['tryBoth', store])) as Tried
        expectReadable(tried, store, 'EROFS')
      } finally {
        disk.release()
      }
    },
  )
})

const NOBODY = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'] as const
const canBeNobody =
  process.getuid?.() === 0 && spawnSync(NOBODY[0], [...NOBODY.slice(1), 'true']).status === 0
const byNobody = canBeNobody ? '' : ' (skipped: becoming another user takes root and setpriv)'

describe(`a directory of another user${byNobody}`, () => {
  test.runIf(canBeNobody).each(each)('$name: is read, and refuses a writer by name', async ({ runtime }) => {
    const folder = freshFolder()
    const store = join(folder, 'store')
    await makeStore(store)
    const before = fs.readdirSync(store, { recursive: true })
    for (const path of [folder, workshop]) fs.chmodSync(path, 0o755)
    const nobody: Runtime = { ...runtime, command: (reach) => [...NOBODY, ...runtime.command(reach)] }
    const tried = (await ask(nobody, workshop, 'chores', ['tryBoth', store])) as Tried
    expectReadable(tried, store, 'EACCES')
    expect(fs.readdirSync(store, { recursive: true })).toEqual(before)
  })
})

interface Chore {
  faults: string[]
  codes?: Record<string, number>
  outcomes?: string[]
}

function limited(runtime: Runtime, handles: number): Runtime {
  const command: Runtime['command'] = (reach) => {
    return ['bash', '-c', `ulimit -n ${handles}; exec "$@"`, 'bash', ...runtime.command(reach)]
  }
  return { ...runtime, command }
}

const hasProc = process.platform === 'linux'

describe(`no handles left${hasProc ? '' : ' (skipped: counting them takes /proc)'}`, () => {
  test.runIf(hasProc).each(each)(
    '$name: a typed error, nothing left open, and it works again',
    async ({ runtime }) => {
      const store = join(freshFolder(), 'store')
      const { faults, codes } = (await ask(limited(runtime, 80), workshop, 'chores', [
        'starve',
        store,
      ])) as Chore
      expect(faults).toEqual([])
      expect(codes).toMatchObject({ fine: 1, CASKY_IO: expect.any(Number) })
    },
  )

  test.runIf(hasProc).each(each)(
    '$name: a store of more segments than there are handles',
    async ({ runtime }) => {
      const store = join(freshFolder(), 'store')
      const { faults } = (await ask(limited(runtime, 64), workshop, 'chores', [
        'crowd',
        store,
        '80',
      ])) as Chore
      expect(faults).toEqual([])
    },
  )
})

describe('the directory goes away under an open store', () => {
  const ways = RUNTIMES.flatMap((runtime) =>
    ['always', 'never'].map((sync) => ({ name: runtime.name, runtime, sync })),
  )
  test.each(ways)(
    '$name, sync $sync: noticed, and nothing acknowledged after that',
    async ({ runtime, sync }) => {
      const store = join(freshFolder(), 'store')
      const { faults, outcomes } = (await ask(runtime, workshop, 'chores', ['vanish', store, sync])) as Chore
      expect(faults, String(outcomes)).toEqual([])
    },
  )
})
