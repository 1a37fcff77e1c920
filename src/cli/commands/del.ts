import type { Command } from 'commander'
import { directory, example, keyOf } from '../arguments'
import type { Cli, Outcome, Run } from '../cli'
import { DONE } from '../exit'
import { TO_WRITE, warnOfDamage, withStore } from '../store'
import { absent } from './get'
import { BASE64_OPTION } from './options'

interface DelFlags {
  base64?: boolean
}

export function defineDel(program: Command, run: Run, cli: Cli): void {
  const command = program
    .command('del')
    .summary('remove a key')
    .description('Removes KEY and its value.')
    .argument('<DIR>', 'the directory of the store', directory)
    .argument('<KEY>', 'the key')
    .option(...BASE64_OPTION)
    .action((dir: string, key: string, flags: DelFlags) => run(del(cli, dir, key, flags)))
  example(command, 'casky del ./data user:1')
}

async function del(cli: Cli, dir: string, key: string, { base64 }: DelFlags): Outcome {
  const keyBytes = keyOf(key, base64)
  return withStore(cli, dir, { ...TO_WRITE, createIfMissing: false }, async (store) => {
    warnOfDamage(cli, store)
    if (!(await store.delete(keyBytes))) throw absent(keyBytes)
    return DONE
  })
}
