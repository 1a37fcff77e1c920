// The lock between real processes: raced for, killed, stopped, in containers, in threads, and across runtimes.
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buildSync } from 'esbuild'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { nodeBeacon } from '../src/host/beacon'
import { nodeHost } from '../src/host/node'
import { acquireLockAsync, acquireLockSync, type LockHolder } from '../src/lock'
import {
  bunRuntime,
  denoRuntime,
  denoSandbox,
  node,
  type Runtime,
  type Started,
  start,
} from './runtimes/runtime'
import { freshFolder } from './support/folders'

const SCRIPT = 'agent.mjs'
let home: string
const started: Started[] = []

beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), 'casky-lock-'))
  buildSync({
    entryPoints: [join(import.meta.dirname, 'lock/agent.ts')],
    outfile: join(home, SCRIPT),
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'es2022',
  })
})
afterEach(async () => {
  for (const each of started.splice(0)) {
    each.child.kill('SIGCONT')
    await each.kill()
  }
})
afterAll(() => rmSync(home, { recursive: true, force: true }))

function begin(runtime: Runtime, directory: string): Started {
  // Its threads run the script too, and must be let read it.
  const command: Runtime['command'] = ({ read, write }) => runtime.command({ read: [...read, home], write })
  const agent = start({ ...runtime, command }, home, SCRIPT, [directory])
  started.push(agent)
  return agent
}

async function tell(agent: Started, command: string): Promise<unknown> {
  agent.send(command)
  return await agent.next()
}

async function hold(
  runtime: Runtime,
  directory: string,
  command = 'hold sync',
): Promise<Started & LockHolder> {
  const agent = begin(runtime, directory)
  return { ...agent, ...((await tell(agent, command)) as LockHolder) }
}

/** How a try, sync and async, ends for this process. */
async function tryHere(directory: string): Promise<unknown[]> {
  const outcomes: unknown[] = []
  for (const acquire of [acquireLockSync, acquireLockAsync]) {
    try {
      const lock = await acquire(nodeHost, nodeBeacon, directory)
      lock.release()
      outcomes.push('free')
    } catch (error) {
      outcomes.push(error)
    }
  }
  return outcomes
}

const locked = (holder: Partial<LockHolder>) =>
  expect.objectContaining({ code: 'CASKY_LOCKED', got: expect.objectContaining(holder) })

const FREE = { sync: 'free', async: 'free' }
const refused = (holder: Partial<LockHolder>) => ({ sync: locked(holder), async: locked(holder) })
const named = (runtimes: Runtime[]) => runtimes.map(({ name }) => name).join(', ')

/** In a container, a socket must have a file. */
const isInContainer = nodeBeacon.describeSelf(nodeHost).pidNamespace !== 'pid:[4026531836]'
const WITHOUT_FILE = { abstractSocket: !isInContainer, socket: isInContainer }
const NO_SOCKET = { abstractSocket: false, socket: false }

function beaconsIn(directory: string): { [name: string]: unknown } {
  const names = readdirSync(join(directory, 'LOCK'))
  const [claim] = names.filter((name) => name.endsWith('.claim'))
  const written = JSON.parse(readFileSync(join(directory, 'LOCK', claim!), 'utf8'))
  const { abstractSocket, socket, fileLock } = written
  expect(names.some((name) => name.endsWith('.sock'))).toBe(socket)
  return { abstractSocket, socket, fileLock }
}

test('each runtime lights what it can', async () => {
  const beacons: [Runtime, object][] = [
    [node, { ...WITHOUT_FILE, fileLock: false }],
    [bunRuntime, { ...WITHOUT_FILE, fileLock: false }],
    [denoRuntime, { ...WITHOUT_FILE, fileLock: true }],
    [denoSandbox, { ...NO_SOCKET, fileLock: true }],
  ]
  for (const [runtime, expected] of beacons) {
    const directory = freshFolder()
    await hold(runtime, directory)
    expect(beaconsIn(directory), runtime.name).toEqual(expected)
  }
})

