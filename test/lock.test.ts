import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { CaskyError } from '../src/errors'
import { type Beacon, nodeBeacon } from '../src/host/beacon'
import type { Host } from '../src/host/host'
import type { ProcessFacts } from '../src/host/machine'
import { nodeHost } from '../src/host/node'
import { acquireLock, acquireLockAsync, acquireLockSync, type Lock, type LockHolder } from '../src/lock'
import { freshFolder } from './support/folders'

const held: Lock[] = []
const servers: Server[] = []

afterEach(() => {
  for (const lock of held.splice(0)) lock.release()
  for (const server of servers.splice(0)) server.close()
})

function take(directory: string, beacon: Beacon = nodeBeacon, host: Host = nodeHost): Lock {
  const lock = acquireLockSync(host, beacon, directory)
  held.push(lock)
  return lock
}

async function takeAsync(directory: string, beacon: Beacon = nodeBeacon): Promise<Lock> {
  const lock = await acquireLockAsync(nodeHost, beacon, directory)
  held.push(lock)
  return lock
}

function lockedBy(attempt: () => unknown): CaskyError & { got: LockHolder } {
  try {
    attempt()
  } catch (error) {
    expect(error).toBeInstanceOf(CaskyError)
    expect(error).toMatchObject({ code: 'CASKY_LOCKED' })
    expect((error as Error).message).not.toContain('\n')
    return error as CaskyError & { got: LockHolder }
  }
  throw new Error('it took the lock')
}

const filesIn = (directory: string) => readdirSync(join(directory, 'LOCK')).sort()

/** As another copy of this thread would: without the list that copies in one thread share. */
function forget(): void {
  ;(globalThis as unknown as { [key: symbol]: Map<string, unknown> })[Symbol.for('casky.locks')]!.clear()
}

/** Draws a token lower than any other, so that it is for the others to withdraw. */
const lowest: Host = { ...nodeHost, random: (bytes) => new Uint8Array(bytes) }

const self = nodeBeacon.describeSelf(nodeHost)
/** One that lights nothing, as on a file system without sockets. */
const dark: Beacon = { ...nodeBeacon, light: () => undefined }

/** Puts a claim there, as if somebody else had. */
function forge(
  directory: string,
  claim: Partial<ProcessFacts> & Record<string, unknown>,
  suffix = 'claim',
): string {
  const lock = join(directory, 'LOCK')
  mkdirSync(lock, { recursive: true })
  const token = '0123456789abcdef'.repeat(2)
  const inode = String(statSync(lock).ino)
  const fields = {
    format: 1,
    token,
    ...self,
    sinceMs: 1_000,
    directory: inode,
    socket: false,
    fileLock: false,
  }
  const path = join(lock, `${token}.${suffix}`)
  writeFileSync(path, JSON.stringify({ ...fields, ...claim }))
  return path
}

describe('within one thread', () => {
  test('the second is refused, by a message that says who, since when and what to do', async () => {
    const directory = freshFolder()
    const before = Date.now()
    const { holder } = take(directory)
    const error = lockedBy(() => take(directory))
    expect(error.path).toBe(directory)
    expect(error.got).toMatchObject({ pid: process.pid, where: 'this-process', isOpen: true, isAlive: true })
    expect(error.got.sinceMs).toBeGreaterThanOrEqual(before)
    expect(error.message).toBe(
      `the store is open for writing in this very process, ${process.pid} (node ${process.versions.node}) since ` +
        `${new Date(holder.sinceMs!).toISOString()}; use that handle or close it first, or open with readOnly: true: ${directory}`,
    )
    await expect(takeAsync(directory)).rejects.toMatchObject({ code: 'CASKY_LOCKED' })
  })

  test('it is refused too while the first is still opening, and where the path is a link', () => {
    const directory = freshFolder()
    forge(directory, { pid: process.ppid, startTicks: startTicksOf(process.ppid) })
    const opening = acquireLock(lowest, { ...nodeBeacon, testProcess: () => 'alive' }, directory)
    expect(opening.next().value).toMatchObject({ kind: 'sleep' })
    const link = join(freshFolder(), 'link')
    symlinkSync(directory, link)
    expect(lockedBy(() => take(link)).got).toMatchObject({ where: 'this-process', isOpen: false })
    opening.return(undefined as never)
  })

  test('a release frees at once, leaves nothing behind, and may come twice or too late', async () => {
    const directory = freshFolder()
    const first = take(directory)
    expect(filesIn(directory)).toHaveLength(3)
    first.release()
    expect(filesIn(directory)).toEqual([])
    const second = await takeAsync(directory)
    first.release()
    expect(lockedBy(() => take(directory)).got.where).toBe('this-process')
    rmSync(directory, { recursive: true })
    second.release()
    second.release()
  })

  test('what fails or is given up leaves nothing behind', () => {
    const directory = freshFolder()
    const full = () => {
      throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' })
    }
    expect(() => take(directory, nodeBeacon, { ...nodeHost, write: full })).toThrow(/no space left/)
    expect(filesIn(directory)).toEqual([])
    forge(directory, {})
    const steps = acquireLock(lowest, { ...nodeBeacon, testProcess: () => 'alive' }, directory)
    expect(steps.next().value).toMatchObject({ kind: 'sleep' })
    expect(filesIn(directory)).toHaveLength(3)
    steps.return(undefined as never)
    expect(filesIn(directory)).toHaveLength(1)
    rmSync(join(directory, 'LOCK'), { recursive: true })
    take(directory)
  })
})

