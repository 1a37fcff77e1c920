// What is wrong with a store, as a person reads it: one finding a line.
import type { Damage, TornTail } from '../index'
import { escapeBytes, jsonKey, oneLine } from './escape'
import { countOf, numberOf } from './units'

/** So many keys of one damaged place are named to a person. */
const KEYS_SHOWN = 10

export function damageLine(mark: string, damage: Damage, end = ''): string {
  return `${mark}: ${placeOf(damage)}: ${oneLine(damage.reason)}${sequencesOf(damage)}${keysOf(damage)}${end}`
}

export function damageJson(damage: Damage): unknown {
  return { ...damage, keys: damage.keys.map(jsonKey) }
}

export function tornTailLine(tail: TornTail): string {
  return `torn tail: ${placeOf(tail)}: a write that did not finish, or is under way; nothing acknowledged is in it`
}

function placeOf({ path, offset, bytes, ...rest }: Damage | TornTail): string {
  if (bytes === 0) return oneLine(path)
  const isOne = !('places' in rest) || rest.places === 1
  if (!isOne) return `${oneLine(path)}, from byte ${offset} on (${countOf(bytes, 'byte')})`
  return `${oneLine(path)}, bytes ${offset} to ${offset + bytes - 1} (${countOf(bytes, 'byte')})`
}

function sequencesOf({ firstSequence, lastSequence }: Damage): string {
  if (firstSequence === undefined) return ''
  if (lastSequence === undefined) return `; sequence numbers from ${numberOf(firstSequence)} on`
  if (lastSequence === firstSequence) return `; sequence number ${firstSequence}`
  return `; sequence numbers ${firstSequence} to ${lastSequence}`
}

function keysOf({ keys, moreKeys }: Damage): string {
  const count = keys.length + moreKeys
  if (count === 0) return ''
  if (keys.length === 0) return `; ${countOf(count, 'key')}`
  const shown = keys.slice(0, KEYS_SHOWN).map((key) => `"${escapeBytes(key)}"`)
  const more = count > shown.length ? ` and ${numberOf(count - shown.length)} more` : ''
  return `; ${count === 1 ? 'key' : 'keys'} ${shown.join(', ')}${more}`
}

/** How many damaged places these findings stand for. */
export function placesOf(damage: Damage[]): number {
  return damage.reduce((sum, { places }) => sum + places, 0)
}
