import type { Command } from 'commander'
import type { RangeOptions } from '../../index'
import { bytesOf, directory, example, whole } from '../arguments'
import type { Cli, Outcome, Run } from '../cli'
import { writeEntry } from '../entry-line'
import { bufferOf, escapeBytes } from '../escape'
import { DONE, NOT_FOUND } from '../exit'
import { intactEntries } from '../intact'
import { type Store, TO_READ, warnOfDamage, withStore } from '../store'
import { BASE64_OPTION } from './options'

interface ListFlags {
  prefix?: string
  limit?: number
  reverse?: boolean
  values?: boolean
  json?: boolean
  base64?: boolean
}

export function defineList(program: Command, run: Run, cli: Cli): void {
  const command = program
    .command('list')
    .summary('print the keys, in byte order')
    .description(
      'Prints the keys in byte order, one a line, with what a terminal would not show as it is escaped: \\\\, \\n, ' +
        '\\r, \\t, \\u{…} for a character, \\x.. for a byte that is no UTF-8.',
    )
    .argument('<DIR>', 'the directory of the store', directory)
    .option('-p, --prefix <P>', 'only keys that begin with P')
    .option('-n, --limit <N>', 'at most N keys', whole)
    .option('-r, --reverse', 'from the last key to the first')
    .option('--values', 'the value too, behind a tab, escaped likewise')
    .option('--json', 'key and value as `casky export` writes them')
    .option(...BASE64_OPTION)
    .action((dir: string, flags: ListFlags) => run(list(cli, dir, flags)))
  example(command, 'casky list ./data --prefix user: --limit 10 --values')
}

async function list(cli: Cli, dir: string, flags: ListFlags): Outcome {
  const range: RangeOptions<'bytes'> = {}
  if (flags.prefix !== undefined) range.prefix = bytesOf(flags.prefix, 'the prefix', flags.base64)
  if (flags.limit !== undefined) range.limit = flags.limit
  if (flags.reverse !== undefined) range.reverse = flags.reverse
  return withStore(cli, dir, TO_READ, async (store) => {
    warnOfDamage(cli, store)
    if (flags.json === true || flags.values === true) await listEntries(cli, store, range, flags)
    else await listKeys(cli, store, range, flags)
    return store.health().damage.length > 0 ? NOT_FOUND : DONE
  })
}

function shown(bytes: Uint8Array, { base64 }: ListFlags): string {
  return base64 === true ? bufferOf(bytes).toString('base64') : escapeBytes(bytes)
}

async function listKeys(
  { output }: Cli,
  store: Store,
  range: RangeOptions<'bytes'>,
  flags: ListFlags,
): Promise<void> {
  for (const key of store.keys(range)) {
    const full = output.text(`${shown(key, flags)}\n`)
    if (full !== undefined) await full
  }
}

async function listEntries(
  { messages, output }: Cli,
  store: Store,
  range: RangeOptions<'bytes'>,
  flags: ListFlags,
): Promise<void> {
  for (const entry of intactEntries(store, range, (message) => messages.say(message))) {
    if (flags.json === true) {
      await writeEntry(output, entry)
      continue
    }
    const full = output.text(`${shown(entry.key, flags)}\t${shown(entry.value, flags)}\n`)
    if (full !== undefined) await full
  }
}
