// What is measured, in groups, and on which store. A step that has no figure of its own makes what a later one reads.
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'

const KEYS_FULL = 1_000_000
const IN_FLIGHT = [1, 64, 1024]
/** So many times as many puts as are in flight, so that the quantiles of short runs still mean something. */
const PUTS_A_LANE_MIN = 4
/** A store gets so many of its keys anew before it is opened after a kill, or backed up again. */
const ANEW_SHARE = 0.1

/**
 * Each is given `step(name, workload, setup)`, which measures, `prepare` in its place, the directory of the run, and
 * which runtime it is, with its version.
 * Stores lie in `closed`, which several groups read, or under the group's own `place`, which is removed after it.
 */
export const groups = { put, read, open, merge, backup, feed }

/** The most that there is on disk at once, beside what the groups before have left. */
export const diskBytesPerKey = { put: 650, read: 250, open: 450, merge: 1100, backup: 700, feed: 1000 }

async function put({ step, closed, place, keys }) {
  const share = Math.min(1, keys / KEYS_FULL)
  await step('put, relaxed', 'fill', { path: closed })
  for (const inFlight of IN_FLIGHT) {
    const wanted = Math.min(inFlight === 1 ? 5_000 : inFlight * 4_000, 1_000_000) * share
    const puts = Math.max(Math.round(wanted), inFlight * PUTS_A_LANE_MIN)
    const path = join(place, `durable-${inFlight}`)
    await step(`put, durable, ${inFlight} in flight`, 'durable', { path, inFlight, puts })
    const bare = { path: `${path}.bare`, inFlight, puts }
    await step(`bare write and fdatasync, ${inFlight} at once`, 'bare', bare)
  }
}

async function closedStore({ prepare, closed }) {
  if (!existsSync(closed)) await prepare('a store to read', 'write', { path: closed, turns: false })
}

async function read(run) {
  await closedStore(run)
  const { step, closed } = run
  await step('get, by string', 'get', { path: closed, by: 'string' })
  await step('get, by bytes', 'get', { path: closed, by: 'bytes' })
  await step('iterate, in order', 'iterate', { path: closed, order: 'key' })
  await step('iterate, in any order', 'iterate', { path: closed, order: 'any' })
}

async function open(run) {
  await closedStore(run)
  const { step, prepare, closed, place, keys } = run
  const path = closed
  await step('open, after close', 'open', { path, by: 'checkpoint' })
  await prepare('hints', 'settle', { path })
  await step('open, by hints', 'open', { path, by: 'hints', without: ['CHECKPOINT'] })
  await step('open, by scan', 'open', { path, by: 'scan', without: ['CHECKPOINT', '.hint'] })
  const anew = Math.ceil(keys * ANEW_SHARE)
  await prepare('a tenth anew, then SIGKILL', 'rewrite', { path, keys: anew, kill: true })
  await step('open, after SIGKILL, a tenth behind the checkpoint', 'open', {
    path,
    by: 'checkpoint and tail',
  })
  rmSync(closed, { recursive: true })
  // Without a turn of the event loop there is no checkpoint but of segments that have ended, and without a sync all of the
  // last segment is copied.
  const killed = join(place, 'killed')
  await prepare('fill, then SIGKILL', 'write', { path: killed, turns: false, kill: true })
  await step('open, after SIGKILL, never synced', 'open', { path: killed, by: 'scan of the end' })
}

async function merge({ step, place }) {
  const alone = join(place, 'alone')
  await step('merge, alone', 'merge', { path: alone })
  rmSync(alone, { recursive: true })
  await step('merge, under load', 'mergeUnderLoad', { path: join(place, 'loaded') })
}

async function backup({ step, prepare, place, keys, runtime }) {
  const path = join(place, 'store')
  await prepare('a store to back up', 'write', { path })
  const linked = join(place, 'linked')
  const copied = join(place, 'copied')
  await step('backup, by link', 'backup', { path, to: linked })
  if (runtime.startsWith('node')) {
    // Only there can links be refused.
    await step('backup, by copy', 'backup', { path, to: copied, copies: true })
    rmSync(copied, { recursive: true })
  }
  const changed = Math.ceil(keys * ANEW_SHARE)
  await step('backup, a tenth added', 'backup', { path, to: linked, changed })
  await step('restore', 'restored', { from: linked, path: join(place, 'restored') })
}

async function feed({ step, place }) {
  for (const [name, sync] of Object.entries({ relaxed: 'never', durable: 'always' })) {
    const path = join(place, name)
    await step(`put, ${name}, no feed`, 'feed', { path: `${path}-alone`, sync, live: false })
    await step(`put, ${name}, and a live feed`, 'feed', { path, sync, live: true })
  }
  await step('changes, from the begin', 'catchUp', { path: join(place, 'relaxed') })
}
