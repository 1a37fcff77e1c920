import type { Command } from 'commander'
import type { MergeReport } from '../../index'
import { directory, example } from '../arguments'
import type { Cli, Outcome, Run } from '../cli'
import { oneLine, toJson } from '../escape'
import { DONE, NOT_FOUND } from '../exit'
import { bytesProgress } from '../progress'
import { TO_WRITE, warnOfDamage, withStore } from '../store'
import { countOf, sizeOf } from '../units'
import { QUIET_OPTION } from './options'

interface MergeFlags {
  json?: boolean
  quiet?: boolean
}

const MS_PER_SECOND = 1000

export function defineMerge(program: Command, run: Run, cli: Cli): void {
  const command = program
    .command('merge')
    .alias('compact')
    .summary('give back the space of what was overwritten or deleted')
    .description(
      'Gives back the space of what was overwritten or deleted, or has expired. Damaged segments stay as they are; ' +
        'exit code 1 where there are any. A process that has the store open merges by itself.',
    )
    .argument('<DIR>', 'the directory of the store', directory)
    .option('--json', 'one object with what was done')
    .option(...QUIET_OPTION)
    .action((dir: string, flags: MergeFlags) => run(merge(cli, dir, flags)))
  example(command, 'casky merge ./data')
}

async function merge(cli: Cli, dir: string, { json, quiet }: MergeFlags): Outcome {
  return withStore(cli, dir, { ...TO_WRITE, createIfMissing: false }, async (store) => {
    warnOfDamage(cli, store)
    const progress = bytesProgress(cli.messages, { merge: 'merging' }, quiet !== true)
    let report: MergeReport
    try {
      report = await store.merge({ onProgress: progress.update })
    } finally {
      progress.stop()
    }
    if (json === true) cli.output.text(`${toJson(report)}\n`)
    else for (const line of linesOf(report, quiet !== true)) await cli.output.text(`${line}\n`)
    return report.damaged.length === 0 ? DONE : NOT_FOUND
  })
}

function* linesOf(report: MergeReport, hasSummary: boolean): Generator<string, void> {
  for (const path of report.damaged) yield `damaged, and left as it is: ${oneLine(path)}`
  if (!hasSummary) return
  const { segmentsBefore, segmentsAfter, recordsRead, recordsWritten, freedBytes, durationMs } = report
  if (recordsRead === 0) {
    yield 'nothing to do'
    return
  }
  const seconds = (durationMs / MS_PER_SECOND).toFixed(1)
  const kept = `${countOf(recordsWritten, 'record')} of ${countOf(recordsRead, 'record')} kept`
  yield `freed ${sizeOf(Math.max(0, freedBytes))} in ${seconds} s: ${segmentsBefore} segments became ${segmentsAfter}, ${kept}`
}
