// What the writer writes: keys and values that follow from a number alone, so that whoever checks needs no list.
import { createHash } from 'node:crypto'

const BATCH_EVERY = 10
const BATCH_KEYS = ['a', 'b', 'c']

export const isBatch = (n) => n % BATCH_EVERY === 0
export const keyOf = (round, n) => `log/${round}/${n}`
/** The keys of a write: one, or those of a batch. */
export const keysOf = (round, n) =>
  isBatch(n) ? BATCH_KEYS.map((name) => `${keyOf(round, n)}/${name}`) : [keyOf(round, n)]

/** Text of 64 to 320 characters that no other key has. */
export function valueFor(key) {
  const hash = createHash('sha256').update(key).digest('hex')
  return hash.repeat(1 + (hash.charCodeAt(0) % 5))
}
