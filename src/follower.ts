// Keeps a store that is open read-only up to date with what its writer writes. Until all of a refresh is there, reads
// see the store as it was before.
import { KEY_AT, KEY_BYTES_MAX } from '../assembly/layout'
import { isEqual } from './bytes'
import type { Segment } from './catalog'
import { type CatchUpRooms, type CaughtUp, catchUp, isSequel, type Look, type Named } from './catchup'
import { CaskyError, typed } from './errors'
import { join, MANIFEST } from './files'
import { FollowerReads, type ReadRooms } from './follower-reads'
import { Health } from './health'
import { decodeManifest, type Manifest, readManifestBytes } from './manifest'
import type { Pace } from './pace'
import { openNamed } from './pass'
import type { Source } from './reading'
import type { Replaced } from './replaced'
import { isSameSegment } from './segment'
import type { View } from './snapshot'
import { Tail } from './tail'

/** A writer may merge while its manifest is read, again and again; what is missing then was never lost. */
const ATTEMPTS = 20

/** What a refresh has brought. */
export interface RefreshReport {
  /** Whether there was anything new, merges included. */
  changed: boolean
  /** The sequence number of the last write that is shown now. */
  sequence: number
  /** Puts and deletes that are new, also those of which a merge has left nothing. */
  writes: number
  /** Read of segments and hints. */
  bytesRead: number
  segmentsAdded: number
  /** Segments that the store has no more: they were merged. */
  segmentsReplaced: number
  /** Whether all of it was read anew, since it does not go on from what was known: a repair, or a restored copy. */
  isReloaded: boolean
}

export interface FollowerRooms extends CatchUpRooms, ReadRooms {
  health: Health
  replaced: Replaced
  manifest: Manifest
  pace(maxBytesPerSecond: number): Pace
  /** The sequence number of the last write that can be seen. */
  lastSequence(): number
}

interface Sight extends Look {
  /** The manifest as it lies on disk. */
  bytes: Uint8Array
  /** Whether all is read anew. */
  isAnew: boolean
  tail: Tail | undefined
}

/** Bringing in what a look has found, by whoever drives it; no report where it has to be looked at again. */
interface Job {
  steps: Generator<void, RefreshReport | undefined>
  report?: RefreshReport | undefined
  error?: unknown
}

export class Follower {
  private readonly reads: FollowerReads
  /** Counts the changes of what reads see, or would. */
  private turn = 0
  private job: Job | undefined
  private isInside = false
  private last: Promise<unknown> = Promise.resolve()
  private next: Promise<RefreshReport> | undefined
  private report: RefreshReport | undefined
  /** One was begun and has not succeeded: the keydir is neither as it was nor as it should be. */
  private isTorn = false
  /** Segments of those that have failed. */
  private strays: Segment[] = []
  private manifestBytes: Uint8Array | undefined
  private tail: Tail | undefined
  private sequence: number
  private isClosed = false

  constructor(
    private readonly rooms: FollowerRooms,
    /** Called when there is more to see. */
    private readonly onChange: () => void,
  ) {
    this.sequence = rooms.lastSequence()
    rooms.lastSequence = () => this.sequence
    rooms.catalog.onMissing = (segment) => this.missing(segment)
    this.reads = new FollowerReads(rooms, () => this.turn)
  }

  /** Where reads go. */
  get source(): Source {
    return this.reads.source
  }

  /** What reads see; undefined where that is the keydir as it is. */
  get seen(): View | undefined {
    return this.reads.seen
  }

  /** Resolves once all that was written and on disk at the call can be seen. */
  refresh(): Promise<RefreshReport> {
    this.next ??= this.last.then(() => {
      this.next = undefined
      return this.run()
    })
    this.last = this.next.catch(() => {})
    return this.next
  }

