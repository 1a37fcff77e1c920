// One line of an import: `{"key": …, "value": …, "encoding": "base64", "expiresAtMs": …}`.
import { type Buffer, isUtf8 } from 'node:buffer'
import { BadLine } from './bad-line'
import { decodeBase64 } from './base64'
import { guess } from './guess'
import { LONG_LINE_BYTES, LongText, parseLong } from './long-text'

export interface Entry {
  key: string | Uint8Array
  value: string | Uint8Array
  expiresAtMs: number | undefined
}

const FIELDS = ['key', 'value', 'encoding', 'expiresAtMs']
const REPLACEMENT = '\ufffd'
const SHOWN_CHARS = 40

/** `undefined` for a blank line. Throws BadLine, which says what is wrong. */
export function parseEntry(line: Buffer): Entry | undefined {
  if (line.length > LONG_LINE_BYTES) return entryOf(parseLong(line))
  const text = line.toString('utf8')
  if (text.includes(REPLACEMENT) && !isUtf8(line)) throw new BadLine('it is not UTF-8')
  if (/^\s*$/.test(text)) return undefined
  try {
    return entryOf(JSON.parse(text))
  } catch (error) {
    if (error instanceof SyntaxError) throw new BadLine(`it is not JSON (${error.message})`)
    throw error
  }
}

function entryOf(given: unknown): Entry {
  if (typeof given !== 'object' || given === null || Array.isArray(given) || given instanceof LongText) {
    throw new BadLine(`an entry is an object with a key and a value, not ${named(given)}`)
  }
  for (const name of Object.keys(given)) {
    if (!FIELDS.includes(name)) throw new BadLine(`unknown field '${shown(name)}'; ${guess(name, FIELDS)}`)
  }
  const { key, value, encoding, expiresAtMs } = given as Record<string, unknown>
  if (key === undefined) throw new BadLine('it has no key')
  if (value === undefined) throw new BadLine('it has no value')
  if (encoding !== undefined && encoding !== 'base64') {
    throw new BadLine(`encoding is 'base64' or left out, not ${named(encoding)}`)
  }
  const isBase64 = encoding === 'base64'
  return {
    key: fieldOf('key', key, isBase64),
    value: fieldOf('value', value, isBase64),
    expiresAtMs: expiryOf(expiresAtMs),
  }
}

function fieldOf(name: string, given: unknown, isBase64: boolean): string | Uint8Array {
  if (given instanceof LongText) return isBase64 ? given.fromBase64(name) : given.toBytes(name)
  if (typeof given !== 'string') throw new BadLine(`the ${name} is a string, not ${named(given)}`)
  if (isBase64) {
    const bytes = decodeBase64(given)
    if (bytes === undefined) throw new BadLine(`the ${name} is not base64: '${shown(given)}'`)
    return bytes
  }
  if (!given.isWellFormed()) throw new BadLine(`the ${name} holds a lone surrogate, which UTF-8 can't hold`)
  return given
}

function expiryOf(given: unknown): number | undefined {
  if (given === undefined) return undefined
  if (typeof given === 'number' && Number.isSafeInteger(given) && given > 0) return given
  throw new BadLine(
    `expiresAtMs is a whole number of milliseconds since 1970, from 1 on, not ${named(given)}`,
  )
}

function shown(text: string): string {
  return text.length > SHOWN_CHARS ? `${text.slice(0, SHOWN_CHARS)}…` : text
}

function named(value: unknown): string {
  if (value instanceof LongText) return 'a long string'
  if (typeof value === 'string') return `'${shown(value)}'`
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'an array' : 'an object'
  return String(value)
}
