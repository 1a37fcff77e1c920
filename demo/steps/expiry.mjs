// An entry that is there until a given millisecond, and no longer.
import process from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import { open } from '../package.mjs'
import { dim, heading, line, must, seconds } from '../screen.mjs'

const TTL_MS = 1_200
const ASK_MS = 20

export async function expiry(path) {
  heading('An entry that expires')
  const db = await open(path, { valueEncoding: 'json' })
  const show = (text) => process.stdout.isTTY && process.stdout.write(`\r\x1b[K${text}`)
  const before = Date.now()
  const put = db.put('weather/Rome', 'sunny', { ttlMs: TTL_MS })
  const after = Date.now()
  await put
  line(`put, ttlMs: ${TTL_MS}`, `get says '${db.get('weather/Rome')}'`)
  let lastSeen = before
  for (let isThere = true; isThere; ) {
    const asked = Date.now()
    isThere = db.get('weather/Rome') !== undefined
    const answered = Date.now()
    // The clock stood somewhere between `before` and `after` when the time to live began.
    must(!isThere || asked < after + TTL_MS, 'the entry outlived its time')
    must(isThere || answered >= before + TTL_MS, 'the entry went before its time')
    if (isThere) {
      lastSeen = asked
      show(`  ${dim(seconds(asked - before).padEnd(24))} still there`)
      await sleep(ASK_MS)
    }
  }
  show('')
  line(`asked every ${ASK_MS} ms`, `there until ${seconds(lastSeen - before)}, then gone`)
  line('expire', `${await db.expire()} entry swept from memory`)
  await db.close()
}
