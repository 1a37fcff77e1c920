// Every file name of a store is built and read here, and nowhere else.
import * as path from 'node:path'

export const MANIFEST = 'MANIFEST'
/** The manifest that is being written; renamed over MANIFEST once it is on disk. */
export const MANIFEST_NEXT = 'MANIFEST.next'
/** A directory: one small file for each process that holds, or wants, the right to write. */
export const LOCK = 'LOCK'
export const CHECKPOINT = 'CHECKPOINT'
/** Caches are written under these names, and renamed once they are whole. */
const NEXT = '.next'
export const CHECKPOINT_NEXT = `${CHECKPOINT}${NEXT}`
/** Directories of what repairs have replaced: damaged-1, damaged-2, … */
const DAMAGED = 'damaged-'

/** One less than four bytes hold: the manifest also names the id that comes next. */
export const SEGMENT_ID_MAX = 0xffff_fffe

export function segmentName(id: number): string {
  return `${String(id).padStart(10, '0')}.data`
}

/** The id in a segment's file name, or `undefined` for any other name. */
export function segmentIdOf(name: string): number | undefined {
  const match = /^(\d{10})\.data$/.exec(name)
  if (match === null) return undefined
  const id = Number(match[1])
  return id > 0 && id <= SEGMENT_ID_MAX ? id : undefined
}

export function hintName(segmentId: number): string {
  return `${String(segmentId).padStart(10, '0')}.hint`
}

export function nextHintName(segmentId: number): string {
  return `${hintName(segmentId)}${NEXT}`
}

/** The id of the segment that a hint belongs to, or `undefined` for any other name. */
export function hintedIdOf(name: string): number | undefined {
  return name.endsWith('.hint') ? segmentIdOf(name.replace(/\.hint$/, '.data')) : undefined
}

/** A cache that was being written when its process died. */
export function isUnfinishedCache(name: string): boolean {
  return name === CHECKPOINT_NEXT || /^\d{10}\.hint\.next$/.test(name)
}

/** A directory of backups holds segments under another name than a store's, so that it never passes for one. */
const KEPT = '.segment'
/** The description of a backup that is being written; renamed once it is on disk. */
export const BACKUP_NEXT = `BACKUP${NEXT}`
const SEQUENCE_DIGITS = 16

export function backupName(sequence: number): string {
  return `BACKUP-${String(sequence).padStart(SEQUENCE_DIGITS, '0')}.json`
}

/** The sequence number in the name of a backup's description, or `undefined` for any other name. */
export function backupSequenceOf(name: string): number | undefined {
  const match = /^BACKUP-(\d{16})\.json$/.exec(name)
  const sequence = Number(match?.[1])
  return Number.isSafeInteger(sequence) ? sequence : undefined
}

export function keptName(segmentId: number): string {
  return segmentName(segmentId).replace(/\.data$/, KEPT)
}

/** The kept segment that is being made. */
export function nextKeptName(segmentId: number): string {
  return `${keptName(segmentId)}${NEXT}`
}

/** The id of the segment that is kept under this name, or `undefined` for any other name. */
export function keptIdOf(name: string): number | undefined {
  return name.endsWith(KEPT) ? segmentIdOf(`${name.slice(0, -KEPT.length)}.data`) : undefined
}

/** What a backup was making when its process died. */
export function isUnfinishedBackup(name: string): boolean {
  return name === BACKUP_NEXT || (name.endsWith(NEXT) && keptIdOf(name.slice(0, -NEXT.length)) !== undefined)
}

/** Stands in a directory while a backup is restored into it. */
export const RESTORING = 'RESTORING'

/** A segment that is being restored; it gets its own name once all of them are there. */
export function restoringName(segmentId: number): string {
  return `${segmentName(segmentId)}.restoring`
}

export function isRestoringName(name: string): boolean {
  return /^\d{10}\.data\.restoring$/.test(name)
}

export function damagedName(number: number): string {
  return `${DAMAGED}${number}`
}

export function isDamagedName(name: string): boolean {
  return /^damaged-[1-9]\d{0,8}$/.test(name)
}

export function isOwnName(name: string): boolean {
  return (
    name === MANIFEST ||
    name === MANIFEST_NEXT ||
    name === LOCK ||
    name === CHECKPOINT ||
    isUnfinishedCache(name) ||
    isDamagedName(name) ||
    /^\d{10}\.(data|hint)$/.test(name)
  )
}

export const join = path.join
export const resolve = path.resolve
export const parentOf = path.dirname
