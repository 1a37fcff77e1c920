import { type Command, Option } from 'commander'
import { directory, example } from '../arguments'
import type { Cli, Outcome, Run } from '../cli'
import { openInput, openRandom } from '../files'
import { caskyCEvents, importCaskyC } from '../import-casky-c'
import { entriesOf, type ImportJob } from '../import-job'
import { importLines } from '../import-lines'
import { Loader } from '../loader'
import { Progress } from '../progress'
import { warnOfDamage, withStore } from '../store'
import { QUIET_OPTION } from './options'

interface ImportFlags {
  format: 'jsonl' | 'casky-c'
  quiet?: boolean
}

export function defineImport(program: Command, run: Run, cli: Cli): void {
  const command = program
    .command('import')
    .summary('store all entries of a file')
    .description(
      'Stores every entry of FILE, in place of what was under its key. Makes the store where there is none. ' +
        'FILE holds JSON lines as `casky export` writes them: {"key":…,"value":…}, with "encoding":"base64" where ' +
        'both are base64, and "expiresAtMs" where it expires; blank lines count for nothing. At a bad line the ' +
        'import ends with exit code 3, and keeps what came before it; so does Ctrl-C, with 130.',
    )
    .argument('<DIR>', 'the directory of the store', directory)
    .argument('[FILE]', 'the file; `-`, or none, is standard input', '-')
    .addOption(
      new Option('--format <FORMAT>', "what FILE is: JSON lines, or the log of the C Casky, any version's")
        .choices(['jsonl', 'casky-c'])
        .default('jsonl'),
    )
    .option(...QUIET_OPTION)
    .action((dir: string, file: string, flags: ImportFlags) =>
      run(flags.format === 'jsonl' ? importJson(cli, dir, file, flags) : importLog(cli, dir, file, flags)),
    )
  example(
    command,
    'casky import ./data backup.jsonl',
    'zcat backup.jsonl.gz | casky import ./data',
    'casky import ./data --format casky-c old.log',
  )
}

async function importJson(cli: Cli, dir: string, file: string, flags: ImportFlags): Outcome {
  const input = await openInput(file)
  try {
    if (file === '-' && process.stdin.isTTY === true) cli.messages.say('reads JSON lines; end with Ctrl-D')
    return await importInto(cli, dir, flags, input.bytesTotal, (job) => importLines(job, input))
  } finally {
    input.close()
  }
}

async function importLog(cli: Cli, dir: string, file: string, flags: ImportFlags): Outcome {
  const log = openRandom(file)
  try {
    const events = caskyCEvents(log, file)
    return await importInto(cli, dir, flags, log.bytes, (job) => importCaskyC(job, events))
  } finally {
    log.close()
  }
}

function importInto(
  cli: Cli,
  dir: string,
  { quiet }: ImportFlags,
  total: number | undefined,
  load: (job: ImportJob) => Promise<number>,
): Outcome {
  // Text stays text on its way into the store, and bytes are taken as they are.
  return withStore(cli, dir, { keyEncoding: 'utf8', valueEncoding: 'utf8' }, async (store) => {
    warnOfDamage(cli, store)
    const progress = new Progress(cli.messages, {
      label: 'importing',
      total,
      unit: 'bytes',
      isWanted: quiet !== true,
    })
    const loader = new Loader(store)
    try {
      const exitCode = await load({ cli, store, loader, progress })
      if (quiet !== true && cli.interrupt.exitCode === undefined) {
        const deletes = loader.deletes === 0 ? '' : `, deleted ${loader.deletes}`
        cli.output.text(`imported ${entriesOf(loader.puts)}${deletes}\n`)
      }
      return exitCode
    } finally {
      progress.stop()
    }
  })
}
