// Opening what another process has written, and the memory that it takes.
import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { open } from '../../dist/index.js'
import { verify } from '../data.mjs'
import { peakMemoryBytes } from '../machine.mjs'

const MIB = 2 ** 20

/** What opening must have made use of, or the figure would bear a wrong name. */
const isBy = {
  checkpoint: ({ checkpoint, scanned, hinted }) => checkpoint.used && scanned + hinted === 0,
  // A short last segment has no hint.
  hints: ({ checkpoint, hinted, scanned }) => !checkpoint.used && hinted > 0 && scanned <= 1,
  scan: ({ checkpoint, hinted }) => !checkpoint.used && hinted === 0,
  // With many keys segments end on the way, and then there is a checkpoint of a part.
  'scan of the end': ({ bySegment }) => bySegment.at(-1).cameFrom === 'scan',
  'checkpoint and tail': ({ checkpoint, bySegment }) =>
    checkpoint.used && bySegment.some(({ bytesRead }) => bytesRead > 0),
}

/** `without`: caches that are taken away before: the checkpoint, or the hints too. `by`: one of `isBy`. */
export async function openAgain({ path, keys, without = [], by }) {
  for (const name of readdirSync(path))
    if (without.some((end) => name.endsWith(end))) rmSync(join(path, name))
  const peakBefore = peakMemoryBytes()
  const begin = performance.now()
  const db = await open(path)
  const ms = performance.now() - begin
  const peak = peakMemoryBytes()
  const { recovery } = db.stats()
  if (!isBy[by](recovery)) throw new Error(`not opened by ${by}: ${JSON.stringify(recovery)}`)
  verify(db, keys)
  await db.close()
  return {
    ms,
    peakMib: peak / MIB,
    peakBeforeMib: peakBefore / MIB,
    readMib: recovery.bytesRead / MIB,
  }
}
