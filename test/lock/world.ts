// A world of processes around one LOCK directory, in memory, where every call on the host or the beacon is one step
// that another process may come before. A contender is resumed by running it again from its start on the answers it
// got so far; so any interleaving can be tried, and states be compared.
import type { Beacon, LockWait } from '../../src/host/beacon'
import type { FileHandle, Host } from '../../src/host/host'
import type { Evidence } from '../../src/host/machine'
import { acquireLock } from '../../src/lock'

export type BeaconKind = 'abstract' | 'socket' | 'fileLock' | 'pid'

interface Node {
  content: string
  /** The process that listens on it or has locked it. */
  owner?: number
}

/** What lies on disk and who lives: all that contenders share. */
export interface World {
  files: Map<string, Node>
  /** Who listens on an abstract socket, by its token. */
  lit: Map<string, number>
  alive: boolean[]
  inside: boolean[]
}

export const newWorld = (processes: number): World => ({
  files: new Map(),
  lit: new Map(),
  alive: Array.from({ length: processes }, () => true),
  inside: Array.from({ length: processes }, () => false),
})

export const copyWorld = (world: World): World => ({
  files: new Map(Array.from(world.files, ([path, node]) => [path, { ...node }])),
  lit: new Map(world.lit),
  alive: [...world.alive],
  inside: [...world.inside],
})

export interface Setup {
  id: number
  token: string
  beacon: BeaconKind
  /** Which names a listing comes to first: as on a real file system, it takes time, and names move meanwhile. */
  listsFirst: 'low' | 'high'
}

type Logged = { value: unknown } | { error: { code: string } }
export type Outcome = 'running' | 'done' | 'locked' | 'failed'
export interface Contender {
  setup: Setup
  log: Logged[]
  /** Where in the log the part begins on which its future rests: what it saw before its last listing is forgotten. */
  from: number
  phase: 'staking' | 'looking' | 'holding'
  outcome: Outcome
  /** How many times it is to get in before it is done. */
  rounds: number
  wins: number
  /** It sleeps until someone else has moved. */
  sleeps: boolean
  error?: unknown
}

export const newContender = (setup: Setup, rounds = 1): Contender => ({
  setup,
  rounds,
  wins: 0,
  log: [],
  from: 0,
  phase: 'staking',
  outcome: 'running',
  sleeps: false,
})

/** Two contenders with the same key, in equal worlds, go on alike. */
export const keyOf = ({ log, from, phase, outcome, rounds, sleeps }: Contender): unknown =>
  outcome === 'running' ? [phase, rounds, log.slice(from), sleeps] : outcome

const READ_BYTES = 512

class Suspended extends Error {}
const fail = (code: string): never => {
  throw Object.assign(new Error(code), { code })
}

/** Runs a contender for one more step: it takes the lock, is inside for a step, and gives the lock back. */
export function advance(world: World, contender: Contender): void {
  const { setup, log } = contender
  ;(globalThis as { [key: symbol]: Map<string, unknown> | undefined })[Symbol.for('casky.locks')]?.clear()
  let cursor = 0
  let mayAct = true
  const call: Call = (act, phase) => {
    const logged = log[cursor++]
    if (logged === undefined) {
      if (!mayAct) throw new Suspended()
      mayAct = false
      if (phase !== undefined) Object.assign(contender, { phase, from: log.length })
      try {
        const value = act()
        log.push({ value })
        return value
      } catch (error) {
        log.push({ error: error as { code: string } })
        throw error
      }
    }
    if ('error' in logged) throw Object.assign(new Error(logged.error.code), { code: logged.error.code })
    return logged.value as ReturnType<typeof act>
  }
  contender.sleeps = false
  try {
    const host = hostOf(world, contender, call)
    const steps = acquireLock(host, beaconOf(world, setup, call, host), '/db')
    let step = steps.next()
    while (!step.done) {
      const wait: LockWait = step.value
      let answer: Evidence = 'unknown'
      if (wait.kind === 'probe') answer = call(() => connectTo(world, `${wait.directory}/${wait.name}`))
      else
        call(() => {
          contender.sleeps = true
        })
      step = steps.next(answer)
    }
    const lock = step.value
    call(() => {
      world.inside[setup.id] = true
    }, 'holding')
    call(() => {
      world.inside[setup.id] = false
    })
    lock.release()
    if (cursor > log.length) return
    contender.rounds--
    contender.wins++
    if (contender.rounds === 0) contender.outcome = 'done'
    else Object.assign(contender, { log: [], from: 0, phase: 'staking' })
  } catch (error) {
    if (cursor > log.length || error instanceof Suspended) return
    contender.outcome = (error as { code?: string }).code === 'CASKY_LOCKED' ? 'locked' : 'failed'
    contender.error = error
  }
}

export function kill(world: World, id: number): void {
  world.alive[id] = false
  world.inside[id] = false
}

