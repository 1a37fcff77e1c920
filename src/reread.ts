// Tables of a checkpoint turned out damaged when they were first used: what belongs into them is read from the log, all
// at once, since somebody waits for it.
//
// It is what the log held when the store was opened. Each write since has used the tables of its key, and so has each
// record that a merge looked at; so nothing of what was written or moved since belongs into tables that nobody used.
import type { Catalog, Segment } from './catalog'
import type { Health } from './health'
import type { FileHandle, Host } from './host/host'
import { Kernels } from './kernels'
import { Keydir, type Place, TABLE_SHIFT } from './keydir/keydir'
import { readRecords, reportMissing } from './pass'
import type { Sink } from './replay'

export interface RereadRooms {
  host: Host
  catalog: Catalog
  health: Health
  secret: Uint8Array
  /** The last sequence number when the store was opened: a segment that begins behind it is newer. */
  lastSequence: number
}

/** A keydir of all keys that belong into the tables of these indexes. */
export function reread(rooms: RereadRooms, indexes: ReadonlySet<number>): Keydir {
  const { host, catalog, health, secret, lastSequence } = rooms
  // Of its own: this comes in the midst of whatever the store's are used for.
  const kernels = new Kernels()
  kernels.keepSecret(secret)
  const sink = new SelectingSink(new Keydir(kernels.keyedHash), indexes)
  for (const segment of catalog.segments) {
    if (segment.header.firstSequence > lastSequence) continue
    const file = openAgain(host, catalog, segment)
    if (file === undefined) {
      reportMissing(health, segment, segment.bytes, host.nowMs())
      continue
    }
    try {
      const { bytes } = segment
      const expected = { bytes, records: undefined, lastSequence: segment.lastSequence }
      const shownBytes = Math.min(bytes, host.status(file).bytes)
      const read = { ...segment }
      const steps = readRecords(
        { host, kernels, health },
        read,
        file,
        expected,
        sink,
        host.nowMs(),
        undefined,
        shownBytes,
      )
      for (const _ of steps);
    } finally {
      host.close(file)
    }
  }
  return sink.keydir
}

/** By a handle of its own: the catalog may close another for it that is being read from. */
function openAgain(host: Host, catalog: Catalog, { path }: Segment): FileHandle | undefined {
  if (host.inspect(path)?.kind !== 'file') return undefined
  return catalog.withHandles(() => host.open(path, 'read'))
}

/** Takes what belongs into some of the tables. */
class SelectingSink implements Sink {
  constructor(
    readonly keydir: Keydir,
    private readonly indexes: ReadonlySet<number>,
  ) {}

  put(low: number, high: number, source: Uint8Array, at: number, keyBytes: number, place: Place): void {
    if (this.indexes.has(high >>> TABLE_SHIFT)) this.keydir.put(low, high, source, at, keyBytes, place)
  }

  /** What has expired stays as an entry: it may have been one, and goes with the next sweep. */
  remove(low: number, high: number, source: Uint8Array, at: number, keyBytes: number, place: Place): void {
    if (place.expiresAtMs !== undefined) this.put(low, high, source, at, keyBytes, place)
    else if (this.indexes.has(high >>> TABLE_SHIFT)) this.keydir.remove(low, high, source, at, keyBytes)
  }
}
