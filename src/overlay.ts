// What a snapshot remembers: of each key that was changed since, where its newest record lay then. So a snapshot costs
// nothing when it is taken, and as much as what changes while it is kept.
import { emptyPlace, Keydir, type KeyedHash, type Place, TABLES } from './keydir/keydir'

/** Higher than any segment's slot: the key was not there. */
const ABSENT_SLOT = 0xff_ffff

export class Overlay {
  /** undefined until something changes: most iterations see nothing of that. */
  private before: Keydir | undefined
  private readonly absent: Place = { ...emptyPlace(), segment: ABSENT_SLOT }

  constructor(private readonly keyedHash: KeyedHash) {}

  /** The key is about to change; `place`: where it is now, undefined where it is absent. The first time counts. */
  note(
    hashLow: number,
    hashHigh: number,
    source: Uint8Array,
    at: number,
    keyBytes: number,
    place: Place | undefined,
  ): void {
    this.before ??= new Keydir(this.keyedHash)
    const { before } = this
    if (before.find(hashLow, hashHigh, source, at, keyBytes)) return
    before.put(hashLow, hashHigh, source, at, keyBytes, place ?? this.absent)
  }

  /** The place that the key had, or undefined where it was absent; 'unchanged' where it is what the keydir says. */
  find(
    hashLow: number,
    hashHigh: number,
    source: Uint8Array,
    at: number,
    keyBytes: number,
  ): Place | 'unchanged' | undefined {
    const { before } = this
    if (before === undefined || !before.find(hashLow, hashHigh, source, at, keyBytes)) return 'unchanged'
    return before.found.segment === ABSENT_SLOT ? undefined : before.found
  }

  /** The keys that have changed and were there. */
  forEach(visit: (place: Place, keys: Uint8Array, keyAt: number, keyBytes: number) => void): void {
    for (let part = 0; part < TABLES; part++) this.forEachOf(part, visit)
  }

  /** The keys of one part of the keydir that have changed and were there. */
  forEachOf(
    part: number,
    visit: (place: Place, keys: Uint8Array, keyAt: number, keyBytes: number) => void,
  ): void {
    this.before?.forEachOf(part, (place, keys, at, keyBytes) => {
      if (place.segment !== ABSENT_SLOT) visit(place, keys, at, keyBytes)
    })
  }

  /** How many keys have changed. */
  get count(): number {
    return this.before?.count ?? 0
  }

  get memoryBytes(): number {
    return this.before?.memoryBytes ?? 0
  }
}
