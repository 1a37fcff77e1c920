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
import { cp } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { CaskyError } from '../src/errors'
import { type Beacon, nodeBeacon } from '../src/host/beacon'
import type { Host } from '../src/host/host'
import { type ProcessFacts, testAbstractSocket } from '../src/host/machine'
import { nodeHost } from '../src/host/node'
import { openSync } from '../src/index'
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
const dark: Beacon = { ...nodeBeacon, lightAbstract: () => undefined, light: () => undefined }
/** One whose socket is a file, as in a container. */
const withFile: Beacon = { ...nodeBeacon, lightAbstract: () => undefined }
const isInContainer = self.pidNamespace !== 'pid:[4026531836]'

const FORGED = '0123456789abcdef'.repeat(2)

/** Puts a claim there, as if somebody else had. */
function forge(
  directory: string,
  claim: Partial<ProcessFacts> & Record<string, unknown>,
  suffix = 'claim',
): string {
  const lock = join(directory, 'LOCK')
  mkdirSync(lock, { recursive: true })
  const inode = String(statSync(lock).ino)
  const fields = {
    format: 1,
    token: FORGED,
    ...self,
    sinceMs: 1_000,
    directory: inode,
    socket: false,
    fileLock: false,
    abstractSocket: false,
  }
  const path = join(lock, `${FORGED}.${suffix}`)
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
    const first = take(directory, withFile)
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
    const steps = acquireLock(lowest, { ...withFile, testProcess: () => 'alive' }, directory)
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
  test.each([
    { kind: 'with a file', beacon: withFile, files: 3 },
    ...(isInContainer ? [] : [{ kind: 'without a file', beacon: nodeBeacon, files: 2 }]),
  ])('$kind decides where the list of the process does not', async ({ beacon, files }) => {
    const directory = freshFolder()
    const { release } = take(directory, beacon)
    forget()
    const error = lockedBy(() => take(directory))
    expect(error.got).toMatchObject({ pid: process.pid, isOpen: true, isAlive: true })
    if (process.platform === 'linux') expect(error.message).toContain('in this very process')
    await expect(takeAsync(directory)).rejects.toMatchObject({ code: 'CASKY_LOCKED' })
    expect(filesIn(directory)).toHaveLength(files)
    release()
    expect(filesIn(directory)).toEqual([])
    expect(openFiles().filter((path) => path.startsWith(directory))).toEqual([])
  })

  test('works in a directory whose path is longer than a socket address, and leaks no handle there', async () => {
    const directory = join(freshFolder(), 'd'.repeat(120), 'é'.repeat(60))
    mkdirSync(directory, { recursive: true })
    take(directory, withFile)
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
    take(directory, withFile, { ...nodeHost, rename })
    expect(answer).toBe('alive')
  })

  test.each(['bind', 'tmp'])('starts over when someone who tidies up takes its %s file', async (suffix) => {
    const directory = freshFolder()
    let times = 0
    const rename: Host['rename'] = (from, to) => {
      if (from.endsWith(suffix) && times++ < 2) rmSync(from)
      renameSync(from, to)
    }
    take(directory, withFile, { ...nodeHost, rename })
    expect(times).toBe(3)
    expect(filesIn(directory)).toHaveLength(3)
    const always = { ...nodeHost, rename: (from: string) => renameSync(`${from}.gone`, from) }
    expect(() => take(freshFolder(), nodeBeacon, always)).toThrow(/vanish/)
  })

  test('of a copy is nobody: a live store that was copied opens', () => {
    for (const beacon of [nodeBeacon, withFile, dark]) {
      const directory = freshFolder()
      take(directory, beacon)
      const copy = join(freshFolder(), 'copy')
      // Node refuses to copy sockets.
      const hasFile = isInContainer || beacon === withFile
      cpSync(directory, copy, { recursive: true, filter: (path) => !hasFile || !path.endsWith('.sock') })
      expect(filesIn(copy).length).toBeGreaterThan(1)
      take(copy, beacon)
    }
  })
})

