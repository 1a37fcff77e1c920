// An entry that is there until a given millisecond, and no longer.
import process from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import { open } from '../package.mjs'
import { dim, heading, line, must, seconds } from '../screen.mjs'

const TTL_MS = 1_200

export async function expiry(path) {
  heading('An entry that expires')
  const db = await open(path, { valueEncoding: 'json' })
  const begin = Date.now()
  const show = (text) => process.stdout.isTTY && process.stdout.write(`\r\x1b[K  ${text}`)
  await db.put('weather/Rome', 'sunny', { ttlMs: TTL_MS })
  line(`put, ttlMs: ${TTL_MS}`, `get says '${db.get('weather/Rome')}'`)
  let seenMs = 0
  let gone = false
  while (!gone) {
    const asked = Date.now() - begin
    if (db.get('weather/Rome') === undefined) gone = true
    else seenMs = asked
    show(gone ? '' : `${dim(seconds(asked).padEnd(24))} still '${db.get('weather/Rome') ?? 'there'}'`)
    await sleep(20)
    must(asked < TTL_MS * 10, 'the entry does not expire')
  }
  if (process.stdout.isTTY) process.stdout.write('\r\x1b[K')
  line('asked every 20 ms', `there until ${seconds(seenMs)}, then gone`)
  must(seenMs < TTL_MS + 100 && !db.has('weather/Rome'), 'the entry outlived its time')
  line('expire', `${await db.expire()} entry swept from memory`)
  await db.close()
}
