// One backup of an open store, while reads, writes and merges go on. It is there once its description is, and that comes
// last: everything before it is on disk by then, and was read back.
import { checkSegments } from '../check'
import { CaskyError } from '../errors'
import { Kernels } from '../kernels'
import type { ManifestEntry } from '../manifest'
import { makeDirectories, type Rooms } from '../open'
import { STRIDE } from '../pass'
import { inTurns } from '../steps'
import { type Description, notAsDescribed, publishDescription, writeDescription } from './description'
import type { Job } from './job'
import { type Fault, type Proof, prove } from './proof'
import { type CutSegment, Shelf } from './shelf'
import { Transfer, type TransferCounts } from './transfer'
import { syncWayTo } from './way'

export interface BackupProgress {
  /** `verify`: what was brought is read back. */
  phase: 'backup' | 'verify'
  bytesDone: number
  bytesTotal: number
}

export interface BackupReport {
  /** Of the last write that is in it: `restore` takes it, and so does the `since` of the next one. */
  sequence: number
  /** The one that it was added to. */
  since: number | undefined
  takenAtMs: number
  entries: number
  segments: number
  /** How the bytes of its segments came to be there. */
  bytesLinked: number
  bytesCloned: number
  bytesCopied: number
  bytesReused: number
  durationMs: number
  /** For so long it held up the event loop at most. */
  longestSliceMs: number
}

export interface BackupCall {
  since: number | 'latest' | undefined
  maxBytesPerSecond: number
  onProgress: ((progress: BackupProgress) => void) | undefined
  signal: AbortSignal | undefined
}

/** The store as it was at one moment. */
type Cut = Omit<Description, 'since' | 'entries' | 'segments'> & {
  segments: CutSegment[]
  /** Those that never expire. */
  lastingEntries: number
}

export class Backup {
  private readonly kernels = new Kernels()
  private readonly shelf: Shelf
  private readonly startedMs: number

  constructor(
    private readonly rooms: Rooms,
    private readonly job: Job,
    private readonly directory: string,
    private readonly call: BackupCall,
  ) {
    this.shelf = new Shelf(job, this.kernels, directory)
    this.startedMs = rooms.host.clockMs()
  }

  async run(): Promise<BackupReport> {
    const { job, rooms, shelf } = this
    const since = await shelf.open(this.call.since, rooms.manifest.storeId)
    const { writer } = this.writing()
    // What comes before the cut is on disk then, and what comes between is little.
    await job.wait((done) => writer.certify().then(() => done(null), done))
    const unpin = rooms.pins.pin()
    try {
      const cut = this.cut()
      shelf.checkHistory(
        cut.segments.map(({ entry }) => entry),
        cut.sequence,
      )
      const known = shelf.descriptions.get(cut.sequence)
      if (known !== undefined) return await this.proveAgain(known)
      await job.rest()
      makeDirectories(rooms.host, this.directory)
      await shelf.removeLeftovers()
      const transfer = await this.bring(cut)
      // Those that a merge has replaced may go.
      unpin()
      await job.wait((done) => writer.flush().then(() => done(null), done))
      const description = await this.describe(cut, since)
      await this.publish(description)
      return this.report(description, transfer.counts)
    } catch (error) {
      await shelf.discard()
      throw error
    } finally {
      unpin()
    }
  }

  private writing(): NonNullable<Rooms['writing']> {
    const { writing, catalog } = this.rooms
    if (writing !== undefined) return writing
    const path = catalog.directory
    throw new CaskyError('CASKY_READ_ONLY', `only who writes to a store can back it up: ${path}`, { path })
  }

  /** The state after all writes so far. */
  private cut(): Cut {
    const { catalog, health, host, ledger, manifest } = this.rooms
    this.writing().writer.tryCommit()
    if (health.poisoned !== undefined) throw health.poisoned
    const [damage] = health.damage
    if (damage !== undefined) throw damaged(damage.path, damage.offset, damage.reason)
    const { segments: _, ...rest } = manifest
    return {
      sequence: this.rooms.lastSequence(),
      takenAtMs: host.nowMs(),
      lastingEntries: ledger.keydir.lastingCount,
      manifest: rest,
      segments: catalog.segments.map(({ path, header, state, bytes, records, lastSequence }) => ({
        path,
        isFinal: state !== 'active',
        entry: { header, state: state === 'active' ? 'closed' : state, bytes, records, lastSequence },
      })),
    }
  }

  private async bring(cut: Cut): Promise<Transfer> {
    const { directory, job, shelf } = this
    const entries = cut.segments.map(({ entry }) => entry)
    const remedy = 'run `casky repair` on the store first'
    const onBytes = this.progress('backup', entries)
    const transfer = new Transfer(job, directory, true, remedy, shelf.missingBytesOf(entries), onBytes)
    for (const segment of cut.segments) {
      await shelf.take(transfer, segment)
      await job.rest()
    }
    await job.syncDirectory(directory)
    await syncWayTo(job, directory)
    return transfer
  }

