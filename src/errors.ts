/** Every code that casky throws; the list is closed. docs/ARCHITECTURE.md says what each one asks of the caller. */
export type CaskyErrorCode =
  | 'CASKY_INVALID_PATH' // not a directory, not a path at all, or one that can't be reached
  | 'CASKY_INVALID_OPTION' // an unknown option, or a value out of its range
  | 'CASKY_INVALID_ARGUMENT' // an argument of the wrong type
  | 'CASKY_INVALID_KEY'
  | 'CASKY_INVALID_VALUE'
  | 'CASKY_INVALID_TTL'
  | 'CASKY_INVALID_BATCH'
  | 'CASKY_NOT_FOUND' // no store in this directory
  | 'CASKY_EXISTS' // a store is here, and `errorIfExists` was set
  | 'CASKY_NOT_A_STORE' // the directory holds something else
  | 'CASKY_NEWER_FORMAT' // written by a newer casky
  | 'CASKY_LOCKED' // another writer holds the store
  | 'CASKY_CLOSED'
  | 'CASKY_READ_ONLY'
  | 'CASKY_CORRUPT' // damaged data
  | 'CASKY_FOLDED' // a merge has left out changes that were asked for
  | 'CASKY_POISONED' // an earlier sync failed; reopen the store
  | 'CASKY_NO_SPACE'
  | 'CASKY_MEMORY'
  | 'CASKY_IO'
  | 'CASKY_ABORTED'

export interface CaskyErrorDetails {
  /** The file or directory that it is about. */
  path?: string
  /** The byte offset in that file. */
  offset?: number
  /** The key that it is about, as its bytes. */
  key?: Uint8Array
  expected?: unknown
  got?: unknown
  cause?: unknown
}

/** The one error class of casky. With two copies of the package loaded, tell errors by `code`, not `instanceof`. */
export class CaskyError extends Error {
  override readonly name = 'CaskyError'
  readonly code: CaskyErrorCode
  readonly path?: string
  readonly offset?: number
  readonly key?: Uint8Array
  readonly expected?: unknown
  readonly got?: unknown

  constructor(code: CaskyErrorCode, message: string, details: CaskyErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = code
    if (details.path !== undefined) this.path = details.path
    if (details.offset !== undefined) this.offset = details.offset
    if (details.key !== undefined) this.key = details.key
    if (details.expected !== undefined) this.expected = details.expected
    if (details.got !== undefined) this.got = details.got
  }
}

export function isCaskyError(error: unknown): error is CaskyError {
  return (
    error instanceof Error && typeof (error as CaskyError).code === 'string' && error.name === 'CaskyError'
  )
}

/** The operating system's own code of an error (`ENOSPC`, …), if it has one. */
export function systemCode(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | undefined)?.code
  return typeof code === 'string' ? code : undefined
}

const NO_HANDLES = new Set(['EMFILE', 'ENFILE'])

/** Whether the process, or the system, has no file handle left; also where that is the cause of a CASKY_IO. */
export function isOutOfHandles(error: unknown): boolean {
  const code = systemCode(error)
  if (code === 'CASKY_IO') return isOutOfHandles((error as CaskyError).cause)
  return code !== undefined && NO_HANDLES.has(code)
}

const NO_SPACE = new Set(['ENOSPC', 'EDQUOT', 'EFBIG'])

/** Wraps what the operating system threw. `doing` completes "could not …". */
export function ioError(doing: string, path: string, cause: unknown): CaskyError {
  if (isCaskyError(cause)) return cause
  const code = systemCode(cause)
  const reason = code ?? (cause instanceof Error ? cause.message : String(cause))
  if (code !== undefined && NO_SPACE.has(code)) {
    return new CaskyError(
      'CASKY_NO_SPACE',
      `could not ${doing}: no space left (${code}); free some and try again: ${path}`,
      {
        path,
        cause,
      },
    )
  }
  return new CaskyError('CASKY_IO', `could not ${doing} (${reason}): ${path}`, { path, cause })
}

/** As `ioError` for what the operating system threw; any other error as it is. */
export function typed(doing: string, path: string, error: unknown): unknown {
  return /^E[A-Z0-9]+$/.test(systemCode(error) ?? '') ? ioError(doing, path, error) : error
}

/** A broken invariant is a defect of casky itself, never of its input; it stops before it can spread to disk. */
export function invariant(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(`casky: broken invariant: ${what}; please report this`)
}
