// Lines that may be longer than a JavaScript string can be: their long strings are taken out and decoded piece by
// piece, and what is left is parsed as ever.
import { Buffer, isUtf8 } from 'node:buffer'
import { randomUUID } from 'node:crypto'
import { VALUE_BYTES_MAX } from '../index'
import { BadLine } from './bad-line'
import { decodeBase64 } from './base64'
import { sizeOf } from './units'

/** From here on a line is parsed this way. */
export const LONG_LINE_BYTES = 2 ** 26
/** No value needs more, however it is written. */
export const LINE_BYTES_MAX = 2 ** 31
const LONG_STRING_BYTES = 2 ** 20
const PIECE_BYTES = 2 ** 22
const QUOTE = 0x22
const BACKSLASH = 0x5c
const LETTER_U = 0x75
const SHORT_ESCAPE_BYTES = 2
const UNICODE_ESCAPE_BYTES = 6
const BASE64_GROUP = 4
const BASE64_GROUP_BYTES = 3

/** A long string of a line, as it stands between its quotes. */
export class LongText {
  constructor(private readonly raw: Buffer) {}

  toBytes(name: string): Uint8Array {
    const into = this.#allocate(Math.min(this.raw.length, VALUE_BYTES_MAX))
    let used = 0
    for (const text of this.#pieces(name)) {
      if (!text.isWellFormed())
        throw new BadLine(`the ${name} holds a lone surrogate, which UTF-8 can't hold`)
      const bytes = Buffer.byteLength(text)
      if (used + bytes > into.length) throw tooLong(name)
      used += into.write(text, used)
    }
    return into.subarray(0, used)
  }

  fromBase64(name: string): Uint8Array {
    const bytesMax = Math.ceil(this.raw.length / BASE64_GROUP) * BASE64_GROUP_BYTES
    const into = this.#allocate(Math.min(bytesMax, VALUE_BYTES_MAX))
    let used = 0
    let rest = ''
    const take = (text: string): void => {
      const bytes = decodeBase64(text)
      if (bytes === undefined) throw new BadLine(`the ${name} is not base64`)
      if (used + bytes.length > into.length) throw tooLong(name)
      used += bytes.copy(into, used)
    }
    for (const piece of this.#pieces(name)) {
      const text = rest + piece
      // The last group may be padded, so it waits until it is known for the last.
      const whole = Math.max(0, Math.ceil(text.length / BASE64_GROUP) - 1) * BASE64_GROUP
      rest = text.slice(whole)
      if (text.slice(0, whole).endsWith('=')) throw new BadLine(`the ${name} is not base64`)
      take(text.slice(0, whole))
    }
    take(rest)
    return into.subarray(0, used)
  }

  #allocate(bytes: number): Buffer {
    return Buffer.allocUnsafeSlow(bytes)
  }

  *#pieces(name: string): Generator<string, void> {
    for (let at = 0; at < this.raw.length; ) {
      const end = endOfPiece(this.raw, at)
      const piece = this.raw.subarray(at, end)
      if (!isUtf8(piece)) throw new BadLine(`the ${name} is not UTF-8`)
      yield unescaped(piece, name)
      at = end
    }
  }
}

function unescaped(piece: Buffer, name: string): string {
  try {
    return JSON.parse(`"${piece.toString('utf8')}"`) as string
  } catch {
    throw new BadLine(`the ${name} is not a JSON string`)
  }
}

function tooLong(name: string): BadLine {
  return new BadLine(`the ${name} has more than ${sizeOf(VALUE_BYTES_MAX)}`)
}

/** A place near PIECE_BYTES behind `at` that is inside of no escape, surrogate pair or character. */
function endOfPiece(raw: Buffer, at: number): number {
  const target = at + PIECE_BYTES
  if (target >= raw.length) return raw.length
  let behind = at
  let isHighSurrogate = false
  for (;;) {
    const backslash = raw.indexOf(BACKSLASH, behind)
    const goesOn = backslash >= 0 && (backslash < target || (isHighSurrogate && backslash === behind))
    if (!goesOn) break
    const isUnicode = raw[backslash + 1] === LETTER_U
    behind = backslash + (isUnicode ? UNICODE_ESCAPE_BYTES : SHORT_ESCAPE_BYTES)
    isHighSurrogate = isUnicode && /^d[89ab]/i.test(raw.toString('latin1', backslash + 2, backslash + 4))
  }
  let end = Math.min(Math.max(target, behind), raw.length)
  while (end > behind && (raw[end] & 0xc0) === 0x80) end--
  return end > at ? end : target
}

/** As JSON.parse, with every long string as a LongText. */
export function parseLong(line: Buffer): unknown {
  // No string of the line can be mistaken for one of these.
  const mark = randomUUID()
  const texts = new Map<string, LongText>()
  let skeleton = ''
  let at = 0
  for (let begin = line.indexOf(QUOTE); begin >= 0; ) {
    const end = endOfString(line, begin + 1)
    if (end < 0) break
    if (end - begin > LONG_STRING_BYTES) {
      const name = `${mark}${texts.size}`
      texts.set(name, new LongText(line.subarray(begin + 1, end)))
      skeleton += `${shortOf(line.subarray(at, begin))}"${name}"`
      at = end + 1
    }
    begin = line.indexOf(QUOTE, end + 1)
  }
  skeleton += shortOf(line.subarray(at))
  try {
    return JSON.parse(skeleton, (_, value: unknown) =>
      typeof value === 'string' ? (texts.get(value) ?? value) : value,
    )
  } catch (error) {
    throw new BadLine(`it is not JSON (${error instanceof Error ? error.message : error})`)
  }
}

/** What stands between the long strings; an entry has little of it. */
function shortOf(bytes: Buffer): string {
  if (bytes.length > LONG_LINE_BYTES) throw new BadLine('it is long, and no entry')
  if (!isUtf8(bytes)) throw new BadLine('it is not UTF-8')
  return bytes.toString('utf8')
}

/** The quote that ends the string that begins at `from`; -1 where none does. */
function endOfString(line: Buffer, from: number): number {
  for (let end = line.indexOf(QUOTE, from); end >= 0; end = line.indexOf(QUOTE, end + 1)) {
    let backslashes = 0
    while (end - 1 - backslashes >= from && line[end - 1 - backslashes] === BACKSLASH) backslashes++
    if (backslashes % 2 === 0) return end
  }
  return -1
}
