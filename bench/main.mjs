// casky's benchmark: each workload in a process of its own, its data checked after, medians of several runs.
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { diskBytesPerKey, groups } from './groups.mjs'
import { benchPlace, checkRoom, describeMachine, runtimeName } from './machine.mjs'
import { printReport, summarize } from './report.mjs'

const NAMES = Object.keys(groups)
const HELP = `usage: npm run bench -- [options]
  --keys N       of every store; default 1,000,000
  --quick        one run with 100,000 keys
  --ten-million  how ten million keys open
  --only A,B     some of the groups ${NAMES.join(', ')}
  --runs N       figures are the medians of so many; default 3
  --dir DIR      where the stores are made
  --json FILE    writes all figures there too`
const CHILD = fileURLToPath(new URL('./child.mjs', import.meta.url))
/** Below it a store is too small for its checkpoint to be worth a file. */
const KEYS_MIN = 2000
/** However few the keys are. */
const DISK_BYTES_MIN = 2 ** 28

function wholeNumber(name, text, min) {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < min)
    throw new Error(`--${name} is a whole number from ${min} on\n${HELP}`)
  return value
}

function options() {
  const { values } = parseArgs({
    options: {
      keys: { type: 'string' },
      quick: { type: 'boolean', default: false },
      'ten-million': { type: 'boolean', default: false },
      only: { type: 'string' },
      runs: { type: 'string' },
      dir: { type: 'string' },
      json: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  })
  const { quick, 'ten-million': tenMillion } = values
  const keys = wholeNumber(
    'keys',
    values.keys ?? (tenMillion ? 10_000_000 : quick ? 100_000 : 1_000_000),
    KEYS_MIN,
  )
  const runs = wholeNumber('runs', values.runs ?? (quick ? 1 : 3), 1)
  const only = (values.only ?? (tenMillion ? 'open' : NAMES.join())).split(',')
  const unknown = only.find((name) => !NAMES.includes(name))
  if (unknown !== undefined) throw new Error(`there is no group '${unknown}'\n${HELP}`)
  return { ...values, runs, keys, only: NAMES.filter((name) => only.includes(name)) }
}

const progress = (text) => process.stderr.isTTY && process.stderr.write(`\r\x1b[K${text}`)
let child
let stoppedBy

function stop(signal) {
  stoppedBy = signal
  child?.kill('SIGKILL')
}

/** Runs one workload in a fresh process and returns what it measured. */
function measure(name, workload, setup) {
  const before = 'Deno' in globalThis ? ['run', '--allow-all'] : []
  const args = [...before, CHILD, workload, JSON.stringify(setup)]
  const begin = performance.now()
  const show = () => progress(`${name} … ${Math.round((performance.now() - begin) / 1000)} s`)
  return new Promise((resolve, reject) => {
    // One that came between two workloads.
    if (stoppedBy !== undefined) throw new Error(`stopped by ${stoppedBy}`)
    show()
    const ticker = setInterval(show, 1000)
    child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    let text = ''
    child.stdout.setEncoding('utf8').on('data', (piece) => {
      text += piece
    })
    child.on('error', reject)
    child.on('close', (status, signal) => {
      clearInterval(ticker)
      progress('')
      const isKilled = setup.kill === true && signal === 'SIGKILL' && text !== ''
      if (stoppedBy !== undefined) reject(new Error(`stopped by ${stoppedBy}`))
      else if (status === 0 || isKilled) resolve(JSON.parse(text))
      else reject(new Error(`'${name}' failed (${status ?? signal})`))
    })
  })
}

/** All workloads once. Some measure more than one thing, and name each of them. */
async function runOnce(root, { keys, only }) {
  const directory = mkdtempSync(join(root, 'run-'))
  const results = {}
  const prepare = (name, workload, setup) => measure(name, workload, { keys, ...setup })
  const step = async (name, workload, setup) => {
    const found = await prepare(name, workload, setup)
    const isNamed = Object.values(found).every((value) => typeof value === 'object')
    Object.assign(results, isNamed ? found : { [name]: found })
  }
  try {
    for (const name of only) {
      const place = join(directory, name)
      mkdirSync(place)
      await groups[name]({ step, prepare, closed: join(directory, 'closed'), place, keys })
      rmSync(place, { recursive: true })
    }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
  return results
}

async function main() {
  const chosen = options()
  if (chosen.help) return console.log(HELP)
  if (!existsSync(new URL('../dist/index.js', import.meta.url))) {
    throw new Error('dist/index.js is missing: run `npm run build` first')
  }
  const { keys, runs } = chosen
  if (chosen.dir !== undefined) mkdirSync(chosen.dir, { recursive: true })
  const place = benchPlace(chosen.dir)
  process.once('exit', () => rmSync(place.directory, { recursive: true, force: true }))
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, stop)
  const diskBytes = Math.max(...chosen.only.map((name) => diskBytesPerKey[name])) * keys
  checkRoom(place.directory, Math.max(DISK_BYTES_MIN, diskBytes))
  const about = { ...describeMachine(place), runtime: runtimeName(), keys, runs }
  const measured = []
  for (let run = 0; run < runs; run++) measured.push(await runOnce(place.directory, chosen))
  const results = summarize(measured)
  printReport(about, results)
  if (chosen.json !== undefined) {
    writeFileSync(chosen.json, `${JSON.stringify({ ...about, results, measured }, undefined, 2)}\n`)
  }
}

main().catch((error) => {
  console.error(error.message)
  process.exitCode = 1
})
