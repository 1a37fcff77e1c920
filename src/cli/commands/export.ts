import type { Command } from 'commander'
import { directory, example } from '../arguments'
import type { Cli, Outcome, Run } from '../cli'
import { writeEntry } from '../entry-line'
import { DONE, NOT_FOUND } from '../exit'
import { intactEntries } from '../intact'
import { Progress } from '../progress'
import { type Store, TO_READ, warnOfDamage, withStore } from '../store'
import { countOf, sizeOf } from '../units'
import { QUIET_OPTION } from './options'

interface ExportFlags {
  quiet?: boolean
}

export function defineExport(program: Command, run: Run, cli: Cli): void {
  const command = program
    .command('export')
    .summary('print all entries as JSON lines')
    .description(
      'Writes every entry to standard output, in byte order of the keys, one a line: {"key":…,"value":…}, with ' +
        '"encoding":"base64" where key or value is not UTF-8 (both are base64 then), and "expiresAtMs" where it ' +
        'expires. Damaged entries are named on standard error and left out; the exit code is 1 then.',
    )
    .argument('<DIR>', 'the directory of the store', directory)
    .option(...QUIET_OPTION)
    .action((dir: string, flags: ExportFlags) => run(exportAll(cli, dir, flags)))
  example(command, 'casky export ./data > backup.jsonl', 'casky export ./data | casky import ./copy')
}

async function exportAll(cli: Cli, dir: string, { quiet }: ExportFlags): Outcome {
  return withStore(cli, dir, TO_READ, async (store) => {
    warnOfDamage(cli, store)
    noticeTornTails(cli, store)
    const isWanted = quiet !== true && process.stdout.isTTY !== true
    const progress = new Progress(cli.messages, {
      label: 'exporting',
      total: store.size,
      unit: 'entries',
      isWanted,
    })
    try {
      let done = 0
      for (const entry of intactEntries(store, {}, (message) => cli.messages.say(message))) {
        await writeEntry(cli.output, entry)
        progress.update(++done)
      }
      await cli.output.flush()
    } finally {
      progress.stop()
    }
    return nameTheUnreadable(cli, store)
  })
}

function noticeTornTails({ messages }: Cli, store: Store): void {
  for (const { path, offset, bytes } of store.health().tornTails) {
    const what = 'a write that did not finish, or is under way; nothing acknowledged is in them'
    messages.say(`notice: the last ${sizeOf(bytes)} of ${path}, from byte ${offset} on, are ${what}`)
  }
}

/** What is so damaged that it has no key left was met by no entry. */
function nameTheUnreadable({ messages }: Cli, store: Store): number {
  const { damage } = store.health()
  for (const { path, offset, bytes, reason, keys, moreKeys } of damage) {
    if (keys.length + moreKeys > 0) continue
    const where = `${countOf(bytes, 'byte')} at byte ${offset} of ${path}`
    messages.say(`${where}: ${reason}; entries that were written there are missing, or older`)
  }
  return damage.length > 0 ? NOT_FOUND : DONE
}
