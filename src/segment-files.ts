// The segment files that lie in a store's directory, whatever its manifest says.
import { ioError, systemCode } from './errors'
import { join, segmentIdOf } from './files'
import type { FileHandle, Host } from './host/host'
import type { Kernels } from './kernels'
import { sealAtEnd, solveSalt } from './salt'
import { isSameSegment, readSegmentHeader, type Seal, type SegmentHeader } from './segment'

export interface SegmentFile {
  name: string
  /** As in its name. */
  id: number
  path: string
  bytes: number
  identity: string
  header: SegmentHeader | undefined
}

export class SegmentFiles {
  readonly all: readonly SegmentFile[]
  private readonly byId: ReadonlyMap<number, SegmentFile>

  constructor(
    private readonly host: Host,
    private readonly kernels: Kernels,
    private readonly directory: string,
  ) {
    this.all = this.list()
    this.byId = new Map(this.all.map((file) => [file.id, file]))
  }

  /** The file that has this id in its name. */
  named(id: number): SegmentFile | undefined {
    return this.byId.get(id)
  }

  /** Regular files with a segment's name; a link is never followed. */
  private list(): SegmentFile[] {
    return this.host.list(this.directory).flatMap((name) => {
      const id = segmentIdOf(name)
      if (id === undefined) return []
      const path = join(this.directory, name)
      const found = this.host.inspect(path)
      if (found?.kind !== 'file') return []
      const { bytes, identity } = found
      const header = this.withFile(path, (file) => this.headerOf(file, path))
      return [{ name, id, path, bytes, identity, header }]
    })
  }

  private headerOf(file: FileHandle, path: string): SegmentHeader | undefined {
    return readSegmentHeader(this.host, this.kernels, file, path).header
  }

  /** `undefined` also where the file is gone since it was listed: a live writer may have removed it. */
  withFile<T>(path: string, use: (file: FileHandle) => T): T | undefined {
    try {
      const file = this.host.open(path, 'read')
      try {
        return use(file)
      } finally {
        this.host.close(file)
      }
    } catch (cause) {
      if (systemCode(cause) === 'ENOENT') return undefined
      throw ioError('read a segment', path, cause)
    }
  }

  /** The valid seal that a segment that is here ends with. */
  sealIn(header: SegmentHeader): Seal | undefined {
    const file = this.holderOf(header)
    return file && this.sealOf(file, header.salt)
  }

  /** The file that has this header, whatever its name is; else the one under its name that has none. */
  holderOf(header: SegmentHeader): SegmentFile | undefined {
    const holder = this.all.find((file) => file.header !== undefined && isSameSegment(file.header, header))
    if (holder !== undefined) return holder
    const own = this.named(header.id)
    return own?.header === undefined ? own : undefined
  }

  /** What the records of one without a header tell. */
  solve({ path, bytes }: SegmentFile): { salt: number; seal: ReturnType<typeof sealAtEnd> } | undefined {
    const { host, kernels } = this
    return this.withFile(path, (file) => {
      const salt = solveSalt(host, kernels, file, bytes)
      return salt === undefined ? undefined : { salt, seal: sealAtEnd(host, kernels, file, bytes, salt) }
    })
  }

  sealOf({ path, bytes }: SegmentFile, salt: number): Seal | undefined {
    return this.withFile(path, (file) => sealAtEnd(this.host, this.kernels, file, bytes, salt))
  }
}
