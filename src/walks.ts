// Which way an iteration goes, and what it holds meanwhile.
import { FrozenLookup } from './frozen'
import { KeyOrder, sortedRun } from './key-order'
import { KeyWalk } from './key-walk'
import type { Ledger } from './ledger'
import { LogWalk, type LogWalkRooms } from './log-walk'
import { OrderWalk } from './order-walk'
import { Overlay } from './overlay'
import type { Pins, Unpin } from './pins'
import { isUnbounded, type Range } from './range'
import type { Walk } from './walk'

/** One in so many of all entries: more of them are sooner met in the order of the log. */
const PART = 8

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
  if (range.isOrdered || isSooner(range, ledger)) return inOrder(rooms, entries, overlay, range, isOfKeys)
  if (isOfKeys) return { walk: new KeyWalk(entries, range, nowMs), unpin: holding(rooms, overlay) }
  const unpin = pins.pin()
  return { walk: new LogWalk(rooms, seen === undefined ? ledger.keydir : entries, range, nowMs), unpin }
}

/** Whether the order of the keys, where somebody has asked for that, leads to a part of them soonest. */
function isSooner(range: Range, { keydir, order }: Ledger): boolean {
  if (order === undefined || isUnbounded(range)) return false
  let count = 0
  for (const run of order.current()) {
    const [from, to] = run.within(range)
    count += to - from
  }
  return count * PART < keydir.count
}

function inOrder(
  rooms: WalkRooms,
  entries: FrozenLookup,
  overlay: Overlay,
  range: Range,
  isOfKeys: boolean,
): Begun {
  const { ledger } = rooms
  ledger.order ??= new KeyOrder(ledger.keydir)
  const { order } = ledger
  let runs = order.current()
  if (overlay.count > 0) {
    // Keys that the keydir may not have any more.
    const changed = sortedRun(overlay, {
      ...range,
      isOrdered: true,
      reverse: false,
      limit: Number.POSITIVE_INFINITY,
    })
    runs = [...runs, changed]
  }
  const isExact = overlay.count === 0 && order.isExact && !ledger.keydir.hasExpiring
  const letGo = holding(rooms, overlay)
  order.readers++
  let isReading = true
  const unpin = (): void => {
    if (isReading) order.readers--
    isReading = false
    letGo()
  }
  return { walk: new OrderWalk(rooms, entries, order, runs, range, isOfKeys, isExact), unpin }
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
