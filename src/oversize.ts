// Records and batches that the write buffer has no room for: encoded piece by piece and written as they come.
import { READ_BYTES, WRITE_AT, WRITE_BYTES } from '../assembly/layout'
import type { RecordHead } from './active'
import type { Kernels } from './kernels'
import type { Log } from './log'
import { recordBytes } from './segment'

/** A write whose key and value are bytes already. */
export interface RawRecord {
  /** Kind and flags. */
  kind: number
  key: Uint8Array
  value: Uint8Array
  expiresAtMs: number | undefined
}

export function rawBytes(record: RawRecord): number {
  return recordBytes(record.key.length, record.value.length, record.expiresAtMs !== undefined)
}

/** Appends the records to the active segment; returns the offset of each. The write buffer must be empty. */
export function writePieces(kernels: Kernels, log: Log, records: readonly RawRecord[]): Float64Array {
  const offsets = new Float64Array(records.length)
  let used = 0
  const drain = (): void => {
    if (used > 0) log.write(kernels.bytes, WRITE_AT, used)
    used = 0
  }
  records.forEach((record, i) => {
    const bytes = rawBytes(record)
    const prefixBytes = bytes - record.value.length
    const isLarge = bytes > WRITE_BYTES
    if (used + (isLarge ? prefixBytes : bytes) > WRITE_BYTES) drain()
    const at = WRITE_AT + used
    const offset = log.writtenBytes + used
    offsets[i] = offset
    kernels.bytes.set(record.key, at + prefixBytes - record.key.length)
    if (isLarge) {
      log.encode(at, headOf(record), offset, kernels.crc(record.value, log.seedAt(offset)))
      used += prefixBytes
      drain()
      for (let done = 0; done < record.value.length; done += READ_BYTES) {
        log.write(record.value, done, Math.min(READ_BYTES, record.value.length - done))
      }
    } else {
      kernels.bytes.set(record.value, at + prefixBytes)
      log.encode(at, headOf(record), offset)
      used += bytes
    }
  })
  drain()
  return offsets
}

function headOf({ kind, key, value, expiresAtMs }: RawRecord): RecordHead {
  return { kind, keyBytes: key.length, valueBytes: value.length, expiresAtMs: expiresAtMs ?? 0 }
}
