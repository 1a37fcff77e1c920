// Makes the changes that have waited for tables of a checkpoint, once these are made and before anybody sees them.
import { invariant } from '../errors'
import type { Backlog } from './backlog'
import { emptyPlace, type Place } from './heap'
import type { Table } from './table'

/** What the changes come to in what is counted of all tables. */
export interface Effects {
  entries: number
  /** How many bytes of records count more, or fewer, by segment slot. */
  liveBytes: Map<number, number>
  /** When entries expire that have come, and that have gone. */
  expiring: number[]
  unexpiring: number[]
}

/**
 * `tableOf`: the table of the piece that a key belongs into; `hashFor`: the hash by which it knows the key. Should there
 * be no memory for one change, the tables are not to be kept.
 */
export function applyChanges(
  backlog: Backlog,
  piece: number,
  tableOf: (hashHigh: number) => Table | undefined,
  hashFor: (table: Table, hashLow: number, source: Uint8Array, at: number, keyBytes: number) => number,
): Effects {
  const effects: Effects = { entries: 0, liveBytes: new Map(), expiring: [], unexpiring: [] }
  const old = emptyPlace()
  const count = ({ segment, recordBytes }: Place, sign: number): void => {
    effects.liveBytes.set(segment, (effects.liveBytes.get(segment) ?? 0) + sign * recordBytes)
  }
  const retire = (): void => {
    count(old, -1)
    if (old.expiresAtMs !== undefined) effects.unexpiring.push(old.expiresAtMs)
  }
  const live = (place: Place): void => {
    count(place, 1)
    if (place.expiresAtMs !== undefined) effects.expiring.push(place.expiresAtMs)
  }
  backlog.forEach(piece, ({ removes, hashLow, hashHigh, source, at, keyBytes, place }) => {
    const table = tableOf(hashHigh)
    invariant(table !== undefined, 'a change waits for a table that is in the piece')
    const hash24 = hashFor(table, hashLow, source, at, keyBytes)
    const slot = table.find(hash24, source, at, keyBytes)
    if (slot >= 0) table.read(slot, old)
    if (removes) {
      if (slot < 0) return
      table.remove(slot)
      effects.entries--
      retire()
    } else if (slot < 0) {
      table.insert(~slot, hash24, source, at, keyBytes, place)
      effects.entries++
      live(place)
    } else {
      table.replace(slot, source, at, keyBytes, place)
      retire()
      live(place)
    }
  })
  return effects
}
