import type { Command } from 'commander'
import type { Stats } from '../../index'
import { directory, example } from '../arguments'
import { styleOf } from '../canvas'
import type { Cli, Outcome, Run } from '../cli'
import { toJson } from '../escape'
import { DONE } from '../exit'
import { isInput } from '../files'
import { picture, type Subject } from '../picture'
import { readStats } from '../stats-file'
import { TO_READ, warnOfDamage, withStore } from '../store'

interface StatsFlags {
  json?: boolean
  all?: boolean
}

export function defineStats(program: Command, run: Run, cli: Cli): void {
  const command = program
    .command('stats')
    .summary('draw what is in the store and where')
    .description(
      'Draws how much is in the store and where: entries, live and dead bytes a segment, memory. How large the groups ' +
        'of writes were and how long their syncs took is known to the process that wrote: have it print ' +
        'JSON.stringify(db.stats()), and pass the file that this went to, or - for standard input.',
    )
    .argument('<PATH>', 'the directory of the store, or a file of stats in JSON', directory)
    .option('--all', 'a line for each segment, however many there are')
    .option('--json', 'the numbers, as one object')
    .action((path: string, flags: StatsFlags) => run(printStats(cli, path, flags)))
  example(command, 'casky stats ./data', 'curl -s localhost:8080/stats | casky stats -')
}

async function printStats(cli: Cli, path: string, flags: StatsFlags): Outcome {
  if (isInput(path)) {
    const { stats, name } = await readStats(path)
    await print(cli, stats, { name, isJustOpened: false }, flags)
    return DONE
  }
  return withStore(cli, path, TO_READ, async (store) => {
    warnOfDamage(cli, store)
    await print(cli, store.stats(), { name: store.path, isJustOpened: true }, flags)
    return DONE
  })
}

async function print({ output }: Cli, stats: Stats, subject: Subject, flags: StatsFlags): Promise<void> {
  const { json, all } = flags
  const lines =
    json === true
      ? [toJson(stats)]
      : picture(stats, subject, styleOf(process.stdout, process.env), all === true)
  for (const line of lines) await output.text(`${line}\n`)
}
