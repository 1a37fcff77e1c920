import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'

const CACHE_KIB = 256 * 1024
/** A relaxed write is in the system's hands; one at the end of which all is synced needs its checkpoints synced too. */
const SYNCHRONOUS = { relaxed: 'OFF', 'synced at the end': 'NORMAL', durable: 'FULL' }

/** `rowid`: the table has one, and the key is an index. `grouped`: puts of a turn share a transaction, made by hand. */
export async function openStore(path, { mode, rowid = false, grouped = false }) {
  mkdirSync(path, { recursive: true })
  const db = new Database(join(path, 'store.sqlite'))
  db.pragma('journal_mode = WAL')
  db.pragma(`synchronous = ${SYNCHRONOUS[mode]}`)
  db.pragma(`cache_size = -${CACHE_KIB}`)
  db.pragma(`mmap_size = ${2 ** 30}`)
  db.exec(
    `CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value BLOB NOT NULL)${rowid ? '' : ' WITHOUT ROWID'}`,
  )
  const write = db.prepare(
    'INSERT INTO entries VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
  )
  const read = db.prepare('SELECT value FROM entries WHERE key = ?').pluck()
  const all = db.prepare('SELECT key, value FROM entries ORDER BY key').raw()
  const writeAll = db.transaction((keys, values) => {
    for (let i = 0; i < keys.length; i++) write.run(keys[i], values[i])
  })
  let group
  const putGrouped = (key, value) => {
    if (group === undefined) {
      const mine = { keys: [], values: [] }
      mine.done = new Promise((resolve) => {
        setImmediate(() => {
          group = undefined
          writeAll(mine.keys, mine.values)
          resolve()
        })
      })
      group = mine
    }
    group.keys.push(key)
    group.values.push(value)
    return group.done
  }
  return {
    put: grouped
      ? putGrouped
      : (key, value) => {
          write.run(key, value)
        },
    writeBatch: (keys, values) => writeAll(keys, values),
    flush() {
      db.pragma('synchronous = FULL')
      db.exec('CREATE TABLE flushed (at)')
      db.exec('DROP TABLE flushed')
    },
    get: (key) => read.get(key),
    getMany: (keys) => keys.map((key) => read.get(key)),
    async each(visit) {
      for (const [key, value] of all.iterate()) visit(key, value)
    },
    compact() {
      db.exec('VACUUM')
      db.pragma('wal_checkpoint(TRUNCATE)')
    },
    close: () => db.close(),
  }
}
