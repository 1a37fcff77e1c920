// Single things to do, in any runtime; the answer is one line of JSON.
import * as fs from 'node:fs'
import process from 'node:process'
import { type Casky, dump, openSync } from '../../../src/index'

const [chore, ...given] = process.argv.slice(2) as [string, ...string[]]

interface Told {
  code: string | undefined
  path: string | undefined
  message: string
}

function told(error: unknown): Told {
  const { code, path, message } = error as Told
  return { code, path, message }
}

/** How a call ended: 'fine', or what it threw. */
async function outcome(run: () => unknown): Promise<'fine' | Told> {
  try {
    await run()
    return 'fine'
  } catch (error) {
    return told(error)
  }
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** What this process has open. Deno opens files of its own when it likes. */
function openHandles(): string[] {
  const handles = process.platform === 'linux' ? fs.readdirSync('/proc/self/fd') : []
  return handles.map(targetOf).filter((target) => !target.includes('/.deno/'))
}

function targetOf(file: string): string {
  try {
    return fs.readlinkSync(`/proc/self/fd/${file}`)
  } catch {
    return 'gone'
  }
}

const countHandles = (): number => openHandles().length

/** What stays open a moment longer than a call, like the socket of a lock, is no leak. */
async function settledHandles(expected: number): Promise<number> {
  for (let tries = 0; countHandles() > expected && tries < 40; tries++) await sleep(25)
  return countHandles()
}

const small = { maxSegmentBytes: 4096, cacheBytes: 0 }
const entriesOf = (db: Casky): [string, string][] => [...db.entries()]

/** Opens for writing, puts something, and opens again. */
function look([path]: string[]): unknown {
  const db = openSync(path, { cacheBytes: 0 })
  const entries = entriesOf(db)
  const health = db.health()
  db.putSync('looked', 'x')
  db.deleteSync('looked')
  db.closeSync()
  const second = openSync(path, { cacheBytes: 0 })
  const again = entriesOf(second)
  second.closeSync()
  return { entries, again, health }
}

/** Fills a disk until nothing more goes in, in every way that there is, and again once there is room. */
async function fill([path, ballast, seed]: string[]): Promise<unknown> {
  const faults: string[] = []
  const refusals: Record<string, number> = {}
  const expected = new Map<string, string>()
  const refused = new Set<string>()
  let n = Number(seed)
  const value = (i: number, length: number): string => `${i} ${'v'.repeat(length)}`
  const note = (error: unknown, way: string): void => {
    const { code, message } = told(error)
    refusals[`${way} ${code}`] = (refusals[`${way} ${code}`] ?? 0) + 1
    if (code !== 'CASKY_NO_SPACE') faults.push(`${way}: ${code} ${message}`)
  }
  const check = (db: Casky, when: string): void => {
    for (const [key, text] of expected) {
      if (db.get(key) !== text)
        faults.push(`${when}: ${key} is ${db.get(key)?.slice(0, 20)}, not ${text.slice(0, 20)}`)
    }
    for (const key of refused) if (db.has(key)) faults.push(`${when}: ${key} was refused, and is there`)
    const listed = entriesOf(db).length
    if (listed !== expected.size)
      faults.push(`${when}: ${listed} are listed, ${expected.size} were acknowledged`)
  }
  const ways: Record<string, (db: Casky) => Promise<boolean>> = {
    group: async (db) => {
      const writes = Array.from({ length: 5 }, () => [`group ${n}`, value(n++, 60 + (n % 90))] as const)
      const ended = await Promise.allSettled(writes.map(([key, text]) => db.put(key, text)))
      return settle(
        writes,
        ended.every(({ status }) => status === 'fulfilled'),
        ended,
      )
    },
    batch: async (db) => {
      const writes = Array.from({ length: 8 }, () => [`batch ${n}`, value(n++, 200)] as const)
      const batch = writes.map(([key, text]) => ({ type: 'put' as const, key, value: text }))
      const ended = await Promise.allSettled([db.batch(batch)])
      return settle(writes, ended[0].status === 'fulfilled', ended)
    },
    large: async (db) => {
      const writes = [[`large ${n}`, value(n++, 40_000 + (n % 9999))] as const]
      const ended = await Promise.allSettled([db.put(...writes[0])])
      return settle(writes, ended[0].status === 'fulfilled', ended)
    },
    sync: async (db) => {
      const writes = [[`sync ${n}`, value(n++, n % 50)] as const]
      const ended = await Promise.allSettled([(async () => db.putSync(...writes[0]))()])
      return settle(writes, ended[0].status === 'fulfilled', ended)
    },
  }
  function settle(
    writes: (readonly [string, string])[],
    isAll: boolean,
    ended: PromiseSettledResult<unknown>[],
  ): boolean {
    for (const [i, [key, text]] of writes.entries()) {
      if ((ended[i] ?? ended[0]).status === 'fulfilled') expected.set(key, text)
      else refused.add(key)
    }
    for (const each of ended) if (each.status === 'rejected') note(each.reason, writes[0][0].split(' ')[0])
    return isAll
  }
  let db = openSync(path, small)
  for (let round = 0; round < 4; round++) {
    for (const way of Object.values(ways)) {
      for (let tries = 0; tries < 2000 && (await way(db)); tries++);
      check(db, `full, round ${round}`)
    }
    if (round % 2 === 0) {
      // Closed while there is no room for a seal, nor for a manifest.
      const closed = await outcome(() => db.close())
      if (closed !== 'fine') faults.push(`close on a full disk: ${closed.code} ${closed.message}`)
      const reader = openSync(path, { ...small, readOnly: true })
      check(reader, `read-only, full, round ${round}`)
      reader.closeSync()
      db = openSync(path, small)
      check(db, `opened on a full disk, round ${round}`)
    }
    const ballasts = fs.readdirSync(ballast)
    if (ballasts.length > 0) fs.rmSync(`${ballast}/${ballasts[0]}`)
    let written = 0
    for (const way of Object.values(ways)) if (await way(db)) written++
    if (ballasts.length > 0 && written === 0)
      faults.push(`round ${round}: no write goes in though there is room`)
    check(db, `with room again, round ${round}`)
  }
  const closed = await outcome(() => db.close())
  if (closed !== 'fine') faults.push(`close: ${closed.code} ${closed.message}`)
  const again = openSync(path, small)
  check(again, 'opened again')
  const health = again.health()
  if (!health.ok) faults.push(`health: ${JSON.stringify(health)}`)
  again.closeSync()
  return { faults, refusals, acknowledged: expected.size, refused: refused.size }
}

/** Tries to read and to write where writing is not possible. */
async function tryBoth([path]: string[]): Promise<unknown> {
  const handles = countHandles()
  let entries: unknown
  const read = await outcome(async () => {
    const db = openSync(path, { readOnly: true, cacheBytes: 0 })
    entries = entriesOf(db)
    await db.check()
    db.closeSync()
  })
  const dumped = await outcome(() => [...dump(path)].length)
  const write = await outcome(() => openSync(path).closeSync())
  const make = await outcome(() => openSync(`${path}/inner`).closeSync())
  return { read, dumped, entries, write, make, leaked: (await settledHandles(handles)) - handles }
}

/** Leaves so many handles free for `run`, and takes the others. */
async function withHandles<T>(free: number, run: () => Promise<T>): Promise<T> {
  const taken: number[] = []
  for (;;) {
    try {
      taken.push(fs.openSync('/dev/null', 'r'))
    } catch {
      break
    }
  }
  for (const file of taken.splice(0, free)) fs.closeSync(file)
  try {
    return await run()
  } finally {
    for (const file of taken) fs.closeSync(file)
  }
}

/** Works with no handle left, with one, and so on, until everything goes. */
async function starve([path]: string[]): Promise<unknown> {
  const faults: string[] = []
  const codes: Record<string, number> = {}
  const expected = new Map<string, string>()
  const use = (store: string, i: number): void => {
    const db = openSync(store, small)
    try {
      for (let write = 0; write < 8; write++) {
        const [key, text] = [`key ${i} ${write % 3}`, `${write} ${'v'.repeat(900)}`]
        db.putSync(key, text)
        expected.set(key, text)
      }
      for (const [key, text] of expected)
        if (db.get(key) !== text) faults.push(`with ${i} handles ${key} is wrong`)
    } finally {
      db.closeSync()
    }
  }
  use(`${path}0`, 0)
  // Deno makes a pair of sockets of its own when it is first refused a handle; what casky leaves open grows and grows.
  const handles = countHandles() + ('Deno' in globalThis ? 2 : 0)
  const known = openHandles()
  let isEnough = false
  for (let free = 0; free < 40 && !isEnough; free++) {
    // One that grows for ever would need more and more of them.
    const store = `${path}${free}`
    expected.clear()
    use(store, 0)
    const ended = await withHandles(free, () => outcome(() => use(store, free + 1)))
    const code = ended === 'fine' ? 'fine' : String(ended.code)
    codes[code] = (codes[code] ?? 0) + 1
    if (ended !== 'fine' && !/^CASKY_/.test(code))
      faults.push(`with ${free} handles: ${code} ${ended.message}`)
    isEnough = ended === 'fine'
    const now = await settledHandles(handles)
    if (now > handles) {
      faults.push(
        `with ${free} handles: ${now - handles} are left open: ${openHandles().filter((each) => !known.includes(each))}`,
      )
      return { faults, codes }
    }
    const after = await outcome(() => use(store, 1000 + free))
    if (after !== 'fine') faults.push(`after ${free} handles: ${after.code} ${after.message}`)
  }
  if (!isEnough) faults.push('it never went')
  expected.clear()
  for (let round = 0; round < 40; round++) {
    fs.rmSync(`${path}0`, { recursive: true, force: true })
    const ended = await outcome(() => (round % 2 === 0 ? use(`${path}0`, 1) : openSync('/dev/null/store')))
    if (round % 2 === 0 && ended !== 'fine') faults.push(`round ${round}: ${ended.code} ${ended.message}`)
  }
  const now = await settledHandles(handles)
  if (now > handles) faults.push(`after 40 rounds ${now - handles} handles are left open`)
  return { faults, codes }
}

/** Opens, writes and reads a store that has more segments than this process may have handles. */
async function crowd([path, segments]: string[]): Promise<unknown> {
  const faults: string[] = []
  const codes: Record<string, number> = {}
  for (let i = 0; i < Number(segments); i++) {
    const ended = await outcome(() => {
      const db = openSync(path, small)
      try {
        for (let key = 0; key < i; key++)
          if (db.get(`key ${key}`) !== `value ${key}`) faults.push(`key ${key} is wrong`)
        db.putSync(`key ${i}`, `value ${i}`)
      } finally {
        db.closeSync()
      }
    })
    if (ended !== 'fine') return { faults: [`with ${i} segments: ${ended.code} ${ended.message}`], codes }
    // Deno closes the lock's socket with the next turn of the event loop only.
    await new Promise((resolve) => setTimeout(resolve))
  }
  return { faults, codes }
}

/** The directory goes away under an open store. */
async function vanish([path, sync]: string[]): Promise<unknown> {
  const faults: string[] = []
  const outcomes: string[] = []
  const handles = countHandles()
  const db = openSync(path, { ...small, sync: sync as 'always' | 'never' })
  await db.put('before', '1')
  fs.rmSync(path, { recursive: true })
  let isNoticed = false
  for (let i = 0; i < 40; i++) {
    const ended = await outcome(() =>
      i % 3 === 0 ? db.putSync(`key ${i}`, 'v'.repeat(500)) : db.put(`key ${i}`, 'v'.repeat(500)),
    )
    outcomes.push(ended === 'fine' ? 'fine' : String(ended.code))
    if (ended === 'fine' && isNoticed) faults.push(`write ${i} was acknowledged after it had been noticed`)
    if (ended === 'fine' && sync === 'always') faults.push(`write ${i} was acknowledged as being on disk`)
    if (ended !== 'fine') isNoticed = true
    if (ended !== 'fine' && !/^CASKY_(POISONED|IO)$/.test(String(ended.code)))
      faults.push(`write ${i}: ${ended.code}`)
    if (ended !== 'fine' && !ended.message.includes(path))
      faults.push(`the error does not name it: ${ended.message}`)
  }
  if (!isNoticed) faults.push('it was never noticed')
  const flushed = await outcome(() => db.flush())
  if (flushed === 'fine') faults.push('flush says that all is on disk')
  const closed = await outcome(() => db.close())
  outcomes.push(closed === 'fine' ? 'closed' : `close ${closed.code}`)
  if (fs.existsSync(path)) faults.push('the directory is there again')
  const anew = openSync(path)
  if (anew.size !== 0) faults.push('a new store is not empty')
  await anew.put('after', '2')
  await anew.close()
  const left = (await settledHandles(handles)) - handles
  if (left > 0) faults.push(`${left} handles are left open`)
  return { faults, outcomes: [...new Set(outcomes)] }
}

const CHORES: Record<string, (given: string[]) => unknown> = { look, fill, tryBoth, starve, crowd, vanish }
console.log(JSON.stringify(await CHORES[chore](given)))
