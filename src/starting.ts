// The begin of a segment: its header on disk, then its name, then the manifest that counts on it; only then may records
// go in.
import { type ActiveRooms, ActiveSegment, createSegmentFile, discardSegmentFile } from './active'
import type { Catalog, Segment } from './catalog'
import type { Stage } from './course'
import { CaskyError, invariant, ioError } from './errors'
import { join, segmentName } from './files'
import type { TimeHistogram } from './histogram'
import type { FileHandle } from './host/host'
import { syncNames } from './io'
import type { Publisher } from './publisher'
import type { SegmentHeader } from './segment'

export interface StartingRooms extends ActiveRooms {
  catalog: Catalog
  publisher: Publisher
}

export class Starting {
  private header: SegmentHeader | undefined
  private path = ''
  private file: FileHandle | undefined
  private syncFile: FileHandle | undefined
  private segment: Segment | undefined
  /** What stands before it, where a recovery has left that active. */
  private ended: Segment | undefined
  /** The manifest may name it by now, also where a later step fails. */
  private isRenamed = false
  private isOver = false

  /** `headerOf` says what is known when it begins. */
  constructor(
    private readonly rooms: StartingRooms,
    private readonly headerOf: () => SegmentHeader,
    private readonly syncTimes: TimeHistogram,
  ) {}

  get stages(): Stage[] {
    return [this.headerStage(), this.nameStage(), this.manifestStage()]
  }

  private headerStage(): Stage {
    const { catalog, host } = this.rooms
    return {
      begin: () => catalog.withHandles(() => this.create()),
      later: (done) => {
        const { path } = this
        // By a handle of its own: whoever can't wait may be done with the others before it comes back.
        const file = catalog.withHandles(() => this.openAgain(path))
        host.syncLater(file, (cause) => {
          host.close(file)
          done(cause === null || cause === undefined ? undefined : this.failure(cause))
        })
      },
      now: () => {
        try {
          invariant(this.syncFile !== undefined, 'a segment that begins is open')
          host.sync(this.syncFile)
        } catch (cause) {
          throw this.failure(cause)
        }
      },
    }
  }

  private create(): void {
    const header = this.headerOf()
    this.path = join(this.rooms.catalog.directory, segmentName(header.id))
    this.file = createSegmentFile(this.rooms, { path: this.path, header })
    try {
      this.syncFile = this.openAgain(this.path)
    } catch (error) {
      discardSegmentFile(this.rooms.host, this.file, this.path)
      this.file = undefined
      throw error
    }
    this.header = header
  }

  private openAgain(path: string): FileHandle {
    try {
      return this.rooms.host.open(path, 'write')
    } catch (cause) {
      throw this.failure(cause)
    }
  }

  private failure(cause: unknown): CaskyError {
    return ioError('start a segment', this.path, cause)
  }

  /** The name must last before the manifest counts on it. */
  private nameStage(): Stage {
    const { host, catalog } = this.rooms
    return {
      later: (done) => {
        host.syncDirectoryLater(catalog.directory, (cause) => {
          const hasFailed = cause !== null && cause !== undefined
          done(hasFailed ? ioError('sync the directory', catalog.directory, cause) : undefined)
        })
      },
      now: () => catalog.withHandles(() => syncNames(host, catalog.directory)),
    }
  }

  private manifestStage(): Stage {
    const { catalog, publisher } = this.rooms
    return {
      begin: () => this.addToCatalog(),
      later: (done) => {
        const onRenamed = (): void => {
          this.isRenamed = true
        }
        const check = (): void => this.checkWanted()
        publisher.publishLater(check, onRenamed).then(
          () => done(undefined),
          (error) => done(this.noted(error)),
        )
      },
      now: () => {
        try {
          if (this.isRenamed) publisher.secureNames()
          else catalog.withHandles(() => publisher.publish(publisher.manifest.nextSegmentId))
        } catch (error) {
          throw this.noted(error)
        }
      },
    }
  }

  private noted(error: unknown): unknown {
    if ((error as CaskyError).code === 'CASKY_POISONED') this.isRenamed = true
    return error
  }

  private addToCatalog(): void {
    const { catalog } = this.rooms
    const { header } = this
    invariant(header !== undefined, 'a segment has a header before it has a name')
    const previous = catalog.segments.at(-1)
    // What a recovery left active ends here, at the length that it decided.
    if (previous?.state === 'active') {
      previous.state = 'closed'
      this.ended = previous
    }
    const lastSequence = header.firstSequence - 1
    this.segment = catalog.add({ header, state: 'active', bytes: 0, records: 0, lastSequence })
  }

  private checkWanted(): void {
    if (this.isOver) throw new CaskyError('CASKY_CLOSED', 'whoever could not wait has written the manifest')
  }

  /** All stages are done: records may go in. */
  done(): ActiveSegment {
    const { rooms, segment, file, syncFile } = this
    this.isOver = true
    invariant(segment !== undefined && file !== undefined && syncFile !== undefined, 'a segment has begun')
    return new ActiveSegment(rooms, segment, file, syncFile, this.syncTimes)
  }

  /** Takes back what was done of it. */
  failed(): void {
    const { host, catalog, publisher } = this.rooms
    this.isOver = true
    if (this.syncFile !== undefined) host.close(this.syncFile)
    // After a failed directory sync either manifest may be in force; and a merge's may name it too: then it has to stay.
    const isNamed = publisher.manifest.segments.some(({ header }) => header.id === this.header?.id)
    if ((this.isRenamed || isNamed) && this.file !== undefined) {
      host.close(this.file)
      return
    }
    if (this.ended !== undefined) this.ended.state = 'active'
    if (this.segment !== undefined) {
      catalog.removeLast(this.segment)
      publisher.startOver()
    }
    if (this.file !== undefined) discardSegmentFile(host, this.file, this.path)
  }
}
