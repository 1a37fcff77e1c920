// What the real thing would find: each defect is put around the store that the agents share, and has to be noticed.
import * as fs from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { node } from '../runtimes/runtime'
import { freshFolder } from '../support/folders'
import { failure } from '../support/ground'
import { deathRounds } from './deaths'
import { fillDisk } from './disks'
import { ask, makeWorkshop, removeAll, whyNoDisk } from './ground'
import { killRounds } from './kills'
import { raceRound } from './races'

let sound: string
beforeAll(async () => {
  sound = await makeWorkshop()
})
afterAll(() => removeAll(sound))

/** A workshop whose store does `changed` to each store that it opens. */
function workshopWith(changed: string, before = ''): string {
  const workshop = freshFolder()
  fs.cpSync(sound, workshop, { recursive: true })
  fs.renameSync(join(workshop, 'casky.mjs'), join(workshop, 'real.mjs'))
  fs.writeFileSync(
    join(workshop, 'casky.mjs'),
    `import * as fs from 'node:fs'
import * as real from './real.mjs'
export const { dump } = real
const change = (db, path, options) => { ${changed}; return db }
const prepare = (path) => { ${before} }
export const open = async (path, options) => { prepare(path); return change(await real.open(path, options), path, options) }
export const openSync = (path, options) => { prepare(path); return change(real.openSync(path, options), path, options) }
`,
  )
  return workshop
}

/** Tells that all is well with what is long, whatever became of it. */
const LIES = `const put = db.put.bind(db)
db.put = (key, value) => (value.length > 400 ? put(key, value).catch(() => {}) : put(key, value))
const putSync = db.putSync.bind(db)
db.putSync = (key, value) => { try { putSync(key, value) } catch (error) { if (value.length <= 400) throw error } }`
/** Does one thing of a batch after the other. */
const TAKES_APART = `db.batch = async (operations) => {
  for (const { type, key, value, expiresAtMs } of operations) {
    if (type === 'put') await db.put(key, value, expiresAtMs === undefined ? undefined : { expiresAtMs })
    else await db.delete(key)
  }
}`
/** Keeps what it acknowledges in memory, for as long as nobody closes it. */
const FORGETS = `const held = []
const batch = db.batch.bind(db)
db.put = async (key, value) => void held.push({ type: 'put', key, value })
db.putSync = (key, value) => void held.push({ type: 'put', key, value })
const close = db.close.bind(db)
db.close = async () => { await batch(held); await close() }`

const whyNot = whyNoDisk()

describe('what is planted is found', () => {
  test('by kills: acknowledged before it is written', async () => {
    const options = { workshop: workshopWith(FORGETS), runtimes: [node], seed: 1, kills: 5 }
    expect((await failure(() => killRounds(options))).message).toMatch(
      /seed 1, round 1.*\n.*expected .* found/s,
    )
  })

  test('by deaths: a batch that is none', async () => {
    const workshop = workshopWith(TAKES_APART)
    const error = await failure(() => deathRounds({ workshop, runtimes: [node], seed: 1, deaths: 60 }))
    expect(error.message).toMatch(/killed at .*call.*\n.*steps were acknowledged; found/)
  })

  test('by races: a lock that is broken', async () => {
    const workshop = workshopWith('', "fs.rmSync(path + '/LOCK', { recursive: true, force: true })")
    expect((await failure(() => raceRound(workshop, [node, node, node], 20))).message).toMatch(/race of node/)
  })

  test.runIf(whyNot === undefined)('by a full disk: acknowledged though it was refused', async () => {
    expect((await failure(() => fillDisk(workshopWith(LIES), node, 1))).message).toMatch(/full/)
  })

  test('by a directory that goes away: acknowledged into the void', async () => {
    const given = ['vanish', join(freshFolder(), 'store'), 'always']
    const { faults } = (await ask(node, workshopWith(LIES), 'chores', given)) as { faults: string[] }
    expect(faults.join()).toMatch(/was acknowledged as being on disk/)
  })

  test('by counting handles: one that is left open', async () => {
    const workshop = workshopWith("fs.openSync('/dev/null', 'r')")
    const given = ['starve', join(freshFolder(), 'store')]
    const limited = {
      ...node,
      command: () =>
        ['bash', '-c', 'ulimit -n 80; exec "$@"', 'bash', process.execPath] as [string, ...string[]],
    }
    const { faults } = (await ask(limited, workshop, 'chores', given)) as { faults: string[] }
    expect(faults.join()).toMatch(/left open/)
  })
})
