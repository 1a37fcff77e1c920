// One step of a follower: from the segments as it knows them to those that a newer manifest names. What is known is not
// read again.
import { isEqual } from './bytes'
import type { Catalog, Segment } from './catalog'
import { Health } from './health'
import type { Host } from './host/host'
import type { Kernels } from './kernels'
import type { Place } from './keydir/keydir'
import type { Ledger } from './ledger'
import type { Manifest, ManifestEntry } from './manifest'
import { MovedSink } from './moved'
import {
  expectedOf,
  forgetCopiedEnds,
  openNamed,
  readRecords,
  reportMissing,
  STRIDE,
  type Stride,
} from './pass'
import { readSegments } from './recovery'
import type { Sink } from './replay'
import { retold } from './steps'

export interface CatchUpRooms {
  host: Host
  kernels: Kernels
  catalog: Catalog
  ledger: Ledger
}

/** A segment of the manifest; `segment` was given a slot, and is not in the catalog's order yet, where it is new. */
export interface Named {
  entry: ManifestEntry
  segment: Segment
  isNew: boolean
}

/** The store as a manifest tells it. */
export interface Look {
  manifest: Manifest
  segments: readonly Named[]
  /** How much of the segment that is written to may be shown; 0 where there is none. */
  tailBytes: number
}

/** The store as it is known. */
export interface Known {
  manifest: Manifest
  health: Health
  lastSequence: number
}

export interface CaughtUp {
  bytesRead: number
  health: Health
  /** Segments that are no part of the store any more; nothing points to them. */
  gone: readonly Segment[]
}

/** Whether what is known is a beginning of what there is; else all is to be read anew. */
export function isSequel({ manifest, health, lastSequence }: Known, look: Look): boolean {
  // A repair gives another secret. What it has left out, or brought back, no record tells.
  if (look.manifest.generation < manifest.generation || !isEqual(look.manifest.secret, manifest.secret))
    return false
  // What could not be read may have been copied meanwhile, and would be missed.
  const paths = new Set(look.segments.map(({ segment }) => segment.path))
  if (health.damage.some(({ path }) => !paths.has(path))) return false
  return look.segments.every((named) => {
    const { header } = named.entry
    if (!named.isNew) return isContinued(named, look)
    if (header.firstSequence > lastSequence) return true
    return header.copies?.isFolded === true || originOf(named, look.segments) !== undefined
  })
}

function isContinued({ entry, segment }: Named, { segments, tailBytes }: Look): boolean {
  if (segment.state !== 'active')
    return entry.state === segment.state && entry.bytes === segment.bytes && entry.records === segment.records
  if (entry.state === 'active') return tailBytes >= segment.bytes
  // The end that nobody had vouched for was cut off; if there was a write in it, it stands in another segment.
  const isWhole = entry.bytes >= (segment.writesEnd ?? segment.bytes)
  return isWhole || segments.some((each) => each.isNew && originOf(each, segments)?.segment === segment)
}

/** The segment whose end was copied to this one, if it is such a one. */
function originOf({ entry: { header } }: Named, segments: readonly Named[]): Named | undefined {
  const { copies, previous } = header
  if (copies === undefined || copies.isFolded === true || copies.segmentId !== previous.id) return undefined
  return segments.find((each) => !each.isNew && each.entry.header.id === copies.segmentId)
}

/**
 * Reads what is new of it. `strays`: segments of earlier ones that have failed. `lastKnown`: the last write that the
 * keydir has of the segments that are known.
 */
