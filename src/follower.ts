// Keeps a store that is open read-only up to date with what its writer writes. Until all of a refresh is there, reads
// see the store as it was before.
import { KEY_AT, KEY_BYTES_MAX } from '../assembly/layout'
import { isEqual } from './bytes'
import type { Segment } from './catalog'
import { type CatchUpRooms, catchUp, forgetGone, isSequel, type Look, type Named } from './catchup'
import { shownBytes } from './durable'
import { CaskyError, ioError, isCaskyError, systemCode, typed } from './errors'
import { FrozenLookup } from './frozen'
import { Health } from './health'
import type { FileHandle } from './host/host'
import type { Lookup } from './lookup'
import { type Manifest, readManifest } from './manifest'
import { OrderedView } from './ordered'
import { Overlay } from './overlay'
import { openNamed } from './pass'
import type { Pins, Unpin } from './pins'
import type { Reader } from './reader'
import type { Source } from './reading'
import type { Replaced } from './replaced'
import { isSameSegment } from './segment'

/** A writer may merge or rotate while its manifest is read, and what is missing then was never lost. */
const ATTEMPTS = 10

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

export interface FollowerRooms extends CatchUpRooms {
  health: Health
  pins: Pins
  reader: Reader
  replaced: Replaced
  lookup: Lookup
  manifest: Manifest
  lastSequence(): number
}

/** Reads as of when a refresh was begun. */
interface Frozen {
  lookup: FrozenLookup
  overlay: Overlay
  unpin: Unpin
}

/** A look, and the end of the log that is to be put on disk before it is shown. */
interface Sight extends Look {
  tail: { segment: Segment; file: FileHandle; bytes: number } | undefined
}

/** Bringing in what a look has found, by whoever drives it. */
interface Job {
  steps: Generator<void, RefreshReport>
  report?: RefreshReport
  error?: unknown
}

export class Follower {
  /** Where reads go. */
  readonly source: Source
  /** Counts what was brought in, so that a look knows whether it is an old one. */
  private turn = 0
  private job: Job | undefined
  private isInside = false
  private last: Promise<unknown> = Promise.resolve()
  private next: Promise<RefreshReport> | undefined
  private frozen: Frozen | undefined
  /** One has failed: the keydir is neither as it was nor as it should be, and reads see what was before. */
  private isTorn = false
  /** Segments of failed ones. */
  private strays: Segment[] = []
  /** How long the segment that is written to was when it was last looked at. */
  private seenBytes = -1
  private isClosed = false

  constructor(
    private readonly rooms: FollowerRooms,
    /** Called when there is more to see. */
    private readonly onChange: () => void,
  ) {
    const { kernels, reader, catalog } = rooms
    const live = rooms.lookup
    const now = (): Source['lookup'] => this.frozen?.lookup ?? live
    this.source = {
      kernels,
      reader,
      lookup: {
        has: (keyBytes) => now().has(keyBytes),
        expiresAtMs: (keyBytes) => now().expiresAtMs(keyBytes),
        read: (keyBytes) => {
          try {
            return now().read(keyBytes)
          } catch (error) {
            // Merged since it was last looked at: it stands elsewhere now.
            if (!isFolded(error)) throw error
            return now().read(keyBytes)
          }
        },
        get size() {
          return now().size
        },
      },
      view: (range) => {
        const entries = this.frozen?.lookup ?? rooms.ledger.keydir
        return { view: new OrderedView(entries, range, rooms.host.nowMs()), unpin: rooms.pins.pin() }
      },
    }
    catalog.onMissing = (segment) => this.missing(segment)
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
    const sight = this.look()
    if (sight === undefined) return unchanged(this.rooms)
    const { turn } = this
    const { host } = this.rooms
    const { tail } = sight
    let failure: unknown
    if (tail !== undefined) {
      await new Promise<void>((resolve) => {
        host.syncLater(tail.file, (error) => {
          failure = error
          resolve()
        })
      })
    }
    // Somebody could not wait, and has brought in this and more.
    if (this.isClosed || turn !== this.turn) {
      this.discard(sight)
      this.checkOpen()
      return unchanged(this.rooms)
    }
    const job = this.begin(sight, failure)
    while (this.advance(job)) await new Promise<void>((resolve) => host.soon(resolve))
    return resultOf(job)
  }

