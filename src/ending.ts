// The end of a segment: synced, sealed, and synced again.
import type { ActiveSegment } from './active'
import type { Stage } from './course'

/** All before the seal is on disk when it is written, and the segment counts as sealed when the seal is. */
export function endingOf(active: ActiveSegment): Stage[] {
  const sync = {
    later: (done: (error: unknown) => void) => active.syncLater(done),
    now: () => active.sync(),
  }
  const seal: Stage = {
    ...sync,
    begin: () => active.writeSeal(),
    end: () => {
      active.segment.state = 'sealed'
    },
  }
  return [sync, seal]
}
