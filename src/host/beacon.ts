// What a writer's death puts out at once: a listening unix socket, and in Deno also a lock on a file. The kernel
// holds both for one open file of one process, so neither a reused pid, nor another namespace, nor a worker thread
// deceives it; and it tells the dead from the merely stopped.
//
// The socket is abstract, without a file, where that will do: fs.cp refuses to copy a directory with a socket in it.
// It is seen from its own network namespace only; so whoever is in a container, and will be followed by one in
// another, has one with a file, which is seen wherever the file is.
import { spawnSync } from 'node:child_process'
import { connect, createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { join } from '../files'
import type { FileHandle, Host } from './host'
import {
  type DenoFile,
  deno,
  describeSelf,
  type Evidence,
  isGranted,
  isShared,
  mayReadProc,
  type ProcessFacts,
  testAbstractSocket,
  testProcess,
} from './machine'

/** What the lock waits for; whoever runs its steps answers with the result, and a sleep with anything. */
export type LockWait = { kind: 'probe'; directory: string; name: string } | { kind: 'sleep'; ms: number }

export interface Held {
  release(): void
}

/** The lock's door to processes, as `Host` is its door to files. Nothing here throws. */
export interface Beacon {
  describeSelf(host: Host): ProcessFacts
  testProcess(host: Host, self: ProcessFacts, was: Partial<ProcessFacts>): Evidence
  isShared(host: Host, directory: string): boolean
  /**
   * Listens on an abstract socket; from then on until it is released, or this process dies, `directory` keeps its
   * inode's number, which some file systems would give anew. `undefined`: not possible, or not enough.
   */
  lightAbstract(host: Host, self: ProcessFacts, directory: string, token: string): Held | undefined
  /** Whether someone in this network namespace has lit it. */
  testAbstract(host: Host, token: string): Evidence
  /**
   * Listens on a socket that is made as `bindName`, and renamed to `name` once it can't refuse a connection; so one
   * under `name` that refuses is dead for good. `taken`: its name was gone before that. `undefined`: not possible.
   */
  light(host: Host, directory: string, bindName: string, name: string): Held | 'taken' | undefined
  /** Locks an existing file for as long as this process lives, or until released. */
  lockFile(path: string): Held | 'taken' | undefined
  /** Whether someone holds `lockFile` on it. */
  testFile(host: Host, path: string): Evidence
  answer(host: Host, wait: LockWait): Promise<Evidence>
  answerSync(host: Host, wait: LockWait): Evidence
}

const SUN_PATH_BYTES_MAX = 103 // macOS has the shortest: 104 with the closing zero; Linux 108. Node cuts in silence.
const PROBE_TIMEOUT_MS = 10_000
const WINDOWS = process.platform === 'win32'
// That of the machine itself, on each one (PROC_PID_INIT_INO in Linux).
const INITIAL_PID_NAMESPACE = 'pid:[4026531836]'
const abstractName = (token: string) => `casky-${token}`
// Whether the system lists such a socket once it listens; what calls itself Linux may not.
let isAbstractSeen = false
// A server that nothing else refers to must not be collected: its store may have been dropped unclosed.
const lit = new Set<Held>()

export const nodeBeacon: Beacon = {
  describeSelf,
  testProcess,
  isShared,

  lightAbstract: (host, { pidNamespace, netNamespace, bootId }, directory, token) => {
    if (pidNamespace !== INITIAL_PID_NAMESPACE || netNamespace === undefined || bootId === undefined)
      return undefined
    let handle: FileHandle
    try {
      handle = host.openDirectory(directory)
    } catch {
      return undefined
    }
    const held = listen(`\0${abstractName(token)}`)
    const release = () => {
      held?.release()
      try {
        host.close(handle)
      } catch {}
    }
    isAbstractSeen ||= held !== undefined && testAbstractSocket(host, abstractName(token)) === 'alive'
    if (held !== undefined && isAbstractSeen) return { release }
    release()
    return undefined
  },

  testAbstract: (host, token) => testAbstractSocket(host, abstractName(token)),

  light: (host, directory, bindName, name) => {
    if (!isGranted('net')) return undefined
    const address = socketAddress(host, directory, WINDOWS ? name : bindName)
    if (address === undefined) return undefined
    const held = listen(address.path)
    address.release()
    if (held === undefined || WINDOWS) return held
    try {
      host.rename(join(directory, bindName), join(directory, name))
      return held
    } catch (error) {
      held.release()
      return (error as { code?: string }).code === 'ENOENT' ? 'taken' : undefined
    }
  },

  lockFile: (path) => withDenoFile(path, (file) => (file.tryLockSync!(true) ? 'keep' : 'taken')),

  testFile: (host, path) => {
    if (deno === undefined) return testFileByCommand(host, path)
    // Shared, so that two who look at once don't take each other for the holder.
    const found = withDenoFile(path, (file) => (file.tryLockSync!(false) ? 'free' : 'taken'))
    return found === 'free' ? 'dead' : found === 'taken' ? 'alive' : 'unknown'
  },

  answer: async (host, wait) => {
    if (wait.kind === 'sleep') {
      await sleep(wait.ms)
      return 'unknown'
    }
    const address = isGranted('net') ? socketAddress(host, wait.directory, wait.name) : undefined
    if (address === undefined) return 'unknown'
    try {
      return weigh(host, wait, await connectionCode(address.path))
    } finally {
      address.release()
    }
  },

  answerSync: (host, wait) => {
    if (wait.kind === 'sleep') {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, wait.ms)
      return 'unknown'
    }
    const address = isGranted('net') ? socketAddress(host, wait.directory, wait.name) : undefined
    if (address === undefined) return 'unknown'
    try {
      return weigh(host, wait, connectionCodeSync(address.path))
    } finally {
      address.release()
    }
  },
}

