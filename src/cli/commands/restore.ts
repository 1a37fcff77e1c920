import type { Command } from 'commander'
import { type RestoreProgress, type RestoreReport, restore } from '../../index'
import { directory, example, whole } from '../arguments'
import type { Cli, Outcome, Run } from '../cli'
import { oneLine, toJson } from '../escape'
import { DONE } from '../exit'
import { bytesProgress } from '../progress'
import { stopped } from '../stopped'
import { countOf, durationOf, sizeOf, timeOf } from '../units'
import { QUIET_OPTION } from './options'

interface RestoreFlags {
  sequence?: number
  json?: boolean
  quiet?: boolean
}

export function defineRestore(program: Command, run: Run, cli: Cli): void {
  const command = program
    .command('restore')
    .summary('make a store of a backup')
    .description(
      'Makes a store of a backup, in the directory DIR, which must be empty, or not there yet. Takes the latest ' +
        'backup in FROM, or the one with the sequence number of --sequence. What comes out is read back and compared ' +
        'with what the store held then; where that fails nothing is left of it. One that was interrupted can be run ' +
        'again. Exit code 1 where the backup is damaged. With --json: one object.',
    )
    .argument('<FROM>', 'the directory of the backups', directory)
    .argument('<DIR>', 'the directory for the store', directory)
    .option('--sequence <N>', 'the backup with this sequence number', whole)
    .option('--json', 'one object with what was done')
    .option(...QUIET_OPTION)
    .action((from: string, dir: string, flags: RestoreFlags) => run(restoreStore(cli, from, dir, flags)))
  example(command, 'casky restore /mnt/backups ./data', 'casky restore /mnt/backups ./then --sequence 1000')
}

async function restoreStore(
  cli: Cli,
  from: string,
  dir: string,
  { sequence, json, quiet }: RestoreFlags,
): Outcome {
  const isWanted = quiet !== true
  const stop = new AbortController()
  cli.interrupt.onStop(() => stop.abort())
  const labels = { restore: 'restoring', verify: 'verifying' }
  const progress = bytesProgress<RestoreProgress['phase']>(cli.messages, labels, isWanted)
  const given = sequence === undefined ? {} : { sequence }
  let report: RestoreReport
  try {
    report = await restore(from, dir, { ...given, onProgress: progress.update, signal: stop.signal })
  } catch (error) {
    throw stopped(cli, error)
  } finally {
    progress.stop()
  }
  if (json === true) cli.output.text(`${toJson(report)}\n`)
  else if (isWanted) cli.output.text(`${lineOf(report, dir)}\n`)
  return DONE
}

function lineOf(report: RestoreReport, dir: string): string {
  const { bytesCloned, bytesCopied, durationMs, entries, segments, sequence, takenAtMs } = report
  const what = `${countOf(entries, 'entry', 'entries')}, ${countOf(segments, 'segment')}, ${sizeOf(bytesCloned + bytesCopied)}`
  return `restored to ${oneLine(dir)}: sequence number ${sequence}, of ${timeOf(takenAtMs)}: ${what}, verified, in ${durationOf(durationMs)}`
}
