// Segment files that the manifest doesn't name: which of them hold nothing of their own, and may go. The rules stand in
// docs/FORMAT.md, "A store". Whatever fits none of them may be the only copy of something, so it is never removed.

import { isEqual } from './bytes'
import { CaskyError, ioError, systemCode } from './errors'
import { isDamagedName, join, MANIFEST_NEXT, segmentIdOf, segmentName } from './files'
import { REMEDY_UNNAMED } from './findings'
import type { Health } from './health'
import type { FileHandle, Host } from './host/host'
import { readFully } from './io'
import type { Kernels } from './kernels'
import { type Manifest, type ManifestEntry, readManifest } from './manifest'
import { keepOriginals } from './originals'
import { lastSequenceOffset, sealAtEnd } from './salt'
import { isSameSegment, readSegmentHeader, SEGMENT_HEADER_BYTES, type SegmentHeader } from './segment'

/** How one that holds data is reported. */
export const UNNAMED = {
  reason: 'holds data, and the manifest does not name it: the manifest may be an older copy',
  remedy: REMEDY_UNNAMED,
}

export interface UnnamedSegment {
  name: string
  /** As in its name. */
  id: number
  path: string
  bytes: number
  identity: string
}

/** Segment files in the directory that the manifest doesn't name. */
export function unnamedSegments(host: Host, directory: string, manifest: Manifest): UnnamedSegment[] {
  const live = new Set(manifest.segments.map((entry) => entry.header.id))
  return host.list(directory).flatMap((name) => {
    const id = segmentIdOf(name)
    if (id === undefined || live.has(id)) return []
    const path = join(directory, name)
    const found = host.inspect(path)
    return found?.kind === 'file' ? [{ name, id, path, bytes: found.bytes, identity: found.identity }] : []
  })
}

type Kept = Pick<UnnamedSegment, 'name' | 'path' | 'bytes' | 'identity'>

/** Whether the same file has a second name where a repair keeps originals, or a copy there, where names were refused. */
export function isKeptAside(host: Host, directory: string, file: Kept): boolean {
  return host.list(directory).some((each) => {
    if (!isDamagedName(each)) return false
    const path = join(directory, each, file.name)
    const found = host.inspect(path)
    if (found?.kind !== 'file') return false
    return found.identity === file.identity || (found.bytes === file.bytes && isCopy(host, path, file))
  })
}

const PIECE_BYTES = 0x1_0000

function isCopy(host: Host, path: string, file: Kept): boolean {
  const opened: FileHandle[] = []
  try {
    for (const each of [path, file.path]) opened.push(host.open(each, 'read'))
    const [ours, its] = [new Uint8Array(PIECE_BYTES), new Uint8Array(PIECE_BYTES)]
    for (let done = 0; done < file.bytes; done += PIECE_BYTES) {
      const count = readFully(host, opened[0], ours, 0, PIECE_BYTES, done)
      if (readFully(host, opened[1], its, 0, PIECE_BYTES, done) !== count) return false
      if (!isEqual(ours.subarray(0, count), its.subarray(0, count))) return false
    }
    return true
  } catch (cause) {
    throw ioError('compare with the original', path, cause)
  } finally {
    for (const each of opened) host.close(each)
  }
}

/** What can be told of the files that a manifest doesn't name; looks at the disk once it has to. */
export class Leftovers {
  private allPresent: boolean | undefined

  constructor(
    private readonly host: Host,
    private readonly kernels: Kernels,
    private readonly directory: string,
    private readonly manifest: Manifest,
  ) {}

  /** Whether removing the file loses nothing. */
  isGarbage(file: UnnamedSegment): boolean {
    if (file.bytes <= SEGMENT_HEADER_BYTES) return true
    const header = this.headerOf(file.path)
    // A live writer may have removed it since it was listed.
    if (header === undefined && this.host.inspect(file.path) === undefined) return true
    // Under another name than its own it may be a segment that the manifest does name.
    const isOurs =
      header !== undefined && header.id === file.id && isEqual(header.storeId, this.manifest.storeId)
    if (isOurs && (this.isDropped(header) || this.isUnfinished(header))) return true
    return file.id < this.manifest.nextSegmentId && isKeptAside(this.host, this.directory, file)
  }

  /** A later manifest has dropped it. Ids are given once; but a manifest that came from elsewhere gives others. */
  private isDropped(header: SegmentHeader): boolean {
    return header.id < this.manifest.nextSegmentId && this.areAllPresent()
  }

  /** Copies of a change that no manifest came to name: what they were made of is still there. */
  private isUnfinished({ copies }: SegmentHeader): boolean {
    const { generation, segments } = this.manifest
    if (copies === undefined || copies.generation !== generation) return false
    if (copies.segmentId === 0) return this.areAllPresent()
    const origin = segments.find((entry) => entry.header.id === copies.segmentId)
    return origin !== undefined && this.isPresent(origin)
  }

