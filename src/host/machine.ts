// Which process this is, whether another one still runs, and who else may see a directory. On Linux that comes from
// /proc; where it can't be read (a sandbox, another system) less is known, and what isn't known is never guessed.
import * as os from 'node:os'
import type { Host } from './host'

/** `unknown` is neither: whoever asks must then assume the worse of the two. */
export type Evidence = 'alive' | 'dead' | 'unknown'

export interface ProcessFacts {
  pid: number
  /** As `node 20.20.2`. */
  runtime: string
  /** The machine's or container's name. */
  hostName?: string
  /** Changes with each start of the kernel. */
  bootId?: string
  /** Within one of these, pids are unique. */
  pidNamespace?: string
  /** When the process started, in clock ticks since the kernel's start: with the pid it is unique. */
  startTicks?: string
  /** Within one of these, abstract unix sockets meet. */
  netNamespace?: string
}

interface DenoLike {
  version: { deno: string }
  permissions: { querySync(what: { name: string }): { state: string } }
  openSync(path: string, options: { read: boolean }): DenoFile
  listen(on: { transport: 'unix'; path: string }): DenoListener
}
export interface DenoFile {
  tryLockSync?(exclusive: boolean): boolean
  close(): void
}
export interface DenoListener extends AsyncIterable<{ close(): void }> {
  unref(): void
  close(): void
}
export const deno = (globalThis as { Deno?: DenoLike }).Deno

/** Asks Deno first: at a terminal, just trying would stop and ask the user. Elsewhere trying is harmless. */
export function isGranted(...names: string[]): boolean {
  try {
    return (
      deno === undefined || names.every((name) => deno.permissions.querySync({ name }).state === 'granted')
    )
  } catch {
    return false
  }
}

export const isAllGranted = () => isGranted('read', 'write', 'net', 'env', 'sys', 'run', 'ffi')

// Deno opens /proc to those alone who were given everything.
export const mayReadProc = () => process.platform === 'linux' && isAllGranted()

export function describeSelf(host: Host): ProcessFacts {
  const { pid } = process
  const facts: ProcessFacts = { pid, runtime: runtimeName() }
  const hostName = isGranted('sys') ? attempt(() => os.hostname()) : undefined
  if (hostName !== undefined) facts.hostName = hostName
  if (process.platform !== 'linux') {
    // No namespaces here: a machine is one.
    if (hostName !== undefined) facts.pidNamespace = `${process.platform} ${hostName}`
    return facts
  }
  const own = mayReadProc() ? readStat(host, 'self') : undefined
  // A /proc of another namespace than ours would tell of other processes under the same pids.
  if (own === undefined || own.pid !== pid) return facts
  const bootId = readText(host, '/proc/sys/kernel/random/boot_id')?.trim()
  const pidNamespace = attempt(() => host.readLink('/proc/self/ns/pid'))
  const netNamespace = attempt(() => host.readLink('/proc/self/ns/net'))
  if (bootId) facts.bootId = bootId
  if (pidNamespace !== undefined) facts.pidNamespace = pidNamespace
  if (netNamespace !== undefined) facts.netNamespace = netNamespace
  facts.startTicks = own.startTicks
  return facts
}

/** Whether the process that `was` describes still runs, judged by its pid from the process that `self` describes. */
export function testProcess(host: Host, self: ProcessFacts, was: Partial<ProcessFacts>): Evidence {
  const { pid } = was
  if (pid === undefined || was.pidNamespace === undefined || was.pidNamespace !== self.pidNamespace)
    return 'unknown'
  if (!isGranted('run')) return 'unknown'
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as { code?: string }).code === 'ESRCH') return 'dead'
  }
  const now = was.startTicks === undefined ? undefined : readStat(host, String(pid))
  // The pid is taken, perhaps by another process.
  if (now === undefined) return 'unknown'
  // One that was killed keeps its pid until its parent has looked.
  return now.startTicks === was.startTicks && !'ZX'.includes(now.state) ? 'alive' : 'dead'
}