  private async run(): Promise<RefreshReport> {
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      const sight = this.look()
      if (sight === undefined) return unchanged(this.rooms)
      const { turn } = this
      try {
        await new Promise<void>((resolve, reject) => {
          if (sight.tail === undefined) return resolve()
          sight.tail.secureLater((shown, error) => {
            sight.tailBytes = shown ?? 0
            if (error === undefined) resolve()
            else reject(error)
          })
        })
        this.checkOpen()
      } catch (error) {
        this.discard(sight)
        throw this.typed(error)
      }
      // Somebody could not wait, and has brought in this and more.
      if (turn !== this.turn) {
        this.discard(sight)
        if (this.report !== undefined && !this.isTorn) return this.report
        continue
      }
      const job = this.begin(sight)
      const pace = this.rooms.pace(0)
      while (this.advance(job)) if (pace.isDue) await pace.rest()
      const report = resultOf(job)
      if (report !== undefined) return report
    }
    throw this.tooBusy()
  }

  /** As `refresh`, done on return. */
  refreshNow(): RefreshReport {
    this.checkOpen()
    if (this.job !== undefined) while (this.advance(this.job));
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      const sight = this.look()
      if (sight === undefined) return unchanged(this.rooms)
      try {
        if (sight.tail !== undefined) sight.tailBytes = sight.tail.secure()
      } catch (error) {
        this.discard(sight)
        throw this.typed(error)
      }
      const job = this.begin(sight)
      while (this.advance(job));
      const report = resultOf(job)
      if (report !== undefined) return report
    }
    throw this.tooBusy()
  }

  /** Ends what is under way. */
  close(): void {
    this.isClosed = true
    const { job } = this
    this.job = undefined
    if (job !== undefined) job.error = this.closed()
    job?.steps.return(undefined)
    this.tail?.leave()
    this.tail = undefined
    this.reads.thaw()
  }

  private closed(): CaskyError {
    const { directory } = this.rooms.catalog
    return new CaskyError('CASKY_CLOSED', `the store was closed: ${directory}`, { path: directory })
  }

  private tooBusy(): CaskyError {
    const { directory } = this.rooms.catalog
    const message = `the writer merges faster than this can be read; try again: ${directory}`
    return new CaskyError('CASKY_IO', message, { path: directory })
  }

  private typed(error: unknown): unknown {
    return typed('refresh the store', this.rooms.catalog.directory, error)
  }

  private checkOpen(): void {
    if (this.isClosed) throw this.closed()
  }

  /** One step; false where it was the last. */
  private advance(job: Job): boolean {
    if (this.job !== job) return false
    this.isInside = true
    try {
      const step = job.steps.next()
      if (step.done !== true) return true
      job.report = step.value
    } catch (error) {
      job.error = this.typed(error)
    } finally {
      this.isInside = false
    }
    this.job = undefined
    return false
  }

  /** What there is to see; undefined where that is what is seen. */
  private look(): Sight | undefined {
    this.checkOpen()
    const { rooms } = this
    this.isInside = true
    try {
      for (let attempt = 1; ; attempt++) {
        const bytes = this.readManifest()
        if (!this.isTorn && this.isKnown(bytes) && !this.hasGrown()) return undefined
        const sight = this.sightOf(bytes)
        try {
          // Once they are open nobody takes them away.
          const isThere = sight.segments.every(
            ({ segment }) => openNamed(rooms.catalog, segment) !== undefined,
          )
          if (isThere || attempt === ATTEMPTS) return sight
          // Gone since the manifest was read; or missing, unless it only looked so.
          if (isEqual(this.readManifest(), bytes) && rooms.catalog.strangers?.trust() !== true) return sight
        } catch (error) {
          this.discard(sight)
          throw error
        }
        this.discard(sight)
      }
    } catch (error) {
      throw this.typed(error)
    } finally {
      this.isInside = false
    }
  }

  private readManifest(): Uint8Array {
    const { host, catalog } = this.rooms
    const found = catalog.withHandles(() => readManifestBytes(host, catalog.directory))
    if (found !== undefined) return found
    throw this.notFound('the store is gone')
  }

  private notFound(what: string): CaskyError {
    const { directory } = this.rooms.catalog
    return new CaskyError('CASKY_NOT_FOUND', `${what}; close it, and open it anew: ${directory}`, {
      path: directory,
    })
  }

  private isKnown(bytes: Uint8Array): boolean {
    return this.manifestBytes !== undefined && isEqual(bytes, this.manifestBytes)
  }

  private hasGrown(): boolean {
    const last = this.rooms.catalog.segments.at(-1)
    return last?.state === 'active' && this.tail?.hasChanged !== false
  }

  private sightOf(bytes: Uint8Array): Sight {
    const { rooms } = this
    const manifest = decodeManifest(rooms.kernels, bytes, join(rooms.catalog.directory, MANIFEST))
    if (!isEqual(manifest.storeId, rooms.manifest.storeId))
      throw this.notFound('another store has taken the place of this one')
    if (!this.isTorn) {
      const sight = this.seeing(manifest, bytes, false)
      let goesOn = false
      try {
        goesOn = this.goesOn(sight)
      } finally {
        if (!goesOn) this.discard(sight)
      }
      if (goesOn) return sight
    }
    return this.seeing(manifest, bytes, true)
  }

  private seeing(manifest: Manifest, bytes: Uint8Array, isAnew: boolean): Sight {
    const segments = namedBy(this.rooms, manifest, isAnew)
    const sight: Sight = { manifest, segments, tailBytes: 0, bytes, isAnew, tail: undefined }
    try {
      sight.tail = this.tailOf(segments)
      sight.tailBytes = sight.tail?.fileBytes ?? 0
    } catch (error) {
      this.discard(sight)
      throw error
    }
    return sight
  }

  private tailOf(segments: readonly Named[]): Tail | undefined {
    const { rooms, tail } = this
    const last = segments.at(-1)
    if (last === undefined || last.entry.state !== 'active') return undefined
    const isSame = tail !== undefined && tail.segment === last.segment
    return isSame ? tail : rooms.catalog.withHandles(() => Tail.of(rooms.host, last.segment))
  }

  private goesOn(sight: Sight): boolean {
    const { rooms, tail, sequence } = this
    if (!isSequel({ ...rooms, lastSequence: sequence }, sight)) return false
    const known = sight.segments.find(({ segment }) => segment === tail?.segment)
    if (tail === undefined || known === undefined) return true
    const { state, bytes } = known.entry
    return tail.isAsKnown(state === 'active' ? Number.POSITIVE_INFINITY : bytes)
  }

  private discard({ segments, tail }: Sight): void {
    if (tail !== this.tail) tail?.leave()
    for (const { segment, isNew } of segments) if (isNew) this.rooms.catalog.forget(segment)
  }

  private begin(sight: Sight): Job {
    this.turn++
    this.job = { steps: this.bring(sight) }
    this.isTorn = true
    for (const { segment, isNew } of sight.segments) if (isNew) this.strays.push(segment)
    this.reads.freeze()
    return this.job
  }

  private *bring(sight: Sight): Generator<void, RefreshReport | undefined> {
    const { rooms, strays } = this
    const { bytes, isAnew } = sight
    let isDone = false
    try {
      const caughtUp = yield* catchUp(rooms, sight, strays, isAnew ? 0 : this.sequence)
      const isDamaged = caughtUp.health.damage.length > 0
      // It may only look so: what was known may have been written over, or the writer has merged what was to be read.
      if (isDamaged && (!isAnew || !isEqual(this.readManifest(), bytes))) return undefined
      isDone = true
      return this.adopt(sight, caughtUp)
    } finally {
      if (!isDone && sight.tail !== this.tail) sight.tail?.leave()
    }
  }

  /** From here on reads see it. */
  private adopt(sight: Sight, { bytesRead, health, gone }: CaughtUp): RefreshReport {
    const { rooms } = this
    const { catalog } = rooms
    const { manifest, isAnew } = sight
    const now = sight.segments.map(({ segment }) => segment)
    const isNamed = new Set(now)
    const segmentsReplaced = catalog.segments.filter((segment) => !isNamed.has(segment)).length
    const segmentsAdded = now.length - (catalog.segments.length - segmentsReplaced)
    catalog.rearrange(now)
    rooms.health.become(isAnew ? health : healthAfter(rooms.health, health, now, sight.tail?.segment))
    Object.assign(rooms.manifest, manifest)
    this.manifestBytes = sight.bytes
    if (this.tail !== sight.tail) this.tail?.leave()
    this.tail = sight.tail
    this.rememberTail()
    const before = this.sequence
    this.sequence = catalog.lastSequence
    this.strays = []
    this.isTorn = false
    this.turn++
    this.reads.thaw()
    rooms.replaced.add(gone, () => {})
    const writes = Math.max(0, this.sequence - before)
    const changed = isAnew || writes > 0 || segmentsAdded > 0 || segmentsReplaced > 0
    const report = { changed, sequence: this.sequence, writes, bytesRead, segmentsAdded, segmentsReplaced }
    this.report = { ...report, isReloaded: isAnew }
    if (changed) this.onChange()
    return this.report
  }

  private rememberTail(): void {
    try {
      this.tail?.remember()
    } catch {
      // It is read anew, then.
      this.tail?.leave()
      this.tail = undefined
    }
  }

  /** A segment's file is gone: throws where that is because its writer has merged it. */
  private missing(segment: Segment): void {
    if (this.isInside || this.isClosed) return
    const { kernels, catalog } = this.rooms
    const key = kernels.bytes.slice(KEY_AT, KEY_AT + KEY_BYTES_MAX)
    this.refreshNow()
    kernels.bytes.set(key, KEY_AT)
    if (catalog.segments.includes(segment)) return
    throw new CaskyError(
      'CASKY_FOLDED',
      `another process has merged what this was still to read; begin it anew: ${segment.path}`,
      { path: segment.path },
    )
  }
}

