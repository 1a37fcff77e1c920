import type { Command } from 'commander'
import { directory, example } from '../arguments'
import type { Cli, Outcome, Run } from '../cli'
import { toJson } from '../escape'
import { DONE } from '../exit'
import { picture } from '../picture'
import { TO_READ, warnOfDamage, withStore } from '../store'

interface StatsFlags {
  json?: boolean
}

const COLUMNS = 80

export function defineStats(program: Command, run: Run, cli: Cli): void {
  const command = program
    .command('stats')
    .summary('print counts and sizes')
    .description('Prints how much is in the store and where: entries, live and dead bytes a segment, memory.')
    .argument('<DIR>', 'the directory of the store', directory)
    .option('--json', 'the numbers, as one object')
    .action((dir: string, flags: StatsFlags) => run(printStats(cli, dir, flags)))
  example(command, 'casky stats ./data')
}

async function printStats(cli: Cli, dir: string, { json }: StatsFlags): Outcome {
  return withStore(cli, dir, TO_READ, async (store) => {
    warnOfDamage(cli, store)
    const stats = store.stats()
    if (json === true) {
      cli.output.text(`${toJson(stats)}\n`)
      return DONE
    }
    const { columns, isTTY } = process.stdout
    const hasColour = isTTY === true && (process.env.NO_COLOR ?? '') === ''
    for (const line of picture(stats, store.path, columns ?? COLUMNS, hasColour)) {
      await cli.output.text(`${line}\n`)
    }
    return DONE
  })
}
