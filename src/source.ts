// Where the reads of an open store go.
import type { Rooms } from './open'
import type { Source } from './reading'
import { beginWalk } from './walks'

/** Reads see what was written, also what no segment holds yet. */
export function sourceOf(rooms: Rooms): Source {
  const { host, kernels, lookup, writing } = rooms
  return {
    kernels,
    lookup,
    walk: (range, isOfKeys) => {
      // What is gone through must stay where it is: the filling group goes to its segment first.
      writing?.writer.tryCommit()
      return beginWalk(rooms, range, isOfKeys, host.nowMs())
    },
  }
}
