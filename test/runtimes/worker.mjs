// A process that does as it is told, one word a line, and answers each with one line of JSON.
import process from 'node:process'
import { createInterface } from 'node:readline'
import { readFixture, writeFixture } from './fixture.mjs'

const encoder = new TextEncoder()
const ROUND = encoder.encode('round')
/** So many writes share a sync. */
const GROUP = 10

/** Tells contents apart. */
function digestOf(db) {
  let digest = 0
  for (const [key, value] of db.entries())
    for (const bytes of [key, value])
      for (const byte of bytes) digest = (Math.imul(digest, 31) + byte + 1) | 0
  return `${db.size} ${digest}`
}

async function isReadOnly(db) {
  try {
    await db.put(ROUND, ROUND)
  } catch (error) {
    return error.code === 'CASKY_READ_ONLY'
  }
}

export async function serve(casky) {
  const path = process.argv[2]
  let held
  let followed
  let rounds = 0

  /** Whether the store can be had, and what it lacks; it is given back at once. */
  const attempt = async () => {
    const outcome = { async: 'open', sync: 'open', writer: undefined, readOnly: undefined }
    try {
      outcome.writer = await readFixture(casky, path)
    } catch (error) {
      outcome.async = error.code
      outcome.holder = { pid: error.got?.pid, isAlive: error.got?.isAlive, claim: error.got?.claim }
    }
    try {
      casky.openSync(path).closeSync()
    } catch (error) {
      outcome.sync = error.code
    }
    outcome.readOnly = await readFixture(casky, path, { readOnly: true })
    return outcome
  }

  const commands = {
    hold: async () => {
      held = await writeFixture(casky, path)
      return { pid: process.pid }
    },
    close: async () => {
      await held.close()
      return {}
    },
    read: async () => ({
      writer: await readFixture(casky, path),
      readOnly: await readFixture(casky, path, { readOnly: true }),
    }),
    attempt,
    /** Overwrites, deletes and merges, while somebody follows. */
    change: async () => {
      const round = ++rounds
      const group = []
      const write = async (acknowledged) => {
        group.push(acknowledged)
        if (group.length === GROUP) await Promise.all(group.splice(0))
      }
      for (let i = 0; i < 1000; i += 1 + (round % 3))
        await write(held.put(encoder.encode(`many ${i}`), encoder.encode(`${round}`.repeat(50))))
      for (let i = round; i < 1000; i += 7) await write(held.delete(encoder.encode(`many ${i}`)))
      await Promise.all(group)
      await held.merge()
      await held.batch([
        { type: 'put', key: ROUND, value: Uint8Array.of(round) },
        { type: 'del', key: encoder.encode('many 1') },
      ])
      return { digest: digestOf(held) }
    },
    follow: async () => {
      followed = await casky.open(path, {
        keyEncoding: 'bytes',
        valueEncoding: 'bytes',
        readOnly: true,
        follow: true,
      })
      return { digest: digestOf(followed) }
    },
    /** What the follower sees once the next round has come. */
    seen: async () => {
      const round = ++rounds
      while (followed.get(ROUND)?.[0] !== round) await new Promise((resolve) => setTimeout(resolve, 5))
      return { digest: digestOf(followed), ok: followed.health().ok, isReadOnly: await isReadOnly(followed) }
    },
  }

  for await (const line of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await commands[line.trim()]()))
  }
}
