// The machine that a simulated store runs on: the host interface over a disk in memory, a clock that stands until it
// is told, syncs that end when they are told, and a beacon of a process that can die.
import type { FileHandle, Host } from '../../src/host/host'
import type { Ground } from '../../src/store'
import { type CallKind, type Fault, MUTATING, systemFailure, type Watcher } from './calls'
import { type Node, SimDirectory, type SimDisk, SimFile } from './disk'
import { kernelsPool } from './pool'
import { forgetLocks, lonelyBeacon } from './process'
import type { Random } from './random'

export type { CallKind, Fault } from './calls'

export const STORE = '/store'
const CLOCK_STEP_MS = 0.01

interface Handle {
  file: SimFile
  path: string
  canWrite: boolean
}

interface Timer {
  atMs: number
  run: () => void
}

/** One process's view of a disk. */
export class World {
  nowMs = 1_700_000_000_000
  private clockMs = 0
  /** By so much each look at the clock moves it. */
  clockStepMs = CLOCK_STEP_MS
  watcher: Watcher = {}
  calls = 0
  /** Calls that were to change the disk. */
  changes = 0
  /** What the system says is free; that there is room shows when something is written. */
  freeBytes = Number.MAX_SAFE_INTEGER
  /** Whether a file may have names in two directories, and whether files may share their bytes. */
  canLink = true
  canClone = false
  /** The process is dead: nothing it does reaches the disk any more. */
  isDead = false
  private readonly handles = new Map<FileHandle, Handle>()
  private lastHandle = 2
  /** What the call under way is answered with once it has done its work. */
  private late: Error | undefined
  private timers: Timer[] = []
  private turns: (() => void)[] = []
  private syncs: (() => void)[] = []
  private readonly kernels: Parameters<typeof kernelsPool.own>[0] = []
  readonly ground: Ground

  constructor(
    readonly disk: SimDisk,
    private readonly random: Random,
  ) {
    this.ground = { host: this.host(), beacon: lonelyBeacon }
    // A reader makes some before its first call.
    kernelsPool.own(this.kernels)
  }

  get openHandles(): string[] {
    return [...this.handles.values()].map(({ path }) => path)
  }

  get syncsInFlight(): number {
    return this.syncs.length
  }

  /** Ends the oldest sync under way. */
  endSync(): void {
    this.syncs.shift()?.()
  }

  /** Lets the clock run, and what was to happen meanwhile happen. */
  advance(ms: number): void {
    this.nowMs += ms
    this.clockMs += ms
    const due = this.timers.filter(({ atMs }) => atMs <= this.nowMs).sort((a, b) => a.atMs - b.atMs)
    this.timers = this.timers.filter((timer) => !due.includes(timer))
    for (const { run } of due) run()
  }

  turn(): void {
    for (const run of this.turns.splice(0)) run()
  }

  /** Kills the process: what it has pending stays as it is. */
  /** The process is over, and others go on: of their locks it knew nothing. */
  leave(): void {
    this.isDead = true
    this.handles.clear()
    kernelsPool.giveBack(this.kernels)
  }

  kill(): void {
    this.leave()
    this.timers = []
    this.turns = []
    this.syncs = []
    forgetLocks(this.disk)
  }

  private close(file: FileHandle): void {
    // What is collected after its process has died lets go too late.
    if (this.isDead) return
    this.handle(file)
    this.handles.delete(file)
  }

  /** Returns what befalls a read or write; throws what befalls any other call. */
  private transfer(kind: 'read' | 'write', path: string, bytes: number): { count: number; code?: string } {
    const fault = this.begin(kind, path)
    if (fault === undefined) return { count: bytes }
    if ('code' in fault && fault.isDone) return { count: bytes, code: fault.code }
    const share = fault.share ?? ('code' in fault ? 0 : 1)
    // A short count is no error, and makes some progress.
    const least = 'code' in fault ? 0 : 1
    const count = Math.max(Math.min(least, bytes), Math.floor(bytes * share))
    return 'code' in fault ? { count, code: fault.code } : { count }
  }

  private call(kind: CallKind, path: string): void {
    const fault = this.begin(kind, path)
    if (fault === undefined || !('code' in fault)) return
    const failure = systemFailure(fault.code)
    if (fault.isDone !== true) throw failure
    this.late = failure
  }

  /** Of a call that is answered later: what befalls it instead of its work, and after it. */
  private begun(kind: CallKind, path: string): { failure: unknown; late: Error | undefined } {
    let failure: unknown
    try {
      this.call(kind, path)
    } catch (error) {
      failure = error
    }
    const { late } = this
    this.late = undefined
    return { failure, late }
  }

