// The directories that lead to a file: their names must last as long as the file does.
import { systemCode } from '../errors'
import { parentOf } from '../files'
import { NOT_TO_BE_SYNCED } from '../open'
import type { Job } from './job'

/** Makes the names of a directory and of all above it durable; which of them was made just now doesn't matter. */
export async function syncWayTo(job: Job, directory: string): Promise<void> {
  for (let at = directory; parentOf(at) !== at; at = parentOf(at)) {
    try {
      await job.syncDirectory(parentOf(at))
    } catch (error) {
      const code = systemCode((error as { cause?: unknown }).cause)
      if (systemCode(error) !== 'CASKY_IO' || (code !== undefined && !NOT_TO_BE_SYNCED.has(code))) throw error
    }
  }
}
