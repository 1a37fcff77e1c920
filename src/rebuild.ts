// After a repair: hints and a checkpoint of the store as it is now, so that the next open takes no longer than any.
import { HINT_SEGMENT_BYTES_MIN, LOG_BYTES_MIN } from './caretaker'
import { Catalog } from './catalog'
import { writeCheckpointNow } from './checkpoint'
import { Health } from './health'
import { hintSteps, removeStaleCaches } from './hinting'
import type { Host } from './host/host'
import { syncPath } from './io'
import { Kernels } from './kernels'
import { Ledger } from './ledger'
import { readManifest } from './manifest'
import { recover } from './recovery'
import type { SurveyProgress } from './survey'

/** Whatever comes between leaves a sound store with fewer of them. */
export function* rebuildCaches(host: Host, directory: string): Generator<SurveyProgress, void> {
  const kernels = new Kernels()
  const hintKernels = new Kernels()
  const catalog = new Catalog(host, directory)
  const health = new Health()
  const ledger = new Ledger(kernels, catalog)
  try {
    const manifest = readManifest(host, kernels, directory)
    if (manifest === undefined) return
    kernels.keepSecret(manifest.secret)
    const rooms = { host, kernels, catalog, health, ledger, manifest, isWriting: () => true }
    const { withoutHint } = yield* recover(rooms, manifest)
    removeStaleCaches(host, catalog)
    const lacking = new Set(withoutHint)
    for (const segment of catalog.segments) {
      const isLong = segment.bytes >= HINT_SEGMENT_BYTES_MIN
      if (isLong && lacking.has(segment.header.id))
        for (const _ of hintSteps({ ...rooms, kernels: hintKernels }, segment));
    }
    const logBytes = catalog.segments.reduce((sum, { bytes }) => sum + bytes, 0)
    if (logBytes < LOG_BYTES_MIN) return
    writeCheckpointNow(rooms, () => {
      const last = catalog.segments.at(-1)
      if (last?.state === 'active') syncPath(host, last.path, 'sync a segment')
    })
  } finally {
    catalog.closeFiles()
  }
}
