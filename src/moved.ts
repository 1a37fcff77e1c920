// What a merge has written, for who knows what was copied: entries are pointed to where their records lie now, and what is
// newer than what is known is taken as it comes.
import type { Segment } from './catalog'
import type { Place } from './keydir/keydir'
import type { Ledger } from './ledger'
import type { Sink } from './replay'

export class MovedSink implements Sink {
  /**
   * All writes up to `lastKnown` are in the keydir. `standsFor`: whether a record at this place is one of those that were
   * copied.
   */
  constructor(
    private readonly ledger: Ledger,
    private readonly segment: Segment,
    private readonly standsFor: (place: Place) => boolean,
    private readonly lastKnown: number,
  ) {
    // Counts up as it is read.
    segment.lastSequence = segment.header.firstSequence - 1
  }

  put(low: number, high: number, source: Uint8Array, at: number, keyBytes: number, place: Place): void {
    const { ledger } = this
    if (this.isNew) ledger.put(low, high, source, at, keyBytes, place)
    else if (ledger.keydir.find(low, high, source, at, keyBytes) && this.isOlder(ledger.keydir.found))
      ledger.move(low, high, source, at, keyBytes, ledger.keydir.found, place)
  }

  remove(low: number, high: number, source: Uint8Array, at: number, keyBytes: number, place: Place): void {
    if (this.isNew) this.ledger.remove(low, high, source, at, keyBytes, place)
  }

  /** Of a batch, which comes when it is whole, this holds for all or for none. */
  private get isNew(): boolean {
    return this.segment.lastSequence > this.lastKnown
  }

  /** An older record of the same key may have been copied as well. */
  private isOlder(place: Place): boolean {
    return place.segment === this.segment.slot || this.standsFor(place)
  }
}
