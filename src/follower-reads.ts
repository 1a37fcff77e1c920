// What the reads of a follower see: the keydir as it is, or as it was before the refresh that is under way, or has failed.
import { isCaskyError } from './errors'
import { FrozenLookup } from './frozen'
import type { Lookup } from './lookup'
import { Overlay } from './overlay'
import type { Unpin } from './pins'
import type { Source } from './reading'
import type { View } from './snapshot'
import { beginWalk, type WalkRooms } from './walks'

export interface ReadRooms extends WalkRooms {
  lookup: Lookup
}

interface Frozen extends View {
  lookup: FrozenLookup
  unpin: Unpin
}

export class FollowerReads {
  readonly source: Source
  private frozen: Frozen | undefined

  /** `turn` counts the changes of what there is to see. */
  constructor(
    private readonly rooms: ReadRooms,
    turn: () => number,
  ) {
    const { host, kernels, lookup } = rooms
    const now = (): Source['lookup'] => this.frozen?.lookup ?? lookup
    const size = (): number => (this.frozen ?? lookup).sizeAt(host.nowMs())
    this.source = {
      kernels,
      turn,
      lookup: {
        has: (keyBytes) => now().has(keyBytes),
        expiresAtMs: (keyBytes) => now().expiresAtMs(keyBytes),
        read: (keyBytes) => {
          try {
            return now().read(keyBytes)
          } catch (error) {
            // Merged since it was last looked at: it stands elsewhere now.
            if (!isCaskyError(error) || error.code !== 'CASKY_FOLDED') throw error
            return now().read(keyBytes)
          }
        },
        get size() {
          return size()
        },
      },
      walk: (range, isOfKeys) => beginWalk(rooms, range, isOfKeys, host.nowMs(), this.frozen?.overlay),
    }
  }

  /** undefined where reads see the keydir as it is. */
  get seen(): View | undefined {
    return this.frozen
  }

  /** From now on the keydir changes, and reads see what it was. */
  freeze(): void {
    if (this.frozen !== undefined) return
    const { host, kernels, ledger, pins } = this.rooms
    const overlay = new Overlay(kernels.keyedHash)
    const { hasExpiring, count } = ledger.keydir
    ledger.hold(overlay)
    const frozen = new FrozenLookup(this.rooms, overlay, () => host.nowMs(), count)
    const sizeAt = (nowMs: number): number => (hasExpiring ? frozen.countAt(nowMs) : count)
    this.frozen = { lookup: frozen, overlay, sizeAt, unpin: pins.pin() }
  }

  /** Reads see the keydir as it is. */
  thaw(): void {
    if (this.frozen === undefined) return
    const { overlay, unpin } = this.frozen
    this.frozen = undefined
    this.rooms.ledger.letGo(overlay)
    unpin()
  }
}
