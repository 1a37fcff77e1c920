// Which way an iteration goes, and what it holds meanwhile.
import { KEY_AT } from '../assembly/layout'
import type { KeyCodec, ValueEncoder } from './encoding'
import { FrozenLookup } from './frozen'
import { KeyWalk } from './key-walk'
import type { Ledger } from './ledger'
import { LogWalk, type LogWalkRooms } from './log-walk'
import { OrderedView } from './ordered'
import { Overlay } from './overlay'
import type { Pins, Unpin } from './pins'
import type { Range } from './range'
import type { Walk } from './walk'

export interface WalkRooms extends LogWalkRooms {
  ledger: Ledger
  pins: Pins
}

/** A walk, and what lets go of all that it holds. */
export interface Begun {
  walk: Walk
  unpin: Unpin
}

/**
 * Begins to go through what is in range. `seen`: what tells the store as it was from the keydir as it is; undefined for
 * the store as it is now, which then stays as it is for this walk.
 */
export function beginWalk(
  rooms: WalkRooms,
  range: Range,
  isOfKeys: boolean,
  nowMs: number,
  seen?: Overlay,
): Begun {
  const { kernels, ledger, pins } = rooms
  const overlay = seen ?? new Overlay(kernels.keyedHash)
  const entries = new FrozenLookup(rooms, overlay, () => nowMs)
  if (!range.isOrdered && isOfKeys) {
    return { walk: new KeyWalk(entries, range, nowMs), unpin: holding(rooms, overlay) }
  }
  const unpin = pins.pin()
  if (!range.isOrdered) {
    return { walk: new LogWalk(rooms, seen === undefined ? ledger.keydir : entries, range, nowMs), unpin }
  }
  return { walk: new ViewWalk(rooms, new OrderedView(entries, range, nowMs)), unpin }
}

/** From now on the overlay is told of what changes, and segments stay. */
function holding({ ledger, pins }: WalkRooms, overlay: Overlay): Unpin {
  const unpin = pins.pin()
  ledger.hold(overlay)
  let isHeld = true
  return () => {
    if (!isHeld) return
    isHeld = false
    ledger.letGo(overlay)
    unpin()
  }
}

class ViewWalk implements Walk {
  private position = -1

  constructor(
    private readonly rooms: Pick<WalkRooms, 'kernels' | 'reader'>,
    private readonly view: OrderedView,
  ) {}

  advance(): boolean {
    this.position++
    return this.position < this.view.length
  }

  private writeKey(): number {
    return this.view.writeKey(this.position, this.rooms.kernels.bytes, KEY_AT)
  }

  key(codec: KeyCodec): unknown {
    return codec.read(this.rooms.kernels, KEY_AT, this.writeKey())
  }

  value(codec: ValueEncoder): unknown {
    const { kernels, reader } = this.rooms
    const keyBytes = this.writeKey()
    return codec.read(kernels, reader.read(this.view.placeAt(this.position), keyBytes))
  }
}
