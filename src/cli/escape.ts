// How keys, values and messages reach a terminal: never with a raw control character, and always so that what was
// there can be told from what is shown.
import { Buffer, isUtf8 } from 'node:buffer'

/** Controls, format and bidi characters, line and paragraph separators, lone surrogates. */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu
const UNSAFE_OR_BACKSLASH = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\\]/gu
/** What JSON leaves as it is, and a terminal would not. */
const UNSAFE_IN_JSON = /[\u007f-\u009f\p{Cf}\p{Zl}\p{Zp}]/gu
const SHORT: Record<string, string> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' }

function escaped(character: string): string {
  return SHORT[character] ?? `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`
}

/** Bytes as text on one line: `\\`, `\n`, `\r`, `\t`, `\u{…}` for a character, `\x..` for a byte that is no UTF-8. */
export function escapeBytes(bytes: Uint8Array): string {
  if (isUtf8(bytes)) return textOf(bytes).replace(UNSAFE_OR_BACKSLASH, escaped)
  let text = ''
  let at = 0
  while (at < bytes.length) {
    const end = endOfCharacter(bytes, at)
    if (end === at) text += `\\x${bytes[at++].toString(16).padStart(2, '0')}`
    else text += textOf(bytes.subarray(at, end)).replace(UNSAFE_OR_BACKSLASH, escaped)
    at = Math.max(at, end)
  }
  return text
}

/** Where the character that begins at `at` ends; `at` itself where none does. */
function endOfCharacter(bytes: Uint8Array, at: number): number {
  const first = bytes[at]
  const length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4
  const end = at + length
  return end <= bytes.length && isUtf8(bytes.subarray(at, end)) ? end : at
}

/** A message as one line that a terminal shows and does not obey. */
export function oneLine(text: string): string {
  return text.replace(UNSAFE, escaped)
}

/** UTF-8 bytes as a string. */
export function textOf(bytes: Uint8Array): string {
  return bufferOf(bytes).toString('utf8')
}

/** The same bytes, as a Buffer. */
export function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
}

/** A JSON text that is safe on a terminal too. */
export function toJson(value: unknown): string {
  return JSON.stringify(value).replace(UNSAFE_IN_JSON, unicodeEscaped)
}

function unicodeEscaped(character: string): string {
  let text = ''
  for (let i = 0; i < character.length; i++) {
    text += `\\u${character.charCodeAt(i).toString(16).padStart(4, '0')}`
  }
  return text
}

/** A key in JSON: a string, or `{"base64": …}` where it is not UTF-8. */
export function jsonKey(key: Uint8Array): string | { base64: string } {
  return isUtf8(key) ? textOf(key) : { base64: bufferOf(key).toString('base64') }
}
