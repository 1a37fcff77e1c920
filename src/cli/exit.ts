// How a command ends: the exit codes, and which error means which.
import type { CaskyErrorCode } from '../index'

export const DONE = 0
/** The key is absent, or damage was found. */
export const NOT_FOUND = 1
export const USAGE = 2
export const FAILED = 3

/** An end that has a message and a code of its own. */
export class Failure extends Error {
  constructor(
    readonly exitCode: number,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options)
  }
}

/** Standard output was closed by who read it (`| head`): an end, and no failure. */
export class OutputClosed extends Error {}

const CODES: Partial<Record<CaskyErrorCode, number>> = {
  CASKY_CORRUPT: NOT_FOUND,
  CASKY_INVALID_OPTION: USAGE,
  CASKY_INVALID_ARGUMENT: USAGE,
  CASKY_INVALID_KEY: USAGE,
  CASKY_INVALID_VALUE: USAGE,
  CASKY_INVALID_TTL: USAGE,
  CASKY_INVALID_BATCH: USAGE,
}

export function exitCodeOf(code: CaskyErrorCode): number {
  return CODES[code] ?? FAILED
}
