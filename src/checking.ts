// `db.check()`: verifies a store that is open, while reads and writes go on.
import { type CheckProgress, check } from './check'
import { typed } from './errors'
import type { Rooms } from './open'
import { surveySteps } from './upkeep'

/** What is wrong is in `health` on return; `opened` throws once the store is closed. */
export async function checkOpened(
  opened: () => Rooms,
  onProgress: ((progress: CheckProgress) => void) | undefined,
): Promise<void> {
  const { host, catalog, pins, writing } = opened()
  writing?.writer.tryCommit()
  const unpin = pins.pin()
  try {
    for (const progress of writing === undefined ? besideWriter(opened()) : ownSteps(opened())) {
      onProgress?.(progress)
      await new Promise<void>((resolve) => host.soon(resolve))
      opened()
    }
  } catch (error) {
    throw typed('check the store', catalog.directory, error)
  } finally {
    unpin()
  }
}

function ownSteps({ host, catalog, health, manifest }: Rooms): Iterable<CheckProgress> {
  return check(host, catalog, health, manifest)
}

/** Another process may write, and merge: the store is looked at as it is then. What was found before may be mended. */
function* besideWriter({ host, catalog, health }: Rooms): Generator<CheckProgress, void> {
  const found = yield* surveySteps(host, catalog.directory)
  health.become(found.health)
}
