// One store with everything that a log can hold: written by one runtime, read by the others.
const encoder = new TextEncoder()

export const KILOBYTES_LARGE = 3 * 1024
export const TTL_ENDS_MS = 4_102_444_800_000

const large = Uint8Array.from({ length: KILOBYTES_LARGE * 1024 + 5 }, (_, i) => (i * 131 + (i >> 9)) & 0xff)
const allBytes = Uint8Array.from({ length: 256 }, (_, i) => i)

/** Every entry that must be there, as bytes; and the keys that must not. */
export const expected = [
  [encoder.encode('ascii'), encoder.encode('plain text')],
  [encoder.encode('日本語 🏳️‍🌈 é é'), encoder.encode('ünïcödé \0 \u{10FFFF}')],
  [encoder.encode('empty'), new Uint8Array(0)],
  [encoder.encode('overwritten'), encoder.encode('second')],
  [encoder.encode('ttl'), encoder.encode('for long')],
  [encoder.encode('large'), large],
  [allBytes, allBytes],
  [Uint8Array.of(0), Uint8Array.of(255)],
  [encoder.encode('k'.repeat(65_535)), encoder.encode('the longest key')],
  ...Array.from({ length: 50 }, (_, i) => [encoder.encode(`batch ${i}`), encoder.encode(`${i}`.repeat(i))]),
  ...Array.from({ length: 1000 }, (_, i) => [encoder.encode(`many ${i}`), encoder.encode(`value ${i}`)]),
]
export const absent = ['deleted', 'expired', 'batch deleted'].map((key) => encoder.encode(key))

const BYTES = { keyEncoding: 'bytes', valueEncoding: 'bytes' }

/** Writes the fixture and leaves the store open, every write of it acknowledged. */
export async function writeFixture(casky, path, options) {
  const db = await casky.open(path, { ...BYTES, maxSegmentBytes: 65_536, ...options })
  const [deleted, expired, batchDeleted] = absent
  const acknowledged = []
  for (const key of [deleted, batchDeleted]) await db.put(key, Uint8Array.of(1))
  await db.put(encoder.encode('overwritten'), encoder.encode('first'))
  await db.put(expired, Uint8Array.of(1), { expiresAtMs: 1_000 })
  await db.delete(deleted)
  const batch = [{ type: 'del', key: batchDeleted }]
  for (const [key, value] of expected) {
    const text = new TextDecoder().decode(key)
    if (text.startsWith('batch')) batch.push({ type: 'put', key, value })
    else if (text === 'ttl') acknowledged.push(db.put(key, value, { expiresAtMs: TTL_ENDS_MS }))
    else acknowledged.push(db.put(key, value))
  }
  acknowledged.push(db.batch(batch))
  await Promise.all(acknowledged)
  return db
}

const isSame = (a, b) => a !== undefined && a.length === b.length && a.every((byte, i) => byte === b[i])

/** What is wrong with an open store that should hold the fixture; nothing if it does, to the last byte. */
export async function faultsOf(casky, db) {
  const faults = []
  for (const [key, value] of expected) {
    const name = new TextDecoder().decode(key).slice(0, 20)
    if (!db.has(key)) faults.push(`${name} is missing`)
    else if (!isSame(db.get(key), value)) faults.push(`${name} has another value`)
  }
  for (const key of absent) if (db.has(key)) faults.push(`${new TextDecoder().decode(key)} is there`)
  if (db.size !== expected.length) faults.push(`${db.size} entries where ${expected.length} were written`)
  const listed = [...db.entries()]
  const byKey = new Map(expected.map(([key, value]) => [key.join(), value]))
  const wrong = listed.filter(([key, value]) => !isSame(byKey.get(key.join()), value))
  if (listed.length !== expected.length || wrong.length > 0) {
    faults.push(`listing gives ${listed.length}, ${wrong.length} wrong`)
  }
  const ttl = [...casky.dump(db.path)].filter(({ expiresAtMs }) => expiresAtMs === TTL_ENDS_MS)
  if (ttl.length !== 1 || !isSame(ttl[0].key, encoder.encode('ttl')))
    faults.push('the expiry is not as written')
  const { ok, damage } = await db.check()
  if (!ok) faults.push(...damage.map(({ reason }) => `damage: ${reason}`))
  return faults
}

/** Opens the store at `path` and compares. */
export async function readFixture(casky, path, options) {
  const db = await casky.open(path, { ...BYTES, ...options })
  try {
    return await faultsOf(casky, db)
  } finally {
    await db.close()
  }
}
