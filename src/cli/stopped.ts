// Work that was asked to stop has an exit code of its own.
import { isCaskyError } from '../index'
import type { Cli } from './cli'
import { FAILED, Failure } from './exit'

/** What to throw in the place of an error, where that is the end that Ctrl-C has asked for. */
export function stopped({ interrupt }: Cli, error: unknown): unknown {
  if (!isCaskyError(error) || error.code !== 'CASKY_ABORTED') return error
  return new Failure(interrupt.exitCode ?? FAILED, error.message)
}
