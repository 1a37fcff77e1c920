// Writes one counter in several ways at once until it is killed; what it prints is acknowledged. First it tells what it
// has found.
import process from 'node:process'
import { open } from '../../../src/index'

const [path, from] = process.argv.slice(2) as [string, string]
const db = await open(path, { maxSegmentBytes: 20_000 })
const say = (what: unknown): void => void process.stdout.write(`${JSON.stringify(what)}\n`)
say({ health: db.health(), entries: [...db.entries()] })

let n = Number(from)
const work = async (name: string): Promise<void> => {
  for (;;) {
    const i = n++
    const value = `${i} ${'x'.repeat(i % 700)}`
    const key = `${name}${i % 50}`
    if (i % 5 === 0) db.putSync('sync', value)
    if (i % 7 === 0) {
      await db.batch([
        { type: 'put', key: 'left', value },
        { type: 'put', key: 'right', value },
      ])
    } else if (i % 11 === 0) await db.delete(key)
    else if (i % 97 === 0) await db.put(key, `${i} ${'x'.repeat(100_000 + (i % 700))}`)
    else await db.put(key, value)
    say({ i, name })
  }
}
for (const name of ['a', 'b', 'c', 'd']) work(name)
