// Changes what the manifest names. A change is made on disk first, and in memory once it is the truth.
import type { Catalog, Segment } from './catalog'
import { CaskyError, invariant, ioError, systemCode } from './errors'
import { SEGMENT_ID_MAX } from './files'
import type { Health } from './health'
import type { Host } from './host/host'
import type { Kernels } from './kernels'
import {
  discardNext,
  type Manifest,
  type ManifestEntry,
  publishManifest,
  renameNext,
  unknownManifest,
  writeNext,
} from './manifest'

/** What is no answer to where a path leads, but the machine's trouble. */
const NO_ANSWER = new Set(['EIO', 'ENOMEM', 'EMFILE', 'ENFILE', 'EACCES', 'EPERM'])

/** What a path leads to now, links followed; undefined where that is no directory. Throws CASKY_IO where nobody can tell. */
export function directoryIdentity(host: Host, path: string): string | undefined {
  try {
    return host.inspect(`${path}/.`)?.identity
  } catch (cause) {
    if (NO_ANSWER.has(systemCode(cause) ?? '')) throw ioError('look at the directory', path, cause)
    return undefined
  }
}

export interface PublisherRooms {
  host: Host
  kernels: Kernels
  catalog: Catalog
  health: Health
  manifest: Manifest
  /** Of the directory as it was locked. */
  identity: string | undefined
}

export class Publisher {
  /** Manifests begun. One that takes its time starts over where another came between. */
  private begun = 0
  private writing: (() => void) | undefined
  private queue: Promise<void> = Promise.resolve()

  constructor(private readonly rooms: PublisherRooms) {}

  get manifest(): Readonly<Manifest> {
    return this.rooms.manifest
  }

  /** The lock goes with the directory, names go by its path: they must not have come apart. */
  checkPlace(): void {
    const { host, catalog, identity } = this.rooms
    if (directoryIdentity(host, catalog.directory) === identity) return
    throw new CaskyError(
      'CASKY_IO',
      `the store's directory was moved or replaced while it was open; close the store, and open it where it is now: ${catalog.directory}`,
      { path: catalog.directory },
    )
  }

  /** The id of the next segment. */
  get freeSegmentId(): number {
    const { nextSegmentId } = this.rooms.manifest
    if (nextSegmentId <= SEGMENT_ID_MAX) return nextSegmentId
    throw new CaskyError(
      'CASKY_IO',
      'the store has used up its segment ids; export it, and import it into a new one',
    )
  }

  /** The same, for what takes its time: nobody else gets it as long as this process lives. */
  reserveSegmentId(): number {
    const id = this.freeSegmentId
    this.rooms.manifest.nextSegmentId++
    // One that is being written counts it as free: after a crash nobody could tell what a file of that name is.
    this.begun++
    return id
  }

  /** Has the manifest name the segments as the catalog holds them now. Poisons where the outcome is unknown. */
  publish(nextSegmentId: number): void {
    const { host, kernels, catalog, manifest } = this.rooms
    this.begun++
    this.checkPlace()
    const next = this.next(catalog.entries(), Math.max(nextSegmentId, manifest.nextSegmentId))
    try {
      publishManifest(host, kernels, catalog.directory, next)
    } catch (error) {
      throw this.noted(error)
    }
    Object.assign(manifest, next)
  }

  private next(segments: ManifestEntry[], nextSegmentId: number): Manifest {
    const { manifest } = this.rooms
    return { ...manifest, generation: manifest.generation + 1, nextSegmentId, segments }
  }

  private noted(error: unknown): unknown {
    if (error instanceof CaskyError && error.code === 'CASKY_POISONED') this.rooms.health.poisoned ??= error
    return error
  }

  /**
   * Has the manifest name `entry` in the place of `run`, without holding up the event loop; `check` is asked after each
   * wait, and throws where the change is not wanted any more. Resolves once that is on disk, with the segment that took
   * their place. A failure before the rename leaves everything as it was; one after it poisons.
   */
  async replaceLater(
    run: readonly Segment[],
    entry: ManifestEntry,
    check: () => void,
    onRenamed: () => void,
  ): Promise<Segment> {
    const { catalog } = this.rooms
    let merged: Segment | undefined
    await this.writeLater(
      () => catalog.entriesWith(run, entry),
      check,
      () => {
        merged = catalog.replace(run, entry)
        onRenamed()
      },
    )
    invariant(merged !== undefined, 'what was renamed is in force')
    return merged
  }

  /** As `publish`, without holding up the event loop; `check` and `onRenamed` as in `replaceLater`. */
  async publishLater(check: () => void, onRenamed: () => void = () => {}): Promise<void> {
    await this.writeLater(() => this.rooms.catalog.entries(), check, onRenamed)
  }

  /** On return the manifest that was renamed last is in force for good. */
  secureNames(): void {
    const { host, catalog } = this.rooms
    try {
      host.syncDirectory(catalog.directory)
    } catch (cause) {
      throw this.noted(unknownManifest(catalog.directory, cause))
    }
  }

  /** One after the other, or each would have the other start over. */
  private writeLater(
    entries: () => ManifestEntry[],
    check: () => void,
    onRenamed: () => void,
  ): Promise<void> {
    const writing = this.queue.then(() => this.writeInTurn(entries, check, onRenamed))
    this.queue = writing.catch(() => {})
    return writing
  }

  private async writeInTurn(
    entries: () => ManifestEntry[],
    check: () => void,
    onRenamed: () => void,
  ): Promise<void> {
    const { host, kernels, catalog, health, manifest } = this.rooms
    check()
    for (;;) {
      const attempt = ++this.begun
      this.checkPlace()
      const next = this.next(entries(), manifest.nextSegmentId)
      const file = writeNext(host, kernels, catalog.directory, next)
      this.writing = () => discardNext(host, catalog.directory)
      let failure: unknown
      await new Promise<void>((resolve) => {
        host.syncLater(file, (error) => {
          failure = error
          host.close(file)
          resolve()
        })
      })
      // Another manifest was written meanwhile, in the same place.
      if (this.begun !== attempt) {
        check()
        continue
      }
      this.writing = undefined
      try {
        if (failure !== null && failure !== undefined)
          throw ioError('write the manifest', catalog.directory, failure)
        check()
        if (health.poisoned !== undefined) throw health.poisoned
        this.checkPlace()
        renameNext(host, catalog.directory)
      } catch (error) {
        discardNext(host, catalog.directory)
        throw this.noted(error)
      }
      Object.assign(manifest, next)
      break
    }
    onRenamed()
    await new Promise<void>((resolve, reject) => {
      host.syncDirectoryLater(catalog.directory, (cause) => {
        if (cause === null || cause === undefined) resolve()
        else reject(this.noted(unknownManifest(catalog.directory, cause)))
      })
    })
  }

  /** The catalog has lost what a manifest that is being written may name: it starts over. */
  startOver(): void {
    this.begun++
  }

  /** Takes back a manifest that is being written: nobody will rename it. */
  stop(): void {
    this.begun++
    this.writing?.()
    this.writing = undefined
  }
}
