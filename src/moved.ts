// What a merge has written, for who knows the store as it was before: entries are pointed to where their records lie
// now, and what is newer than that is taken as it comes.
import type { Catalog, Segment } from './catalog'
import type { Place } from './keydir/keydir'
import type { Ledger } from './ledger'
import type { ManifestEntry } from './manifest'
import type { Sink } from './replay'

export class MovedSink implements Sink {
  /** `replaced`: what no manifest names any more. All writes up to `lastKnown` are in the keydir. */
  constructor(
    private readonly ledger: Ledger,
    private readonly catalog: Catalog,
    private readonly segment: Segment,
    private readonly entry: ManifestEntry,
    private readonly replaced: ReadonlySet<Segment>,
    private readonly lastKnown: number,
  ) {
    // Counts up as it is read.
    segment.lastSequence = segment.header.firstSequence - 1
  }

  put(low: number, high: number, source: Uint8Array, at: number, keyBytes: number, place: Place): void {
    const { ledger } = this
    if (this.isNew) ledger.put(low, high, source, at, keyBytes, place)
    else if (ledger.keydir.find(low, high, source, at, keyBytes) && this.standsFor(ledger.keydir.found))
      ledger.move(low, high, source, at, keyBytes, ledger.keydir.found, place)
  }

  remove(low: number, high: number, source: Uint8Array, at: number, keyBytes: number, place: Place): void {
    if (this.isNew) this.ledger.remove(low, high, source, at, keyBytes, place)
  }

  /** Of a batch, which comes when it is whole, this holds for all or for none. */
  private get isNew(): boolean {
    return this.segment.lastSequence > this.lastKnown
  }

  /** Whether a record at this place is one of those that were copied; an older one of its key may have been, too. */
  private standsFor({ segment: slot }: Place): boolean {
    const { segment, entry, replaced } = this
    if (slot === segment.slot) return true
    const former = this.catalog.at(slot)
    const { firstSequence } = former.header
    return (
      replaced.has(former) &&
      firstSequence >= segment.header.firstSequence &&
      firstSequence <= entry.lastSequence
    )
  }
}
