// Keys that djb2-xor can't tell apart.
import { slowDjb2Xor } from './reference'

const U64 = (1n << 64n) - 1n

/** As many as asked for, of printable characters and the same length, that all have one 64-bit hash. */
export function collidingKeys(count: number): Buffer[] {
  let keys = [Buffer.alloc(0)]
  let state = slowDjb2Xor(Buffer.alloc(0))
  while (keys.length < count) {
    const [one, other] = pairFrom(state)
    keys = keys.flatMap((key) => [Buffer.concat([key, one]), Buffer.concat([key, other])])
    state = slowDjb2Xor(keys[0])
  }
  return keys.slice(0, count)
}

/** Two pairs of characters that lead from a state to the same one. */
function pairFrom(state: bigint): [Buffer, Buffer] {
  const seen = new Map<bigint, Buffer>()
  for (let first = 0x20; first < 0x7f; first++) {
    for (let second = 0x20; second < 0x7f; second++) {
      const next = ((((state * 33n) ^ BigInt(first)) * 33n) ^ BigInt(second)) & U64
      const pair = Buffer.from([first, second])
      const other = seen.get(next)
      if (other !== undefined) return [other, pair]
      seen.set(next, pair)
    }
  }
  throw new Error('no pair meets')
}

/** Integers from 0 on as eight bytes, the highest first: normal keys, and a few thousand hashes for a million of them. */
export function integerKey(number: number): Buffer {
  const key = Buffer.alloc(8)
  key.writeBigUInt64BE(BigInt(number))
  return key
}
