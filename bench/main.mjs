// casky's benchmark: each workload in a process of its own, its data checked after, medians of several runs.
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { diskBytesPerKey, groups } from './groups.mjs'
import { printReport, summarize } from './report.mjs'
import {
  COMMON_OPTIONS,
  chosenFrom,
  commonChoice,
  commonHelp,
  inFreshDirectory,
  prepareRun,
  runMain,
  writeJson,
} from './runner.mjs'

const NAMES = Object.keys(groups)
const HELP = `usage: npm run bench -- [options]
  --ten-million  how ten million keys open
${commonHelp('groups', NAMES)}`
const KEYS_MANY = 10_000_000

function options() {
  const { values } = parseArgs({
    options: { ...COMMON_OPTIONS, 'ten-million': { type: 'boolean', default: false } },
  })
  const isMany = values['ten-million']
  const only = chosenFrom(NAMES, values.only ?? (isMany ? 'open' : undefined), 'group')
  return { ...commonChoice(values, { keys: isMany ? KEYS_MANY : undefined }), only }
}

/** All workloads once. Some measure more than one thing, and name each of them. */
function runOnce(root, runner, { keys, only, runtime }) {
  const results = {}
  const prepare = (name, workload, setup) => runner.measure(name, workload, { keys, ...setup })
  const step = async (name, workload, setup) => {
    const found = await prepare(name, workload, setup)
    const isNamed = Object.values(found).every((value) => typeof value === 'object')
    Object.assign(results, isNamed ? found : { [name]: found })
  }
  return inFreshDirectory(root, async (directory) => {
    for (const name of only) {
      const place = join(directory, name)
      mkdirSync(place)
      await groups[name]({ step, prepare, closed: join(directory, 'closed'), place, keys, runtime })
      rmSync(place, { recursive: true })
    }
    return results
  })
}

async function main() {
  const chosen = options()
  if (chosen.help) return console.log(HELP)
  const diskBytes = Math.max(...chosen.only.map((name) => diskBytesPerKey[name])) * chosen.keys
  const { runner, directory, about } = prepareRun(new URL('./child.mjs', import.meta.url), chosen, diskBytes)
  const measured = []
  for (let run = 0; run < chosen.runs; run++)
    measured.push(await runOnce(directory, runner, { ...chosen, runtime: about.runtime }))
  const results = summarize(measured)
  printReport(about, results)
  writeJson(chosen.json, { ...about, results, measured })
}

runMain(main, HELP)