export function* catchUp(
  rooms: CatchUpRooms,
  look: Look,
  strays: readonly Segment[],
  lastKnown: number,
): Generator<void, CaughtUp> {
  const { catalog } = rooms
  const { manifest, segments, tailBytes } = look
  const health = new Health()
  const passRooms = { ...rooms, health, lengthOf: () => tailBytes, stride: STRIDE }
  const named = new Set(segments.map(({ segment }) => segment))
  const gone = [...catalog.segments, ...strays].filter((segment) => !named.has(segment))
  const cuts = cutsOf(segments)
  let bytesRead = 0
  for (const each of segments) {
    if (each.isNew || each.segment.state !== 'active') continue
    const { bytes } = each.segment
    yield* goOn(passRooms, each, tailBytes)
    bytesRead += Math.max(0, each.segment.bytes - bytes)
  }
  const added = segments
    .filter(({ isNew }) => isNew)
    .map((each) => ({ ...each, sink: sinkFor(rooms, each, new Set(gone), lastKnown) }))
  if (added.length > 0) {
    const { bytesRead: ofAdded } = yield* retold(readSegments(passRooms, manifest, added), () => {})
    bytesRead += ofAdded
    for (const { entry, segment } of added)
      segment.lastSequence = Math.max(segment.lastSequence, entry.lastSequence)
  }
  forgetCopiedEnds(
    health,
    segments.map(({ segment }) => segment),
  )
  if (cuts.size > 0 || gone.some(({ liveBytes }) => liveBytes > 0)) yield* forget(rooms, gone, cuts)
  return { bytesRead, health, gone }
}

/** Forgets the entries whose records are no part of the store any more: what was deleted or has expired since. */
function* forget(
  { kernels, ledger }: CatchUpRooms,
  gone: readonly Segment[],
  cuts: ReadonlyMap<number, number>,
): Generator<void, void> {
  const slots = new Set(gone.map(({ slot }) => slot))
  const isGone = ({ segment, offset }: Place): boolean =>
    slots.has(segment) || offset >= (cuts.get(segment) ?? Number.POSITIVE_INFINITY)
  for (const _ of ledger.forget(kernels, isGone)) yield
}

/** Where segments end now that were longer, by their slots. */
function cutsOf(segments: readonly Named[]): Map<number, number> {
  const cut = segments.filter(
    ({ isNew, entry, segment }) => !isNew && entry.state !== 'active' && entry.bytes < segment.bytes,
  )
  return new Map(cut.map(({ entry, segment }) => [segment.slot, entry.bytes]))
}

function sinkFor(
  { catalog, ledger }: CatchUpRooms,
  { entry, segment }: Named,
  gone: ReadonlySet<Segment>,
  lastKnown: number,
): Sink {
  const { firstSequence, copies } = entry.header
  // The copied end of a log is read like the log: of a key it holds all that was written.
  if (copies?.isFolded !== true || firstSequence > lastKnown) return ledger
  // Of the last segment before a kill a part may be in one of these, and the end, which was copied first, in another.
  const isOfMerged = ({ segment: slot }: Place): boolean => {
    const former = catalog.at(slot)
    const overlaps = former.lastSequence >= firstSequence && former.header.firstSequence <= entry.lastSequence
    return gone.has(former) && overlaps
  }
  return new MovedSink(ledger, segment, isOfMerged, lastKnown)
}

/** Reads on in the segment that was written to. */
function* goOn(
  rooms: CatchUpRooms & { health: Health; stride: Stride },
  { entry, segment }: Named,
  tailBytes: number,
): Generator<void, void> {
  const { host, catalog, ledger, health } = rooms
  const nowMs = host.nowMs()
  const isEnded = entry.state !== 'active'
  if ((isEnded ? entry.bytes : tailBytes) > segment.bytes) {
    const file = openNamed(catalog, segment)
    if (file === undefined) return reportMissing(health, segment, segment.bytes, nowMs)
    const { bytes, certifiedBytes, records, lastSequence } = segment
    const from = { bytes, certifiedBytes, records, lastSequence }
    const fileBytes = isEnded ? undefined : tailBytes
    yield* retold(
      readRecords(rooms, segment, file, expectedOf(entry), ledger, nowMs, from, fileBytes),
      () => {},
    )
    segment.certifiedBytes = segment.bytes
  }
  if (!isEnded) return
  const { state, bytes, records, lastSequence } = entry
  Object.assign(segment, { state, bytes, certifiedBytes: bytes, records, lastSequence })
}
