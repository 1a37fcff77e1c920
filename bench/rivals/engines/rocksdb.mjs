import { promisify } from 'node:util'
import rocksdb from 'rocksdb'

/** As for LevelDB, whose options these are. Reading is asynchronous, so many reads are kept in flight. */
export async function openStore(path, { mode, tuned }) {
  const db = rocksdb(path)
  const call = (name) => promisify(db[name].bind(db))
  const [open, put, batch, getMany, compactRange, close] = [
    ...['open', 'put', 'batch', 'getMany', 'compactRange', 'close'],
  ].map(call)
  await open({ ...tuned })
  const sync = mode === 'durable'
  return {
    put: (key, value) => put(key, value, { sync }),
    writeBatch: (keys, values) =>
      batch(
        keys.map((key, i) => ({ type: 'put', key, value: values[i] })),
        { sync },
      ),
    flush: () => batch([{ type: 'del', key: 'none' }], { sync: true }),
    /** What isn't there is an error here. */
    getLater: (key, tell) =>
      db.get(key, (error, value) => {
        if (error && !error.message.startsWith('NotFound')) throw error
        tell(value)
      }),
    getMany: (keys) => getMany(keys, {}),
    async each(visit) {
      const entries = db.iterator({ keyAsBuffer: false, highWaterMark: 2 ** 20 })
      await new Promise((resolve, reject) => {
        const next = () =>
          entries.next((error, key, value) => {
            if (error) return reject(error)
            if (key === undefined) return resolve()
            visit(key, value)
            next()
          })
        next()
      })
      await promisify(entries.end.bind(entries))()
    },
    compact: () => compactRange('!', '~'),
    close: () => close(),
  }
}
