// Where the reads of an open store go.
import type { Rooms } from './open'
import { OrderedView } from './ordered'
import type { Source } from './reading'

/** Reads see what was written, also what no segment holds yet. */
export function sourceOf({ host, kernels, ledger, lookup, pins, reader, writing }: Rooms): Source {
  return {
    kernels,
    reader,
    lookup,
    view: (range) => {
      // What the view points to must stay where it is: the filling group goes to its segment first.
      writing?.writer.tryCommit()
      return { view: new OrderedView(ledger.keydir, range, host.nowMs()), unpin: pins.pin() }
    },
  }
}
