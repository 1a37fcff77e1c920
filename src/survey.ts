// Verifies every byte of a store directory, whatever state it is in: without a lock, without a keydir, and with or
// without a sound manifest. It changes nothing.
import { settledBytes } from './durable'
import { join, MANIFEST } from './files'
import { REMEDY_COUNT, REMEDY_MISSING, REMEDY_UNREADABLE } from './findings'
import type { Health } from './health'
import type { Host } from './host/host'
import type { Kernels } from './kernels'
import { readManifest } from './manifest'
import {
  checkHeader,
  forgetCopiedEnds,
  lastSequenceOf,
  NOWHERE,
  openToRead,
  type PassedSegment,
  type PassRooms,
  readRecords,
  reportMissing,
} from './pass'
import { callRoll, type Enlisted, pathOf, type RollCall } from './rollcall'

/** How far a check has come. */
export interface SurveyProgress {
  segment: number
  segments: number
  bytesDone: number
  bytesTotal: number
}

export interface Surveyed extends Enlisted {
  /** As it was found by reading it. */
  read: PassedSegment
  /** Whether something in it can't be read, or it stands under a wrong name. */
  isDamaged: boolean
}

export interface Survey extends Omit<RollCall, 'segments'> {
  segments: Surveyed[]
}

export function* survey(
  host: Host,
  kernels: Kernels,
  directory: string,
  health: Health,
  /** Whether another process may be writing. */
  isBesideWriter = false,
): Generator<SurveyProgress, Survey> {
  const roll = callRoll(host, kernels, directory, health)
  const bytesTotal = roll.segments.reduce((sum, { file }) => sum + (file?.bytes ?? 0), 0)
  const segments: Surveyed[] = []
  let bytesDone = 0
  for (const enlisted of roll.segments) {
    const surveyed = begin(directory, enlisted)
    segments.push(surveyed)
    for (const done of surveySegment({ host, kernels, health }, surveyed, isBesideWriter)) {
      yield {
        segment: segments.length,
        segments: roll.segments.length,
        bytesDone: bytesDone + done,
        bytesTotal,
      }
    }
    bytesDone += enlisted.file?.bytes ?? 0
  }
  if (roll.manifestState !== 'sound') reportGaps(health, segments, host.nowMs())
  forgetCopiedEnds(
    health,
    segments.map(({ read }) => read),
  )
  return { ...roll, segments }
}

const NOT_FOLLOWED = 'a link or directory in the place of a segment, not followed'
/** Why a segment is missing, by what stands under its name. */
const TAKEN = {
  file: 'this segment is missing: another file has its name',
  directory: NOT_FOLLOWED,
  other: NOT_FOLLOWED,
  missing: undefined,
} as const

function begin(directory: string, enlisted: Enlisted): Surveyed {
  const { header, lastSequence } = enlisted.entry
  const path = pathOf(directory, enlisted)
  const read = { slot: 0, header, path, bytes: 0, records: 0, lastSequence }
  const isDamaged = enlisted.file !== undefined && enlisted.file.id !== header.id
  return { ...enlisted, read, isDamaged }
}

function* surveySegment(
  rooms: PassRooms,
  surveyed: Surveyed,
  isBesideWriter: boolean,
): Generator<number, void> {
  const { host, health } = rooms
  const { entry, expected, read } = surveyed
  const nowMs = host.nowMs()
  const before = health.damage.length
  if (surveyed.file === undefined) {
    const lastSequence = expected.lastSequence ?? lastSequenceOf(entry)
    const state = expected.lastSequence === undefined ? 'active' : 'closed'
    const bytes = expected.bytes ?? 0
    const reason = TAKEN[host.inspect(read.path)?.kind ?? 'missing']
    reportMissing(health, { ...read, state, lastSequence }, bytes, nowMs, reason)
    read.lastSequence = lastSequence
    return
  }
  const file = openToRead(host, read.path)
  try {
    surveyed.isDamaged ||= !checkHeader(rooms, read, file, nowMs)
    const isOpen = isBesideWriter && expected.bytes === undefined
    const shownBytes = isOpen ? settledBytes(host, read, file) : undefined
    yield* readRecords(rooms, read, file, expected, NOWHERE, nowMs, undefined, shownBytes)
  } finally {
    host.close(file)
  }
  surveyed.isDamaged ||= health.damage.slice(before).some(({ remedy }) => remedy !== REMEDY_COUNT)
}

/** Without a sound manifest the numbers tell whether writes are missing, at the end of a segment or a whole one of them. */
function reportGaps(health: Health, segments: Surveyed[], foundAtMs: number): void {
  let before: Surveyed | undefined
  for (const segment of segments) {
    const firstSequence = (before?.read.lastSequence ?? 0) + 1
    const lastSequence = segment.entry.header.firstSequence - 1
    if (firstSequence <= lastSequence) {
      const gap = { firstSequence, lastSequence, foundAtMs }
      if (before?.file !== undefined && before.expected.bytes === undefined)
        reportLostEnd(health, before, gap)
      else {
        const reason = 'the writes before this segment are missing'
        const { path } = segment.read
        health.addDamage({ path, offset: 0, bytes: 0, reason, remedy: REMEDY_MISSING, ...gap })
      }
    }
    before = segment
  }
}

/** Of a segment of which nothing tells where it ended. */
function reportLostEnd(
  health: Health,
  segment: Surveyed,
  gap: { firstSequence: number; lastSequence: number; foundAtMs: number },
): void {
  const { file, read } = segment
  health.addDamage({
    path: read.path,
    offset: read.bytes,
    bytes: Math.max(0, (file?.bytes ?? 0) - read.bytes),
    reason: 'writes are missing between what can be read here and the next segment',
    remedy: REMEDY_UNREADABLE,
    ...gap,
  })
  segment.isDamaged = true
  read.lastSequence = gap.lastSequence
}

/** Changes with each manifest, to see whether a writer has made another meanwhile. */
export function manifestStamp(host: Host, kernels: Kernels, directory: string): string {
  try {
    return String(readManifest(host, kernels, directory)?.generation)
  } catch {
    return `unreadable ${host.inspect(join(directory, MANIFEST))?.identity}`
  }
}