const isLive = (world: World, owner: number | undefined) => owner !== undefined && world.alive[owner] === true

function connectTo(world: World, path: string): Evidence {
  const node = world.files.get(path)
  return node !== undefined && isLive(world, node.owner) ? 'alive' : 'dead'
}

type Call = <T>(act: () => T, phase?: Contender['phase']) => T

function hostOf(world: World, { setup, rounds }: Contender, call: Call): Host {
  const paths: string[] = []
  const openPath = (path: string, mode: string): FileHandle => {
    call(() => {
      const isThere = world.files.has(path)
      if (mode === 'create' && isThere) fail('EEXIST')
      if (mode !== 'create' && !isThere) fail('ENOENT')
      if (mode === 'create') world.files.set(path, { content: '' })
    })
    return paths.push(path) - 1
  }
  const half = (directory: string, isFirst: boolean) => {
    const list = () => {
      const wantsLow = (setup.listsFirst === 'low') === isFirst
      const names = Array.from(world.files.keys(), (path) => path.slice(directory.length + 1))
      return names.filter((name) => isLow(name) === wantsLow).sort()
    }
    return isFirst ? call(list, 'looking') : call(list)
  }
  let tokens = 0
  const known: Partial<Host> = {
    open: openPath,
    close: () => {},
    status: () => ({ bytes: READ_BYTES, links: 1 }),
    read: (file, into, at) => {
      const content = call(() => world.files.get(paths[file]!)?.content ?? '')
      return new TextEncoder().encodeInto(content.padEnd(READ_BYTES), into.subarray(at)).written
    },
    write: (file, from, at, bytes) => {
      const text = new TextDecoder().decode(from.subarray(at, at + bytes))
      call(() => {
        const node = world.files.get(paths[file]!)
        if (node !== undefined) node.content = text
      })
      return bytes
    },
    inspect: (path) => {
      // Each process sees another device, for they share this one's list of held locks.
      if (path.endsWith('/LOCK')) return { kind: 'directory' as const, bytes: 0, identity: `${setup.id}:1` }
      // Whatever comes between this and the open, the open will meet.
      return { kind: 'file' as const, bytes: 0, identity: `${setup.id}:2` }
    },
    list: (directory) => [...half(directory, true), ...half(directory, false)],
    rename: (from, to) =>
      call(() => {
        const node = world.files.get(from) ?? fail('ENOENT')
        world.files.delete(from)
        world.files.set(to, node)
      }),
    remove: (path) =>
      call(() => {
        if (!world.files.delete(path)) fail('ENOENT')
      }),
    nowMs: () => 1_000,
    clockMs: () => 1_000,
    random: (bytes) => new Uint8Array(bytes).fill(Number.parseInt(setup.token, 16) + 4 * rounds + tokens++),
  }
  return known as Host
}

// Of names under one token, some come early and some late; which, is of no matter.
const isLow = (name: string) => [...name].reduce((sum, letter) => sum + letter.charCodeAt(0), 0) % 2 === 0

function beaconOf(world: World, setup: Setup, call: Call, host: Host): Beacon {
  const { id, beacon: kind } = setup
  const known: Partial<Beacon> = {
    describeSelf: () => ({
      pid: id,
      runtime: 'test',
      pidNamespace: 'one',
      netNamespace: 'one',
      bootId: 'one',
    }),
    // So that the devices don't count.
    isShared: () => true,
    testProcess: (_host, _self, was) => call(() => (isLive(world, was.pid) ? 'alive' : 'dead')),
    lightAbstract: (_host, _self, _directory, token) => {
      if (kind !== 'abstract') return undefined
      call(() => {
        world.lit.set(token, id)
      })
      return {
        release: () =>
          call(() => {
            world.lit.delete(token)
          }),
      }
    },
    testAbstract: (_host, token) => call(() => (isLive(world, world.lit.get(token)) ? 'alive' : 'dead')),
    light: (_host, directory, bindName, name) => {
      if (kind !== 'socket') return undefined
      const path = `${directory}/${bindName}`
      const node: Node = { content: '' }
      const bound = call(() => {
        world.files.set(path, node)
        return true
      })
      if (!bound) return undefined
      call(() => {
        const found = world.files.get(path)
        if (found !== undefined) found.owner = id
      })
      try {
        host.rename(path, `${directory}/${name}`)
      } catch (error) {
        if (error instanceof Suspended) throw error
        return 'taken'
      }
      return { release: () => call(() => disown(world, id)) }
    },
    lockFile: (path) => {
      if (kind !== 'fileLock') return undefined
      call(() => {
        const node = world.files.get(path)
        if (node !== undefined) node.owner = id
      })
      return { release: () => call(() => disown(world, id)) }
    },
    testFile: (_host, path) => call(() => connectTo(world, path)),
  }
  return known as Beacon
}

function disown(world: World, id: number): void {
  for (const node of world.files.values()) if (node.owner === id) delete node.owner
}
