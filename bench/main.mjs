// casky's benchmark: each workload in a process of its own, its data checked after, medians of several runs.
//   npm run bench -- [--runs N] [--quick] [--dir DIR] [--json FILE]
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { benchPlace, describeMachine, runtimeName } from './machine.mjs'
import { printReport, summarize } from './report.mjs'

const HELP = 'usage: npm run bench -- [--runs N] [--quick] [--dir DIR] [--json FILE]'
const CHILD = fileURLToPath(new URL('./child.mjs', import.meta.url))
const IN_FLIGHT = [1, 64, 1024]

function options() {
  const { values } = parseArgs({
    options: {
      runs: { type: 'string' },
      quick: { type: 'boolean', default: false },
      dir: { type: 'string' },
      json: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  })
  const runs = Number(values.runs ?? (values.quick ? 1 : 3))
  if (!Number.isInteger(runs) || runs < 1) throw new Error(`--runs is a whole number from 1 on\n${HELP}`)
  return { ...values, runs, keys: values.quick ? 100_000 : 1_000_000 }
}

/** Runs one workload in a fresh process and returns what it measured. */
function measure(workload, setup) {
  const before = 'Deno' in globalThis ? ['run', '--allow-all'] : []
  const args = [...before, CHILD, workload, JSON.stringify(setup)]
  const { status, signal, stdout, error } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  if (error !== undefined) throw error
  const isKilled = setup.kill === true && signal === 'SIGKILL'
  if (status !== 0 && !isKilled) throw new Error(`${workload} failed (${status ?? signal})`)
  return JSON.parse(stdout)
}

/** All workloads once. Each gets a folder of its own, but for those that read what an earlier one wrote. */
function runOnce(root, { keys, quick }) {
  const directory = mkdtempSync(join(root, 'run-'))
  const show = (what) => process.stderr.isTTY && process.stderr.write(`\r\x1b[K${what} …`)
  const results = {}
  const step = (name, workload, setup) => {
    show(name)
    results[name] = measure(workload, { keys, ...setup })
  }
  try {
    const closed = join(directory, 'closed')
    const killed = join(directory, 'killed')
    step('put, relaxed', 'fill', { path: closed })
    for (const inFlight of IN_FLIGHT) {
      const puts = Math.min(inFlight === 1 ? 5_000 : inFlight * 4_000, 1_000_000) / (quick ? 10 : 1)
      const path = join(directory, `durable-${inFlight}`)
      step(`put, durable, ${inFlight} in flight`, 'durable', { path, inFlight, puts })
      step(`bare write and fdatasync, ${inFlight} at once`, 'bare', { path: `${path}.bare`, inFlight, puts })
    }
    step('open, after close', 'open', { path: closed })
    step('get, by string', 'get', { path: closed, by: 'string' })
    step('get, by bytes', 'get', { path: closed, by: 'bytes' })
    step('iterate, in order', 'iterate', { path: closed, order: 'key' })
    step('iterate, in any order', 'iterate', { path: closed, order: 'any' })
    step('open, by hints', 'open', { path: closed, without: ['CHECKPOINT'] })
    step('open, by scan', 'open', { path: closed, without: ['CHECKPOINT', '.hint'] })
    step('fill, then SIGKILL', 'fill', { path: killed, kill: true })
    step('open, after SIGKILL', 'open', { path: killed })
    delete results['fill, then SIGKILL']
    step('merge, while reads and writes go on', 'merge', { path: join(directory, 'merged') })
  } finally {
    show('')
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[K')
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
  if (chosen.dir !== undefined) mkdirSync(chosen.dir, { recursive: true })
  const place = benchPlace(chosen.dir)
  const leave = () => rmSync(place.directory, { recursive: true, force: true })
  process.once('exit', leave)
  process.once('SIGINT', () => process.exit(130))
  const about = { ...describeMachine(place), runtime: runtimeName(), keys: chosen.keys, runs: chosen.runs }
  const runs = []
  for (let run = 0; run < chosen.runs; run++) runs.push(runOnce(place.directory, chosen))
  const results = summarize(runs)
  printReport(about, results)
  if (chosen.json !== undefined) {
    writeFileSync(chosen.json, `${JSON.stringify({ ...about, results, measured: runs }, undefined, 2)}\n`)
  }
}

main().catch((error) => {
  console.error(error.message)
  process.exitCode = 1
})
