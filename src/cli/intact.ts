// The entries of a store for list and export: each as it is, or named where it is damaged.
import { isCaskyError, type RangeOptions } from '../index'
import type { StoredEntry } from './entry-line'
import type { Store } from './store'

/** Every entry in the range in key order; one that can't be read goes to `onDamaged` instead. */
export function* intactEntries(
  store: Store,
  range: RangeOptions<'bytes'>,
  onDamaged: (message: string) => void,
): Generator<StoredEntry, void> {
  for (const key of store.keys(range)) {
    let value: Uint8Array | undefined
    try {
      value = store.get(key)
    } catch (error) {
      if (!isCaskyError(error) || error.code !== 'CASKY_CORRUPT') throw error
      onDamaged(error.message)
      continue
    }
    // It may have expired since the listing began.
    if (value !== undefined) yield { key, value, expiresAtMs: store.expiresAtMs(key) }
  }
}
