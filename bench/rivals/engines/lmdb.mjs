import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { open } from 'lmdb'

const COPY = '.compacted'

/**
 * `noSync`: never asks for a sync. `shared`: values are read into one buffer, where the next read overwrites them.
 * Compacting is a backup that leaves out free pages: there is no other way.
 */
export async function openStore(path, { mode, noSync = false, shared = false }) {
  const isDurable = mode === 'durable'
  // Else a path with a dot in it would be taken for a file's.
  const db = open({ path, noSubdir: false, encoding: 'binary', noSync, separateFlushed: isDurable })
  const put = (key, value) => db.put(key, value)
  const get = shared ? (key) => db.getBinaryFast(key) : (key) => db.getBinary(key)
  const flush = async () => {
    if (!noSync) await db.flushed
  }
  return {
    // A put resolves once it is committed; on disk it is a little later.
    put: isDurable ? (key, value) => put(key, value).flushed : put,
    async writeBatch(keys, values) {
      db.transactionSync(() => {
        for (let i = 0; i < keys.length; i++) db.put(keys[i], values[i])
      })
      if (isDurable) await db.flushed
    },
    flush,
    get,
    getMany: (keys) => keys.map((key) => db.getBinary(key)),
    async each(visit) {
      for (const { key, value } of db.getRange()) visit(key, value)
    },
    compact() {
      mkdirSync(join(path, COPY))
      return db.backup(join(path, COPY), true)
    },
    /** The compacted copy takes the place of the original. */
    async closeCompacted() {
      await db.close()
      for (const name of ['data.mdb', 'lock.mdb']) rmSync(join(path, name))
    },
    close: () => db.close(),
  }
}
