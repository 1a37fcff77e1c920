// A process that opens hostile stores, so that it may hang, crash or run out of memory without taking the tests along.
// A line comes in with what to do, a line goes out with what was wrong.
import { isAbsolute, join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import type * as Casky from '../../src/index'
import { ATTACKS } from './attacks'
import type { Bases } from './bases'
import { bytesOf, fingerprint, type Image, readImage, writeImage } from './image'
import { makeImport, runImport } from './imports'
import { makeCase, segmentNames } from './mutate'
import { untouched as fs, guard, largestAllocation } from './watch'

export interface Order {
  case?: number
  attack?: string
  import?: number
}

export interface Fault {
  step: string
  what: string
}

export interface Answer {
  faults: Fault[]
  /** How the steps ended: how often each code. */
  codes: Record<string, number>
  story: string[]
  /** How long the longest steps took. */
  slowMs: Record<string, number>
}

/** A step that takes longer is told of. */
const SLOW_MS = 1000

/** The closed set, copied from the documentation on purpose: a new code has to be added here. */
const CODES = new Set(
  (
    'INVALID_PATH INVALID_OPTION INVALID_ARGUMENT INVALID_KEY INVALID_VALUE INVALID_TTL INVALID_BATCH NOT_FOUND ' +
    'EXISTS NOT_A_STORE NEWER_FORMAT LOCKED CLOSED READ_ONLY CORRUPT POISONED NO_SPACE IO ABORTED'
  )
    .split(' ')
    .map((code) => `CASKY_${code}`),
)
const INTERNAL = new Set([
  'TypeError',
  'RangeError',
  'ReferenceError',
  'SyntaxError',
  'RuntimeError',
  'Error',
])

/** What one allocation may take: what every store needs, and a small multiple of what its files hold. */
const FIXED_BYTES = 2 ** 20
const MULTIPLE = 8
/** What one case may add to the heap and to the memory outside of it, garbage included. */
const GROWTH_BYTES = 400 * 2 ** 20

const [home, bundle] = process.argv.slice(2)
// Not known when this is compiled: the tests put changed ones here.
const casky = (await import(isAbsolute(bundle) ? bundle : resolve(bundle))) as typeof Casky

const outside = join(home, 'outside')
const store = join(home, 'case', 'store')
const fifo = join(home, 'fifo')
const bases: Bases = Object.fromEntries(
  fs.readdirSync(join(home, 'bases')).map((name) => [name, readImage(join(home, 'bases', name))]),
)
/** Stands in the store outside, and nowhere else. */
const SECRET = Buffer.from('outside secret')

/** How far it is, for whoever finds it dead: a file, since a line each time would wake the reader. */
const progress = fs.openSync(join(home, 'progress'), 'w')
const STEP_CHARS = 40

let answer: Answer
let step = ''
/** What the last step that failed threw. */
let lastError = ''

function fault(what: string): void {
  answer.faults.push({ step, what })
}

function count(code: string): void {
  answer.codes[code] = (answer.codes[code] ?? 0) + 1
}

function judge(error: unknown): void {
  const { name, code, message, path, stack } = error as Partial<Casky.CaskyError>
  lastError = `${code} ${message}`
  const where = (stack ?? '').split('\n').slice(1, 4).join(' ')
  if (name !== 'CaskyError' || code === undefined || !CODES.has(code)) {
    count('internal')
    fault(`throws ${name} ${code}: ${message} ${where}`)
    return
  }
  count(code)
  if (/please report|undefined|NaN|\[object/.test(message ?? '')) fault(`says: ${message}`)
  if (path !== undefined && !path.startsWith(join(home, 'case'))) fault(`names a path outside: ${path}`)
  for (let cause = (error as Error).cause as Error | undefined; cause != null; cause = cause.cause as Error) {
    if (!INTERNAL.has(cause.name) || (cause as { code?: string }).code !== undefined) continue
    if (!/not a regular file|longer than|deleted while|wrote nothing/.test(cause.message))
      fault(`${code} hides a ${cause.name}: ${cause.message} ${where}`)
  }
}

async function attempt<T>(
  name: string,
  mayWrite: boolean,
  run: () => T | Promise<T>,
): Promise<T | undefined> {
  step = name
  fs.writeSync(progress, name.padEnd(STEP_CHARS), 0)
  const roots = [fs.realpathSync(join(home, 'case'))]
  const startMs = performance.now()
  guard({ roots: mayWrite && name === 'repair' ? roots : [join(roots[0], 'store')], mayWrite })
  try {
    const result = await run()
    count('fine')
    return result
  } catch (error) {
    judge(error)
    return undefined
  } finally {
    for (const each of guard(undefined)) fault(each)
    const tookMs = performance.now() - startMs
    if (tookMs > SLOW_MS) answer.slowMs[name] = Math.round(tookMs)
  }
}

type Bytes = Casky.Casky<'bytes', 'bytes'>
const BYTES = { keyEncoding: 'bytes', valueEncoding: 'bytes', cacheBytes: 65_536 } as const
type Contents = Map<string, string>
const shown = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1')

function readAll(db: Bytes): Contents {
  const contents: Contents = new Map()
  for (const key of db.keys()) {
    let value: Uint8Array | undefined
    try {
      value = db.get(key)
    } catch (error) {
      if ((error as Casky.CaskyError).code !== 'CASKY_CORRUPT') throw error
      continue
    }
    if (value === undefined) continue
    if (Buffer.from(value.buffer, value.byteOffset, value.length).includes(SECRET))
      fault('serves what lies outside')
    contents.set(shown(key), shown(value))
  }
  return contents
}

async function look(db: Bytes): Promise<Contents> {
  try {
    const contents = readAll(db)
    let listed = 0
    for (const [key, value] of db.entries({ damaged: 'skip' })) {
      listed++
      if (contents.get(shown(key)) !== shown(value)) fault('entries and get differ')
    }
    if (listed !== contents.size) fault(`entries lists ${listed}, get finds ${contents.size}`)
    if (db.size < contents.size) fault(`size is ${db.size}, and there are ${contents.size} entries`)
    const stats = db.stats()
    const numbers = [
      stats.entries,
      stats.bytes,
      stats.liveBytes,
      stats.deadBytes,
      stats.lastSequence,
      stats.keydir.bytes,
    ]
    for (const each of numbers) if (!(each >= 0)) fault(`stats has the number ${each}`)
    const before = db.health()
    const after = await db.check()
    // A segment that stands under the name of another is two that are damaged to who opens the store, and one to check.
    const isMisnamed = after.damage.some(({ reason }) => reason.includes('under another name'))
    const least = isMisnamed ? 1 : before.damage.length
    if (after.damage.length < least) fault('check forgets damage')
    for (const { bytes, offset, reason } of after.damage) {
      if (!(bytes >= 0 && offset >= 0)) fault(`damage of ${bytes} bytes at ${offset}: ${reason}`)
    }
    return contents
  } finally {
    db.closeSync()
  }
}

const OWN_KEY = Buffer.from('a key of the test')

async function write(): Promise<boolean> {
  const db = casky.openSync(store, { ...BYTES, maxSegmentBytes: 4096 })
  try {
    db.putSync(OWN_KEY, Buffer.from('1'))
    await db.put(OWN_KEY, Buffer.alloc(5000, 'w'))
    await db.batch([
      { type: 'put', key: OWN_KEY, value: Buffer.from('2') },
      { type: 'del', key: Buffer.from('another') },
    ])
    await db.flush()
    return true
  } finally {
    await db.close()
  }
}

function compare(
  before: Contents | undefined,
  after: Contents | undefined,
  isWritten: boolean,
  what: string,
): void {
  if (after === undefined) {
    if (isWritten) fault(`${what}: it can't be read any more (${lastError})`)
    return
  }
  if (isWritten && after.get(shown(OWN_KEY)) !== '2') fault(`${what}: what was acknowledged is not there`)
  for (const [key, value] of before ?? []) {
    const now = after.get(key)
    if (key === shown(OWN_KEY) || now === value) continue
    fault(
      `${what}: ${JSON.stringify(key)} was ${value.length} bytes and is ${now === undefined ? 'gone' : 'another'}`,
    )
  }
}

/** Whatever walks through the log is walked through. */
function drain(steps: Iterable<unknown>): number {
  let count = 0
  for (const _ of steps) count++
  return count
}

function place(image: Image): void {
  fs.rmSync(join(home, 'case'), { recursive: true, force: true })
  const placed: Image = new Map(
    [...image].map(([name, thing]) => [
      name,
      thing.kind === 'link' ? { kind: 'link', to: thing.to.replace('@OUTSIDE', outside) } : thing,
    ]),
  )
  writeImage(placed, store, fifo)
}

const handles = (): number => fs.readdirSync('/proc/self/fd').length
const READ_ONLY = { ...BYTES, readOnly: true } as const

/** What was repaired is without damage; and where there was none before, nothing has changed. */
async function runRepair(image: Image, found: Contents | undefined): Promise<void> {
  place(image)
  const report = await attempt('repair', true, () => casky.repair(store))
  if (report === undefined) return
  const strict = { ...READ_ONLY, strict: true }
  // Where damage stands, an older value may be served for one that a repair finds again.
  const isSound = report.wasSound || report.lost.length + report.mended.length === 0
  const repaired = await attempt('after repair', false, () => look(casky.openSync(store, strict)))
  if (repaired === undefined) fault(`what was repaired is damaged (${lastError})`)
  else if (isSound) compare(found, repaired, false, 'after repair')
}

/** `isThorough`: also the ways that differ little from others, which most cases leave out. */
async function runStore(image: Image, isThorough: boolean, isRepaired: boolean): Promise<void> {
  const limitBytes = FIXED_BYTES + MULTIPLE * bytesOf(image)
  const handlesBefore = handles()
  place(image)
  const before = fingerprint(store)
  const outsideBefore = fingerprint(outside)
  largestAllocation()
  const found = await attempt('read-only', false, () => look(casky.openSync(store, READ_ONLY)))
  await attempt('dump', false, () => drain(casky.dump(store)))
  if (isThorough) {
    await attempt('read-only, later', false, async () => look(await casky.open(store, READ_ONLY)))
    await attempt('strict', false, () => casky.openSync(store, { ...READ_ONLY, strict: true }).closeSync())
    // A path that is given may be a link, so only files are dumped by their own.
    for (const name of segmentNames(image).slice(0, 4)) {
      await attempt('dump of a file', false, () => drain(casky.dump(join(store, name))))
    }
  }
  await attempt('check', false, () => casky.check(store))
  if (fingerprint(store) !== before) fault('what only reads has changed the store')
  const isWritten = (await attempt('write', true, write)) === true
  const after = await attempt('read again', false, () => look(casky.openSync(store, READ_ONLY)))
  // Where it was refused at once, the refusal must have come before anything was touched.
  compare(found, after, isWritten, 'after writing')
  if (isThorough || isRepaired) await runRepair(image, found)
  step = 'afterwards'
  const bytes = largestAllocation()
  if (bytes > limitBytes) fault(`allocates ${bytes} bytes at once for files of ${bytesOf(image)}`)
  if (fingerprint(outside) !== outsideBefore) fault('something outside of the store was changed')
  const beside = fs.readdirSync(join(home, 'case')).filter((name) => !name.startsWith('store'))
  if (beside.length > 0) fault(`made beside the store: ${beside}`)
  // The threads that ask for a lock's holder end a little later.
  for (let tries = 0; handles() > handlesBefore && tries < 40; tries++)
    await new Promise((r) => setTimeout(r, 25))
  if (handles() > handlesBefore) fault(`${handles() - handlesBefore} handles are left open`)
}

async function obey(order: Order): Promise<Answer> {
  answer = { faults: [], codes: {}, story: [], slowMs: {} }
  const memoryBefore = process.memoryUsage()
  if (order.import !== undefined) {
    const made = makeImport(order.import)
    answer.story = made.story
    largestAllocation()
    await attempt('import', false, () => runImport(made, (what) => fault(what), count))
    const bytes = largestAllocation()
    if (bytes > 3 * FIXED_BYTES + MULTIPLE * made.bytes.length)
      fault(`allocates ${bytes} for ${made.bytes.length}`)
  } else {
    const made =
      order.attack === undefined
        ? makeCase(bases, order.case ?? 0)
        : { image: ATTACKS[order.attack](bases), story: [order.attack] }
    answer.story = made.story
    const { attack, case: seed = 0 } = order
    await runStore(made.image, attack !== undefined || seed % 8 === 0, seed % 3 === 0)
  }
  const { heapUsed, external } = process.memoryUsage()
  const grown = heapUsed + external - memoryBefore.heapUsed - memoryBefore.external
  if (grown > GROWTH_BYTES) fault(`memory has grown by ${grown} bytes`)
  return answer
}

for await (const line of createInterface({ input: process.stdin })) {
  const done = await obey(JSON.parse(line) as Order)
  fs.writeSync(1, `${JSON.stringify(done)}\n`)
}
process.exit()
