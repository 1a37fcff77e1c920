// A process that takes the lock when told to, in whatever runtime: commands come in by line, answers go out as JSON.
import { spawn } from 'node:child_process'
import cluster from 'node:cluster'
import { closeSync, openSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { type Beacon, nodeBeacon } from '../../src/host/beacon'
import { nodeHost } from '../../src/host/node'
import { acquireLockAsync, acquireLockSync, type Lock } from '../../src/lock'

const directory: string = isMainThread ? process.argv[2]! : workerData
const say = (what: unknown) => console.log(JSON.stringify(what))
let lock: Lock | undefined
let thread: Worker | undefined

/** Without a beacon, as where there are no sockets. */
const dark: Beacon = {
  ...nodeBeacon,
  lightAbstract: () => undefined,
  light: () => undefined,
  lockFile: () => undefined,
}
/** With room for hardly anybody to wait in. */
const narrow: Beacon = {
  ...nodeBeacon,
  lightAbstract: () => undefined,
  light: (host, lockDirectory, bindName, name) => {
    const server = createServer().listen({ path: join(lockDirectory, bindName), backlog: 1 })
    host.rename(join(lockDirectory, bindName), join(lockDirectory, name))
    return { release: () => server.close() }
  },
}

async function attempt(how: 'sync' | 'async'): Promise<unknown> {
  try {
    const won =
      how === 'sync'
        ? acquireLockSync(nodeHost, nodeBeacon, directory)
        : await acquireLockAsync(nodeHost, nodeBeacon, directory)
    won.release()
    return 'free'
  } catch (error) {
    const { code, message, got } = error as { code: string; message: string; got: unknown }
    return { code, message, got }
  }
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** Takes the lock again and again; two that are inside at once find each other's file there. */
async function race(forMs: number): Promise<unknown> {
  const result = { wins: 0, losses: 0, meetings: 0, errors: [] as string[] }
  const inside = join(directory, 'inside')
  const endMs = Date.now() + forMs
  for (let turn = 0; Date.now() < endMs; turn++) {
    let won: Lock | undefined
    try {
      if (turn % 3 === 0) won = acquireLockSync(nodeHost, nodeBeacon, directory)
      else won = await acquireLockAsync(nodeHost, nodeBeacon, directory)
    } catch (error) {
      if ((error as { code?: string }).code === 'CASKY_LOCKED') result.losses++
      else result.errors.push(String(error))
      await sleep(turn % 4)
      continue
    }
    result.wins++
    try {
      closeSync(openSync(inside, 'wx'))
      await sleep(turn % 3)
      rmSync(inside)
    } catch {
      result.meetings++
    }
    won.release()
    await sleep(turn % 5)
  }
  return result
}

const commands: { [name: string]: (argument: string) => unknown } = {
  'hold sync': () => {
    lock = acquireLockSync(nodeHost, nodeBeacon, directory)
    return lock.holder
  },
  'hold async': async () => {
    lock = await acquireLockAsync(nodeHost, nodeBeacon, directory)
    return lock.holder
  },
  'hold dark': () => {
    lock = acquireLockSync(nodeHost, dark, directory)
    return lock.holder
  },
  'hold narrow': () => {
    lock = acquireLockSync(nodeHost, narrow, directory)
    return lock.holder
  },
  release: () => {
    lock?.release()
    return 'released'
  },
  try: async () => ({ sync: await attempt('sync'), async: await attempt('async') }),
  race: (forMs) => race(Number(forMs)),
  child: () => spawn('sleep', ['60'], { stdio: 'ignore' }).pid,
  thread: () => {
    thread = new Worker(new URL(import.meta.url), { workerData: directory })
    return new Promise((resolve) => thread!.once('message', resolve))
  },
  terminate: async () => {
    await thread?.terminate()
    return 'terminated'
  },
  cluster: () =>
    new Promise((resolve) => {
      cluster.fork().once('message', resolve)
    }),
}

if (!isMainThread) {
  lock = acquireLockSync(nodeHost, nodeBeacon, directory)
  parentPort!.postMessage(lock.holder)
  setInterval(() => {}, 1_000)
} else if (cluster.isWorker) {
  lock = acquireLockSync(nodeHost, nodeBeacon, directory)
  process.send!(lock.holder)
} else {
  for await (const line of createInterface({ input: process.stdin })) {
    const name = Object.keys(commands).find((known) => line.startsWith(known))
    if (name === undefined) throw new Error(`unknown command: ${line}`)
    say(await commands[name]!(line.slice(name.length + 1)))
  }
  process.exit()
}