function startTicksOf(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]!
}

describe('LOCK', () => {
  test.each(['EACCES', 'EROFS', 'EPERM'])('that cannot be made (%s): the error proposes readOnly', (code) => {
    const makeDirectory = () => {
      throw Object.assign(new Error(code), { code })
    }
    expect(() => take(freshFolder(), nodeBeacon, { ...nodeHost, makeDirectory })).toThrow(
      expect.objectContaining({
        code: 'CASKY_IO',
        message: expect.stringMatching(`${code}.*readOnly: true`),
      }),
    )
  })

  test('that is a file, or a link to a directory, is no lock', () => {
    for (const make of [
      (path: string) => writeFileSync(path, ''),
      (path: string) => symlinkSync('.', path),
    ]) {
      const directory = freshFolder()
      make(join(directory, 'LOCK'))
      expect(() => take(directory)).toThrow(expect.objectContaining({ code: 'CASKY_NOT_A_STORE' }))
      expect(readdirSync(directory)).toEqual(['LOCK'])
    }
  })

  test('may hold garbage: what is foreign stays, what is dead goes, and both ways of opening work', async () => {
    for (const open of [take, takeAsync]) {
      const directory = freshFolder()
      const lock = join(directory, 'LOCK')
      mkdirSync(join(lock, 'folder'), { recursive: true })
      const token = (digit: string) => digit.repeat(32)
      for (const name of ['notes.txt', `${token('x')}.claim`, `${token('a')}.other`])
        writeFileSync(join(lock, name), '')
      const foreign = filesIn(directory)
      const dead = [`${token('1')}.claim`, `${token('2')}.tmp`, `${token('3')}.sock`, `${token('4')}.bind`]
      for (const name of dead) writeFileSync(join(lock, name), 'garbage')
      writeFileSync(join(lock, `${token('5')}.claim`), '{"format":1,"socket":true,"pid":"one"}')
      const { release } = await open(directory)
      release()
      expect(filesIn(directory)).toEqual(foreign)
    }
  })

  test('keeps the socket that answers, and the claim that goes with it', async () => {
    const directory = freshFolder()
    const lock = join(directory, 'LOCK')
    mkdirSync(lock)
    const socket = join(lock, `${'7'.repeat(32)}.sock`)
    servers.push(createServer().listen(socket))
    ;(await takeAsync(directory)).release()
    expect(existsSync(socket)).toBe(true)
    writeFileSync(join(lock, `${'7'.repeat(32)}.claim`), 'cut o')
    writeFileSync(join(lock, `${'7'.repeat(32)}.held`), '')
    expect(lockedBy(() => take(directory)).got).toMatchObject({ isOpen: true, isAlive: true })
    expect(filesIn(directory)).toHaveLength(3)
  })
})

function openFiles(): string[] {
  return readdirSync('/proc/self/fd').flatMap((handle) => {
    try {
      return [readlinkSync(`/proc/self/fd/${handle}`)]
    } catch {
      return []
    }
  })
}