/** A path that a socket's address can hold. The handle behind a shortened one stays open until it is released. */
function socketAddress(host: Host, directory: string, name: string): (Held & { path: string }) | undefined {
  const path = WINDOWS ? `\\\\.\\pipe\\casky-${name}` : join(directory, name)
  if (WINDOWS || new TextEncoder().encode(path).length <= SUN_PATH_BYTES_MAX)
    return { path, release: () => {} }
  if (!mayReadProc()) return undefined
  try {
    const handle = host.openDirectory(directory)
    return { path: `/proc/self/fd/${handle}/${name}`, release: () => host.close(handle) }
  } catch {
    return undefined
  }
}

function listen(path: string): Held | undefined {
  // In Deno, children would inherit what node:net listens on, and outlive us with it.
  if (deno !== undefined && !WINDOWS) return listenInDeno(deno, path)
  const server = createServer((connection) => {
    connection.on('error', () => {})
    connection.destroy()
  })
  server.on('error', () => {})
  try {
    // Without `exclusive`, a process of node:cluster would have its parent listen, and live on in it.
    server.listen({ path, exclusive: true })
  } catch {}
  if (!server.listening) {
    server.close()
    return undefined
  }
  server.unref()
  return keep(() => server.close())
}

function listenInDeno({ listen }: NonNullable<typeof deno>, path: string): Held | undefined {
  try {
    const listener = listen({ transport: 'unix', path })
    listener.unref()
    const hangUp = async () => {
      for await (const connection of listener) connection.close()
    }
    hangUp().catch(() => {})
    return keep(() => listener.close())
  } catch {
    return undefined
  }
}

function keep(release: () => void): Held {
  const held: Held = {
    release: () => {
      if (lit.delete(held)) release()
    },
  }
  lit.add(held)
  return held
}

/** What the system's answer to a connection says of the one who listens, or listened, there. */
function weigh(host: Host, wait: { directory: string; name: string }, code: string): Evidence {
  // Reset: accepted and hung up. Again: so many wait to be accepted that there is no room for more.
  if (['connected', 'ECONNRESET', 'EPIPE', 'EAGAIN', 'EBUSY'].includes(code)) return 'alive'
  if (code === 'ECONNREFUSED') return 'dead'
  if (code !== 'ENOENT') return 'unknown'
  try {
    // The way there may be missing instead, as where /proc is not mounted.
    return host.inspect(join(wait.directory, wait.name)) === undefined ? 'dead' : 'unknown'
  } catch {
    return 'unknown'
  }
}