describe('a race for it', () => {
  const fields: Runtime[][] = [
    [node, node],
    [node, bunRuntime],
    [node, denoRuntime],
    [denoRuntime, denoSandbox],
    [node, bunRuntime, denoRuntime, bunRuntime],
  ]
  test.each(fields.map((field) => ({ names: named(field), field })))(
    '$names: never two inside',
    async ({ field }) => {
      const directory = freshFolder()
      const agents = field.map((runtime) => begin(runtime, directory))
      await Promise.all(agents.map((agent) => tell(agent, 'try')))
      const results = (await Promise.all(agents.map((agent) => tell(agent, 'race 2000')))) as {
        wins: number
        losses: number
      }[]
      for (const result of results) expect(result).toMatchObject({ meetings: 0, errors: [] })
      const total = (name: 'wins' | 'losses') => results.reduce((sum, result) => sum + result[name], 0)
      expect(total('wins')).toBeGreaterThan(field.length > 2 ? 3 : 15)
      expect(total('losses')).toBeGreaterThan(10)
      expect(await tryHere(directory)).toEqual(['free', 'free'])
    },
  )
})

describe('between runtimes', () => {
  const runtimes = [node, bunRuntime, denoRuntime]
  const pairs = runtimes.flatMap((holder) => runtimes.map((other) => [holder, other] as const))
  test.each(pairs.map(([holder, other]) => ({ names: named([holder, other]), holder, other })))(
    '$names: refused while it lives, free once it is killed',
    async ({ holder, other }) => {
      const directory = freshFolder()
      const holding = await hold(holder, directory)
      const agent = begin(other, directory)
      const { pid } = holding
      expect(await tell(agent, 'try')).toEqual(refused({ pid: pid!, isOpen: true, isAlive: true }))
      await holding.kill()
      expect(await tell(agent, 'try')).toEqual(FREE)
    },
  )
})

describe('after kill -9', () => {
  test.each([node, bunRuntime, denoRuntime, denoSandbox].map((runtime) => ({ name: runtime.name, runtime })))(
    'of $name, the next gets in at once',
    async ({ runtime }) => {
      const directory = freshFolder()
      for (const how of ['sync', 'async'] as const) {
        const holder = await hold(runtime, directory, `hold ${how}`)
        expect(await tryHere(directory)).toEqual([
          locked({ pid: holder.pid, isOpen: true, isAlive: true }),
          locked({ pid: holder.pid, isOpen: true, isAlive: true }),
        ])
        await holder.kill()
        const startMs = performance.now()
        const acquire = how === 'sync' ? acquireLockSync : acquireLockAsync
        const lock = await acquire(nodeHost, nodeBeacon, directory)
        expect(performance.now() - startMs).toBeLessThan(1_000)
        lock.release()
      }
    },
  )

  test('of one whose child lives on, too', async () => {
    for (const runtime of [node, bunRuntime, denoRuntime]) {
      const directory = freshFolder()
      const holder = await hold(runtime, directory)
      const child = (await tell(holder, 'child')) as number
      expect(process.kill(child, 0)).toBe(true)
      // Between fork and exec a child is still a copy of the holder, with all of its handles.
      if (process.platform === 'linux') {
        await expect.poll(() => readFileSync(`/proc/${child}/comm`, 'utf8').trim()).toBe('sleep')
      }
      await holder.kill()
      expect(await tryHere(directory), runtime.name).toEqual(['free', 'free'])
      process.kill(child, 'SIGKILL')
    }
  })

  test('of a worker of node:cluster, whose parent lives on, too', async () => {
    const directory = freshFolder()
    const parent = begin(node, directory)
    const { pid } = (await tell(parent, 'cluster')) as LockHolder
    expect(beaconsIn(directory)).toEqual({ ...WITHOUT_FILE, fileLock: false })
    expect(await tryHere(directory)).toEqual([locked({ pid }), locked({ pid })])
    process.kill(pid!, 'SIGKILL')
    await untilState(pid!, 'gone')
    expect(await tryHere(directory)).toEqual(['free', 'free'])
  })

  test.runIf(process.platform === 'linux')(
    'of one that nobody has reaped yet, and that had no beacon, too',
    async () => {
      const directory = freshFolder()
      const holder = await hold(node, directory, 'hold dark')
      expect(await tryHere(directory)).toEqual([locked({ isAlive: true }), locked({ isAlive: true })])
      process.kill(holder.pid!, 'SIGKILL')
      // Its parent is this process, and takes notice only when its event loop turns.
      const endMs = Date.now() + 5_000
      while (stateOf(holder.pid!) !== 'Z' && Date.now() < endMs);
      expect(stateOf(holder.pid!)).toBe('Z')
      acquireLockSync(nodeHost, nodeBeacon, directory).release()
    },
  )
})

function stateOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.charAt(stat.lastIndexOf(')') + 2)
  } catch {
    return 'gone'
  }
}

async function untilState(pid: number, state: string): Promise<void> {
  for (let tries = 0; stateOf(pid) !== state && tries < 500; tries++)
    await new Promise((resolve) => setTimeout(resolve, 10))
  expect(stateOf(pid)).toBe(state)
}

test('one that is stopped still holds it, for all runtimes', async () => {
  const directory = freshFolder()
  const holder = await hold(node, directory)
  holder.child.kill('SIGSTOP')
  await untilState(holder.pid!, 'T')
  const { pid } = holder
  expect(await tryHere(directory)).toEqual([locked({ pid, isAlive: true }), locked({ pid, isAlive: true })])
  for (const runtime of [bunRuntime, denoRuntime]) {
    expect(await tell(begin(runtime, directory), 'try'), runtime.name).toEqual(
      refused({ pid, isAlive: true }),
    )
  }
  holder.child.kill('SIGCONT')
  expect(await tell(holder, 'release')).toBe('released')
  expect(await tryHere(directory)).toEqual(['free', 'free'])
})

test('one that is stopped still holds it when no more can wait for its answer, for all runtimes', async () => {
  const directory = freshFolder()
  const holder = await hold(node, directory, 'hold narrow')
  holder.child.kill('SIGSTOP')
  await untilState(holder.pid!, 'T')
  for (const runtime of [node, bunRuntime, denoRuntime]) {
    const agent = begin(runtime, directory)
    for (let attempt = 0; attempt < 3; attempt++) {
      expect(await tell(agent, 'try'), runtime.name).toEqual(refused({ pid: holder.pid!, isAlive: true }))
    }
  }
})

describe('in another thread', () => {
  test.each([node, bunRuntime, denoRuntime, denoSandbox].map((runtime) => ({ name: runtime.name, runtime })))(
    '$name: refused while it lives, free once it is terminated',
    async ({ runtime }) => {
      const agent = begin(runtime, freshFolder())
      const { pid } = (await tell(agent, 'thread')) as LockHolder
      expect(pid).toBe(agent.child.pid)
      expect(await tell(agent, 'try')).toEqual(refused({ pid: pid!, isOpen: true, isAlive: true }))
      expect(await tell(agent, 'terminate')).toBe('terminated')
      // Deno says so some milliseconds before what the thread had open is closed.
      await expect.poll(() => tell(agent, 'try'), { timeout: 2_000 }).toEqual(FREE)
    },
  )
})

// Each in namespaces of its own for processes and for the network, on one file system: as containers on a volume.
const UNSHARE = ['unshare', '--pid', '--fork', '--mount-proc', '--net', '--kill-child'] as const
const canUnshare = spawnSync(UNSHARE[0], [...UNSHARE.slice(1), 'true']).status === 0
const contained = (runtime: Runtime): Runtime => ({
  name: `${runtime.name} in a container`,
  command: (reach) => [...UNSHARE, ...runtime.command(reach)],
})

