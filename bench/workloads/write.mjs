// Stores for other workloads to work on. How long this takes is not looked at.
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { open } from '../../dist/index.js'
import { keyOf, valueFor } from '../data.mjs'

const PUTS_A_TURN = 1000
const POLL_MS = 100
/** Nothing has changed at so many looks in a row. */
const POLLS_SETTLED = 3
/** And at more where there are more keys. */
const KEYS_SETTLED = 1_000_000

export const turn = () => new Promise((resolve) => setImmediate(resolve))

/** Puts the first `count` keys. As in a server, the event loop turns meanwhile, unless `turns` is false. */
export async function putKeys(db, count, { valueAt = valueFor, turns = true } = {}) {
  for (let begin = 0; begin < count; begin += PUTS_A_TURN) {
    const end = Math.min(begin + PUTS_A_TURN, count)
    let group
    for (let i = begin; i < end; i++) group = db.put(keyOf(i), valueAt(i))
    await group
    if (turns) await turn()
  }
}

/** A store of `keys` keys, closed, unless this process is killed. */
export async function write({ path, keys, turns, kill, options }) {
  const db = await open(path, { sync: 'never', merge: false, ...options })
  await putKeys(db, keys, { turns })
  if (!kill) await db.close()
}

/** Puts the first keys of a store once more, each of them on disk before the next thousand. */
export async function rewrite({ path, keys, kill }) {
  const db = await open(path, { merge: false })
  await putKeys(db, keys)
  if (!kill) await db.close()
}

/** Gives a store the time to write the caches that it hasn't yet: hints come when nothing else is to do. */
export async function settle({ path, keys }) {
  const db = await open(path, { merge: false })
  // Before the first hint all of the keydir comes in, and nothing changes.
  await settled(path, POLLS_SETTLED * Math.max(1, keys / KEYS_SETTLED))
  await db.close()
}

/** Resolves once nothing has changed in a store's directory for a while. */
export async function settled(path, polls = POLLS_SETTLED) {
  const looks = () =>
    readdirSync(path)
      .map((name) => `${name} ${statSync(join(path, name), { throwIfNoEntry: false })?.size}`)
      .join()
  let last
  for (let same = 0; same < polls; ) {
    const now = looks()
    same = now === last ? same + 1 : 0
    last = now
    await sleep(POLL_MS)
  }
}

/** The segments that lie in a store's directory, in bytes. */
export function segmentBytes(path) {
  return readdirSync(path)
    .filter((name) => name.endsWith('.data'))
    .reduce((sum, name) => sum + statSync(join(path, name)).size, 0)
}