// Bun 1.4 says ECONNREFUSED for EAGAIN; its fetch says which it was.
type BunFetch = (url: string, how: { unix: string; signal: AbortSignal }) => Promise<unknown>
const bunFetch = 'bun' in process.versions ? (globalThis.fetch as unknown as BunFetch) : undefined
const AFTER_REFUSAL_MS = 500

async function connectionCode(path: string): Promise<string> {
  const code = await new Promise<string>((resolve) => {
    const socket = connect({ path })
    const settle = (outcome: string) => {
      clearTimeout(timer)
      socket.destroy()
      resolve(outcome)
    }
    const timer = setTimeout(() => settle('ETIMEDOUT'), PROBE_TIMEOUT_MS)
    socket.on('connect', () => settle('connected'))
    socket.on('error', (error: { code?: string }) => settle(error.code ?? 'unknown'))
  })
  if (code !== 'ECONNREFUSED' || bunFetch === undefined) return code
  const signal = AbortSignal.timeout(AFTER_REFUSAL_MS)
  return bunFetch('http://localhost/', { unix: path, signal }).then(
    () => 'connected',
    (error: { code?: unknown }) => (typeof error.code === 'string' ? error.code : 'connected'),
  )
}

// Plain text, for it must mean the same in every bundle. Does as `connectionCode`.
const PROBE_SOURCE = `
const { workerData: { path, cells } } = require('node:worker_threads')
const report = (code) => {
  const flags = new Int32Array(cells, 0, 2)
  flags[1] = new TextEncoder().encodeInto(String(code), new Uint8Array(cells, 8)).written
  Atomics.store(flags, 0, 1)
  Atomics.notify(flags, 0)
}
const ask = () => fetch('http://localhost/', { unix: path, signal: AbortSignal.timeout(${AFTER_REFUSAL_MS}) }).then(
  () => report('connected'),
  (error) => report(typeof error.code === 'string' ? error.code : 'connected'),
)
const socket = require('node:net').connect({ path })
socket.on('connect', () => { report('connected'); socket.destroy() })
socket.on('error', ({ code }) => (code === 'ECONNREFUSED' && process.versions.bun ? ask() : report(code)))
`

// This thread stands still meanwhile, so another one must ask.
function connectionCodeSync(path: string): string {
  const cells = new SharedArrayBuffer(8 + 64)
  const flags = new Int32Array(cells, 0, 2)
  try {
    const worker = new Worker(PROBE_SOURCE, { eval: true, workerData: { path, cells }, execArgv: [] })
    worker.on('error', () => {})
    worker.unref()
    Atomics.wait(flags, 0, 0, PROBE_TIMEOUT_MS)
    void worker.terminate()
  } catch {
    return 'unknown'
  }
  if (Atomics.load(flags, 0) === 0) return 'ETIMEDOUT'
  return new TextDecoder().decode(new Uint8Array(cells, 8, flags[1]!).slice())
}

function withDenoFile<T extends string>(
  path: string,
  tryLock: (file: DenoFile) => T | 'keep',
): T | Held | undefined {
  try {
    const file = deno?.openSync(path, { read: true })
    if (file?.tryLockSync === undefined) {
      file?.close()
      return undefined
    }
    let outcome: T | 'keep' | undefined
    try {
      outcome = tryLock(file)
    } finally {
      if (outcome !== 'keep') file.close()
    }
    if (outcome !== 'keep') return outcome
    return keep(() => file.close())
  } catch {
    return undefined
  }
}

/** Node and Bun can't ask for a file's lock themselves; flock(1) of util-linux or busybox can, on a handle of ours. */
function testFileByCommand(host: Host, path: string): Evidence {
  if (process.platform !== 'linux') return 'unknown'
  try {
    const handle = host.open(path, 'read')
    try {
      const { status } = spawnSync('flock', ['-n', '-s', '3'], {
        stdio: ['ignore', 'ignore', 'ignore', handle],
      })
      return status === 0 ? 'dead' : status === 1 ? 'alive' : 'unknown'
    } finally {
      host.close(handle)
    }
  } catch {
    return 'unknown'
  }
}
