// casky beside the stores that people use in its place: the same work, each in its own fastest documented way.
import { existsSync, readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { summarize } from '../report.mjs'
import {
  COMMON_OPTIONS,
  chosenFrom,
  commonChoice,
  commonHelp,
  inFreshDirectory,
  prepareRun,
  runMain,
  writeJson,
} from '../runner.mjs'
import { printTable } from './report.mjs'
import { diskBytesPerKey, entriesOf, groupNames, measureEntry, rivals, rows, rowsOf } from './rows.mjs'

const NAMES = Object.keys(rivals)
const ROW_IDS = rows.map(({ id }) => id).join(', ')
const HELP = `usage: npm run bench:rivals -- [options]
  --rivals A,B   some of ${NAMES.join(', ')}; default: those that are installed (npm ci --prefix bench)
  --charts DIR   draws the figures there, as SVG
${commonHelp('groups', groupNames)}
--only also takes rows: ${ROW_IDS}`

function versionOf(name) {
  const file = new URL(`../node_modules/${name}/package.json`, import.meta.url)
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).version : undefined
}

/** Those to measure, and with which versions. */
function chosenRivals(text) {
  const wanted = chosenFrom(NAMES, text, 'rival')
  const versions = {}
  const missing = []
  for (const name of wanted) {
    const { package: from } = rivals[name]
    const version = from === undefined ? undefined : versionOf(from)
    if (from !== undefined && version === undefined) missing.push(name)
    else if (from !== undefined) versions[from] = version
  }
  const hint = 'is not installed: run `npm ci --prefix bench`'
  if (text !== undefined && missing.length > 0) throw new Error(`${missing.join(', ')} ${hint}`)
  for (const name of missing) console.error(`left out: ${name} ${hint}`)
  return { names: wanted.filter((name) => !missing.includes(name)), versions }
}

function options() {
  const { values } = parseArgs({
    options: { ...COMMON_OPTIONS, rivals: { type: 'string' }, charts: { type: 'string' } },
  })
  const names = [...groupNames, ...rows.map(({ id }) => id)]
  const only = chosenFrom([...new Set(names)], values.only, 'group or row')
  return { ...commonChoice(values), only, rows: rowsOf(only) }
}

/** Every entry of every row once. */
function runOnce(root, runner, { rows, names, keys, pin }) {
  const measure = (...args) => runner.measure(...args)
  return inFreshDirectory(root, async (directory) => {
    const run = { measure, directory, keys, pin, prepared: new Set() }
    const results = Object.fromEntries(rows.map((row) => [row.id, {}]))
    for (const row of rows.filter(({ workload }) => workload !== undefined)) {
      for (const entry of entriesOf(row, names)) {
        const found = await measureEntry(run, row, entry)
        for (const [id, figures] of Object.entries(found)) results[id][entry.name] = figures
      }
    }
    return results
  })
}

async function main() {
  const chosen = options()
  if (chosen.help) return console.log(HELP)
  const { names, versions } = chosenRivals(chosen.rivals)
  const diskBytes = diskBytesPerKey(names.length) * chosen.keys
  const child = new URL('./child.mjs', import.meta.url)
  const { runner, directory, about } = prepareRun(child, chosen, diskBytes)
  const measured = []
  for (let run = 0; run < chosen.runs; run++)
    measured.push(await runOnce(directory, runner, { ...chosen, names, pin: about.pin }))
  const results = {}
  for (const { id } of chosen.rows) results[id] = summarize(measured.map((run) => run[id]))
  const report = { ...about, rivals: versions, results, measured }
  printTable(report)
  writeJson(chosen.json, report)
  if (chosen.charts !== undefined) {
    const { drawCharts } = await import('./charts.mjs')
    await drawCharts(chosen.charts, [report])
  }
}

runMain(main, HELP)
