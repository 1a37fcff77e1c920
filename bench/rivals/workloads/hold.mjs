// What a store takes and holds up: time to open, memory, disk, and the event loop.
import { readFileSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { KEY_BYTES, keyOf, keysTo, percentile, percentileByTime } from '../../data.mjs'
import { turn } from '../../workloads/write.mjs'
import { bytesFor, checkValue, liveBytes, shuffled } from '../data.mjs'
import { bytesBelow, fillStore, openStore, verifyClosed, verifyStore } from '../store.mjs'

const MIB = 2 ** 20
/** A store that is killed gets so many of its keys anew before. */
const ANEW_SHARE = 0.1
const ROUNDS = 3
const PUTS_A_TURN = 10
const PUTS_AHEAD = 1000

const anew = (count) => Math.ceil(count * ANEW_SHARE)

/** A tenth of the keys anew, in the system's hands each, when the process dies. */
export async function rewriteAndDie({ path, keys: count, options }) {
  const db = await openStore(path, options)
  await fillStore(db, keysTo(count), { count: anew(count), version: 1 })
  await db.put(keyOf(0), bytesFor(0, 1))
}

/** Until the first value is there: some engines read nothing before. */
export async function openAgain({ path, keys: count, killed, options }) {
  const first = keyOf(0)
  const isAnew = (i) => (killed && i < anew(count) ? 1 : 0)
  const begin = performance.now()
  const db = await openStore(path, options)
  const value = db.get ? db.get(first) : await new Promise((resolve) => db.getLater(first, resolve))
  const ms = performance.now() - begin
  checkValue(0, isAnew(0), value)
  await verifyStore(db, count, isAnew)
  await db.close()
  return { ms }
}

function collectGarbage() {
  if ('Bun' in globalThis) return globalThis.Bun.gc(true)
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
}

/** Memory of this process alone, and what it has mapped of files, in bytes. */
function residentBytes() {
  const status = readFileSync('/proc/self/status', 'utf8')
  const kib = (name) => Number(new RegExp(`^${name}:\\s*(\\d+) kB`, 'm').exec(status)?.[1] ?? 0)
  return { own: (kib('RssAnon') + kib('RssShmem')) * 1024, mapped: kib('RssFile') * 1024 }
}

/** After opening and reading everything once: what the process has grown by, for each key, beyond the key's own bytes. */
export async function memory({ path, keys: count, options }) {
  await turn()
  collectGarbage()
  const before = residentBytes()
  const db = await openStore(path, options)
  let length = 0
  const add = (value) => {
    length += value.length
  }
  // Keys made one by one, so that none of this is theirs.
  for (let i = 0; i < count; i++) {
    if (db.get !== undefined) add(db.get(keyOf(i)))
    else await new Promise((resolve) => db.getLater(keyOf(i), (value) => resolve(add(value))))
  }
  collectGarbage()
  const after = residentBytes()
  const indexBytes = db.indexBytes?.()
  if (length === 0) throw new Error('no bytes came back')
  await verifyStore(db, count)
  await db.close()
  return {
    bytesPerKey: Math.max(0, (after.own - before.own) / count - KEY_BYTES),
    mappedBytesPerKey: Math.max(0, (after.mapped - before.mapped) / count),
    ...(indexBytes === undefined ? {} : { indexBytesPerKey: indexBytes / count - KEY_BYTES }),
  }
}

/** How long each turn of the event loop takes, from now until `stop`. */
function watchTurns() {
  const turns = []
  let last = performance.now()
  let isOver = false
  const look = () => {
    const now = performance.now()
    turns.push(now - last)
    last = now
    if (!isOver) setImmediate(look)
  }
  setImmediate(look)
  return async () => {
    await turn()
    isOver = true
    await turn()
    turns.sort((a, b) => a - b)
    // Of all turns; and what an event meets that comes at any moment.
    return { ms: turns.at(-1), p999Ms: percentile(turns, 0.999), p99OfTimeMs: percentileByTime(turns, 0.99) }
  }
}

/** Puts a few in each turn of the event loop, as fast as they are taken. */
export async function loading({ path, keys: count, options }) {
  const keys = keysTo(count)
  const order = shuffled(count)
  const db = await openStore(path, options)
  const stop = watchTurns()
  for (let begin = 0; begin < count; begin += PUTS_AHEAD) {
    const pending = []
    for (let i = begin; i < Math.min(begin + PUTS_AHEAD, count); i++) {
      pending.push(db.put(keys[order[i]], bytesFor(order[i])))
      if (i % PUTS_A_TURN === 0) await turn()
    }
    await Promise.all(pending)
  }
  const found = await stop()
  await db.close()
  await verifyClosed(path, options, count)
  return found
}

/** All keys overwritten three times, then compacted: the space it takes, and how long nothing else could run. */
export async function compacting({ path, keys: count, options }) {
  const keys = keysTo(count)
  const db = await openStore(path, { ...options, mergeByItself: false })
  const order = shuffled(count)
  for (let version = 0; version <= ROUNDS; version++)
    await fillStore(db, keys, { version, order: version === 0 ? undefined : order })
  const before = bytesBelow(path)
  const stop = watchTurns()
  await turn()
  const begin = performance.now()
  await db.compact()
  const tookMs = performance.now() - begin
  const turns = await stop()
  const recordRatio = db.recordRatio?.()
  await verifyStore(db, count, () => ROUNDS)
  await (db.closeCompacted ?? db.close)()
  const after = bytesBelow(path)
  if (db.closeCompacted === undefined) await verifyClosed(path, options, count, () => ROUNDS)
  return {
    space: {
      ratio: after / liveBytes(count),
      beforeMib: before / MIB,
      afterMib: after / MIB,
      ...(recordRatio === undefined ? {} : { recordRatio }),
    },
    'stall-compacting': { ...turns, tookMs },
  }
}
