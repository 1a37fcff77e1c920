import type { Command } from 'commander'
import { type CaskyErrorCode, isCaskyError, type RepairReport, repair } from '../../index'
import { directory, example } from '../arguments'
import type { Cli, Outcome, Run } from '../cli'
import { oneLine, toJson } from '../escape'
import { DONE, FAILED, Failure, NOT_FOUND } from '../exit'
import { damageJson, damageLine, placesOf, tornTailLine } from '../findings'
import { bytesProgress } from '../progress'
import { countOf, sizeOf } from '../units'
import { QUIET_OPTION } from './options'

interface RepairFlags {
  json?: boolean
  quiet?: boolean
}

export function defineRepair(program: Command, run: Run, cli: Cli): void {
  const command = program
    .command('repair')
    .summary('make a sound store of a damaged one')
    .description(
      'Writes anew what is damaged, with everything that can be read, and keeps the originals in DIR/damaged-1 (or ' +
        'the next free number). Prints what was lost and what was mended, one finding a line, and a summary. A key ' +
        'whose newest value is lost is deleted, so that no older one passes for it. Where nothing is wrong, nothing ' +
        'is changed. Safe against a crash at any moment: then run it again. Exit code 1 where writes were lost, 3 ' +
        'where it can not be done, and then everything is as it was. With --json: one object.',
    )
    .argument('<DIR>', 'the directory of the store', directory)
    .option('--json', 'one object with everything that was found and done')
    .option(...QUIET_OPTION)
    .action((dir: string, flags: RepairFlags) => run(repairStore(cli, dir, flags)))
  example(command, 'casky check ./data', 'casky repair ./data')
}

async function repairStore(cli: Cli, dir: string, { json, quiet }: RepairFlags): Outcome {
  const isWanted = quiet !== true
  const stop = new AbortController()
  cli.interrupt.onStop(() => stop.abort())
  const progress = bytesProgress(
    cli.messages,
    { check: 'checking', copy: 'repairing', index: 'indexing' },
    isWanted,
  )
  let report: RepairReport
  try {
    report = await repair(dir, { onProgress: progress.update, signal: stop.signal })
  } catch (error) {
    if (!isCaskyError(error)) throw error
    const code: CaskyErrorCode = error.code
    if (code === 'CASKY_ABORTED') throw new Failure(cli.interrupt.exitCode ?? FAILED, error.message)
    // Damage that can't be repaired is a failure of this command, not its finding.
    if (code === 'CASKY_CORRUPT') throw new Failure(FAILED, error.message)
    throw error
  } finally {
    progress.stop()
  }
  if (json === true) {
    const { lost, mended, ...rest } = report
    cli.output.text(`${toJson({ ...rest, lost: lost.map(damageJson), mended: mended.map(damageJson) })}\n`)
  } else {
    for (const line of linesOf(report, isWanted)) await cli.output.text(`${line}\n`)
  }
  return report.lost.length > 0 ? NOT_FOUND : DONE
}

function* linesOf(report: RepairReport, hasSummary: boolean): Generator<string, void> {
  const { lost, mended, tornTails, rewritten, originals, segments, records, bytes } = report
  for (const each of lost) yield damageLine('lost', each, `; ${oneLine(each.remedy)}`)
  for (const each of mended) yield damageLine('mended', each, `; ${oneLine(each.remedy)}`)
  for (const each of tornTails) yield tornTailLine(each)
  if (!hasSummary) return
  const now = `${countOf(segments, 'segment')}, ${countOf(records, 'record')}, ${sizeOf(bytes)}`
  if (report.wasSound) {
    yield `nothing to repair: ${now}, no damage; nothing was changed`
    return
  }
  for (const { from, to, records: saved } of rewritten) {
    const where = to === undefined ? 'nothing of it could be read' : `now ${oneLine(to)}`
    yield `rewritten: ${oneLine(from)}: ${where} (${countOf(saved, 'record')})`
  }
  if (report.isManifestRebuilt) yield 'the manifest was rebuilt'
  if (originals !== undefined) {
    yield `the originals are in ${oneLine(originals)}; remove them once you need them no more`
  }
  yield `repaired: ${now}; ${lost.length === 0 ? 'nothing was lost' : `${countOf(placesOf(lost), 'loss', 'losses')}, as told above`}`
}
