// A POSIX-like file system in memory that knows what a power cut may leave of it: each file and each directory has
// what is on disk for certain (durable), what every process sees (live), and the operations between the two (pending).
//
// A sync moves pending to durable. A failed one loses it: live goes on showing the bytes, the disk may or may not have
// some of their sectors, and the next sync succeeds without them, as kernels do.
import type { Random } from './random'

export const SECTOR_BYTES = 512
const PAGE_BYTES = 4096

export type FileOp = { kind: 'write'; at: number; bytes: Uint8Array } | { kind: 'truncate'; bytes: number }

export type Node = SimFile | SimDirectory

export type DirectoryOp =
  | { kind: 'set'; name: string; node: Node }
  | { kind: 'remove'; name: string }
  | { kind: 'rename'; from: string; to: string; node: Node }

let lastInode = 0

/** Bytes that are shared until someone writes to them. */
export class Content {
  private isShared = false
  private knownHash: readonly [number, number] | undefined

  constructor(
    private buffer: Uint8Array = new Uint8Array(0),
    public length = buffer.length,
  ) {}

  share(): Content {
    this.isShared = true
    const other = new Content(this.buffer, this.length)
    other.isShared = true
    other.knownHash = this.hash
    return other
  }

  /** Tells contents apart. */
  get hash(): readonly [number, number] {
    this.knownHash ??= hashOf(this.bytes)
    return this.knownHash
  }

  get bytes(): Uint8Array {
    return this.buffer.subarray(0, this.length)
  }

  private own(capacity: number): void {
    if (!this.isShared && capacity <= this.buffer.length) return
    const next = new Uint8Array(Math.max(capacity, this.isShared ? this.length : this.buffer.length * 2))
    next.set(this.bytes)
    this.buffer = next
    this.isShared = false
  }

  write(at: number, bytes: Uint8Array): void {
    this.knownHash = undefined
    const end = at + bytes.length
    this.own(Math.max(end, this.length))
    // Behind a shortened end there may be old bytes; a hole reads as zeros.
    if (at > this.length) this.buffer.fill(0, this.length, at)
    this.buffer.set(bytes, at)
    this.length = Math.max(this.length, end)
  }

  truncate(bytes: number): void {
    this.knownHash = undefined
    if (bytes > this.length) {
      this.own(bytes)
      this.buffer.fill(0, this.length, bytes)
    }
    this.length = bytes
  }

  apply(op: FileOp): void {
    if (op.kind === 'write') this.write(op.at, op.bytes)
    else this.truncate(op.bytes)
  }
}

const HASH_LOW = 0x9e37_79b9
const HASH_HIGH = 0x85eb_ca6b

function hashOf(bytes: Uint8Array): readonly [number, number] {
  let low = HASH_LOW ^ bytes.length
  let high = HASH_HIGH + bytes.length
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2)
  const mix = (word: number): void => {
    low = Math.imul(low ^ word, 0x0100_0193)
    low ^= low >>> 15
    high = Math.imul(high + word, 0xcc9e_2d51)
    high ^= high >>> 13
  }
  for (let i = 0; i < words.length; i++) mix(words[i])
  for (let at = words.length * 4; at < bytes.length; at++) mix(bytes[at])
  return [low, high]
}

export class SimFile {
  readonly kind = 'file'
  readonly inode = ++lastInode
  links = 0
  live: Content
  durable: Content
  pending: FileOp[] = []
  /** Operations that are pending no more, since the file was made. */
  settled = 0

  constructor(content = new Content()) {
    this.durable = content
    this.live = content.share()
  }

  apply(op: FileOp): void {
    this.live.apply(op)
    this.pending.push(op)
  }

  /** Operations so far. */
  get applied(): number {
    return this.settled + this.pending.length
  }

  /** The first `count` pending operations have reached the disk. */
  synced(count: number): void {
    const done = this.pending.splice(0, count)
    this.settled += done.length
    if (this.pending.length === 0) {
      // Pages that were written to go out whole, and with them what a failed sync had left in memory only.
      const pages = new Set(done.flatMap((op) => (op.kind === 'write' ? pagesOf(op) : [])))
      for (const op of done) this.durable.apply(op)
      for (const page of pages) {
        const at = page * PAGE_BYTES
        if (at < this.live.length) this.durable.write(at, this.live.bytes.slice(at, at + PAGE_BYTES))
      }
      if (this.durable.length > this.live.length) this.durable.truncate(this.live.length)
    } else {
      for (const op of done) this.durable.apply(op)
    }
  }

