// When a search has cost so much that its keys must have been made to meet, or are of a kind that djb2-xor can't tell
// apart: big-endian integers that follow each other share a few hashes.

/** Hashes a key so that only who knows the store's secret can make keys that meet; 24 bits. */
export type KeyedHash = (source: Uint8Array, at: number, keyBytes: number) => number

/** Slots that were passed; by chance no search of a million keys, at seven eighths full, comes as far (the tests look). */
const WALKED_MAX = 1024
/** Entries whose hash looked right and which were others: each is a cache line. */
const MISTAKEN_MAX = 8

export function isStrained(walked: number, mistaken: number): boolean {
  return walked > WALKED_MAX || mistaken > MISTAKEN_MAX
}
