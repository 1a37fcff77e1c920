import { open } from '../../../dist/index.js'

/** `cacheBytes`, `order`: of iterating. `mergeByItself`: else merges are only made by `compact`. */
export async function openStore(path, { mode, cacheBytes, order = 'key', mergeByItself = true }) {
  const db = await open(path, {
    sync: mode === 'durable' ? 'always' : 'never',
    valueEncoding: 'bytes',
    ...(cacheBytes === undefined ? {} : { cacheBytes }),
    ...(mergeByItself ? {} : { merge: false }),
  })
  return {
    put: (key, value) => db.put(key, value),
    writeBatch: (keys, values) => db.batch(keys.map((key, i) => ({ type: 'put', key, value: values[i] }))),
    flush: () => db.flush(),
    get: (key) => db.get(key),
    getMany: (keys) => db.getMany(keys),
    async each(visit) {
      for (const [key, value] of db.entries({ order })) visit(key, value)
    },
    compact: () => db.merge(),
    close: () => db.close(),
    indexBytes: () => db.stats().keydir.bytes,
    /** Of the log to the records in it that count. */
    recordRatio() {
      const { bytes, liveBytes } = db.stats()
      return bytes / liveBytes
    },
  }
}
