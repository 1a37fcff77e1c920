// Makes a store of a backup, in a directory of its own. There is a store once the manifest is, and that comes last, when
// everything it names is on disk and was read back.
import { isEqual } from '../bytes'
import { CaskyError, ioError, isCaskyError, typed } from '../errors'
import { backupName, join, keptName, MANIFEST, RESTORING, restoringName, segmentName } from '../files'
import type { Host } from '../host/host'
import { tryRemove } from '../io'
import { Kernels } from '../kernels'
import {
  discardNext,
  encodeManifest,
  type Manifest,
  readManifest,
  renameNext,
  unknownManifest,
  writeNext,
} from '../manifest'
import { Pace } from '../pace'
import { type Description, notAsDescribed } from './description'
import { Job } from './job'
import { type Exhibit, type Fault, prove } from './proof'
import { checkTarget, descriptionOf, isOfRestore } from './target'
import { Transfer } from './transfer'
import { syncWayTo } from './way'

export interface RestoreProgress {
  /** `verify`: what was brought is read back. */
  phase: 'restore' | 'verify'
  bytesDone: number
  bytesTotal: number
}

export interface RestoreReport {
  /** Of the last write in the store. */
  sequence: number
  /** When the backup was made. */
  takenAtMs: number
  /** How many there were then, of those that had not expired. */
  entries: number
  segments: number
  /** How its bytes came to be there. */
  bytesCloned: number
  bytesCopied: number
  durationMs: number
  /** For so long it held up the event loop at most. */
  longestSliceMs: number
}

export interface RestoreCall {
  sequence: number | undefined
  onProgress: ((progress: RestoreProgress) => void) | undefined
  signal: AbortSignal | undefined
}

export class Restore {
  private readonly kernels = new Kernels()
  private readonly job: Job
  private readonly description: Description
  private readonly manifest: Manifest
  /** There is a store from then on. */
  private isPublished = false

  /** Both directories as absolute paths. Changes nothing. */
  constructor(
    private readonly host: Host,
    private readonly from: string,
    private readonly target: string,
    private readonly call: RestoreCall,
  ) {
    this.job = new Job(host, new Pace(host, 0), () => this.checkSignal())
    this.description = descriptionOf(host, this.kernels, from, call.sequence)
    const { manifest, segments } = this.description
    this.manifest = { ...manifest, segments }
    checkTarget(host, target)
  }

  private checkSignal(): void {
    const { signal } = this.call
    if (signal?.aborted !== true) return
    throw new CaskyError('CASKY_ABORTED', 'the restore was aborted by its signal; nothing of it was kept', {
      path: this.target,
      cause: signal.reason,
    })
  }

  /** With the right to write to the target, which is there. */
  async run(): Promise<RestoreReport> {
    const { host, job, target, description } = this
    const startedMs = host.clockMs()
    // Others ran while the lock was waited for, and may now.
    job.pace.beginSlice()
    await job.pace.rest()
    this.checkSignal()
    checkTarget(host, target)
    try {
      await this.removeOwn()
      job.check()
      await this.begin()
      const transfer = await this.bring()
      await this.prove()
      await this.nameSegments()
      await this.writeManifest()
      await this.publish()
      const { bytesCloned, bytesCopied } = transfer.counts
      const { sequence, takenAtMs, entries, segments } = description
      job.pace.endSlice()
      const { longestSliceMs } = job.pace
      const durationMs = host.clockMs() - startedMs
      const done = { sequence, takenAtMs, entries, segments: segments.length }
      return { ...done, bytesCloned, bytesCopied, durationMs, longestSliceMs }
    } catch (error) {
      const isUnknown = isCaskyError(error) && error.code === 'CASKY_POISONED'
      if (!this.isPublished && !isUnknown) await this.takeBack()
      throw typed('restore a backup', target, error)
    } finally {
      job.stop()
    }
  }

  /** What an interrupted restore has left; its mark goes last. */
  private async removeOwn(): Promise<void> {
    const { host, job, target } = this
    const names = host.list(target).filter((name) => isOfRestore(name) && name !== RESTORING)
    for (const name of names) {
      const path = join(target, name)
      try {
        await job.pace.wait((done) => host.removeLater(path, done))
      } catch (cause) {
        throw ioError('remove what an interrupted restore left', path, cause)
      }
    }
  }

  private async takeBack(): Promise<void> {
    try {
      await this.removeOwn()
      tryRemove(this.host, join(this.target, RESTORING))
    } catch {
      // Its mark tells the next restore that what is left may go.
    }
  }

