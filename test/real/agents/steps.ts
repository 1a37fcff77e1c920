// Goes through the plan, and dies at the call that it is told: before it, after it, or half-way through it. What it
// prints is acknowledged.
import process from 'node:process'
import { openSync } from '../../../src/index'
import { PLAN, SEGMENT_BYTES, type Step } from '../plan'
import { type Death, gate } from './gate'

const [path, order] = process.argv.slice(2) as [string, string]
gate.death = (JSON.parse(order) as { death?: Death }).death
const say = (what: unknown): void => void process.stdout.write(`${JSON.stringify(what)}\n`)

const open = () => openSync(path, { maxSegmentBytes: SEGMENT_BYTES, cacheBytes: 0 })
let db = open()

async function take({ how, writes }: Step): Promise<void> {
  const [{ key, value = '', expiresAtMs }] = writes
  const options = expiresAtMs === undefined ? undefined : { expiresAtMs }
  if (how === 'put') await db.put(key, value, options)
  else if (how === 'putSync') db.putSync(key, value, options)
  else if (how === 'delete') await db.delete(key)
  else {
    await db.batch(
      writes.map((write) =>
        write.value === undefined
          ? { type: 'del', key: write.key }
          : { ...write, type: 'put', value: write.value },
      ),
    )
  }
}

async function beRefused(): Promise<void> {
  gate.failure = 'ENOSPC'
  try {
    await db.put('refused', 'r'.repeat(200))
  } catch (error) {
    if ((error as { code?: string }).code === 'CASKY_NO_SPACE') return
    throw error
  }
  throw new Error('a write that failed was acknowledged')
}

say({ done: 0 })
for (const [i, step] of PLAN.entries()) {
  if (step.isAfterRefusal) await beRefused()
  await take(step)
  say({ done: i + 1 })
  if (step.isBeforeReopen) {
    await db.close()
    db = open()
  }
}
await db.close()
say({ counts: gate.counts })
