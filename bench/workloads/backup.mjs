// Backups of an open store, by second names and byte by byte, what is added to one, and the store made of it.
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { open, restore } from '../../dist/index.js'
import { verify } from '../data.mjs'
import { putKeys } from './write.mjs'

const MIB = 2 ** 20

/** As where the backup is on another file system. */
function withoutLinks() {
  const refusal = () => Object.assign(new Error('refused by the benchmark'), { code: 'EXDEV' })
  fs.linkSync = () => {
    throw refusal()
  }
  fs.copyFile = (...args) => args.at(-1)(refusal())
  syncBuiltinESMExports()
}

const figures = ({ bytesLinked = 0, bytesCloned, bytesCopied, longestSliceMs }) => {
  const bytes = bytesLinked + bytesCloned + bytesCopied
  return { broughtMib: bytes / MIB, copiedShare: bytesCopied / bytes, sliceMs: longestSliceMs }
}

/** All of it is new, so its speed says something. */
const whole = (report, ms) => {
  const { broughtMib, ...others } = figures(report)
  return { mibPerSecond: broughtMib / (ms / 1000), tookMs: ms, broughtMib, ...others }
}

/** `changed`: so many keys are put anew before, and what is new is added to the backup that there is. */
export async function backup({ path, to, copies = false, changed = 0 }) {
  if (copies) withoutLinks()
  const db = await open(path, { merge: false })
  await putKeys(db, changed)
  const begin = performance.now()
  const report = await db.backup(to, changed > 0 ? { since: 'latest' } : {})
  const ms = performance.now() - begin
  await db.close()
  if (copies && report.bytesLinked + report.bytesCloned > 0) throw new Error('what was to be copied was not')
  // However little is added, all that the backup is made of is read back.
  return changed > 0 ? { ms, ...figures(report) } : whole(report, ms)
}

export async function restored({ from, path, keys }) {
  const begin = performance.now()
  const report = await restore(from, path)
  const ms = performance.now() - begin
  const db = await open(path)
  verify(db, keys)
  await db.close()
  return whole(report, ms)
}