  /** As `refresh`, done on return. */
  refreshNow(): RefreshReport {
    this.checkOpen()
    if (this.job !== undefined) while (this.advance(this.job));
    const sight = this.look()
    if (sight === undefined) return unchanged(this.rooms)
    let failure: unknown
    try {
      if (sight.tail !== undefined) this.rooms.host.sync(sight.tail.file)
    } catch (error) {
      failure = error
    }
    const job = this.begin(sight, failure)
    while (this.advance(job));
    return resultOf(job)
  }

  /** No refresh is under way on return; throws where one has failed, and fails again. */
  settle(): void {
    if (this.frozen !== undefined) this.refreshNow()
  }

  /** Ends what is under way. */
  close(): void {
    this.isClosed = true
    this.job?.steps.return(unchanged(this.rooms))
    this.thaw()
  }

  private checkOpen(): void {
    const { directory } = this.rooms.catalog
    if (this.isClosed)
      throw new CaskyError('CASKY_CLOSED', `the store was closed: ${directory}`, { path: directory })
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
      job.error = typed('refresh the store', this.rooms.catalog.directory, error)
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
        const manifest = this.readManifest()
        if (!this.isTorn && manifest.generation === rooms.manifest.generation && !this.hasGrown())
          return undefined
        const segments = namedBy(rooms, manifest)
        const tail = this.openTail(segments)
        // Once they are open nobody takes them away.
        const isThere = segments.every(({ segment, isNew }) => !isNew || isOpen(rooms, segment))
        const sight = { manifest, segments, tailBytes: 0, tail }
        // Gone since the manifest was read, or missing.
        if (isThere || attempt === ATTEMPTS || this.readManifest().generation === manifest.generation)
          return sight
        this.discard(sight)
      }
    } catch (error) {
      throw typed('refresh the store', rooms.catalog.directory, error)
    } finally {
      this.isInside = false
    }
  }

  private readManifest(): Manifest {
    const { host, kernels, catalog, manifest } = this.rooms
    const { directory } = catalog
    const found = catalog.withHandles(() => readManifest(host, kernels, directory))
    if (found !== undefined && isEqual(found.storeId, manifest.storeId)) return found
    const what = found === undefined ? 'the store is gone' : 'another store has taken the place of this one'
    throw new CaskyError('CASKY_NOT_FOUND', `${what}; close it, and open it anew: ${directory}`, {
      path: directory,
    })
  }

  private hasGrown(): boolean {
    const { host, catalog } = this.rooms
    const last = catalog.segments.at(-1)
    return last?.state === 'active' && host.inspect(last.path)?.bytes !== this.seenBytes
  }

  /** With a handle of its own, since the catalog may close the one that it lends. */
  private openTail(segments: readonly Named[]): Sight['tail'] {
    const { host, catalog } = this.rooms
    const last = segments.at(-1)
    if (last === undefined || last.entry.state !== 'active') return undefined
    const { segment } = last
    try {
      const file = catalog.withHandles(() => host.open(segment.path, 'read'))
      return { segment, file, bytes: host.status(file).bytes }
    } catch (cause) {
      if (systemCode(cause) === 'ENOENT') return undefined
      throw ioError('open a segment', segment.path, cause)
    }
  }

  private discard({ segments, tail }: Sight): void {
    const { host, catalog } = this.rooms
    if (tail !== undefined) host.close(tail.file)
    for (const { segment, isNew } of segments) if (isNew) catalog.forget(segment)
  }

  /** `failure`: why the end of the log could not be put on disk. */
  private begin(sight: Sight, failure: unknown): Job {
    const { rooms } = this
    const { tail } = sight
    this.isInside = true
    try {
      if (tail !== undefined) {
        const { segment, file, bytes } = tail
        sight.tailBytes = shownBytes(rooms, segment, file, bytes, failure)
      }
    } catch (error) {
      this.discard({ ...sight, tail: undefined })
      throw typed('refresh the store', rooms.catalog.directory, error)
    } finally {
      this.isInside = false
      if (tail !== undefined) rooms.host.close(tail.file)
    }
    this.job = { steps: this.bring(sight) }
    return this.job
  }

  private *bring(sight: Sight): Generator<void, RefreshReport> {
    const { rooms } = this
    const { catalog } = rooms
    const before = rooms.lastSequence()
    let look: Look = sight
    let isReloaded = this.isTorn || !isSequel(rooms.manifest, look, before)
    this.begun(look)
    let caughtUp = isReloaded ? undefined : yield* catchUp(rooms, look, before)
    // What was taken back and written over reads as damage where it was known.
    isReloaded ||= caughtUp !== undefined && caughtUp.health.damage.length > 0
    if (caughtUp === undefined || isReloaded) {
      look = { ...sight, segments: namedBy(rooms, sight.manifest, true) }
      this.begun(look)
      caughtUp = yield* catchUp(rooms, look, 0)
    }
    const now = look.segments.map(({ segment }) => segment)
    const named = new Set(now)
    const gone = [...new Set([...catalog.segments, ...this.strays])].filter((segment) => !named.has(segment))
    const known = catalog.segments.filter((segment) => !named.has(segment)).length
    yield* forgetGone(rooms, gone)
    // From here on nothing can fail.
    const segmentsAdded = now.length - (catalog.segments.length - known)
    catalog.rearrange(now)
    Object.assign(rooms.manifest, look.manifest)
    rooms.health.become(
      isReloaded ? caughtUp.health : healthAfter(rooms.health, caughtUp.health, gone, sight.tail),
    )
    this.strays = []
    this.seenBytes = sight.tail?.bytes ?? -1
    this.isTorn = false
    this.turn++
    this.thaw()
    rooms.replaced.add(gone, () => {})
    const sequence = rooms.lastSequence()
    const writes = Math.max(0, sequence - before)
    const changed = writes > 0 || segmentsAdded > 0 || known > 0
    if (changed) this.onChange()
    const { bytesRead } = caughtUp
    return { changed, sequence, writes, bytesRead, segmentsAdded, segmentsReplaced: known, isReloaded }
  }

  /** From now on the keydir changes, and reads see what it was. */
  private begun({ segments }: Look): void {
    this.isTorn = true
    for (const { segment, isNew } of segments) if (isNew) this.strays.push(segment)
    if (this.frozen !== undefined) return
    const { host, ledger, lookup, pins } = this.rooms
    const overlay = new Overlay()
    ledger.overlays.push(overlay)
    const frozen = new FrozenLookup(this.rooms, overlay, () => host.nowMs(), lookup.size)
    this.frozen = { lookup: frozen, overlay, unpin: pins.pin() }
  }

  private thaw(): void {
    if (this.frozen === undefined) return
    const { overlay, unpin } = this.frozen
    const { overlays } = this.rooms.ledger
    this.frozen = undefined
    overlays.splice(overlays.indexOf(overlay), 1)
    unpin()
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

function isFolded(error: unknown): boolean {
  return isCaskyError(error) && error.code === 'CASKY_FOLDED'
}

function resultOf({ report, error }: Job): RefreshReport {
  if (report !== undefined) return report
  throw error
}

/** The segments of a manifest: those that are known as they are, unless all are to be read anew. */
function namedBy({ catalog }: FollowerRooms, manifest: Manifest, isAnew = false): Named[] {
  const known = new Map(isAnew ? [] : catalog.segments.map((segment) => [segment.header.id, segment]))
  return manifest.segments.map((entry) => {
    const segment = known.get(entry.header.id)
    const isKnown = segment !== undefined && isSameSegment(segment.header, entry.header)
    return isKnown ? { entry, segment, isNew: false } : { entry, segment: catalog.give(entry), isNew: true }
  })
}

function isOpen({ catalog }: FollowerRooms, segment: Segment): boolean {
  return openNamed(catalog, segment) !== undefined
}

/** What was found before stands, but for segments that are gone; where the log ends is another place now. */
function healthAfter(before: Health, found: Health, gone: readonly Segment[], tail: Sight['tail']): Health {
  const paths = new Set([...gone, ...(tail === undefined ? [] : [tail.segment])].map(({ path }) => path))
  const isGone = new Set(gone.map(({ path }) => path))
  const now = new Health()
  for (const damage of before.damage) if (!isGone.has(damage.path)) now.addDamage(damage)
  for (const torn of before.tornTails) if (!paths.has(torn.path)) now.addTornTail(torn)
  for (const torn of found.tornTails) now.addTornTail(torn)
  return now
}
