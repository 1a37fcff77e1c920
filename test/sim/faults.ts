// What a system may answer to a call.
import type { Random } from './random'
import type { CallKind, Fault } from './world'

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
  link: ['EPERM', 'EMLINK'],
  syncDirectory: ['EIO'],
}

/** So many calls in a row find the disk full, until there is room again. */
const FULL_CALLS = 40

/** An error at call `first`; and then perhaps another soon after, or a disk that stays full for a while. */
export function faultsFrom(
  first: number,
  random: Random,
): (call: number, kind: CallKind) => Fault | undefined {
  const second = random.chance(0.4) ? first + 1 + random.below(8) : undefined
  const isFull = random.chance(0.15)
  return (call, kind) => {
    if (isFull && call >= first && call < first + FULL_CALLS) {
      return kind === 'write' || kind === 'create' || kind === 'makeDirectory'
        ? { code: 'ENOSPC' }
        : undefined
    }
    if (call !== first && call !== second) return undefined
    const code = random.pick(CODES[kind])
    if (code === 'SHORT') return { share: random.next() }
    // Some systems fail with a part written.
    return { code, share: random.chance(0.5) ? random.next() : 0 }
  }
}