describe.runIf(!isInContainer)('the abstract socket', () => {
  const abstractSocket = true
  const isSeen = (token: string) => nodeBeacon.testAbstract(nodeHost, token)
  const listenTo = (name: string) => servers.push(createServer().listen(`\0${name}`))

  test('keeps the number of the inode that its claim rests on, and lets go of it', () => {
    const directory = freshFolder()
    const { release } = take(directory)
    const [token] = filesIn(directory).map((name) => name.slice(0, 32))
    expect(isSeen(token!)).toBe('alive')
    expect(openFiles()).toContain(join(directory, 'LOCK'))
    release()
    expect(isSeen(token!)).toBe('dead')
    expect(openFiles()).not.toContain(join(directory, 'LOCK'))
  })

  test('decides whoever has the pid, and is not mistaken for one with a longer name', async () => {
    listenTo(`casky-${FORGED}0`)
    listenTo(`0casky-${FORGED}`)
    for (const open of [take, takeAsync]) {
      const directory = freshFolder()
      const claim = forge(directory, {
        abstractSocket,
        pid: process.ppid,
        startTicks: startTicksOf(process.ppid),
      })
      await open(directory)
      expect(existsSync(claim)).toBe(false)
    }
  })

  test.each([
    ['as it is', 0],
    ['filled up with zeros', 107],
  ])('is found by its name %s', (_, length) => {
    const directory = freshFolder()
    const claim = forge(directory, { abstractSocket, pid: 4_194_303 })
    listenTo(`casky-${FORGED}`.padEnd(length, '\0'))
    expect(lockedBy(() => take(directory)).got).toMatchObject({ isAlive: true })
    writeFileSync(claim, 'cut o')
    expect(lockedBy(() => take(directory)).got).toMatchObject({ isAlive: true })
  })

  test('of the original does not speak for a copy, nor for a snapshot, which keeps the inodes', () => {
    listenTo(`casky-${FORGED}`)
    for (const where of [{ directory: '1' }, { device: '1' }]) {
      const directory = freshFolder()
      const claim = forge(directory, { abstractSocket, ...where })
      take(directory)
      expect(existsSync(claim)).toBe(false)
    }
    const directory = freshFolder()
    forge(directory, { abstractSocket, device: '1' })
    // As where it is mounted twice.
    expect(lockedBy(() => take(directory, { ...nodeBeacon, isShared: () => true })).got.isAlive).toBe(true)
  })

  test.each([
    ['in another network namespace', { netNamespace: 'net:[1]' }],
    ['in one that is not known', { netNamespace: undefined }],
    ['of a start of the machine that is not known', { bootId: undefined }],
  ])('%s can not be seen: the pid must do', (_, unlike) => {
    const parent = { pid: process.ppid, startTicks: startTicksOf(process.ppid) }
    const directory = freshFolder()
    const claim = forge(directory, { abstractSocket, ...parent, ...unlike })
    expect(lockedBy(() => take(directory)).got).toMatchObject({ isAlive: true })
    forge(directory, { abstractSocket, ...parent, ...unlike, pidNamespace: 'pid:[1]' })
    const error = lockedBy(() => take(directory))
    expect(error.got).toMatchObject({ where: 'another-container', isAlive: false })
    expect(error.message).toContain(`if it certainly does not, remove ${claim}`)
    forge(directory, { abstractSocket, ...parent, ...unlike, startTicks: '1' })
    take(directory)
  })

  test('that the system does not list is no beacon: one with a file takes its place', async () => {
    vi.resetModules()
    const { nodeBeacon: fresh } = await import('../src/host/beacon')
    const open: Host['open'] = (path, mode) => {
      if (path.endsWith('/net/unix')) throw Object.assign(new Error('EACCES'), { code: 'EACCES' })
      return nodeHost.open(path, mode)
    }
    const directory = freshFolder()
    take(directory, fresh, { ...nodeHost, open })
    expect(filesIn(directory).map((name) => name.slice(33))).toEqual(['claim', 'held', 'sock'])
    expect(openFiles()).not.toContain(join(directory, 'LOCK'))
  })
})