  private begin(kind: CallKind, path: string): Fault | undefined {
    if (this.isDead) throw systemFailure('EKILLED')
    this.calls++
    // A sync changes nothing that anyone sees.
    if (MUTATING.has(kind) && kind !== 'sync') this.changes++
    // Of a call that failed otherwise.
    this.late = undefined
    kernelsPool.own(this.kernels)
    return this.watcher.before?.(kind, path)
  }

  private done(kind: CallKind, path: string): void {
    if (MUTATING.has(kind)) this.watcher.after?.(kind, path)
    kernelsPool.own(this.kernels)
    const { late } = this
    this.late = undefined
    if (late !== undefined) throw late
  }

  private handle(file: FileHandle): Handle {
    const handle = this.handles.get(file)
    if (handle === undefined) throw systemFailure('EBADF')
    return handle
  }

  private parent(path: string): { directory: SimDirectory; name: string } {
    const at = path.lastIndexOf('/')
    const directory = this.disk.find(path.slice(0, at))
    if (directory === undefined) throw systemFailure('ENOENT')
    if (directory.kind !== 'directory') throw systemFailure('ENOTDIR')
    return { directory, name: path.slice(at + 1) }
  }

  private openFile(path: string, mode: 'read' | 'write' | 'create'): FileHandle {
    const { directory, name } = this.parent(path)
    let node: Node | undefined = directory.live.get(name)
    if (mode === 'create') {
      if (node !== undefined) throw systemFailure('EEXIST')
      node = new SimFile()
      node.links = 1
      directory.apply({ kind: 'set', name, node })
    }
    if (node === undefined) throw systemFailure('ENOENT')
    if (node.kind !== 'file') throw systemFailure('EISDIR')
    this.handles.set(++this.lastHandle, { file: node, path, canWrite: mode !== 'read' })
    return this.lastHandle
  }

  /** A second file with the same bytes, none of which is on disk for certain. */
  private clone(from: string, to: string): void {
    if (!this.canClone) throw systemFailure('ENOTSUP')
    this.call('clone', to)
    const source = this.disk.find(from)
    const { directory, name } = this.parent(to)
    if (source?.kind !== 'file') throw systemFailure('ENOENT')
    if (directory.live.has(name)) throw systemFailure('EEXIST')
    const node = new SimFile()
    node.links = 1
    node.apply({ kind: 'write', at: 0, bytes: source.live.bytes.slice() })
    directory.apply({ kind: 'set', name, node })
    this.done('clone', to)
  }

  private sync({ file }: Handle, count: number, fault: unknown): void {
    if (fault !== undefined) file.lost(count, this.random)
    else file.synced(count)
  }

  private remove(path: string): void {
    this.call('remove', path)
    const { directory, name } = this.parent(path)
    const node = directory.live.get(name)
    if (node === undefined) throw systemFailure('ENOENT')
    if (node.kind !== 'file') throw systemFailure('EISDIR')
    node.links--
    directory.apply({ kind: 'remove', name })
    this.done('remove', path)
  }

