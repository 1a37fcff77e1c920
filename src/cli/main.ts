// The command line. It knows nothing that is not in the public interface of the store.
import { CommanderError } from 'commander'
import { isCaskyError } from '../index'
import type { Cli } from './cli'
import { DONE, exitCodeOf, FAILED, Failure, OutputClosed, USAGE } from './exit'
import { Interrupt } from './interrupt'
import { Messages } from './messages'
import { Output } from './output'
import { defineProgram } from './program'

const messages = new Messages()
const cli: Cli = { output: new Output(), messages, interrupt: new Interrupt(() => messages.hide()) }

async function main(given: string[]): Promise<number> {
  const { program, outcome } = defineProgram(cli, DONE)
  try {
    await program.parseAsync(given, { from: 'user' })
    await cli.output.flush()
    return outcome()
  } catch (error) {
    const isHelp = error instanceof CommanderError && error.exitCode === 0
    if (!isHelp) await cli.output.flushQuietly()
    return await failed(error)
  }
}

async function failed(error: unknown): Promise<number> {
  if (error instanceof OutputClosed) return DONE
  if (error instanceof CommanderError) return await usage(error)
  if (error instanceof Failure) {
    messages.say(error.message)
    return error.exitCode
  }
  if (isCaskyError(error)) {
    messages.say(error.message)
    return exitCodeOf(error.code)
  }
  messages.say(`internal error, please report it: ${error instanceof Error ? error.message : error}`)
  return FAILED
}

/** Help and version are errors to the parser too. */
async function usage(error: CommanderError): Promise<number> {
  if (error.exitCode === 0) {
    try {
      await cli.output.flush()
      return DONE
    } catch (cause) {
      return await failed(cause)
    }
  }
  // Help on standard error, where no command was given.
  if (error.code === 'commander.help') return USAGE
  const text = error.message.replace(/^error: /, '').replace(/\s*\n\s*/g, ' ')
  messages.say(`${text.replace(/\.$/, '')}${hintFor(error.code, text)}`)
  return USAGE
}

function hintFor(code: string, text: string): string {
  if (text.includes('Did you mean')) return ''
  return code === 'commander.unknownOption'
    ? '; a key or value that begins with a dash goes behind --'
    : '; see `casky --help`'
}

process.stderr.on('error', () => {})
// Should the process run out of things to wait for before it is done, that is no success.
process.exitCode = FAILED
main(process.argv.slice(2)).then((exitCode) => {
  // Something may still be waited for that nobody wants any more, like the rest of standard input.
  process.stderr.write('', () => process.exit(exitCode))
})
