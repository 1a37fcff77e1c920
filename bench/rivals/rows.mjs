// What is measured side by side: the rows of the table, and each rival's entries in them.
import { cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'

const MIB = 2 ** 20
const CACHE_BYTES = 256 * MIB
/** libuv's; LevelDB and RocksDB can only put together the writes that have a thread each. */
const THREADS = 128

/** By the name of the engine's file. `package`: what must be installed; `base`: in each of its entries. */
export const rivals = {
  casky: { title: 'casky' },
  lmdb: { title: 'LMDB', package: 'lmdb' },
  leveldb: { title: 'LevelDB', package: 'classic-level' },
  sqlite: { title: 'SQLite', package: 'better-sqlite3' },
  rocksdb: { title: 'RocksDB', package: 'rocksdb' },
  map: { title: 'a Map with an append log' },
}

/** As much cache as casky has in one of its entries; and values don't compress here, so nothing is lost by not trying. */
const tuned = { cacheSize: CACHE_BYTES, compression: false }
const largeBuffer = { tuned: { ...tuned, writeBufferSize: 64 * MIB } }
/** Options that a rival has in every entry, and how many puts are best on their way where nobody waits for one. */
const BASE = {
  casky: {},
  lmdb: {},
  leveldb: { options: { tuned }, most: 1000 },
  sqlite: {},
  rocksdb: { options: largeBuffer, most: 1000 },
  map: {},
}

const inThreads = {
  note: `${THREADS} threads`,
  env: { UV_THREADPOOL_SIZE: String(THREADS) },
}
const largeCache = { note: 'cacheBytes: 256 MiB', options: { cacheBytes: CACHE_BYTES } }
const noSync = { note: 'noSync', options: { noSync: true } }
const shared = { note: 'getBinaryFast, one shared buffer', options: { shared: true } }
const grouped = { note: 'grouped by hand', options: { grouped: true } }

/** What a rival takes part with, beside its plain entry: `{ note, options, env }` each. */
const writing = {
  lmdb: [{}, noSync],
  leveldb: [{}, { note: 'writeBufferSize: 64 MiB', options: largeBuffer }],
}
const reading = { casky: [{}, largeCache], lmdb: [{}, shared] }
const mixed = { casky: [{}, largeCache], lmdb: [{}, noSync] }
const inFlight = {
  leveldb: [{}, inThreads],
  sqlite: [{}, grouped],
  rocksdb: [{}, inThreads],
}
const iterating = { casky: [{ note: 'in order' }, { note: 'in any order', options: { order: 'any' } }] }
const rowids = { sqlite: [{}, { note: 'with a rowid', options: { rowid: true } }] }

const putRow = (id, title, setup) => ({ id, title, workload: 'put', setup, entries: writing })
/** `share`: of the keys; with few puts in flight fewer are enough. */
const durableRow = (count, share, entries) => ({
  id: `durable-${count}`,
  title: `put, durable, ${count.toLocaleString('en-US')} in flight`,
  workload: 'durable',
  setup: { inFlight: count, share },
  entries,
})
const getRow = (id, title, pick) => ({
  id,
  title,
  workload: 'get',
  setup: { pick },
  reads: true,
  entries: reading,
})
const ycsbRow = (id, title, updates) => ({
  id,
  title,
  workload: 'ycsb',
  setup: { updates },
  reads: true,
  copies: true,
  entries: mixed,
})

/**
 * `reads`: works on the store that is made once in a run, or with `copies` on a copy; else on a new one. `before`: a
 * workload whose process prepares it. `figure`: what is compared, default `perSecond`; of others less is better.
 * `also`: a row that the same workload measures.
 */
const ROWS = {
  put: [
    putRow('put-ordered', 'put, relaxed, keys in order', { order: 'ordered' }),
    putRow('put-shuffled', 'put, relaxed, keys shuffled', { order: 'shuffled' }),
    putRow('put-awaited', 'put, relaxed, each awaited', { order: 'ordered', awaited: true }),
  ],
  durable: [durableRow(1, 0.05), durableRow(64, 0.25, inFlight), durableRow(1024, 1, inFlight)],
  batch: [
    {
      id: 'batch-each',
      title: 'batches of 1,000, each synced',
      workload: 'batches',
      setup: { synced: 'each' },
      entries: { leveldb: writing.leveldb },
    },
    {
      id: 'batch-end',
      title: 'batches of 1,000, synced at the end',
      workload: 'batches',
      setup: { synced: 'end' },
      entries: writing,
    },
  ],
  get: [
    getRow('get-uniform', 'get, uniform, as bytes', 'uniform'),
    getRow('get-zipfian', 'get, zipfian', 'zipfian'),
    getRow('get-missing', 'get, missing key', 'missing'),
    {
      id: 'get-many',
      title: 'getMany of 64',
      workload: 'getMany',
      reads: true,
      entries: { casky: reading.casky },
    },
  ],
  ycsb: [ycsbRow('ycsb-a', 'YCSB A, half updates', 0.5), ycsbRow('ycsb-b', 'YCSB B, 5 % updates', 0.05)],
  iterate: [
    { id: 'iterate', title: 'iterate everything', workload: 'iterate', reads: true, entries: iterating },
  ],
  open: [
    { id: 'open-clean', title: 'open, after a close', workload: 'open', reads: true, figure: 'ms' },
    {
      id: 'open-killed',
      title: 'open, after kill -9 with a tenth written anew',
      workload: 'open',
      setup: { killed: true },
      before: 'rewriteAndDie',
      reads: true,
      copies: true,
      figure: 'ms',
    },
  ],
  memory: [
    {
      id: 'memory',
      title: 'memory a key beyond the key, all read once',
      workload: 'memory',
      reads: true,
      figure: 'bytesPerKey',
      entries: { casky: [{}, { note: 'cacheBytes: 0', options: { cacheBytes: 0 } }] },
    },
  ],
  compact: [
    {
      id: 'space',
      title: 'on disk, all overwritten three times and compacted, to live bytes',
      workload: 'compacting',
      figure: 'ratio',
      entries: rowids,
      also: {
        id: 'stall-compacting',
        title: 'longest block of the event loop, compacting',
        figure: 'ms',
      },
    },
  ],
  load: [
    {
      id: 'stall-loading',
      title: 'longest block of the event loop, loading',
      workload: 'loading',
      figure: 'ms',
      entries: writing,
    },
  ],
}

export const groupNames = Object.keys(ROWS)

const withAlso = (row) => (row.also === undefined ? [row] : [row, row.also])

/** All rows in order, those measured beside others too. */
export const rows = Object.entries(ROWS).flatMap(([group, some]) =>
  some.flatMap(withAlso).map((row) => ({ group, figure: 'perSecond', ...row })),
)

/** The rows that these names of groups and rows are about, with those that they are measured beside. */
export function rowsOf(names) {
  const found = new Set()
  for (const [group, some] of Object.entries(ROWS)) {
    for (const row of some) {
      const ids = withAlso(row).map(({ id }) => id)
      if ([group, ...ids].some((name) => names.includes(name))) for (const id of ids) found.add(id)
    }
  }
  return rows.filter(({ id }) => found.has(id))
}

/** On disk at once: a store of each rival, and what a row makes of one. */
export const diskBytesPerKey = (count) => count * 300 + 1600

/** What takes part in a row, in the order of the rivals; the same name in all runs. */
export function entriesOf(row, names) {
  return names.flatMap((rival) =>
    (row.entries?.[rival] ?? [{}]).map(({ note, options, env }) => {
      const { title } = rivals[rival]
      const base = BASE[rival]
      const name = note === undefined ? title : `${title}, ${note}`
      return { rival, name, env, most: base.most, options: { ...base.options, ...options } }
    }),
  )
}

/** Makes one rival's store of all keys, once. */
async function closedStore({ measure, prepared, directory, keys }, rival) {
  const path = join(directory, `closed-${rival}`)
  if (!prepared.has(rival)) {
    const setup = { engine: rival, path, keys, options: BASE[rival].options ?? {} }
    await measure(`${rivals[rival].title}: a store to read`, 'prepare', setup)
    prepared.add(rival)
  }
  return path
}

/** Measures one entry of a row and tells what was found by the ids of rows. */
export async function measureEntry(run, row, { rival, name, env, most, options }) {
  const { measure, directory, keys, pin } = run
  const from = row.reads ? await closedStore(run, rival) : undefined
  const place = join(directory, 'place')
  const path = row.reads && !row.copies ? from : place
  const setup = { engine: rival, path, keys, pin, most, options, ...row.setup }
  const title = `${row.title}: ${name}`
  if (row.copies) cpSync(from, path, { recursive: true })
  if (row.before !== undefined) await measure(title, row.before, { ...setup, kill: true }, env)
  const found = await measure(title, row.workload, setup, env)
  rmSync(place, { recursive: true, force: true })
  return row.also === undefined ? { [row.id]: found } : found
}
