// Bad input is refused by name, at the call, and with a word on what would be right.
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import process from 'node:process'

export default {
  'unknown and bad options of open': async (t) => {
    const path = t.path()
    const { message } = await t.rejects('CASKY_INVALID_OPTION', () => t.casky.open(path, { readonly: true }))
    t.ok(message.includes("'readonly'") && message.includes("'readOnly'"), message)
    const bad = [
      { sync: 'sometimes' },
      { sync: { everyMs: 0 } },
      { sync: { everyMs: 1.5 } },
      { sync: { every: 5 } },
      { sync: {} },
      { keyEncoding: 'latin1' },
      { valueEncoding: 'yaml' },
      { valueEncoding: { encode: () => {} } },
      { readOnly: 'yes' },
      { createIfMissing: 0 },
      { errorIfExists: null },
      { strict: 1 },
      { maxSegmentBytes: 4095 },
      { maxSegmentBytes: 2 ** 31 + 1 },
      { cacheBytes: -1 },
      { cacheBytes: 1.5 },
      { onProgress: true },
      { signal: {} },
    ]
    for (const options of bad) {
      await t.rejects('CASKY_INVALID_OPTION', () => t.casky.open(path, options))
      t.throws('CASKY_INVALID_OPTION', () => t.casky.openSync(path, options))
    }
    await t.rejects('CASKY_INVALID_ARGUMENT', () => t.casky.open(path, 'readOnly'))
    await t.rejects('CASKY_INVALID_ARGUMENT', () => t.casky.open(path, []))
    await t.rejects('CASKY_NOT_FOUND', () => t.casky.open(path, { createIfMissing: false }))
  },

  'bad paths': async (t) => {
    for (const path of ['', undefined, null, 5, {}, 'a\0b']) {
      await t.rejects('CASKY_INVALID_PATH', () => t.casky.open(path))
      t.throws('CASKY_INVALID_PATH', () => t.casky.openSync(path))
    }
  },

  'bad keys and values, of every call': async (t) => {
    const db = await t.open()
    for (const key of [undefined, null, 5, {}, [], '', new ArrayBuffer(2), new Uint8Array(0)]) {
      await t.rejects('CASKY_INVALID_KEY', () => db.put(key, 'x'))
      await t.rejects('CASKY_INVALID_KEY', () => db.delete(key))
      t.throws('CASKY_INVALID_KEY', () => db.putSync(key, 'x'))
      t.throws('CASKY_INVALID_KEY', () => db.deleteSync(key))
      t.throws('CASKY_INVALID_KEY', () => db.get(key))
      t.throws('CASKY_INVALID_KEY', () => db.has(key))
      t.throws('CASKY_INVALID_KEY', () => db.getMany([key]))
    }
    for (const value of [undefined, null, 5, {}, [], true]) {
      await t.rejects('CASKY_INVALID_VALUE', () => db.put('a', value))
      t.throws('CASKY_INVALID_VALUE', () => db.putSync('a', value))
    }
    t.equal([db.size, db.stats().lastSequence], [0, 0])
  },

  'errors carry what they are about': async (t) => {
    const path = t.path()
    const notFound = await t.rejects('CASKY_NOT_FOUND', () => t.casky.open(path, { createIfMissing: false }))
    t.equal([notFound.path, notFound.message.includes(path)], [path, true])
    const db = await t.open(undefined, path)
    const badKey = await t.rejects('CASKY_INVALID_KEY', () => db.put(5, 'x'))
    t.equal(badKey.got, 5)
    const locked = await t.rejects('CASKY_LOCKED', () => t.casky.open(path))
    t.equal([locked.path, locked.got.pid, locked.got.isAlive], [path, process.pid, true])
    t.ok(locked instanceof t.casky.CaskyError && locked instanceof Error)
    t.equal(t.casky.isCaskyError(new Error('another')), false)
    t.equal(t.casky.isCaskyError(undefined), false)
    t.equal(t.casky.isCaskyError(Object.assign(new Error('x'), { code: 'CASKY_IO' })), false)
  },

  'a directory of something else is left alone': async (t) => {
    const other = t.path()
    mkdirSync(other, { recursive: true })
    writeFileSync(`${other}/notes.txt`, 'mine')
    await t.rejects('CASKY_NOT_A_STORE', () => t.casky.open(other))
    t.equal(readdirSync(other), ['notes.txt'])
    await t.rejects('CASKY_INVALID_PATH', () => t.casky.open(`${other}/notes.txt`))
    await t.rejects('CASKY_INVALID_PATH', () => t.casky.open(`${other}/notes.txt/below`))
  },
}
