import type { Command } from 'commander'
import { directory, example, keyOf } from '../arguments'
import type { Cli, Outcome, Run } from '../cli'
import { bufferOf, escapeBytes } from '../escape'
import { DONE, Failure, NOT_FOUND } from '../exit'
import { TO_READ, warnOfDamage, withStore } from '../store'
import { BASE64_OPTION } from './options'

interface GetFlags {
  base64?: boolean
}

export function defineGet(program: Command, run: Run, cli: Cli): void {
  const command = program
    .command('get')
    .summary('print the value of a key')
    .description(
      'Writes the value of KEY to standard output: its bytes and nothing else, so no newline either.',
    )
    .argument('<DIR>', 'the directory of the store', directory)
    .argument('<KEY>', 'the key')
    .option(...BASE64_OPTION)
    .action((dir: string, key: string, flags: GetFlags) => run(get(cli, dir, key, flags)))
  example(command, 'casky get ./data user:1', 'casky get ./data photo > photo.jpg')
}

async function get(cli: Cli, dir: string, key: string, { base64 }: GetFlags): Outcome {
  const keyBytes = keyOf(key, base64)
  return withStore(cli, dir, TO_READ, async (store) => {
    warnOfDamage(cli, store)
    const value = store.get(keyBytes)
    if (value === undefined) throw absent(keyBytes)
    if (base64 === true) await cli.output.text(bufferOf(value).toString('base64'))
    else await cli.output.bytes(value)
    return DONE
  })
}

export function absent(key: Uint8Array): Failure {
  const shown = escapeBytes(key)
  return new Failure(NOT_FOUND, `no such key: ${shown.length > 200 ? `${shown.slice(0, 200)}…` : shown}`)
}
