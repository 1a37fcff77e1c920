// A store with a bit of everything over several segments, and what it should hold once some of it is damaged.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type CheckReport, check, openSync, type RepairReport, repair } from '../../src/index'
import { freshStore } from './folders'
import { type ReferenceRecord, referenceSegment } from './reference'
import { segmentsOf } from './stores'

const LATER = 4_102_444_800_000

/** Five sealed segments: overwrites, deletes, expiry and batches reach across them. */
export function richStore(): string {
  const path = freshStore()
  const sessions: ((db: ReturnType<typeof openSync>) => void)[] = [
    (db) => {
      for (const key of ['a', 'b', 'c', 'd', 'e', 'f']) db.putSync(key, `old ${key}`)
    },
    (db) => {
      db.putSync('a', 'newer a')
      db.deleteSync('b')
      db.putSync('late', 'expires', { expiresAtMs: LATER })
      db.putSync('gone', 'expired', { expiresAtMs: 1 })
    },
    (db) => {
      db.batchSync([
        { type: 'put', key: 'c', value: 'batched c' },
        { type: 'del', key: 'd' },
        { type: 'put', key: 'g', value: 'batched g' },
      ])
      db.putSync('e', '')
    },
    (db) => db.putSync('f', 'newest f'),
    (db) => {
      db.putSync('h', 'h'.repeat(50))
      db.deleteSync('a')
      db.putSync('a', 'last a')
    },
  ]
  for (const write of sessions) {
    const db = openSync(path)
    write(db)
    db.closeSync()
  }
  return path
}

export interface Logged extends ReferenceRecord {
  file: string
}

/** Every put and delete in the order of the log. */
export function logOf(directory: string): Logged[] {
  return segmentsOf(directory).flatMap((file) =>
    referenceSegment(readFileSync(file))
      .records.filter(({ kind }) => kind <= 2)
      .map((record) => ({ ...record, file })),
  )
}

/** How a record is hurt: its value alone, or so that it can't be read at all. */
export type Hurt = Map<string, 'value' | 'unreadable'>

export const nameOfRecord = ({ file, offset }: Logged) => `${file}:${offset}`

/** Which record a byte of a segment is in, and how turning it over hurts it. */
export function hurtBy(log: Logged[], file: string, byte: number): Hurt {
  const hit = log.find((each) => each.file === file && byte >= each.offset && byte < each.offset + each.bytes)
  if (hit === undefined) return new Map()
  const isValue = byte >= hit.offset + hit.bytes - hit.value.length
  return new Map([[nameOfRecord(hit), isValue ? 'value' : 'unreadable']])
}

/** The entries that are left once what can't be read is left out, and what has a damaged value is deleted. */
export function remaining(log: Logged[], hurt: Hurt): Map<string, string> {
  const entries = new Map<string, string>()
  let batch: Logged[] = []
  for (const record of log) {
    batch.push(record)
    if (record.flags & 0x40) continue
    const isBroken = batch.length > 1 && batch.some((each) => hurt.get(nameOfRecord(each)) === 'unreadable')
    for (const each of batch) {
      const how = hurt.get(nameOfRecord(each))
      if (how === 'unreadable') continue
      const key = each.key.toString()
      const isExpired = each.expiresAtMs !== undefined && each.expiresAtMs < Date.now()
      if (isBroken || how === 'value' || each.kind === 2 || isExpired) entries.delete(key)
      else entries.set(key, each.value.toString())
    }
    batch = []
  }
  return new Map([...entries].sort(([a], [b]) => (a < b ? -1 : 1)))
}

/** The entries of a store that has to be sound. */
export function soundEntries(directory: string): Map<string, string> {
  const db = openSync(directory, { strict: true, createIfMissing: false })
  try {
    return new Map(db.entries())
  } finally {
    db.closeSync()
  }
}

/** Repairs, and sees to it that nothing is wrong afterwards. */
export async function mend(
  directory: string,
): Promise<{ before: CheckReport; report: RepairReport; entries: Map<string, string> }> {
  const before = await check(directory)
  const report = await repair(directory)
  const after = await check(directory)
  if (!after.ok || after.manifest !== 'sound' || after.leftovers.length > 0) {
    throw new Error(`not sound after a repair: ${JSON.stringify(after)}`)
  }
  const entries = soundEntries(directory)
  const again = await repair(directory)
  if (!again.wasSound) throw new Error(`a second repair found something: ${JSON.stringify(again)}`)
  return { before, report, entries }
}

export const manifestOf = (directory: string) => join(directory, 'MANIFEST')
