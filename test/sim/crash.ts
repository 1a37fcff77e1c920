// What a power cut may leave of a disk. Of each file's pending operations: any prefix, the last of them cut at any
// byte, any subset of its dirty 512-byte sectors (the missing ones old, zero or garbage), the length without the data.
// Of each directory's: any prefix or subset.
import {
  applyToNames,
  type Content,
  type DirectoryOp,
  type Node,
  nodesOf,
  SECTOR_BYTES,
  SimDirectory,
  SimDisk,
  SimFile,
} from './disk'
import type { Random } from './random'

/** What becomes of one file's pending operations. */
export interface FileCut {
  /** So many are applied whole… */
  ops: number
  /** … and so many bytes of the next one, where it is a write. */
  bytes: number
  /** How sectors that this changes may be missing: not at all, or by chance and then old, zeros or garbage. */
  sectors: 'whole' | 'old' | 'zero' | 'garbage'
  /** The length as if all had been applied. */
  isFullLength: boolean
}

export type Choice = { files: Map<SimFile, FileCut>; directories: Map<SimDirectory, DirectoryOp[]> }

const NOTHING: FileCut = { ops: 0, bytes: 0, sectors: 'whole', isFullLength: false }

function everything(file: SimFile): FileCut {
  return { ops: file.pending.length, bytes: 0, sectors: 'whole', isFullLength: false }
}

/** A file's content after a cut. */
export function contentAfter(file: SimFile, cut: FileCut, random: Random): Content {
  const content = file.durable.share()
  for (const op of file.pending.slice(0, cut.ops)) content.apply(op)
  const next = file.pending[cut.ops]
  if (cut.bytes > 0 && next?.kind === 'write')
    content.apply({ ...next, bytes: next.bytes.subarray(0, cut.bytes) })
  if (cut.isFullLength && file.live.length > content.length) content.truncate(file.live.length)
  if (cut.sectors !== 'whole') spoilSectors(content, file.durable, cut.sectors, random)
  return content
}

function spoilSectors(
  content: Content,
  before: Content,
  fill: 'old' | 'zero' | 'garbage',
  random: Random,
): void {
  const odds = random.pick([0.2, 0.5, 0.8])
  for (let at = 0; at < content.length; at += SECTOR_BYTES) {
    const end = Math.min(at + SECTOR_BYTES, content.length)
    const now = content.bytes.subarray(at, end)
    const old = before.bytes.subarray(Math.min(at, before.length), Math.min(end, before.length))
    if (isSame(now, old) || !random.chance(odds)) continue
    if (fill === 'garbage') {
      // What was on disk before in this sector is not hurt by a write behind it: only the new bytes are.
      content.write(at + old.length, random.bytes(end - at - old.length))
    } else {
      const bytes = new Uint8Array(end - at)
      bytes.set(old)
      content.write(at, bytes)
    }
  }
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

/** The disk that the machine finds when it comes up again: all of it durable. */
export function crashed(disk: SimDisk, choice: Choice, random: Random): SimDisk {
  const copies = new Map<Node, Node>()
  const copyOf = (node: Node): Node => {
    const known = copies.get(node)
    if (known !== undefined) return known
    if (node.kind === 'file') {
      const cut = choice.files.get(node)
      const copy = new SimFile(cut === undefined ? node.durable.share() : contentAfter(node, cut, random))
      copies.set(node, copy)
      return copy
    }
    const copy = new SimDirectory()
    copies.set(node, copy)
    const names = new Map(node.durable)
    for (const op of choice.directories.get(node) ?? []) applyToNames(names, op)
    for (const [name, child] of names) {
      // The lock of a dead process holds no data, and tidying it up would cost more than all else.
      if (name === 'LOCK') continue
      const childCopy = copyOf(child)
      if (childCopy.kind === 'file') childCopy.links++
      copy.live.set(name, childCopy)
      copy.durable.set(name, childCopy)
    }
    return copy
  }
  return new SimDisk(copyOf(disk.root) as SimDirectory)
}

/** The disk as every process sees it, all of it durable. */
export function wholeOf(disk: SimDisk, random: Random): SimDisk {
  const { files, directories } = nodesOf(disk)
  return crashed(
    disk,
    {
      files: new Map(files.map((file) => [file, everything(file)])),
      directories: new Map(directories.map((directory) => [directory, directory.pending])),
    },
    random,
  )
}

function randomCut(file: SimFile, random: Random): FileCut {
  const ops = random.below(file.pending.length + 1)
  const next = file.pending[ops]
  const bytes = next?.kind === 'write' ? cutIn(next.at, next.bytes.length, random) : 0
  const sectors = random.pick(['whole', 'old', 'zero', 'garbage'] as const)
  return { ops, bytes, sectors, isFullLength: random.chance(0.3) }
}

/** Where a write is cut: at a sector's edge, next to one, or anywhere. */
function cutIn(at: number, bytes: number, random: Random): number {
  if (random.chance(0.5)) return random.below(bytes + 1)
  const edge = (Math.floor(at / SECTOR_BYTES) + 1 + random.below(4)) * SECTOR_BYTES - at
  return Math.min(bytes, Math.max(0, edge + random.below(3) - 1))
}

function someOf(ops: DirectoryOp[], random: Random): DirectoryOp[] {
  if (random.chance(0.5)) return ops.slice(0, random.below(ops.length + 1))
  return ops.filter(() => random.chance(0.5))
}

/** Crashes at this moment: the plain ones first, then `count` by chance. */
export function* choices(disk: SimDisk, count: number, random: Random): Generator<Choice> {
  const { files, directories } = nodesOf(disk)
  const dirtyFiles = files.filter((file) => file.pending.length > 0)
  const dirtyDirectories = directories.filter((directory) => directory.pending.length > 0)
  const allNames = new Map(dirtyDirectories.map((each) => [each, each.pending]))
  const choice = (cutOf: (file: SimFile) => FileCut, names = allNames): Choice => ({
    files: new Map(dirtyFiles.map((file) => [file, cutOf(file)])),
    directories: names,
  })
  yield choice(() => NOTHING, new Map())
  if (dirtyFiles.length === 0 && dirtyDirectories.length === 0) return
  yield choice(everything)
  yield choice(() => NOTHING)
  yield choice((file) => ({ ...NOTHING, isFullLength: file.live.length > file.durable.length }))
  yield choice((file) => ({ ...everything(file), ops: Math.max(0, file.pending.length - 1) }))
  if (dirtyDirectories.length > 0) yield choice(everything, new Map())
  for (let i = 0; i < count; i++) {
    const names = random.chance(0.4)
      ? allNames
      : new Map(dirtyDirectories.map((each) => [each, someOf(each.pending, random)]))
    yield choice((file) => (random.chance(0.2) ? everything(file) : randomCut(file, random)), names)
  }
}

/** Names and contents below a directory as one text: two disks with the same are the same to the store. */
export function imageOf(disk: SimDisk, below = '/'): string {
  const parts: string[] = []
  const visit = (directory: SimDirectory): void => {
    for (const name of [...directory.live.keys()].sort()) {
      const node = directory.live.get(name)
      if (node === undefined || name === 'LOCK') continue
      if (node.kind === 'directory') {
        parts.push(name, '/')
        visit(node)
      } else {
        const [low, high] = node.live.hash
        parts.push(name, `${low}.${high}`)
      }
    }
  }
  const top = disk.find(below)
  if (top?.kind === 'directory') visit(top)
  return parts.join(' ')
}
