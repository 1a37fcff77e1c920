// The first 16 bytes of every file of a store, the same in every version of the format (docs/FORMAT.md, "Preamble").
import { viewOf } from './bytes'
import type { Kernels } from './kernels'

export const FORMAT_VERSION = 1
const PREAMBLE_BYTES = 16
const MAGIC_BYTES = 8
const VERSION_AT = 8
const HEADER_BYTES_AT = 10
const CRC_AT = 12
/** So many bytes of a magic make it one that was damaged, and not another program's. */
const MAGIC_BYTES_ALIKE = 6

export type Preamble =
  | { kind: 'ours'; headerBytes: number }
  | { kind: 'newer'; version: number }
  | { kind: 'damaged' } // the magic is right, or nearly, and the rest is not
  | { kind: 'foreign' }

export function magicOf(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

export function writePreamble(
  kernels: Kernels,
  into: Uint8Array,
  magic: Uint8Array,
  headerBytes: number,
): void {
  const view = viewOf(into)
  into.set(magic, 0)
  view.setUint16(VERSION_AT, FORMAT_VERSION, true)
  view.setUint16(HEADER_BYTES_AT, headerBytes, true)
  view.setUint32(CRC_AT, kernels.crc(into.subarray(0, CRC_AT)), true)
}

/** A newer version is believed only under its CRC: a flipped bit in the version is damage, not the future. */
export function readPreamble(kernels: Kernels, from: Uint8Array, magic: Uint8Array): Preamble {
  const alike = magic.filter((byte, i) => byte === from[i]).length
  if (alike < MAGIC_BYTES_ALIKE) return { kind: 'foreign' }
  if (from.length < PREAMBLE_BYTES || alike < MAGIC_BYTES) return { kind: 'damaged' }
  const view = viewOf(from)
  if (view.getUint32(CRC_AT, true) !== kernels.crc(from.subarray(0, CRC_AT))) {
    return { kind: 'damaged' }
  }
  const version = view.getUint16(VERSION_AT, true)
  if (version > FORMAT_VERSION) return { kind: 'newer', version }
  return { kind: 'ours', headerBytes: view.getUint16(HEADER_BYTES_AT, true) }
}