  /** From here on the directory says what is going on in it. */
  private async begin(): Promise<void> {
    const { description, from, job, target } = this
    const text = `A backup is being restored here: ${JSON.stringify({ from, sequence: description.sequence })}\nIf that was interrupted, restore it again.\n`
    await job.writeFile(join(target, RESTORING), new TextEncoder().encode(text))
    await job.syncDirectory(target)
    await syncWayTo(job, target)
  }

  private get bytesTotal(): number {
    return this.description.segments.reduce((sum, { bytes }) => sum + bytes, 0)
  }

  private progress(phase: RestoreProgress['phase']): (bytes: number) => void {
    const { onProgress } = this.call
    const { bytesTotal } = this
    let bytesDone = 0
    onProgress?.({ phase, bytesDone, bytesTotal })
    return (bytes) => {
      bytesDone += bytes
      onProgress?.({ phase, bytesDone, bytesTotal })
    }
  }

  private async bring(): Promise<Transfer> {
    const { description, from, job, target } = this
    // A second name would have the store and the backup share what they hold.
    const remedy = 'the backup is damaged: restore another one'
    const transfer = new Transfer(job, target, false, remedy, this.bytesTotal, this.progress('restore'))
    for (const { header, bytes } of description.segments) {
      const path = join(target, restoringName(header.id))
      await transfer.make(join(from, keptName(header.id)), path, bytes, false)
      await job.rest()
    }
    return transfer
  }

  private exhibits(directory: string, nameOf: (id: number) => string): Exhibit[] {
    const { segments } = this.description
    return segments.map((entry) => ({ path: join(directory, nameOf(entry.header.id)), entry }))
  }

  /** What was brought is what the store held. */
  private async prove(): Promise<void> {
    const { description, job, target, from } = this
    const exhibits = this.exhibits(target, restoringName)
    const proof = await prove(job, this.kernels, exhibits, description.takenAtMs, this.progress('verify'))
    if ('reason' in proof) throw await this.blame(proof, exhibits.indexOf(proof.exhibit))
    const at = description.segments.findIndex(({ crc }, i) => crc !== proof.crcs[i])
    if (at >= 0) throw notAsDescribed(this.exhibits(from, keptName)[at].path)
    if (proof.entries === description.entries && this.lastSequence() === description.sequence) return
    throw notAsDescribed(join(from, backupName(description.sequence)))
  }

  /** As opening counts it. */
  private lastSequence(): number {
    return this.description.segments.reduce(
      (last, { header, lastSequence }) => Math.max(last, lastSequence, header.firstSequence - 1),
      0,
    )
  }

  /** Whether it is the backup that is damaged, or what was made of it. */
  private async blame({ offset, reason, exhibit }: Fault, at: number): Promise<CaskyError> {
    const kept = this.exhibits(this.from, keptName)[at]
    const found = await prove(this.job, this.kernels, [kept], this.description.takenAtMs, () => {})
    const isKeptSound = !('reason' in found)
    const place = isKeptSound ? { path: exhibit.path, offset, reason } : { ...found, path: kept.path }
    const what = isKeptSound
      ? 'what was restored does not read back as it was written, so nothing was kept of it; look at the disk'
      : 'the backup is damaged, so nothing was restored; restore another one'
    return new CaskyError(
      'CASKY_CORRUPT',
      `${what}: ${place.reason}, at byte ${place.offset} of ${place.path}`,
      { path: place.path, offset: place.offset },
    )
  }

  private async nameSegments(): Promise<void> {
    const { description, host, job, target } = this
    for (const { header } of description.segments) {
      const path = join(target, segmentName(header.id))
      try {
        host.rename(join(target, restoringName(header.id)), path)
      } catch (cause) {
        throw ioError('name a restored segment', path, cause)
      }
      await job.rest()
    }
    await job.syncDirectory(target)
  }

  /** Aside, and on disk. */
  private async writeManifest(): Promise<void> {
    const { host, job, kernels, manifest, target } = this
    const file = writeNext(host, kernels, target, manifest)
    let failure: unknown
    await job.pace.wait((done) =>
      host.syncLater(file, (error) => {
        failure = error
        host.close(file)
        done(null)
      }),
    )
    if (failure !== null && failure !== undefined) {
      discardNext(host, target)
      throw ioError('write the manifest', join(target, MANIFEST), failure)
    }
    job.check()
  }

  private async publish(): Promise<void> {
    const { host, job, kernels, manifest, target } = this
    renameNext(host, target)
    this.isPublished = true
    try {
      await job.pace.wait((done) => host.syncDirectoryLater(target, done))
    } catch (cause) {
      throw unknownManifest(target, cause)
    }
    const found = readManifest(host, kernels, target)
    if (found === undefined || !isEqual(encodeManifest(kernels, found), encodeManifest(kernels, manifest)))
      throw unknownManifest(target, undefined)
    tryRemove(host, join(target, RESTORING))
  }
}
