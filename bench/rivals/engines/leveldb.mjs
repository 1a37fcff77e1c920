import { ClassicLevel } from 'classic-level'

const BATCH_MARK_BYTES = 2 ** 20
const ENTRIES_AT_ONCE = 1000

/** `tuned`: the options of its README for those who can prove a benefit, as they are here; values don't compress. */
export async function openStore(path, { mode, tuned }) {
  const db = new ClassicLevel(path, { keyEncoding: 'utf8', valueEncoding: 'buffer', ...tuned })
  await db.open()
  const sync = mode === 'durable'
  const batch = (keys, values, options) =>
    db.batch(
      keys.map((key, i) => ({ type: 'put', key, value: values[i] })),
      options,
    )
  return {
    put: (key, value) => db.put(key, value, { sync }),
    writeBatch: (keys, values) => batch(keys, values, { sync }),
    /** The log is one file, so a synced write puts those before it on disk too. */
    flush: () => db.batch([{ type: 'del', key: 'none' }], { sync: true }),
    get: (key) => db.getSync(key),
    getMany: (keys) => db.getMany(keys),
    async each(visit) {
      const entries = db.iterator({ highWaterMarkBytes: BATCH_MARK_BYTES })
      for (;;) {
        const found = await entries.nextv(ENTRIES_AT_ONCE)
        if (found.length === 0) break
        for (const [key, value] of found) visit(key, value)
      }
      await entries.close()
    },
    compact: () => db.compactRange('', '\u{7f}'),
    close: () => db.close(),
  }
}
