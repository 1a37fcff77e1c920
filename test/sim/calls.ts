// The calls that a process makes to its system, and what may befall one.

export type CallKind =
  | 'open'
  | 'create'
  | 'read'
  | 'write'
  | 'truncate'
  | 'sync'
  | 'status'
  | 'inspect'
  | 'list'
  | 'makeDirectory'
  | 'rename'
  | 'remove'
  | 'link'
  | 'clone'
  | 'syncDirectory'
  | 'freeBytes'

/** What befalls a call: it fails, or does a share of its work, or both; or does all of it, and is said to have failed. */
export type Fault = { code: string; share?: number; isDone?: boolean } | { share: number }

export interface Watcher {
  /** Before a call; what it returns befalls the call. */
  before?(kind: CallKind, path: string): Fault | undefined
  /** After a call that changed the disk. */
  after?(kind: CallKind, path: string): void
}

/** Without a stack, which would cost more than all else in a call. */
export function systemFailure(code: string): Error {
  const error = Object.create(Error.prototype)
  return Object.assign(error, { code, message: `${code}: simulated` })
}

/** Mutating calls change what a crash may leave. */
export const MUTATING = new Set<CallKind>([
  'create',
  'write',
  'truncate',
  'sync',
  'makeDirectory',
  'rename',
  'remove',
  'link',
  'clone',
  'syncDirectory',
])
