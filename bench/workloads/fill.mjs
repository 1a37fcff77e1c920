// Puts that nobody waits for one by one, and what the keys take in memory then.
import { open } from '../../dist/index.js'
import { KEY_BYTES, keysTo, valueFor, verify } from '../data.mjs'

export async function fill({ path, keys: count, kill }) {
  const keys = keysTo(count)
  const db = await open(path, { sync: 'never' })
  // The puts of a group share a promise, so it is enough to keep those that differ.
  const groups = []
  const begin = performance.now()
  for (let i = 0; i < count; i++) {
    const group = db.put(keys[i], valueFor(i))
    if (group !== groups.at(-1)) groups.push(group)
  }
  await Promise.all(groups)
  const seconds = (performance.now() - begin) / 1000
  verify(db, count)
  const { keydir, bytes } = db.stats()
  if (!kill) await db.close()
  return {
    perSecond: count / seconds,
    keydirBytesPerKey: keydir.bytes / count - KEY_BYTES,
    diskBytesPerKey: bytes / count,
  }
}