describe(canUnshare ? 'containers' : 'containers (skipped: this user may not make namespaces)', () => {
  const pairs: [Runtime, Runtime][] = [
    [node, node],
    [bunRuntime, node],
    [node, bunRuntime],
    [node, denoRuntime],
    [denoSandbox, denoSandbox],
    [denoSandbox, node],
  ]
  test
    .runIf(canUnshare)
    .each(pairs.map(([holder, other]) => ({ names: named([holder, other]), holder, other })))(
    '$names, each as pid 1: refused while it lives, free once it is killed',
    async ({ holder, other }) => {
      const directory = freshFolder()
      const holding = await hold(contained(holder), directory)
      expect(holding.pid).toBe(1)
      expect(beaconsIn(directory)).toMatchObject({ abstractSocket: false, socket: holder !== denoSandbox })
      const agent = begin(contained(other), directory)
      const answer = (await tell(agent, 'try')) as { sync: { message: string } }
      expect(answer).toEqual(refused({ pid: 1, isOpen: true, isAlive: true }))
      if (holder !== denoSandbox) expect(answer.sync.message).toContain('process 1 ')
      if (holder !== denoSandbox) expect(answer.sync.message).toContain('in another container')
      expect(await tryHere(directory)).toEqual([locked({ pid: 1 }), locked({ pid: 1 })])
      await holding.kill()
      expect(await tell(agent, 'try')).toEqual(FREE)
      expect(await tryHere(directory)).toEqual(['free', 'free'])
    },
  )

  const onSameNetwork = UNSHARE.filter((option) => option !== '--net')
  const withNetwork = (runtime: Runtime): Runtime => ({
    name: `${runtime.name} in a container with the network of the machine`,
    command: (reach) => [...onSameNetwork, ...runtime.command(reach)] as [string, ...string[]],
  })
  const followers = [node, bunRuntime, denoRuntime]

  test.runIf(canUnshare && !isInContainer)(
    'one outside of them is seen on the same network: refused while it lives, free once it is killed',
    async () => {
      for (const runtime of followers) {
        const directory = freshFolder()
        const holding = await hold(runtime, directory)
        const where = { pid: holding.pid!, where: 'another-container', isOpen: true } as const
        expect(beaconsIn(directory)).toMatchObject(WITHOUT_FILE)
        const agents = followers.map((other) => begin(withNetwork(other), directory))
        for (const agent of agents)
          expect(await tell(agent, 'try'), runtime.name).toEqual(refused({ ...where, isAlive: true }))
        await holding.kill()
        for (const agent of agents) expect(await tell(agent, 'try'), runtime.name).toEqual(FREE)
      }
    },
  )

  // The price of a socket without a file: nothing is left that could be asked from there.
  test.runIf(canUnshare && !isInContainer)(
    'one outside of them is not seen from another network: refused, naming the file to remove',
    async () => {
      for (const other of followers) {
        const directory = freshFolder()
        const holding = await hold(node, directory)
        const where = { pid: holding.pid!, where: 'another-container', isOpen: true } as const
        const agent = begin(contained(other), directory)
        for (const isKilled of [false, true]) {
          if (isKilled) await holding.kill()
          const answer = (await tell(agent, 'try')) as { sync: { message: string; got: LockHolder } }
          expect(answer).toEqual(refused({ ...where, isAlive: false }))
          const { claim } = answer.sync.got
          expect(answer.sync.message).toContain(`if it certainly does not, remove ${claim}`)
          if (isKilled) rmSync(claim!)
        }
        expect(await tell(agent, 'try')).toEqual(FREE)
      }
    },
  )

  test.runIf(canUnshare)('without beacons, nobody is taken for dead across namespaces', async () => {
    const directory = freshFolder()
    const holding = await hold(contained(node), directory, 'hold dark')
    const agent = begin(contained(node), directory)
    const unknown = { pid: 1, where: 'another-container', isAlive: false } as const
    expect(await tell(agent, 'try')).toEqual(refused(unknown))
    await holding.kill()
    const answer = (await tell(agent, 'try')) as { sync: { got: LockHolder } }
    expect(answer).toEqual(refused(unknown))
    rmSync(answer.sync.got.claim!)
    expect(await tell(agent, 'try')).toEqual(FREE)
  })
})

test.runIf(process.platform === 'linux')(
  'a path too long for a socket: held, refused and freed, for all runtimes',
  async () => {
    for (const runtime of [node, bunRuntime, denoRuntime]) {
      const directory = join(freshFolder(), 'long'.repeat(40))
      mkdirSync(directory)
      const holder = await hold(runtime, directory)
      const { pid } = holder
      for (const other of [node, bunRuntime, denoRuntime]) {
        const agent = begin(other, directory)
        expect(await tell(agent, 'try'), other.name).toEqual(refused({ pid, isAlive: true }))
        await agent.kill()
      }
      await holder.kill()
      expect(await tryHere(directory)).toEqual(['free', 'free'])
    }
  },
)
