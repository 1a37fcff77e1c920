// Every city in, each write acknowledged once it is on disk, and every one read back.
import process from 'node:process'
import progress from 'cli-progress'
import { isSame } from '../cities.mjs'
import { open } from '../package.mjs'
import { heading, line, megabytes, must, number, seconds, timed } from '../screen.mjs'

const AT_ONCE = 5_000

export async function importCities(path, cities) {
  heading(`Import ${number(cities.length)} cities`)
  const db = await open(path, { valueEncoding: 'json', maxSegmentBytes: 4_000_000 })
  const bar = process.stdout.isTTY
    ? new progress.SingleBar({ format: '  {bar} {value} of {total}' })
    : undefined
  bar?.start(cities.length, 0)
  const { ms } = await timed(async () => {
    for (let i = 0; i < cities.length; i += AT_ONCE) {
      const some = cities.slice(i, i + AT_ONCE)
      await Promise.all(some.map(({ key, value }) => db.put(key, value)))
      bar?.update(i + some.length)
    }
  })
  bar?.stop()
  const { writes, bytes } = db.stats()
  line('put, durably', `${seconds(ms)}, ${number((cities.length / ms) * 1000)} a second, ${megabytes(bytes)}`)
  line('syncs', `${number(writes.syncs)}, each for ${number(writes.records / writes.syncs)} writes`)
  const { result: wrong, ms: readMs } = await timed(
    () => cities.filter(({ key, value }) => !isSame(db.get(key), value)).length,
  )
  must(wrong === 0, `${number(wrong)} cities came back with another value`)
  must(db.size === cities.length, `${number(db.size)} entries for ${number(cities.length)} cities`)
  line('read back and compared', `all ${number(db.size)}, in ${seconds(readMs)}`)
  await db.close()
}
