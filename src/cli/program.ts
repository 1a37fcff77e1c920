// The commands, put together.
import { Command } from 'commander'
import { version } from '../../package.json'
import type { Cli, Run } from './cli'
import { defineBackup } from './commands/backup'
import { defineCheck } from './commands/check'
import { defineDel } from './commands/del'
import { defineDump } from './commands/dump'
import { defineExpire } from './commands/expire'
import { defineExport } from './commands/export'
import { defineGet } from './commands/get'
import { defineImport } from './commands/import'
import { defineList } from './commands/list'
import { defineMerge } from './commands/merge'
import { definePut } from './commands/put'
import { defineRepair } from './commands/repair'
import { defineRestore } from './commands/restore'
import { defineStats } from './commands/stats'

const EXIT_CODES = `
Exit codes:
  0    done
  1    the key is not there, there is damage, or a repair has lost writes
  2    wrong usage
  3    failed: no such store, locked, a bad line in an import, no space, …
  130  stopped by Ctrl-C

Example:
  casky put ./data user:1 Ada && casky get ./data user:1
`

export interface CaskyProgram {
  program: Command
  /** What the command that ran came to. */
  outcome(): number
}

export function defineProgram(cli: Cli, initial: number): CaskyProgram {
  let exitCode = initial
  const run: Run = async (outcome) => {
    exitCode = await outcome
  }
  const program = new Command('casky')
    .description('An embedded, crash-safe key-value store.')
    .usage('COMMAND DIR …')
    .version(version)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void cli.output.text(text),
      // The error is told of in one line by whoever catches it.
      outputError: () => {},
    })
    .addHelpText('after', EXIT_CODES)
  const commands = [
    definePut,
    defineGet,
    defineDel,
    defineList,
    defineImport,
    defineExport,
    defineDump,
    defineCheck,
    defineRepair,
    defineBackup,
    defineRestore,
    defineStats,
    defineMerge,
    defineExpire,
  ]
  for (const define of commands) define(program, run, cli)
  return { program, outcome: () => exitCode }
}
