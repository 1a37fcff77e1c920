// One step of a follower: from the segments as it knows them to those that a newer manifest names. What is known is not
// read again.
import type { Catalog, Segment } from './catalog'
import { Health } from './health'
import type { Host } from './host/host'
import type { Kernels } from './kernels'
import type { Ledger } from './ledger'
import type { Manifest, ManifestEntry } from './manifest'
import { MovedSink } from './moved'
import { expectedOf, forgetCopiedEnds, openNamed, readRecords, reportMissing } from './pass'
import { readSegments } from './recovery'

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

export interface CaughtUp {
  bytesRead: number
  health: Health
}

/** Whether what is known is a beginning of what there is. */
export function isSequel(known: Manifest, look: Look, lastKnown: number): boolean {
  if (look.manifest.generation < known.generation) return false
  return look.segments.every(({ entry, segment, isNew }) => {
    const { header } = entry
    if (isNew) return header.copies !== undefined || header.firstSequence > lastKnown
    const bytes = entry.state === 'active' ? look.tailBytes : entry.bytes
    // What was refused after all, or was copied elsewhere, has been shown.
    return bytes >= segment.bytes
  })
}

/** Reads what is new of it, in the order of the log. */
export function* catchUp(rooms: CatchUpRooms, look: Look, lastKnown: number): Generator<void, CaughtUp> {
  const { catalog, ledger } = rooms
  const { manifest, segments, tailBytes } = look
  const health = new Health()
  const passRooms = { ...rooms, health, lengthOf: () => tailBytes }
  const named = new Set(segments.map(({ segment }) => segment))
  const replaced = new Set(catalog.segments.filter((segment) => !named.has(segment)))
  let bytesRead = 0
  for (const { entry, segment, isNew } of segments) {
    if (isNew || segment.state !== 'active') continue
    const from = segment.bytes
    yield* goOn(passRooms, segment, entry, tailBytes)
    bytesRead += segment.bytes - from
  }
  const added = segments
    .filter(({ isNew }) => isNew)
    .map(({ entry, segment }) => {
      const isCopy = entry.header.copies !== undefined && entry.header.firstSequence <= lastKnown
      const sink = isCopy ? new MovedSink(ledger, catalog, segment, entry, replaced, lastKnown) : ledger
      return { entry, segment, sink }
    })
  if (added.length > 0) {
    const steps = readSegments(passRooms, manifest, added)
    for (;;) {
      const step = steps.next()
      if (step.done === true) {
        bytesRead += step.value.bytesRead
        break
      }
      yield
    }
    for (const { entry, segment } of added)
      segment.lastSequence = Math.max(segment.lastSequence, entry.lastSequence)
  }
  forgetCopiedEnds(
    health,
    segments.map(({ segment }) => segment),
  )
  return { bytesRead, health }
}

/** Reads on in the segment that was written to. */
function* goOn(
  rooms: CatchUpRooms & { health: Health },
  segment: Segment,
  entry: ManifestEntry,
  tailBytes: number,
): Generator<void, void> {
  const { host, catalog, ledger, health } = rooms
  const nowMs = host.nowMs()
  const isEnded = entry.state !== 'active'
  if (isEnded || tailBytes > segment.bytes) {
    const file = openNamed(catalog, segment)
    if (file === undefined) return reportMissing(health, segment, segment.bytes, nowMs)
    const { bytes, certifiedBytes, records, lastSequence } = segment
    const from = { bytes, certifiedBytes, records, lastSequence }
    const fileBytes = isEnded ? undefined : tailBytes
    const steps = readRecords(rooms, segment, file, expectedOf(entry), ledger, nowMs, from, fileBytes)
    for (const _ of steps) yield
    segment.certifiedBytes = segment.bytes
  }
  if (isEnded) {
    segment.state = entry.state
    segment.records = entry.records
  }
}

/** Forgets the entries whose records are gone with their segments: what was deleted or has expired since. */
export function* forgetGone(
  { kernels, ledger }: CatchUpRooms,
  gone: readonly Segment[],
): Generator<void, void> {
  if (gone.every(({ liveBytes }) => liveBytes === 0)) return
  const slots = new Set(gone.map(({ slot }) => slot))
  let parts = 0
  for (const _ of ledger.forget(kernels, ({ segment }) => slots.has(segment))) {
    if (++parts % PARTS_AT_ONCE === 0) yield
  }
}

/** Parts of the keydir between two looks at the event loop. */
const PARTS_AT_ONCE = 64