describe('the beacon', () => {
  test('decides where the list of the process does not: in the same thread, sync and async', async () => {
    const directory = freshFolder()
    take(directory)
    forget()
    const error = lockedBy(() => take(directory))
    expect(error.got).toMatchObject({ pid: process.pid, isOpen: true, isAlive: true })
    if (process.platform === 'linux') expect(error.message).toContain('in this very process')
    await expect(takeAsync(directory)).rejects.toMatchObject({ code: 'CASKY_LOCKED' })
    expect(filesIn(directory)).toHaveLength(3)
  })

  test('works in a directory whose path is longer than a socket address, and leaks no handle there', async () => {
    const directory = join(freshFolder(), 'd'.repeat(120), 'é'.repeat(60))
    mkdirSync(directory, { recursive: true })
    take(directory)
    expect(filesIn(directory).map((name) => name.slice(33))).toEqual(['claim', 'held', 'sock'])
    for (let attempt = 0; attempt < 3; attempt++) {
      forget()
      expect(lockedBy(() => take(directory)).got.isAlive).toBe(true)
      await expect(takeAsync(directory)).rejects.toMatchObject({ code: 'CASKY_LOCKED' })
    }
    expect(openFiles().filter((path) => path.startsWith(directory))).toEqual([])
  })

  test('is believed alive when so many wait for its answer that no more can', async () => {
    const directory = freshFolder()
    const claim = forge(directory, { socket: true }, 'claim')
    writeFileSync(claim.replace('claim', 'held'), '')
    servers.push(createServer().listen({ path: claim.replace('claim', 'sock'), backlog: 1 }))
    // This thread is the one that would accept, and it stands still.
    for (let attempt = 0; attempt < 4; attempt++)
      expect(lockedBy(() => take(directory)).got.isAlive).toBe(true)
  })

  test('answers before it has its lasting name', async () => {
    const directory = freshFolder()
    let answer = 'not asked'
    const rename: Host['rename'] = (from, to) => {
      if (from.endsWith('.bind')) {
        const [, name] = from.split('/LOCK/')
        answer = nodeBeacon.answerSync(nodeHost, {
          kind: 'probe',
          directory: join(directory, 'LOCK'),
          name: name!,
        })
      }
      renameSync(from, to)
    }
    take(directory, nodeBeacon, { ...nodeHost, rename })
    expect(answer).toBe('alive')
  })

  test.each(['bind', 'tmp'])('starts over when someone who tidies up takes its %s file', async (suffix) => {
    const directory = freshFolder()
    let times = 0
    const rename: Host['rename'] = (from, to) => {
      if (from.endsWith(suffix) && times++ < 2) rmSync(from)
      renameSync(from, to)
    }
    take(directory, nodeBeacon, { ...nodeHost, rename })
    expect(times).toBe(3)
    expect(filesIn(directory)).toHaveLength(3)
    const always = { ...nodeHost, rename: (from: string) => renameSync(`${from}.gone`, from) }
    expect(() => take(freshFolder(), nodeBeacon, always)).toThrow(/vanish/)
  })

  test('of a copy is nobody: a live store that was copied opens', () => {
    for (const beacon of [nodeBeacon, dark]) {
      const directory = freshFolder()
      take(directory, beacon)
      const copy = join(freshFolder(), 'copy')
      cpSync(directory, copy, { recursive: true, filter: (path) => !path.endsWith('.sock') })
      expect(filesIn(copy).length).toBeGreaterThan(1)
      take(copy, beacon)
    }
  })
})

