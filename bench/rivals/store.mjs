// One rival's store in this process, and whether all is in it.
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { keysTo } from '../data.mjs'
import { turn } from '../workloads/write.mjs'
import { bytesFor, checkValue, numberOf } from './data.mjs'

export const BATCH = 1000
/** Slow work ends after so long, with fewer operations. */
export const SECONDS_MAX = 5

let engine

/** Which engine this process is about, by the name of its file in `engines/`. */
export async function useEngine(name) {
  engine = await import(`./engines/${name}.mjs`)
}

export const openStore = (path, options) => engine.openStore(path, { mode: 'relaxed', ...options })

/** Puts keys from 0 on in batches, one after another; `version`: which values. */
export async function fillStore(db, keys, { count = keys.length, version = 0, order } = {}) {
  for (let begin = 0; begin < count; begin += BATCH) {
    const numbers = Array.from({ length: Math.min(BATCH, count - begin) }, (_, i) =>
      order === undefined ? begin + i : order[begin + i],
    )
    const some = numbers.map((i) => keys[i])
    await db.writeBatch(
      some,
      numbers.map((i) => bytesFor(i, version)),
    )
    await turn()
  }
}

/** Throws unless the store holds these keys and nothing else; `versionOf` says with which values. */
export async function verifyStore(db, count, versionOf = () => 0) {
  const isSeen = new Uint8Array(count)
  let seen = 0
  await db.each((key, value) => {
    const i = numberOf(key)
    if (i >= count || isSeen[i] === 1) throw new Error(`${key} is one too many`)
    checkValue(i, versionOf(i), value)
    isSeen[i] = 1
    seen++
  })
  if (seen !== count) throw new Error(`${seen} entries where ${count} were written`)
}

/** Closes it, and looks at what another opening finds. */
export async function verifyClosed(path, options, count, versionOf) {
  const db = await openStore(path, options)
  await verifyStore(db, count, versionOf)
  await db.close()
}

/** Everything that lies in a store's directory, in bytes. */
export function bytesBelow(path) {
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath ?? entry.path, entry.name)).size, 0)
}

/** A store for others to read: all keys in order, closed, unless this process is killed. */
export async function prepareStore({ path, keys: count, options }) {
  const db = await openStore(path, options)
  await fillStore(db, keysTo(count))
  await db.close()
}