  private progress(phase: BackupProgress['phase'], entries: ManifestEntry[]): (bytes: number) => void {
    const { onProgress } = this.call
    const bytesTotal = bytesOf(entries)
    let bytesDone = 0
    onProgress?.({ phase, bytesDone, bytesTotal })
    return (bytes) => {
      bytesDone += bytes
      onProgress?.({ phase, bytesDone, bytesTotal })
    }
  }

  private async prove(entries: ManifestEntry[], takenAtMs: number): Promise<Proof> {
    const exhibits = entries.map((entry) => ({ path: this.shelf.pathOf(entry.header.id), entry }))
    const onBytes = this.progress('verify', entries)
    const proof = await prove(this.job, this.kernels, exhibits, takenAtMs, onBytes)
    if ('reason' in proof) throw await this.blame(proof)
    return proof
  }

  /** Nothing was written since a backup was made. */
  private async proveAgain(known: Description): Promise<BackupReport> {
    const { segments, entries, takenAtMs } = known
    const proof = await this.prove(segments, takenAtMs)
    const at = segments.findIndex(({ crc }, i) => crc !== proof.crcs[i])
    if (at >= 0 || proof.entries !== entries) {
      const path = at < 0 ? this.directory : this.shelf.pathOf(segments[at].header.id)
      throw notAsDescribed(path)
    }
    return this.report(known, { bytesLinked: 0, bytesCloned: 0, bytesCopied: 0 }, bytesOf(segments))
  }

  /** Reads back what there is now, and compares it with what the store held. */
  private async describe(cut: Cut, since: number | undefined): Promise<Description> {
    const { sequence, takenAtMs, manifest } = cut
    const made = cut.segments.map(({ entry }) => entry)
    const proof = await this.prove(made, takenAtMs)
    this.compare(cut, proof)
    const segments = made.map((entry, i) => ({ ...entry, crc: proof.crcs[i] }))
    return { sequence, since, takenAtMs, entries: proof.entries, manifest, segments }
  }

  private compare({ lastingEntries }: Cut, proof: Proof): void {
    if (proof.lastingEntries === lastingEntries) return
    throw new CaskyError(
      'CASKY_CORRUPT',
      `the backup holds ${proof.lastingEntries} entries that never expire where the store has ${lastingEntries}, so it was given up; reopen the store and run \`casky check\` on it: ${this.directory}`,
      { path: this.directory, expected: lastingEntries, got: proof.lastingEntries },
    )
  }

  /** Whether it is the store that is damaged, or what was brought out of it. */
  private async blame({ exhibit, offset, reason }: Fault): Promise<CaskyError> {
    const { catalog, health, host } = this.rooms
    const segment = catalog.segments.find(({ header }) => header.id === exhibit.entry.header.id)
    if (segment !== undefined) {
      const rooms = { host, kernels: this.kernels, health, stride: STRIDE }
      await inTurns(checkSegments(rooms, catalog, [segment]), host.soon)
      this.job.check()
      const found = health.damage.find(({ path }) => path === segment.path)
      if (found !== undefined) return damaged(found.path, found.offset, found.reason)
    }
    const { path } = exhibit
    return new CaskyError(
      'CASKY_CORRUPT',
      `a segment of this backup is damaged, and the store is not; make a full backup in a directory of its own: ${reason}, at byte ${offset} of ${path}`,
      { path, offset },
    )
  }

  private async publish(description: Description): Promise<void> {
    const { directory, job, shelf } = this
    await writeDescription(job, this.kernels, directory, description)
    shelf.settle()
    await publishDescription(job, directory, description.sequence)
  }

  private report(
    { sequence, since, takenAtMs, entries, segments }: Description,
    counts: TransferCounts,
    bytesReused = this.shelf.bytesReused,
  ): BackupReport {
    const { host } = this.rooms
    const { pace } = this.job
    pace.endSlice()
    return {
      sequence,
      since,
      takenAtMs,
      entries,
      segments: segments.length,
      ...counts,
      bytesReused,
      durationMs: host.clockMs() - this.startedMs,
      longestSliceMs: pace.longestSliceMs,
    }
  }
}

function bytesOf(entries: readonly ManifestEntry[]): number {
  return entries.reduce((sum, { bytes }) => sum + bytes, 0)
}

function damaged(path: string, offset: number, reason: string): CaskyError {
  return new CaskyError(
    'CASKY_CORRUPT',
    `the store is damaged, and a backup would pass that on; run \`casky repair\` on the store first: ${reason}, at byte ${offset} of ${path}`,
    { path, offset },
  )
}