describe('of the sockets that the system lists', () => {
  const line = (inode: number, name = '') =>
    `0: 00000002 00000000 00010000 0001 01 ${inode}${name && ` ${name}`}`
  const HEAD = 'Num       RefCount Protocol Flags    Type St Inode Path'

  /** What is made of listings, of which the last one stays, in reads of a few bytes each. */
  function judge(...listings: string[][]): [evidence: string, looks: number] {
    let looks = 0
    let bytes = new Uint8Array()
    const host: Partial<Host> = {
      open: () => {
        const listing = listings[Math.min(looks++, listings.length - 1)]!
        bytes = new TextEncoder().encode(listing.map((each) => `${each}\n`).join(''))
        return 1
      },
      close: () => {},
      read: (_file, into, at, _bytes, position) => {
        const part = bytes.subarray(position, position + 7)
        into.set(part, at)
        return part.length
      },
    }
    const evidence = testAbstractSocket(host as Host, 'casky-me')
    return [evidence, looks]
  }

  test('one that is there is alive, and one that is not in two listings alike is dead', () => {
    expect(judge([HEAD, line(1), line(2, '@casky-me')])).toEqual(['alive', 1])
    expect(judge([HEAD, line(1), line(2, '@casky-me@@@'), line(3)])).toEqual(['alive', 1])
    const others = [
      line(1, '@casky-mean'),
      line(2, '/tmp/@casky-me'),
      line(3, '@casky'),
      line(4, '@@casky-me'),
    ]
    expect(judge([HEAD, ...others])).toEqual(['dead', 2])
  })

  test('one may have been skipped where another went away: they are listed anew', () => {
    const gone = [HEAD, line(1, '@a'), line(2, '@b')]
    expect(judge(gone, [HEAD, line(2, '@b'), line(3, '@casky-me')])).toEqual(['alive', 2])
    expect(judge(gone, [HEAD, line(2, '@b')])).toEqual(['dead', 3])
    expect(judge([HEAD, line(1, '@a')], [HEAD, line(1, '@a'), line(2, '@b')])).toEqual(['dead', 2])
    // The same name is not the same socket; one that waits to be accepted is none yet.
    expect(judge([HEAD, line(1, '@a')], [HEAD, line(2, '@a')])).toEqual(['dead', 3])
    expect(judge([HEAD, line(0, '@a'), line(1)], [HEAD])).toEqual(['dead', 2])
  })

  test('nothing is certain where they change all the time, or the listing is none', () => {
    const changing = Array.from({ length: 100 }, (_, inode) => [HEAD, line(inode + 1, '@a')])
    const [evidence, looks] = judge(...changing)
    expect(evidence).toBe('unknown')
    expect(looks).toBeLessThan(20)
    expect(judge([])).toEqual(['unknown', 1])
    expect(judge(['garbage'])).toEqual(['unknown', 1])
  })
})

describe.runIf(!isInContainer)('a store that is open for writing', () => {
  test('can be copied by fs.cp; the copy opens as a store of its own, and the original stays locked', async () => {
    const directory = join(freshFolder(), 'live')
    const copies = [0, 1].map((each) => join(freshFolder(), `copy ${each}`))
    const store = openSync(directory)
    for (let each = 0; each < 100; each++) store.putSync(`key ${each}`, `value ${each}`)
    cpSync(directory, copies[0]!, { recursive: true })
    await cp(directory, copies[1]!, { recursive: true })
    forget()
    for (const copy of copies) {
      const other = openSync(copy)
      expect(other.size).toBe(100)
      expect(other.get('key 99')).toBe('value 99')
      other.putSync('key 100', 'only here')
      forget()
      expect(() => openSync(copy)).toThrow(expect.objectContaining({ code: 'CASKY_LOCKED' }))
      other.closeSync()
    }
    expect(() => openSync(directory)).toThrow(expect.objectContaining({ code: 'CASKY_LOCKED' }))
    expect(store.size).toBe(100)
    store.closeSync()
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
