// What stats() tells, drawn.
import { Buffer } from 'node:buffer'
import { open } from '../package.mjs'
import { bar, dim, green, heading, line, megabytes, number, print, timed, yellow } from '../screen.mjs'

const BAR_CELLS = 44
const SEGMENTS_SHOWN = 6
const IN_FLIGHT = [1, 32, 256]
const WRITES = 2_000

export async function numbers(path) {
  heading('What it takes')
  const db = await open(path, { valueEncoding: 'json', maxSegmentBytes: 4_000_000 })
  let keyBytes = 0
  for (const key of db.keys({ order: 'any' })) keyBytes += Buffer.byteLength(key)
  // The index comes in when it is used: by now all of it is there.
  const { entries, segments, liveBytes, deadBytes, keydir, recovery } = db.stats()
  line('memory for the keys', memoryText(entries, keydir, keyBytes))
  const { records, durationMs } = recovery
  line('opening', `${number(records)} records of ${number(recovery.segments)} segments in ${durationMs} ms`)
  const total = `${megabytes(liveBytes)} ${green('█')} live, ${megabytes(deadBytes)} ${yellow('░')} overwritten or expired`
  line('on disk', total)
  const shown = segments.toSorted((a, b) => b.bytes - a.bytes).slice(0, SEGMENTS_SHOWN)
  const scale = Math.max(...shown.map(({ bytes }) => bytes))
  for (const each of segments.filter((segment) => shown.includes(segment))) {
    const label = dim(`segment ${each.id}`.padEnd(12))
    print(`    ${label}${bar(each.liveBytes, each.deadBytes, scale, BAR_CELLS)} ${megabytes(each.bytes)}`)
  }
  if (segments.length > shown.length) print(dim(`    … and ${segments.length - shown.length} smaller ones`))
  line('group commit', 'writes that share one sync, by how many wait at once')
  for (const inFlight of IN_FLIGHT)
    print(`    ${dim(`${inFlight}`.padStart(5))}       ${await groups(db, inFlight)}`)
  await db.close()
}

/** Writes with so many waiting at once, and draws how large the groups became. */
async function groups(db, inFlight) {
  const before = db.stats().writes
  let next = 0
  const writeOn = async () => {
    while (next++ < WRITES) await db.put(`group/${inFlight}/${next}`, next)
  }
  const { ms } = await timed(() => Promise.all(Array.from({ length: inFlight }, writeOn)))
  const { records, syncs } = db.stats().writes
  const size = (records - before.records) / (syncs - before.syncs)
  const rate = number((records - before.records) / (ms / 1000))
  return `${bar(size, 0, IN_FLIGHT.at(-1), BAR_CELLS)} ${size.toFixed(1)} a sync, ${rate} writes a second`
}

function memoryText(entries, keydir, keyBytes) {
  const beyond = (keydir.bytes - keyBytes) / entries
  const own = keyBytes / entries
  return `${megabytes(keydir.bytes)} for ${number(entries)}: ${own.toFixed(1)} bytes of key and ${beyond.toFixed(1)} beside it`
}
