import type { Command } from 'commander'
import { type CheckReport, check } from '../../index'
import { directory, example } from '../arguments'
import type { Cli, Outcome, Run } from '../cli'
import { oneLine, toJson } from '../escape'
import { DONE, NOT_FOUND } from '../exit'
import { damageJson, damageLine, placesOf, tornTailLine } from '../findings'
import { bytesProgress } from '../progress'
import { countOf, sizeOf } from '../units'
import { QUIET_OPTION } from './options'

interface CheckFlags {
  json?: boolean
  quiet?: boolean
}

export function defineCheck(program: Command, run: Run, cli: Cli): void {
  const command = program
    .command('check')
    .summary('verify every byte, change nothing')
    .description(
      'Reads the whole store and verifies every byte of it; changes nothing, works beside a live writer, and also ' +
        'where the manifest is damaged or lost. Prints what is damaged, one finding a line, with what `casky repair` ' +
        'would do about it, and a summary. Exit code 1 where there is damage. With --json: one object; a key is a ' +
        'string, or {"base64":…} where it is not UTF-8.',
    )
    .argument('<DIR>', 'the directory of the store', directory)
    .option('--json', 'one object with everything found')
    .option(...QUIET_OPTION)
    .action((dir: string, flags: CheckFlags) => run(checkStore(cli, dir, flags)))
  example(command, 'casky check ./data')
}

async function checkStore(cli: Cli, dir: string, { json, quiet }: CheckFlags): Outcome {
  const isWanted = quiet !== true
  const progress = bytesProgress(cli.messages, { check: 'checking' }, isWanted)
  let report: CheckReport
  try {
    report = await check(dir, { onProgress: progress.update })
  } finally {
    progress.stop()
  }
  if (json === true) {
    cli.output.text(`${toJson({ ...report, damage: report.damage.map(damageJson) })}\n`)
  } else {
    for (const line of linesOf(report, isWanted)) await cli.output.text(`${line}\n`)
  }
  return report.ok ? DONE : NOT_FOUND
}

function* linesOf(report: CheckReport, hasSummary: boolean): Generator<string, void> {
  const { damage, tornTails, leftovers, segments, records, bytes } = report
  for (const each of damage) yield damageLine('damage', each, `; repair: ${oneLine(each.remedy)}`)
  for (const each of tornTails) yield tornTailLine(each)
  for (const path of leftovers) {
    yield `leftover: ${oneLine(path)}: from a crash; holds nothing of its own, and the next writer removes it`
  }
  if (!hasSummary) return
  const checked = `${countOf(segments, 'segment')}, ${countOf(records, 'record')}, ${sizeOf(bytes)}`
  const damagedBytes = damage.reduce((sum, each) => sum + each.bytes, 0)
  const places = `${countOf(placesOf(damage), 'damaged place')}, ${countOf(damagedBytes, 'byte')}`
  const torn = tornTails.length === 0 ? '' : `; ${countOf(tornTails.length, 'torn tail')}`
  yield `checked ${checked}: ${damage.length === 0 ? 'no damage' : places}${torn}`
}