  /** The first `count` pending operations are lost, but for some sectors; the live content doesn't show it. */
  lost(count: number, random: Random): void {
    const content = this.durable.share()
    const gone = this.pending.splice(0, count)
    this.settled += gone.length
    for (const op of gone) {
      if (random.chance(0.5)) content.apply(random.chance(0.5) ? op : partOf(op, random))
    }
    this.durable = content
  }

  clone(): SimFile {
    const copy = new SimFile()
    copy.links = this.links
    copy.durable = this.durable.share()
    copy.live = this.live.share()
    copy.pending = [...this.pending]
    return copy
  }
}

function pagesOf({ at, bytes }: { at: number; bytes: Uint8Array }): number[] {
  const first = Math.floor(at / PAGE_BYTES)
  const last = Math.floor((at + bytes.length - 1) / PAGE_BYTES)
  return Array.from({ length: last - first + 1 }, (_, i) => first + i)
}

function partOf(op: FileOp, random: Random): FileOp {
  return op.kind === 'truncate'
    ? op
    : { ...op, bytes: op.bytes.subarray(0, random.below(op.bytes.length + 1)) }
}

export function applyToNames(names: Map<string, Node>, op: DirectoryOp): void {
  if (op.kind === 'remove') {
    names.delete(op.name)
  } else if (op.kind === 'set') {
    names.set(op.name, op.node)
  } else {
    if (names.get(op.from) === op.node) names.delete(op.from)
    names.set(op.to, op.node)
  }
}

export class SimDirectory {
  readonly kind = 'directory'
  readonly inode = ++lastInode
  live = new Map<string, Node>()
  durable = new Map<string, Node>()
  pending: DirectoryOp[] = []
  /** Operations that are pending no more, since the directory was made. */
  settled = 0

  apply(op: DirectoryOp): void {
    applyToNames(this.live, op)
    this.pending.push(op)
  }

  /** Operations so far. */
  get applied(): number {
    return this.settled + this.pending.length
  }

  /** The first `count` pending operations have reached the disk. */
  synced(count = this.pending.length): void {
    const done = this.pending.splice(0, count)
    this.settled += done.length
    for (const op of done) applyToNames(this.durable, op)
  }

  /** A sync failed: some of it may be on disk, the rest stays in doubt until one succeeds, as in a journal. */
  doubt(random: Random): void {
    for (const op of this.pending) if (random.chance(0.5)) applyToNames(this.durable, op)
  }
}

let lastDisk = 0

/** A tree of directories and files. */
export class SimDisk {
  readonly id = ++lastDisk
  readonly root: SimDirectory

  constructor(root = new SimDirectory()) {
    this.root = root
  }

  find(path: string): Node | undefined {
    let node: Node | undefined = this.root
    for (const name of path.split('/')) {
      if (name === '' || name === '.') continue
      if (node?.kind !== 'directory') return undefined
      node = node.live.get(name)
    }
    return node
  }

  /** The same disk, with what is pending: what the next process finds after a kill. */
  clone(): SimDisk {
    const copies = new Map<Node, Node>()
    const copyOf = (node: Node): Node => {
      const known = copies.get(node)
      if (known !== undefined) return known
      if (node.kind === 'file') {
        const copy = node.clone()
        copies.set(node, copy)
        return copy
      }
      const copy = new SimDirectory()
      copies.set(node, copy)
      for (const [name, child] of node.live) copy.live.set(name, copyOf(child))
      for (const [name, child] of node.durable) copy.durable.set(name, copyOf(child))
      copy.pending = node.pending.map((op) => (op.kind === 'remove' ? op : { ...op, node: copyOf(op.node) }))
      return copy
    }
    return new SimDisk(copyOf(this.root) as SimDirectory)
  }
}

/** Every file and directory that a name leads to, or led to when it was last durable. */
export function nodesOf(disk: SimDisk): { files: SimFile[]; directories: SimDirectory[] } {
  const files = new Set<SimFile>()
  const directories = new Set<SimDirectory>()
  const visit = (node: Node): void => {
    if (node.kind === 'file') {
      files.add(node)
      return
    }
    if (directories.has(node)) return
    directories.add(node)
    for (const child of node.live.values()) visit(child)
    for (const child of node.durable.values()) visit(child)
    for (const op of node.pending) if (op.kind !== 'remove') visit(op.node)
  }
  visit(disk.root)
  return { files: [...files], directories: [...directories] }
}
