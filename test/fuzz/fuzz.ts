// Feeds hostile stores to processes that may not survive them, and tells what was wrong with which.
import { type ChildProcess, spawn } from 'node:child_process'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { build } from 'esbuild'
import { ATTACKS, LARGEST } from './attacks'
import { makeBases } from './bases'
import { type Image, writeImage } from './image'
import { ROOT } from './root'
import type { Answer, Fault, Order } from './victim'

/** A case takes some milliseconds; one that takes so long on a busy machine does not end. */
const CASE_MS_MAX = Number(process.env.CASKY_FUZZ_CASE_MS ?? 60_000)
const HEAP_MIB = 512

/** A scratch directory in memory where there is one: the cases write and sync a lot. */
export function makeHome(): string {
  const memory = '/dev/shm'
  const home = fs.mkdtempSync(join(fs.existsSync(memory) ? memory : tmpdir(), 'casky-fuzz-'))
  // A path with links in it would look like an escape.
  return fs.realpathSync(home)
}

export interface Bundles {
  casky: string
  victim: string
}

/** Built from the sources as they are. */
export async function buildBundles(home: string): Promise<Bundles> {
  const casky = join(home, 'casky.mjs')
  const victim = join(home, 'victim.mjs')
  const common = {
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'es2022',
    logLevel: 'error',
  } as const
  await build({ ...common, entryPoints: [join(ROOT, 'src/index.ts')], outfile: casky })
  await build({ ...common, entryPoints: [join(ROOT, 'test/fuzz/victim.ts')], outfile: victim })
  return { casky, victim }
}

/** What every victim finds: the stores to mutate, a fifo, and beside them what no store may touch. */
function furnish(home: string): void {
  for (const [name, image] of Object.entries(makeBases(home))) {
    writeImage(image, join(home, 'bases', name), '')
  }
  const outside = join(home, 'outside')
  fs.mkdirSync(outside)
  const foreign = new Map([...makeBases(home).small].filter(([, { kind }]) => kind === 'file')) as Image
  writeImage(foreign, outside, '')
  fs.writeFileSync(join(outside, 'secret.data'), 'outside secret\n'.repeat(100))
}

/** A process that takes one case at a time; a new one where it died. */
class Victim {
  #child: ChildProcess | undefined
  #lines: AsyncIterator<string> | undefined
  #errors = ''
  readonly #home: string

