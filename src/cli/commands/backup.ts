import { type Command, InvalidArgumentError } from 'commander'
import type { BackupProgress, BackupReport } from '../../index'
import { directory, example, whole } from '../arguments'
import type { Cli, Outcome, Run } from '../cli'
import { oneLine, toJson } from '../escape'
import { DONE } from '../exit'
import { bytesProgress } from '../progress'
import { stopped } from '../stopped'
import { TO_WRITE, withStore } from '../store'
import { countOf, durationOf, sizeOf } from '../units'
import { QUIET_OPTION } from './options'

interface BackupFlags {
  since?: number | 'latest'
  json?: boolean
  quiet?: boolean
}

export function defineBackup(program: Command, run: Run, cli: Cli): void {
  const command = program
    .command('backup')
    .summary('copy a store into a directory of backups')
    .description(
      'Copies the store as it is now into the directory TO, from which `casky restore` makes a store again: by hard ' +
        'links where the file system has them, by clones or copies where not. With --since only what is new since ' +
        'an earlier backup in TO is added; without it TO must be empty, or not there yet. All of it is on disk then, ' +
        'and was read back and compared. A failure leaves no backup and harms none. The store must not be open for ' +
        'writing elsewhere; a program backs up its own by `db.backup(to)`, while it goes on. With --json: one object.',
    )
    .argument('<DIR>', 'the directory of the store', directory)
    .argument('<TO>', 'the directory of the backups', directory)
    .option('--since <N>', "add to the backup with this sequence number, or to the 'latest'", sinceOf)
    .option('--json', 'one object with what was done')
    .option(...QUIET_OPTION)
    .action((dir: string, to: string, flags: BackupFlags) => run(backUp(cli, dir, to, flags)))
  example(command, 'casky backup ./data /mnt/backups', 'casky backup ./data /mnt/backups --since latest')
}

function sinceOf(given: string): number | 'latest' {
  if (given === 'latest') return given
  try {
    return whole(given)
  } catch {
    throw new InvalidArgumentError("It is a sequence number, or 'latest'.")
  }
}

async function backUp(cli: Cli, dir: string, to: string, { since, json, quiet }: BackupFlags): Outcome {
  // A merge would change what is backed up, and nobody has asked for one.
  const options = { ...TO_WRITE, createIfMissing: false, merge: false } as const
  return withStore(cli, dir, options, async (store) => {
    const isWanted = quiet !== true
    const stop = new AbortController()
    cli.interrupt.onStop(() => stop.abort())
    const labels = { backup: 'backing up', verify: 'verifying' }
    const progress = bytesProgress<BackupProgress['phase']>(cli.messages, labels, isWanted)
    const given = since === undefined ? {} : { since }
    let report: BackupReport
    try {
      report = await store.backup(to, { ...given, onProgress: progress.update, signal: stop.signal })
    } catch (error) {
      throw stopped(cli, error)
    } finally {
      progress.stop()
    }
    if (json === true) cli.output.text(`${toJson(report)}\n`)
    else if (isWanted) cli.output.text(`${lineOf(report, to)}\n`)
    return DONE
  })
}

function lineOf(report: BackupReport, to: string): string {
  const { bytesLinked, bytesCloned, bytesCopied, bytesReused, entries, segments, sequence, since } = report
  const ways = Object.entries({
    linked: bytesLinked,
    cloned: bytesCloned,
    copied: bytesCopied,
    'there already': bytesReused,
  })
  const how = ways.filter(([, bytes]) => bytes > 0).map(([way, bytes]) => `${sizeOf(bytes)} ${way}`)
  const what = `${countOf(entries, 'entry', 'entries')}, ${countOf(segments, 'segment')}`
  const ending = how.length === 0 ? '' : ` (${how.join(', ')})`
  const added = since === undefined || since === sequence ? '' : ` since ${since}`
  return `backed up to ${oneLine(to)} at sequence number ${sequence}${added}: ${what}${ending}, verified, in ${durationOf(report.durationMs)}`
}