// ext2-4, xfs, btrfs, tmpfs, ramfs, overlay, zfs, f2fs, bcachefs, jfs, exfat, vfat, ntfs, squashfs
const LOCAL_FILE_SYSTEMS = new Set([
  0xef53, 0x58465342, 0x9123683e, 0x01021994, 0x858458f6, 0x794c7630, 0x2fc12fc1, 0xf2f52010, 0xca451a4e,
  0x3153464a, 0x2011bab0, 0x4d44, 0x5346544e, 0x7366746e, 0x73717368,
])

/** Whether other machines may reach this directory. Where the system doesn't say, it counts as local. */
export function isShared(host: Host, directory: string): boolean {
  if (!mayReadProc()) return false
  const type = attempt(() => host.fileSystemType(directory))
  return type !== undefined && !LOCAL_FILE_SYSTEMS.has(type >>> 0)
}

const SOCKETS = '/proc/self/net/unix'
const LISTINGS_MAX = 10
const LISTING_READ_BYTES = 65_536

/**
 * Whether somebody in this network namespace has the abstract unix socket of this name; the kernel takes it away with
 * the process or thread that has it. Connecting would not do: Node up to 20 fills a name up with zeros, Bun can't.
 *
 * The system tells of the sockets a page at a time and counts, within a bucket of its table, where it was; so one
 * that goes away in between makes it skip another. What was skipped, then, came after one that had been told of and
 * is no more: where all sockets of one listing are in the next, the first was whole.
 */
export function testAbstractSocket(host: Host, name: string): Evidence {
  const pattern = new RegExp(` @${name}@*$`, 'm')
  let before: Set<string> | undefined
  for (let listings = 0; listings < LISTINGS_MAX; listings++) {
    const text = attempt(() => readListing(host, SOCKETS))
    if (!text?.startsWith('Num ')) return 'unknown'
    if (pattern.test(text)) return 'alive'
    // By their inodes, which are not used again: of those with a name, for the others have buckets of their own, as
    // have those that wait to be accepted, with the listener's name and no inode.
    const now = new Set(Array.from(text.matchAll(/ 0\d +([1-9]\d*) /g), ([, inode]) => inode!))
    if (before !== undefined && [...before].every((inode) => now.has(inode))) return 'dead'
    before = now
  }
  return 'unknown'
}

/** Each read goes on where the last one ended: anywhere else, the system would count anew. */
function readListing(host: Host, path: string): string {
  const file = host.open(path, 'read')
  try {
    const decoder = new TextDecoder()
    const bytes = new Uint8Array(LISTING_READ_BYTES)
    let text = ''
    for (let position = 0; ; ) {
      const got = host.read(file, bytes, 0, bytes.length, position)
      if (got === 0) return text + decoder.decode()
      text += decoder.decode(bytes.subarray(0, got), { stream: true })
      position += got
    }
  } finally {
    host.close(file)
  }
}

function runtimeName(): string {
  if (deno !== undefined) return `deno ${deno.version.deno}`
  const { bun } = process.versions as { bun?: string }
  return bun === undefined ? `node ${process.versions.node}` : `bun ${bun}`
}

function readStat(host: Host, who: string): { pid: number; state: string; startTicks: string } | undefined {
  const text = readText(host, `/proc/${who}/stat`)
  if (text === undefined) return undefined
  // The second field is the command in parentheses, and may hold anything.
  const [state, ...rest] = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const startTicks = rest[18]
  if (state === undefined || startTicks === undefined) return undefined
  return { pid: Number.parseInt(text, 10), state, startTicks }
}

function readText(host: Host, path: string): string | undefined {
  return attempt(() => {
    const file = host.open(path, 'read')
    try {
      const bytes = new Uint8Array(4096)
      return new TextDecoder().decode(bytes.subarray(0, host.read(file, bytes, 0, bytes.length, 0)))
    } finally {
      host.close(file)
    }
  })
}

function attempt<T>(ask: () => T): T | undefined {
  try {
    return ask()
  } catch {
    return undefined
  }
}