export function unchanged({ lastSequence }: Pick<FollowerRooms, 'lastSequence'>): RefreshReport {
  const nothing = { writes: 0, bytesRead: 0, segmentsAdded: 0, segmentsReplaced: 0 }
  return { changed: false, sequence: lastSequence(), ...nothing, isReloaded: false }
}

function resultOf({ report, error }: Job): RefreshReport | undefined {
  if (error === undefined) return report
  throw error
}

/** The segments of a manifest: those that are known as they are, unless all are to be read anew. */
function namedBy({ catalog }: FollowerRooms, manifest: Manifest, isAnew: boolean): Named[] {
  const known = new Map(isAnew ? [] : catalog.segments.map((segment) => [segment.header.id, segment]))
  return manifest.segments.map((entry) => {
    const segment = known.get(entry.header.id)
    const isKnown = segment !== undefined && isSameSegment(segment.header, entry.header)
    return isKnown ? { entry, segment, isNew: false } : { entry, segment: catalog.give(entry), isNew: true }
  })
}

/** What was found in a segment stands as long as it does; where the log ends is another place now. */
function healthAfter(
  before: Health,
  found: Health,
  segments: readonly Segment[],
  tail: Segment | undefined,
): Health {
  const paths = new Set(segments.map(({ path }) => path))
  const damage = [...before.damage, ...found.damage].filter(({ path }) => paths.has(path))
  const tornTails = before.tornTails.filter(({ path }) => paths.has(path) && path !== tail?.path)
  return Health.of(damage, [...tornTails, ...found.tornTails])
}
