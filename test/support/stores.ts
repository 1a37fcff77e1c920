// Stores made for tests, and ways to hurt them.
import { cpSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openSync } from '../../src/index'
import { freshStore } from './folders'
import { recycled } from './memory'
import { type ReferenceRecord, referenceSegment } from './reference'

/** A copy of an open store as a kill at this moment would leave it: no lock, no seal. */
export function killedCopy(directory: string): string {
  const copy = freshStore()
  cpSync(directory, copy, { recursive: true, filter: (path) => !path.endsWith('LOCK') })
  return copy
}

export function segmentsOf(directory: string): string[] {
  return readdirSync(directory)
    .filter((name) => name.endsWith('.data'))
    .sort()
    .map((name) => join(directory, name))
}

export function recordsOf(segment: string): ReferenceRecord[] {
  return referenceSegment(readFileSync(segment)).records
}

export function flipBit(file: string, bit: number): void {
  const bytes = readFileSync(file)
  bytes[bit >>> 3] ^= 1 << (bit & 7)
  writeFileSync(file, bytes)
}

export function overwrite(file: string, offset: number, bytes: Uint8Array): void {
  const content = readFileSync(file)
  content.set(bytes, offset)
  writeFileSync(file, content)
}

export function append(file: string, bytes: Uint8Array): void {
  writeFileSync(file, bytes, { flag: 'a' })
}

export { truncateSync as truncate }

/** The entries of a store as a read-only open finds them; damaged ones as 'damaged'. */
export function contentsOf(directory: string): {
  entries: Map<string, string>
  damage: number
  tornTails: number
} {
  return recycled(() => contentsIn(directory))
}

function contentsIn(directory: string): ReturnType<typeof contentsOf> {
  const db = openSync(directory, { readOnly: true, cacheBytes: 0 })
  try {
    const entries = new Map<string, string>()
    for (const key of db.keys()) {
      try {
        entries.set(key, db.get(key) ?? 'gone')
      } catch (error) {
        if ((error as { code?: string }).code !== 'CASKY_CORRUPT') throw error
        entries.set(key, 'damaged')
      }
    }
    const health = db.health()
    return { entries, damage: health.damage.length, tornTails: health.tornTails.length }
  } finally {
    db.closeSync()
  }
}

/** Removes the checkpoint and the hints, so that the next open reads all of the log. */
export function forgetCaches(directory: string): void {
  for (const name of readdirSync(directory)) {
    if (name === 'CHECKPOINT' || name.endsWith('.hint')) rmSync(join(directory, name))
  }
}
