// Which segments tell the changes behind a place in the order of writes. What a merge has written does not: it holds
// what counts of the writes, and not all of them.
import type { Catalog, Segment } from './catalog'
import { CaskyError } from './errors'

/** The last sequence number that it may hold; where it holds none, the one before its first. */
export function lastOf({ lastSequence, header }: Segment): number {
  return Math.max(lastSequence, header.firstSequence - 1)
}

function isFolded({ header }: Segment): boolean {
  return header.copies?.isFolded === true
}

/**
 * The segments that hold what comes after `position`, oldest first. Throws CASKY_FOLDED where not all of it is in the
 * log any more.
 */
export function segmentsAfter({ segments, directory }: Catalog, position: number): Segment[] {
  const found: Segment[] = []
  for (let i = segments.length - 1; i >= 0 && lastOf(segments[i]) > position; i--) {
    const { header } = segments[i]
    const before = i === 0 ? 0 : lastOf(segments[i - 1])
    if (isFolded(segments[i])) throw folded(directory, position, lastOf(segments[i]))
    // What stood between them was merged into nothing.
    if (header.firstSequence - 1 > Math.max(before, position)) {
      throw folded(directory, position, header.firstSequence - 1)
    }
    found.push(segments[i])
  }
  return found.reverse()
}

/** The same, with what merges have replaced where somebody still holds it; undefined where that doesn't do either. */
export function heldAfter(
  { segments }: Catalog,
  replaced: ReadonlySet<Segment>,
  position: number,
): Segment[] | undefined {
  const found = [...segments, ...replaced].filter((each) => !isFolded(each) && lastOf(each) > position)
  found.sort((a, b) => a.header.firstSequence - b.header.firstSequence)
  let reached = position
  for (const segment of found) {
    if (segment.header.firstSequence - 1 > reached) return undefined
    reached = lastOf(segment)
  }
  return reached < lastOf(segments[segments.length - 1]) ? undefined : found
}

function folded(path: string, position: number, lowest: number): CaskyError {
  return new CaskyError(
    'CASKY_FOLDED',
    `the changes after ${position} have been merged, and not all of them are in the log any more; start again from a snapshot or a backup, or go on from ${lowest} without those between: ${path}`,
    { path, expected: lowest, got: position },
  )
}
