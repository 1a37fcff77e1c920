// What both benchmarks share: options, the runtime and the core, and a fresh process for each workload.
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { benchPlace, checkRoom, describeMachine, runtimeName } from './machine.mjs'

const RUNTIMES = ['node', 'bun', 'deno']
/** However few the keys are. */
const DISK_BYTES_MIN = 2 ** 28
const KEYS = 1_000_000
const KEYS_QUICK = 100_000
const RUNS = 3
/** Below it a store is too small for its checkpoint to be worth a file. */
export const KEYS_MIN = 2000

export const COMMON_OPTIONS = {
  keys: { type: 'string' },
  quick: { type: 'boolean', default: false },
  only: { type: 'string' },
  runs: { type: 'string' },
  dir: { type: 'string' },
  json: { type: 'string' },
  pin: { type: 'string' },
  runtime: { type: 'string' },
  help: { type: 'boolean', default: false },
}

/** For `--help`; `what` is that of `--only`. */
export const commonHelp = (what, names) => `  --keys N       of every store; default 1,000,000
  --quick        one run with 100,000 keys
  --only A,B     some of the ${what} ${names.join(', ')}
  --runs N       figures are the medians of so many; default 3
  --pin CORE     workloads run on this core alone, where there is taskset
  --runtime R    workloads run on node, bun or deno; default: what runs this
  --dir DIR      where the stores are made
  --json FILE    writes all figures there too
CASKY_BENCH_PREFIX is a command that each workload is run by; it becomes the workload, as \`flock --no-fork FILE\` does`

export class UsageError extends Error {}

export function wholeNumber(name, text, min) {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < min)
    throw new UsageError(`--${name} is a whole number from ${min} on`)
  return value
}

/** Those of `all` that a list with commas names, in the order of `all`. */
export function chosenFrom(all, text, kind) {
  if (text === undefined) return [...all]
  const wanted = text.split(',')
  const unknown = wanted.find((name) => !all.includes(name))
  if (unknown !== undefined) throw new UsageError(`there is no ${kind} '${unknown}'`)
  return all.filter((name) => wanted.includes(name))
}

/** The parsed options that both benchmarks have, with their defaults. */
export function commonChoice(values, defaults = {}) {
  const { quick, runtime } = values
  const keys = values.keys ?? defaults.keys ?? (quick ? KEYS_QUICK : KEYS)
  if (runtime !== undefined && !RUNTIMES.includes(runtime))
    throw new UsageError(`--runtime is one of ${RUNTIMES.join(', ')}`)
  return {
    ...values,
    keys: wholeNumber('keys', keys, KEYS_MIN),
    runs: wholeNumber('runs', values.runs ?? (quick ? 1 : RUNS), 1),
    pin: values.pin === undefined ? undefined : wholeNumber('pin', values.pin, 0),
  }
}

const ownRuntime = () => runtimeName().split(' ')[0]

/** The program of a runtime: the one that runs this, or the one that npm has installed. */
function runtimePath(name) {
  if (name === ownRuntime()) return process.execPath
  const installed = fileURLToPath(new URL(`../node_modules/.bin/${name}`, import.meta.url))
  return existsSync(installed) ? installed : name
}

function runtimeVersion(name) {
  if (name === ownRuntime()) return runtimeName()
  const text = execFileSync(runtimePath(name), ['--version'], { encoding: 'utf8' })
  return `${name} ${/\d+\.\d+\.\d+/.exec(text)?.[0] ?? 'of an unknown version'}`
}

const hasTaskset = () => spawnSync('taskset', ['--version'], { stdio: 'ignore' }).status === 0

/** What to run, and with which arguments, to have a script run as chosen. */
export function commandOf({ runtime = ownRuntime(), pin, prefix = '' }) {
  const before = prefix.split(' ').filter((word) => word !== '')
  const core = pin === undefined ? [] : ['taskset', '-c', String(pin)]
  const [program, ...args] = [...before, ...core, runtimePath(runtime)]
  return { program, args: runtime === 'deno' ? [...args, 'run', '--allow-all'] : args }
}

const progress = (text) => process.stderr.isTTY && process.stderr.write(`\r\x1b[K${text}`)

/** Starts processes one at a time, and kills the one that runs when it is told to stop. */
export class Runner {
  #command
  #script
  #child
  #stoppedBy

  /** `script`: given a workload's name and its setup as JSON, prints what it measured as JSON. */
  constructor(script, command) {
    this.#script = script
    this.#command = command
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => this.#stop(signal))
  }

  #stop(signal) {
    this.#stoppedBy = signal
    this.#child?.kill('SIGKILL')
  }

  /** Runs one workload in a fresh process and returns what it measured. */
  measure(name, workload, setup, env = {}) {
    const { program, args } = this.#command
    const begin = performance.now()
    const show = () => progress(`${name} … ${Math.round((performance.now() - begin) / 1000)} s`)
    return new Promise((resolve, reject) => {
      // One that came between two workloads.
      if (this.#stoppedBy !== undefined) throw new Error(`stopped by ${this.#stoppedBy}`)
      show()
      const ticker = setInterval(show, 1000)
      const child = spawn(program, [...args, this.#script, workload, JSON.stringify(setup)], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: { ...process.env, ...env },
      })
      this.#child = child
      let text = ''
      child.stdout.setEncoding('utf8').on('data', (piece) => {
        text += piece
      })
      child.on('error', (error) => {
        clearInterval(ticker)
        reject(error)
      })
      child.on('close', (status, signal) => {
        clearInterval(ticker)
        progress('')
        const isKilled = setup.kill === true && signal === 'SIGKILL' && text !== ''
        if (this.#stoppedBy !== undefined) reject(new Error(`stopped by ${this.#stoppedBy}`))
        else if (status === 0 || isKilled) resolve(JSON.parse(text))
        else reject(new Error(`'${name}' failed (${status ?? signal})`))
      })
    })
  }
}

/** Gives `run` a fresh directory, and takes it away again. */
export async function inFreshDirectory(root, run) {
  const directory = mkdtempSync(join(root, 'run-'))
  try {
    return await run(directory)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** The place and the machine, said and checked; and the runner for `script`, which works there. */
export function prepareRun(script, chosen, diskBytes) {
  if (!existsSync(new URL('../dist/index.js', import.meta.url)))
    throw new Error('dist/index.js is missing: run `npm run build` first')
  const { keys, runs, runtime = ownRuntime(), dir } = chosen
  const pin = hasTaskset() ? chosen.pin : undefined
  if (pin !== chosen.pin) console.error('there is no taskset here: workloads run on any core')
  if (dir !== undefined) mkdirSync(dir, { recursive: true })
  const place = benchPlace(dir)
  process.once('exit', () => rmSync(place.directory, { recursive: true, force: true }))
  checkRoom(place.directory, Math.max(DISK_BYTES_MIN, diskBytes))
  const command = commandOf({ runtime, pin, prefix: process.env.CASKY_BENCH_PREFIX })
  return {
    runner: new Runner(fileURLToPath(script), command),
    directory: place.directory,
    about: { ...describeMachine(place), runtime: runtimeVersion(runtime), keys, runs, pin },
  }
}

export function writeJson(file, figures) {
  if (file !== undefined) writeFileSync(file, `${JSON.stringify(figures, undefined, 2)}\n`)
}

/** Runs a benchmark; what it throws is said, with its usage where that was the cause. */
export function runMain(main, help) {
  main().catch((error) => {
    console.error(error instanceof UsageError ? `${error.message}\n${help}` : error.message)
    process.exitCode = 1
  })
}
