// What the imports have in common: where to, how far, and how to end.
import type { Casky } from '../index'
import type { Cli } from './cli'
import { FAILED, Failure } from './exit'
import { type Loader, RefusedWrite } from './loader'
import type { Progress } from './progress'
import { countOf } from './units'

export interface ImportJob {
  cli: Cli
  store: Casky
  loader: Loader
  progress: Progress
}

/** Lets signals and timers have their turn. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

export function entriesOf(count: number): string {
  return countOf(count, 'entry', 'entries')
}

/**
 * Waits until what was handed to the store is on disk. `place` names what a write came from, `bad` is what the import
 * could not go on from. Throws where something is wrong.
 */
export async function finish(
  { loader }: ImportJob,
  place: (where: number) => string,
  bad: { where: number; why: string } | undefined,
): Promise<void> {
  try {
    await loader.settle()
  } catch (error) {
    if (!(error instanceof RefusedWrite)) throw error
    const { cause, where } = error
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new Failure(FAILED, `${place(where)}: ${why}; ${importedOf(loader.puts, '')}`, { cause })
  }
  if (bad !== undefined)
    throw new Failure(FAILED, `${place(bad.where)}: ${bad.why}; ${importedOf(loader.puts, ' before it')}`)
}

function importedOf(puts: number, which: string): string {
  return puts === 0
    ? 'nothing is imported'
    : `${entriesOf(puts)}${which} ${puts === 1 ? 'is' : 'are'} imported`
}

/** After a stop was asked for and all that was begun is on disk: tells so, and returns the exit code. */
export function interrupted({ cli, loader }: ImportJob, exitCode: number): number {
  const { puts } = loader
  cli.messages.say(`interrupted; ${entriesOf(puts)} ${puts === 1 ? 'is' : 'are'} imported and on disk`)
  return exitCode
}