  /**
   * Whether a finished copy of a segment's end holds what that segment has lost since. A power cut leaves it so before
   * the copy is named, and then nobody was shown what is in it; but so does an older manifest that was put back, and
   * then it was. Nothing on disk tells the two apart.
   */
  isOnlyCopy(file: UnnamedSegment): boolean {
    const header = file.bytes <= SEGMENT_HEADER_BYTES ? undefined : this.headerOf(file.path)
    const { copies, previous } = header ?? {}
    if (header === undefined || copies === undefined || previous?.id !== copies.segmentId) return false
    const origin = this.manifest.segments.find((entry) => entry.header.id === copies.segmentId)?.header
    if (origin === undefined) return false
    const { host, kernels } = this
    const { path, bytes } = file
    const last = this.reading(
      path,
      (opened) => sealAtEnd(host, kernels, opened, bytes, header.salt)?.lastSequence,
    )
    // Without a seal it was never finished.
    if (last === undefined) return false
    const originPath = join(this.directory, segmentName(origin.id))
    const found = this.reading(originPath, (opened) => {
      const { bytes: fileBytes } = host.status(opened)
      const decidedBytes = undefined
      const fromBytes = previous.bytes
      const target = { file: opened, path: originPath, salt: origin.salt, fileBytes, decidedBytes, fromBytes }
      return origin.firstSequence + lastSequenceOffset(host, kernels, target)
    })
    return found !== undefined && found < last
  }

  private areAllPresent(): boolean {
    this.allPresent ??= this.manifest.segments.every((entry) => this.isPresent(entry))
    return this.allPresent
  }

  /** A damaged header is no proof of another segment. */
  private isPresent({ header }: ManifestEntry): boolean {
    const path = join(this.directory, segmentName(header.id))
    if (this.host.inspect(path)?.kind !== 'file') return false
    const found = this.headerOf(path)
    return found === undefined || isSameSegment(found, header)
  }

  private headerOf(path: string): SegmentHeader | undefined {
    return this.reading(path, (file) => readSegmentHeader(this.host, this.kernels, file, path).header)
  }

  private reading<T>(path: string, read: (file: FileHandle) => T): T | undefined {
    try {
      const file = this.host.open(path, 'read')
      try {
        return read(file)
      } finally {
        this.host.close(file)
      }
    } catch (cause) {
      // A live writer may have removed it since it was listed.
      if (systemCode(cause) === 'ENOENT') return undefined
      throw ioError('read a segment', path, cause)
    }
  }
}

/**
 * Removes what a crash left behind, and keeps aside what of it may be the only copy of something; refuses a store with
 * an unnamed segment that holds data of its own.
 */
export function removeLeftovers(host: Host, kernels: Kernels, directory: string, manifest: Manifest): void {
  const leftovers = new Leftovers(host, kernels, directory, manifest)
  const unnamed = unnamedSegments(host, directory, manifest)
  const full = unnamed.find((file) => !leftovers.isGarbage(file))
  if (full !== undefined) {
    throw new CaskyError(
      'CASKY_CORRUPT',
      `a segment holds data, and the manifest (number ${manifest.generation}) doesn't name it: put the newer manifest back, move the file away if it isn't this store's, or run \`casky repair\`: ${full.path}`,
      { path: full.path },
    )
  }
  const only = unnamed.filter((file) => leftovers.isOnlyCopy(file)).map(({ name }) => name)
  if (only.length > 0) keepOriginals(host, directory, only)
  const paths = unnamed.map(({ path }) => path)
  const next = join(directory, MANIFEST_NEXT)
  if (host.inspect(next)?.kind === 'file') paths.push(next)
  for (const path of paths) {
    try {
      host.remove(path)
    } catch (cause) {
      // A merge may have asked for it before the store was closed.
      if (systemCode(cause) !== 'ENOENT') throw ioError('remove what a crash left behind', path, cause)
    }
  }
}

/** As `removeLeftovers` without removing: what holds data is reported, unless a live writer has just made it. */
export function reportUnnamed(
  host: Host,
  kernels: Kernels,
  directory: string,
  manifest: Manifest,
  health: Health,
): void {
  const leftovers = new Leftovers(host, kernels, directory, manifest)
  const full = unnamedSegments(host, directory, manifest).filter((file) => !leftovers.isGarbage(file))
  // A writer names a segment before it writes to it: a manifest read after the look at the files names them all.
  if (full.length === 0 || readManifest(host, kernels, directory)?.generation !== manifest.generation) return
  for (const { path, bytes } of full) {
    health.addDamage({ path, offset: 0, bytes, ...UNNAMED, foundAtMs: host.nowMs() })
  }
}
