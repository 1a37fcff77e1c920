// The process that gets killed: writes as fast as it may, and says so of each write once it is acknowledged.
import process from 'node:process'
import { open } from './package.mjs'
import { isBatch, keyOf, keysOf, valueFor } from './written.mjs'

const IN_FLIGHT = 64
const [path, round] = process.argv.slice(2)
const db = await open(path, { valueEncoding: 'json', maxSegmentBytes: 4_000_000 })
let next = 0

async function writeOn() {
  for (;;) {
    const n = next++
    if (isBatch(n)) {
      await db.batch(keysOf(round, n).map((key) => ({ type: 'put', key, value: valueFor(key) })))
    } else {
      await db.put(keyOf(round, n), valueFor(keyOf(round, n)))
    }
    process.stdout.write(`${n}\n`)
  }
}

await Promise.all(Array.from({ length: IN_FLIGHT }, writeOn))
