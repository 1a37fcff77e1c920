import type { Command } from 'commander'
import { directory, example } from '../arguments'
import type { Cli, Outcome, Run } from '../cli'
import { toJson } from '../escape'
import { DONE } from '../exit'
import { TO_WRITE, warnOfDamage, withStore } from '../store'
import { countOf, sizeOf } from '../units'

interface ExpireFlags {
  json?: boolean
}

export function defineExpire(program: Command, run: Run, cli: Cli): void {
  const command = program
    .command('expire')
    .summary('give back the space of what has expired')
    .description(
      'Entries that have expired are never seen again, and a merge gives their space back. This merges now, and ' +
        'says how many there were.',
    )
    .argument('<DIR>', 'the directory of the store', directory)
    .option('--json', 'one object with what was done')
    .action((dir: string, flags: ExpireFlags) => run(expire(cli, dir, flags)))
  example(command, 'casky expire ./data')
}

async function expire(cli: Cli, dir: string, { json }: ExpireFlags): Outcome {
  return withStore(cli, dir, { ...TO_WRITE, createIfMissing: false }, async (store) => {
    warnOfDamage(cli, store)
    const { recordsExpired, freedBytes } = await store.merge()
    const freed = Math.max(0, freedBytes)
    if (json === true) cli.output.text(`${toJson({ expired: recordsExpired, freedBytes: freed })}\n`)
    else {
      const expired = countOf(recordsExpired, 'expired entry', 'expired entries')
      await cli.output.text(`${expired}; freed ${sizeOf(freed)}\n`)
    }
    return DONE
  })
}
