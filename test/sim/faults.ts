// What a system may answer to a call.

import { type CallKind, type Fault, MUTATING } from './calls'
import type { Random } from './random'

const CODES: Record<CallKind, string[]> = {
  open: ['EMFILE', 'EACCES', 'EIO'],
  create: ['ENOSPC', 'EMFILE', 'EIO', 'EROFS'],
  read: ['EIO', 'SHORT'],
  write: ['ENOSPC', 'EIO', 'EDQUOT', 'SHORT'],
  truncate: ['EIO'],
  sync: ['EIO', 'ENOSPC'],
  status: ['EIO'],
  inspect: ['EIO', 'EACCES'],
  list: ['EIO', 'EMFILE'],
  makeDirectory: ['ENOSPC', 'EACCES'],
  rename: ['EIO', 'ENOSPC'],
  remove: ['EIO', 'EPERM'],
  link: ['EPERM', 'EMLINK', 'ENOSPC'],
  clone: ['ENOTSUP', 'EIO', 'ENOSPC'],
  // The directory is opened for it.
  // Not EACCES: what may not be read can't be synced, and casky goes on (docs/DURABILITY.md).
  syncDirectory: ['EIO', 'EMFILE'],
  freeBytes: ['ENOSPC'],
}

type Befalling = (call: number, kind: CallKind) => Fault | undefined

/** What lasts for a while, or for good: the kinds of calls that it hits, and with what. */
interface Limit {
  code: string
  kinds: ReadonlySet<CallKind>
  calls: number
}

const FULL: Limit = {
  code: 'ENOSPC',
  kinds: new Set(['write', 'create', 'makeDirectory', 'freeBytes']),
  calls: 40,
}
const NO_HANDLES: Limit = {
  code: 'EMFILE',
  kinds: new Set(['open', 'create', 'list', 'syncDirectory']),
  calls: 60,
}
const NO_LINKS: Limit = { code: 'EPERM', kinds: new Set(['link']), calls: Number.POSITIVE_INFINITY }

function limitOf(random: Random): Limit | undefined {
  const draw = random.below(20)
  if (draw < 3) return FULL
  if (draw < 5) return NO_HANDLES
  return draw < 6 ? NO_LINKS : undefined
}

/** An error at call `first`; and then perhaps another soon after, or a limit that lasts. */
export function faultsFrom(first: number, random: Random): Befalling {
  const second = random.chance(0.4) ? first + 1 + random.below(8) : undefined
  const limit = limitOf(random)
  return (call, kind) => {
    if (limit !== undefined && call >= first && call < first + limit.calls) {
      return limit.kinds.has(kind) ? { code: limit.code } : undefined
    }
    if (call !== first && call !== second) return undefined
    // It may do its work, and be said to have failed.
    if (MUTATING.has(kind) && random.chance(0.2)) return { code: 'EIO', isDone: true }
    const code = random.pick(CODES[kind])
    if (code === 'SHORT') return { share: random.next() }
    // Some systems fail with a part written.
    return { code, share: random.chance(0.5) ? random.next() : 0 }
  }
}