  private host(): Host {
    return {
      open: (path, mode) => {
        const kind = mode === 'create' ? 'create' : 'open'
        this.call(kind, path)
        const file = this.openFile(path, mode)
        try {
          this.done(kind, path)
        } catch (error) {
          this.handles.delete(file)
          throw error
        }
        return file
      },
      close: (file) => this.close(file),
      closeLater: (file) => this.close(file),
      read: (file, into, at, bytes, position) => {
        const handle = this.handle(file)
        const { count, code } = this.transfer('read', handle.path, bytes)
        if (code !== undefined) throw systemFailure(code)
        const piece = handle.file.live.bytes.subarray(position, position + count)
        into.set(piece, at)
        return piece.length
      },
      write: (file, from, at, bytes, position) => {
        const handle = this.handle(file)
        if (!handle.canWrite) throw systemFailure('EBADF')
        const { count, code } = this.transfer('write', handle.path, bytes)
        if (count > 0) {
          handle.file.apply({ kind: 'write', at: position, bytes: from.slice(at, at + count) })
          this.done('write', handle.path)
        }
        if (code !== undefined) throw systemFailure(code)
        return count
      },
      truncate: (file, bytes) => {
        const handle = this.handle(file)
        this.call('truncate', handle.path)
        handle.file.apply({ kind: 'truncate', bytes })
        this.done('truncate', handle.path)
      },
      sync: (file) => {
        const handle = this.handle(file)
        const { file: node, path } = handle
        try {
          this.call('sync', path)
        } catch (error) {
          this.sync(handle, node.pending.length, error)
          throw error
        }
        this.sync(handle, node.pending.length, undefined)
        this.done('sync', path)
      },
      syncLater: (file, done) => {
        const handle = this.handle(file)
        const target = handle.file.applied
        const { failure, late } = this.begun('sync', handle.path)
        this.syncs.push(() => {
          // Of a call that failed otherwise.
          this.late = undefined
          // What a sync of the same file has taken meanwhile is not taken twice.
          this.sync(handle, Math.max(0, target - handle.file.settled), failure)
          this.done('sync', handle.path)
          if (!this.isDead) done(failure ?? late ?? null)
        })
      },
      status: (file) => {
        const handle = this.handle(file)
        this.call('status', handle.path)
        return { bytes: handle.file.live.length, links: handle.file.links }
      },
      inspect: (path) => {
        this.call('inspect', path)
        const node = this.disk.find(path)
        if (node === undefined) return undefined
        const identity = `${this.disk.id}:${node.inode}`
        return { kind: node.kind, bytes: node.kind === 'file' ? node.live.length : 0, identity }
      },
      list: (path) => {
        this.call('list', path)
        const node = this.disk.find(path)
        if (node === undefined) throw systemFailure('ENOENT')
        if (node.kind !== 'directory') throw systemFailure('ENOTDIR')
        return [...node.live.keys()]
      },
      readLink: () => {
        throw systemFailure('EINVAL')
      },
      openDirectory: () => {
        throw systemFailure('ENOTSUP')
      },
      fileSystemType: () => 0,
      makeDirectory: (path) => {
        this.call('makeDirectory', path)
        const { directory, name } = this.parent(path)
        const known = directory.live.get(name)
        if (known?.kind === 'directory') return
        if (known !== undefined) throw systemFailure('EEXIST')
        directory.apply({ kind: 'set', name, node: new SimDirectory() })
        this.done('makeDirectory', path)
      },
      rename: (from, to) => {
        this.call('rename', from)
        const source = this.parent(from)
        const target = this.parent(to)
        const node = source.directory.live.get(source.name)
        if (node === undefined) throw systemFailure('ENOENT')
        if (source.directory !== target.directory) throw systemFailure('EXDEV')
        const replaced = target.directory.live.get(target.name)
        // Of two names of one file both stay.
        if (replaced === node) return this.done('rename', from)
        if (replaced?.kind === 'file') replaced.links--
        source.directory.apply({ kind: 'rename', from: source.name, to: target.name, node })
        this.done('rename', from)
      },
      link: (from, to) => {
        this.call('link', from)
        const source = this.parent(from)
        const target = this.parent(to)
        const node = source.directory.live.get(source.name)
        if (node?.kind !== 'file') throw systemFailure('ENOENT')
        if (!this.canLink && source.directory !== target.directory) throw systemFailure('EXDEV')
        if (target.directory.live.has(target.name)) throw systemFailure('EEXIST')
        node.links++
        target.directory.apply({ kind: 'set', name: target.name, node })
        this.done('link', from)
      },
      cloneLater: (from, to, done) => {
        let failure: unknown = null
        try {
          this.clone(from, to)
        } catch (error) {
          failure = error
        }
        this.turns.push(() => done(failure))
      },
      removeLater: (path, done) => {
        let failure: unknown = null
        try {
          this.remove(path)
        } catch (error) {
          failure = error
        }
        this.turns.push(() => done(failure))
      },
      remove: (path) => this.remove(path),
      syncDirectory: (path) => {
        const node = this.disk.find(path)
        if (node?.kind !== 'directory') throw systemFailure('ENOENT')
        try {
          this.call('syncDirectory', path)
        } catch (error) {
          node.doubt(this.random)
          throw error
        }
        node.synced()
        this.done('syncDirectory', path)
      },
      syncDirectoryLater: (path, done) => {
        const node = this.disk.find(path)
        if (node?.kind !== 'directory') throw systemFailure('ENOENT')
        const target = node.applied
        const { failure, late } = this.begun('syncDirectory', path)
        this.syncs.push(() => {
          // Of a call that failed otherwise.
          this.late = undefined
          // What a sync of the same directory has taken meanwhile is not taken twice.
          if (failure === undefined) node.synced(Math.max(0, target - node.settled))
          else node.doubt(this.random)
          this.done('syncDirectory', path)
          if (!this.isDead) done(failure ?? late ?? null)
        })
      },
      freeBytes: (path) => {
        // An error says that there is none.
        return this.begin('freeBytes', path) === undefined ? this.freeBytes : 0
      },
      nowMs: () => this.nowMs,
      // It moves, as work takes its time, and the same in every run.
      clockMs: () => {
        this.clockMs += this.clockStepMs
        return this.clockMs
      },
      random: (bytes) => this.random.bytes(bytes),
      later: (delayMs, run) => {
        const timer = { atMs: this.nowMs + delayMs, run }
        this.timers.push(timer)
        return () => {
          this.timers = this.timers.filter((each) => each !== timer)
        }
      },
      watch: () => () => {},
      warn: () => {},
      soon: (run) => {
        this.turns.push(run)
      },
    }
  }
}
