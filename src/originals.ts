// Where a repair keeps what it replaces: a directory damaged-1, damaged-2, … beside the segments, in which the same
// files stand under a second name.
import { CaskyError, ioError, systemCode } from './errors'
import { damagedName, join } from './files'
import type { Host } from './host/host'
import { readFully, tryRemove, writeFully } from './io'

const PIECE_BYTES = 0x10_0000
const NUMBER_MAX = 999_999_999

export interface Originals {
  /** The directory with them. */
  path: string
  /** Takes the second names back. */
  discard: () => void
}

/** Gives files of the store a second name, on disk on return. A failure takes it back. */
export function keepOriginals(host: Host, directory: string, names: string[]): Originals {
  const kept = prepare(host, directory)
  const made: string[] = []
  const discard = () => {
    for (const path of made) tryRemove(host, path)
  }
  try {
    for (const name of names) {
      const path = join(kept, name)
      // Left from a repair that came no further.
      if (host.inspect(path) !== undefined) continue
      made.push(path)
      keep(host, join(directory, name), path)
    }
    host.syncDirectory(kept)
    host.syncDirectory(directory)
    return { path: kept, discard }
  } catch (cause) {
    discard()
    throw ioError('keep the originals', kept, cause)
  }
}

/** The first that is free, or holds nothing but second names of files that are here still. */
function prepare(host: Host, directory: string): string {
  for (let number = 1; number <= NUMBER_MAX; number++) {
    const path = join(directory, damagedName(number))
    const found = host.inspect(path)
    if (found !== undefined && !(found.kind === 'directory' && isUnfinished(host, directory, path))) continue
    try {
      if (found === undefined) host.makeDirectory(path)
    } catch (cause) {
      throw ioError('make a directory for the originals', path, cause)
    }
    return path
  }
  throw new CaskyError('CASKY_IO', `no name is left for the originals: ${directory}`, { path: directory })
}

function isUnfinished(host: Host, directory: string, kept: string): boolean {
  return host.list(kept).every((name) => {
    const identity = host.inspect(join(kept, name))?.identity
    return identity !== undefined && identity === host.inspect(join(directory, name))?.identity
  })
}

function keep(host: Host, from: string, to: string): void {
  try {
    host.link(from, to)
  } catch (cause) {
    if (systemCode(cause) === 'ENOSPC' || systemCode(cause) === 'EDQUOT') throw cause
    // Not every file system has second names, and a link can't be copied: it is no data of ours.
    if (host.inspect(from)?.kind === 'file') copy(host, from, to)
  }
}

function copy(host: Host, from: string, to: string): void {
  const source = host.open(from, 'read')
  try {
    const target = host.open(to, 'create')
    try {
      const piece = new Uint8Array(PIECE_BYTES)
      for (let offset = 0; ; ) {
        const bytes = readFully(host, source, piece, 0, piece.length, offset)
        if (bytes === 0) break
        writeFully(host, target, piece, 0, bytes, offset)
        offset += bytes
      }
      host.sync(target)
    } finally {
      host.close(target)
    }
  } finally {
    host.close(source)
  }
}
