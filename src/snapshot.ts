// A read view that stays.
import type { KeyCodec, KeyEncoding, ValueEncoder, ValueEncoding } from './encoding'
import { CaskyError } from './errors'
import { FrozenLookup } from './frozen'
import type { Rooms } from './open'
import { Overlay } from './overlay'
import { Reading, readFrom, type Source } from './reading'
import { beginWalk } from './walks'

let construct: (source: () => Source, keys: KeyCodec, values: ValueEncoder, hold: Hold) => unknown

/** What a snapshot holds of the store: let go once. */
interface Hold {
  readonly sequence: number
  readonly takenAtMs: number
  isReleased: boolean
  release(): void
}

/** One that was never released would keep memory and files until the store is closed. */
const leaked = new FinalizationRegistry<{ hold: Hold; warn: () => void }>(({ hold, warn }) => {
  if (hold.isReleased) return
  hold.release()
  warn()
})

/**
 * The store as it was when `snapshot()` was called, through later writes, deletes, expiry and merges. It holds on to
 * segments that a merge has replaced, and remembers what has changed: release it when you are done.
 */
export class Snapshot<K extends KeyEncoding = 'utf8', V extends ValueEncoding = 'utf8'> extends Reading<
  K,
  V
> {
  readonly #hold: Hold

  static {
    construct = (source, keys, values, hold) => new Snapshot(source, keys, values, hold)
  }

  private constructor(source: () => Source, keys: KeyCodec, values: ValueEncoder, hold: Hold) {
    super()
    readFrom(this, source, keys, values)
    this.#hold = hold
  }

  /** The sequence number of the last write that it shows. */
  get sequence(): number {
    return this.#hold.sequence
  }

  /** Lets go; afterwards every call fails with CASKY_CLOSED. Releasing again is fine. */
  release(): void {
    this.#hold.release()
  }

  [Symbol.dispose](): void {
    this.release()
  }
}

/** What reads see that do not see the keydir as it is. */
export interface View {
  overlay: Overlay
  sizeAt(nowMs: number): number
}

/** `opened` throws where the store is closed. `seen`: what reads see, if not the keydir as it is. */
export function snapshotOf<K extends KeyEncoding, V extends ValueEncoding>(
  opened: () => Rooms,
  keys: KeyCodec,
  values: ValueEncoder,
  seen?: View,
): Snapshot<K, V> {
  const rooms = opened()
  const { host, kernels, ledger, pins, reader, snapshots } = rooms
  const nowMs = host.nowMs()
  const size = (seen ?? rooms.lookup).sizeAt(nowMs)
  const overlay = seen?.overlay ?? new Overlay(kernels.keyedHash)
  const unpin = pins.pin()
  ledger.hold(overlay)
  const hold: Hold = {
    sequence: rooms.lastSequence(),
    takenAtMs: nowMs,
    isReleased: false,
    release() {
      if (this.isReleased) return
      this.isReleased = true
      snapshots.delete(this)
      ledger.letGo(overlay)
      unpin()
    },
  }
  snapshots.add(hold)
  const lookup = new FrozenLookup({ kernels, ledger, reader }, overlay, () => nowMs, size)
  const walk: Source['walk'] = (range, isOfKeys) => beginWalk(rooms, range, isOfKeys, nowMs, overlay)
  const source: Source = { kernels, lookup, walk }
  const snapshot = construct(
    () => {
      opened()
      if (!hold.isReleased) return source
      throw new CaskyError('CASKY_CLOSED', 'the snapshot was released; take another one')
    },
    keys,
    values,
    hold,
  ) as Snapshot<K, V>
  const { directory } = rooms.catalog
  const warn = (): void =>
    host.warn(
      `a snapshot at sequence number ${hold.sequence} was never released, and nobody holds it any more: ${directory}`,
    )
  leaked.register(snapshot, { hold, warn })
  return snapshot
}
