// One line of an export, as import reads it. A long value goes out piece by piece.
import { isUtf8 } from 'node:buffer'
import { bufferOf, textOf, toJson } from './escape'
import type { Output } from './output'

/** A value that is longer goes out as base64, text or not: its line could become too long for an import. */
const TEXT_BYTES_MAX = 2 ** 28
/** Pieces of base64 are whole groups, so a multiple of three bytes. */
const PIECE_BYTES = 3 * 2 ** 20

export interface StoredEntry {
  key: Uint8Array
  value: Uint8Array
  expiresAtMs: number | undefined
}

export async function writeEntry(output: Output, { key, value, expiresAtMs }: StoredEntry): Promise<void> {
  const isText = value.length <= TEXT_BYTES_MAX && isUtf8(key) && isUtf8(value)
  const expiry = expiresAtMs === undefined ? '' : `,"expiresAtMs":${expiresAtMs}`
  const shownKey = isText ? toJson(textOf(key)) : `"${base64Of(key)}"`
  const full = output.text(`{"key":${shownKey},"value":"`)
  if (full !== undefined) await full
  for (let at = 0; at < value.length; ) {
    const end = endOfPiece(value, at, isText)
    const piece = value.subarray(at, end)
    const wait = output.text(isText ? toJson(textOf(piece)).slice(1, -1) : base64Of(piece))
    if (wait !== undefined) await wait
    at = end
  }
  output.text(`"${isText ? '' : ',"encoding":"base64"'}${expiry}}\n`)
}

/** Text is cut between two characters only. */
function endOfPiece(value: Uint8Array, at: number, isText: boolean): number {
  let end = Math.min(at + PIECE_BYTES, value.length)
  if (isText && end < value.length) while ((value[end] & 0xc0) === 0x80) end--
  return end
}

function base64Of(bytes: Uint8Array): string {
  return bufferOf(bytes).toString('base64')
}
