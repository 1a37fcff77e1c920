// Has a read-only store follow its writer.
import type { Catalog } from './catalog'
import type { Host } from './host/host'

/** Between two refreshes others may run, and a busy writer write. */
const REST_MS = 10
/** What no change of a file tells, on a file system that is not of this machine, is seen so often. */
const LOOK_EVERY_MS = 1000

/** Calls `refresh` when something may have changed; returns what ends that. */
export function watch(
  { host, catalog }: { host: Host; catalog: Catalog },
  refresh: () => Promise<unknown>,
): () => void {
  let isBusy = false
  let isDue = false
  let isOver = false
  const run = (): void => {
    if (isOver) return
    if (isBusy) {
      isDue = true
      return
    }
    isBusy = true
    isDue = false
    const rest = (): void => {
      host.later(REST_MS, () => {
        isBusy = false
        if (isDue) run()
      })
    }
    // Whoever reads hears of what is wrong; the next change tries again.
    refresh().then(rest, rest)
  }
  let endWatch = (): void => {}
  try {
    endWatch = host.watch(catalog.directory, run)
  } catch {
    // There is the clock.
  }
  let cancelTimer = (): void => {}
  const look = (): void => {
    cancelTimer = host.later(LOOK_EVERY_MS, () => {
      run()
      look()
    })
  }
  look()
  run()
  return () => {
    isOver = true
    cancelTimer()
    endWatch()
  }
}