// Where there are no sockets, the pid must do; and only where it is known to mean the same.
describe.runIf(process.platform === 'linux')('without a beacon', () => {
  const startTicks = () => startTicksOf(process.ppid)

  test('a living process keeps its claim, and a thread of this process too', () => {
    const directory = freshFolder()
    const path = forge(directory, {
      pid: process.ppid,
      startTicks: startTicks(),
      runtime: 'bun 1.0.0',
      hostName: 'here',
    })
    writeFileSync(path.replace('claim', 'held'), '')
    const error = lockedBy(() => take(directory))
    expect(error.got).toMatchObject({ pid: process.ppid, where: 'another-process', isAlive: true })
    expect(error.message).toBe(
      `the store is open for writing in process ${process.ppid} (bun 1.0.0) on here since 1970-01-01T00:00:01.000Z; ` +
        `close it there first, or open with readOnly: true: ${directory}`,
    )
    const other = freshFolder()
    writeFileSync(forge(other, {}).replace('claim', 'held'), '')
    expect(lockedBy(() => take(other, dark)).got).toMatchObject({ pid: process.pid, where: 'this-process' })
  })

  test.each([
    ['whose pid is free', { pid: 4_194_303 }],
    ['whose pid another process has got since', { pid: process.ppid, startTicks: '1' }],
    ['whose pid this process has got since', { pid: process.pid, startTicks: '1' }],
    ['of an earlier start of the machine', { bootId: 'another', pid: process.ppid }],
  ])('a claim is dead %s', async (_, claim) => {
    for (const open of [take, takeAsync]) {
      const directory = freshFolder()
      const path = forge(directory, { startTicks: startTicks(), ...claim })
      await open(directory)
      expect(existsSync(path)).toBe(false)
    }
  })

  test.each([
    ['in another pid namespace', { pidNamespace: 'pid:[1]' }, 'another-container', nodeBeacon],
    [
      'in an unknown pid namespace',
      { pidNamespace: undefined, hostName: 'box' },
      'another-container',
      nodeBeacon,
    ],
    [
      'with a pid that is taken, and by whom is not known',
      { startTicks: undefined },
      'another-process',
      nodeBeacon,
    ],
    [
      'on another machine',
      { bootId: 'another', socket: true },
      'another-machine',
      { ...nodeBeacon, isShared: () => true },
    ],
    [
      'on a machine that is not known',
      { bootId: undefined, socket: true },
      'another-process',
      { ...nodeBeacon, isShared: () => true },
    ],
  ] as const)('%s it cannot be told: refused, naming the file to remove', (_, claim, where, beacon) => {
    const directory = freshFolder()
    const path = forge(directory, { pid: process.ppid, ...claim })
    writeFileSync(path.replace('claim', 'held'), '')
    const error = lockedBy(() => take(directory, beacon))
    expect(error.got).toMatchObject({ where, isOpen: true, isAlive: false, claim: path })
    expect(error.message).toContain(`can't be told from here; if it certainly does not, remove ${path}`)
    rmSync(path)
    take(directory, beacon)
    expect(filesIn(directory).filter((name) => name.endsWith('.claim'))).toHaveLength(1)
  })
})

describe('two that are opening', () => {
  const alive: Beacon = { ...dark, testProcess: () => 'alive' }

  test('the one with the higher token withdraws without waiting', () => {
    const directory = freshFolder()
    forge(directory, { pid: 5 })
    const highest = { ...nodeHost, random: (bytes: number) => new Uint8Array(bytes).fill(255) }
    const error = lockedBy(() => acquireLock(highest, alive, directory).next())
    expect(error.got).toMatchObject({ pid: 5, isOpen: false })
    expect(error.message).toContain('is being opened for writing in process 5')
  })

  test('the one with the lower token waits for it, some seconds at most', () => {
    const directory = freshFolder()
    const path = forge(directory, { pid: 5 })
    const waits = (onSleep: (sleptMs: number) => void): unknown => {
      const steps = acquireLock(lowest, alive, directory)
      let sleptMs = 0
      for (let step = steps.next(); ; step = steps.next('unknown')) {
        if (step.done) return held.push(step.value)
        expect(step.value.kind).toBe('sleep')
        if (step.value.kind === 'sleep') sleptMs += step.value.ms
        onSleep(sleptMs)
      }
    }
    let longestMs = 0
    const error = lockedBy(() =>
      waits((sleptMs) => {
        longestMs = sleptMs
      }),
    )
    expect(error.got).toMatchObject({ pid: 5, isOpen: false })
    expect(longestMs).toBeGreaterThanOrEqual(5_000)
    expect(longestMs).toBeLessThan(6_000)
    expect(filesIn(directory)).toHaveLength(1)
    waits((sleptMs) => {
      if (sleptMs > 50) rmSync(path, { force: true })
    })
  })

  test('the one with the lower token withdraws when the other turns out to have won', () => {
    const directory = freshFolder()
    const path = forge(directory, { pid: 5 })
    const steps = acquireLock(lowest, alive, directory)
    expect(steps.next().value).toMatchObject({ kind: 'sleep' })
    writeFileSync(path.replace('claim', 'held'), '')
    expect(lockedBy(() => steps.next('unknown')).got).toMatchObject({ pid: 5, isOpen: true })
  })

  test('one whose claim was removed by hand does not go on', () => {
    const directory = freshFolder()
    const path = forge(directory, { pid: 5 })
    const steps = acquireLock(lowest, alive, directory)
    expect(steps.next().value).toMatchObject({ kind: 'sleep' })
    rmSync(join(directory, 'LOCK', `${'0'.repeat(32)}.claim`))
    rmSync(path)
    expect(() => steps.next('unknown')).toThrow(/own claim was removed/)
  })
})
