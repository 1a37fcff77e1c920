// Every file name of a store is built and read here, and nowhere else.
import * as path from 'node:path'

export const MANIFEST = 'MANIFEST'
/** The manifest that is being written; renamed over MANIFEST once it is on disk. */
export const MANIFEST_NEXT = 'MANIFEST.next'
/** A directory: one small file for each process that holds, or wants, the right to write. */
export const LOCK = 'LOCK'
export const CHECKPOINT = 'CHECKPOINT'
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
    isDamagedName(name) ||
    /^\d{10}\.(data|hint)$/.test(name)
  )
}

export const join = path.join
export const resolve = path.resolve
export const parentOf = path.dirname