  constructor(
    home: string,
    name: string,
    private readonly bundles: Bundles,
    private readonly caseMsMax: number,
  ) {
    this.#home = join(home, name)
    fs.mkdirSync(this.#home)
    furnish(this.#home)
  }

  get home(): string {
    return this.#home
  }

  #start(): void {
    const { casky, victim } = this.bundles
    const options = [`--max-old-space-size=${HEAP_MIB}`, '--stack-trace-limit=20']
    const child = spawn(process.execPath, [...options, victim, this.#home, casky], { stdio: 'pipe' })
    this.#child = child
    this.#errors = ''
    child.stdin?.on('error', () => {})
    child.stderr?.on('data', (text) => {
      this.#errors = `${this.#errors}${text}`.slice(-2000)
    })
    this.#lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]()
  }

  async run(order: Order): Promise<Answer> {
    if (!fs.existsSync(join(this.#home, 'fifo'))) {
      await new Promise((resolve) => spawn('mkfifo', [join(this.#home, 'fifo')]).once('close', resolve))
    }
    if (this.#child === undefined) this.#start()
    const child = this.#child as ChildProcess
    let isLate = false
    const timer = setTimeout(() => {
      isLate = true
      child.kill('SIGKILL')
    }, this.caseMsMax)
    child.stdin?.write(`${JSON.stringify(order)}\n`)
    const { value, done } = (await this.#lines?.next()) ?? { done: true }
    clearTimeout(timer)
    if (!done) return JSON.parse(value) as Answer
    await this.end()
    const progress = join(this.#home, 'progress')
    const step = fs.existsSync(progress) ? fs.readFileSync(progress, 'utf8').trim() : 'start'
    const what = isLate ? `takes more than ${this.caseMsMax} ms` : `the process dies: ${this.#errors}`
    return { faults: [{ step, what }], codes: { died: 1 }, story: ['see what is kept'], slowMs: {} }
  }

  async end(): Promise<void> {
    const child = this.#child
    this.#child = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise((resolve) => child.once('close', resolve))
    child.kill('SIGKILL')
    await gone
  }
}

export interface Failure {
  order: Order
  faults: Fault[]
  story: string[]
  /** A copy of what it was given. */
  kept: string
}

export interface FuzzResult {
  cases: number
  codes: Record<string, number>
  failures: Failure[]
  /** The slowest steps: each by what was given, in milliseconds. */
  slow: { order: Order; slowMs: Record<string, number> }[]
}

/** Faults that differ in numbers and names only are one. */
export function signatureOf({ step, what }: Fault, { attack }: Order = {}): string {
  const general = what.replace(/"[^"]*"|\/[^\s'")]*/g, '…').replace(/0x[0-9a-f]+|\d+/g, 'N')
  // An attack has a name of its own, and is told of each time.
  return `${attack ?? ''} ${step}: ${general.slice(0, 160)}`
}

export interface FuzzOptions {
  seed: number
  /** In milliseconds of `Date.now()`. */
  deadlineMs: number
  /** At most so many cases. */
  casesMax?: number
  victims?: number
  bundles?: Bundles
  caseMsMax?: number
  /** Whether what fails is kept for a look at it. */
  isKept?: boolean
  orders?: Iterable<Order>
  report?: (cases: number, codes: Record<string, number>) => void
}

/** Cases without end: store after store, each tenth an import. */
export function* ordersFrom(seed: number): Generator<Order, void> {
  for (let i = 0; ; i++) {
    const each = (Math.imul(seed, 0x9e37_79b1) + Math.imul(i, 0x85eb_ca6b)) >>> 0
    yield i % 10 === 9 ? { import: each } : { case: each }
  }
}

export const attackOrders = (withLargest = false): Order[] =>
  Object.keys(ATTACKS)
    .filter((attack) => withLargest || attack !== LARGEST)
    .map((attack) => ({ attack }))

const FAILURES_KEPT = 20

/** Keeps the store that made a victim fail, for a look at it, and says where. */
function keep(home: string, order: Order): string {
  const kept = fs.mkdtempSync(join(tmpdir(), 'casky-hostile-'))
  fs.writeFileSync(join(kept, 'order.json'), JSON.stringify(order))
  const made = join(home, 'case')
  if (fs.existsSync(made)) {
    try {
      fs.cpSync(made, join(kept, 'case'), { recursive: true, verbatimSymlinks: true, filter: isCopyable })
    } catch (error) {
      fs.writeFileSync(join(kept, 'not-copied.txt'), String(error))
    }
  }
  return kept
}

function isCopyable(path: string): boolean {
  const stat = fs.lstatSync(path)
  return stat.isFile() || stat.isDirectory() || stat.isSymbolicLink()
}

export async function fuzz(options: FuzzOptions): Promise<FuzzResult> {
  const home = makeHome()
  const { seed, deadlineMs, casesMax = Number.POSITIVE_INFINITY, report } = options
  const orders = (options.orders ?? ordersFrom(seed))[Symbol.iterator]()
  const result: FuzzResult = { cases: 0, codes: {}, failures: [], slow: [] }
  const known = new Set<string>()
  let given = 0
  try {
    const bundles = options.bundles ?? (await buildBundles(home))
    const work = async (victim: Victim): Promise<void> => {
      while (Date.now() < deadlineMs && given < casesMax && result.failures.length < FAILURES_KEPT) {
        const next = orders.next()
        if (next.done) break
        given++
        const answer = await victim.run(next.value)
        result.cases++
        if (Object.keys(answer.slowMs).length > 0)
          result.slow.push({ order: next.value, slowMs: answer.slowMs })
        for (const [code, count] of Object.entries(answer.codes)) {
          result.codes[code] = (result.codes[code] ?? 0) + count
        }
        const fresh = answer.faults.filter((fault) => {
          const isKnown = known.has(signatureOf(fault, next.value))
          known.add(signatureOf(fault, next.value))
          return !isKnown
        })
        if (fresh.length > 0) {
          const kept = options.isKept === false ? 'no file' : keep(victim.home, next.value)
          result.failures.push({ order: next.value, faults: fresh, story: answer.story, kept })
        }
        if (result.cases % 500 === 0) report?.(result.cases, result.codes)
      }
    }
    const victims = Array.from(
      { length: options.victims ?? 2 },
      (_, i) => new Victim(home, String(i), bundles, options.caseMsMax ?? CASE_MS_MAX),
    )
    try {
      await Promise.all(victims.map(work))
    } finally {
      await Promise.all(victims.map((victim) => victim.end()))
    }
    return result
  } finally {
    fs.rmSync(home, { recursive: true, force: true })
  }
}

export function describeFailures({ failures }: FuzzResult): string {
  return failures
    .map(({ order, faults, story, kept }) =>
      [
        `CASKY_FUZZ_ORDER='${JSON.stringify(order)}' npx vitest run test/fuzz/fuzz.test.ts`,
        ...story.map((line) => `    ${line}`),
        ...faults.map(({ step, what }) => `  ${step}: ${what}`),
        `  kept in ${kept}`,
      ].join('\n'),
    )
    .join('\n\n')
}

/** For the soak: new seeds until the deadline; throws with everything that it takes to do it again. */
export async function fuzzRounds(
  deadlineMs: number,
  seed: number,
  report: (counts: Record<string, number>) => void,
): Promise<void> {
  const attacks = await fuzz({ seed, deadlineMs, orders: attackOrders(true) })
  const cases = await fuzz({ seed, deadlineMs, report: (count) => report({ 'hostile stores': count }) })
  report({ 'hostile stores': attacks.cases + cases.cases })
  const result = { ...cases, failures: [...attacks.failures, ...cases.failures] }
  if (result.failures.length > 0) throw new Error(`hostile files, seed ${seed}:\n${describeFailures(result)}`)
}
