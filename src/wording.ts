// How things are named in messages: shortly, and never with raw control characters.

/** How many letters to change, leave out, add or swap to get from one word to the other. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  let before = row
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const change = row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)
      next[j] = Math.min(change, row[j] + 1, next[j - 1] + 1)
      const isSwap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
      if (isSwap) next[j] = Math.min(next[j], before[j - 2] + 1)
    }
    before = row
    row = next
  }
  return row[b.length]
}

/** ` (did you mean …?)`, or the list of what there is. */
export function guess(word: string, known: readonly string[]): string {
  const scored = known.map((name) => ({ name, score: distance(word.toLowerCase(), name.toLowerCase()) }))
  scored.sort((a, b) => a.score - b.score)
  const [best] = scored
  if (best !== undefined && best.score <= Math.max(2, best.name.length / 3))
    return `did you mean '${best.name}'?`
  return `known are ${known.map((name) => `'${name}'`).join(', ')}`
}

/** Controls, format and bidi characters, line and paragraph separators, lone surrogates. */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu
const PRINTED_CHARS = 100

/** Text from elsewhere, shortly, and as a terminal shows it and does not obey it. */
export function printable(text: string, longest = PRINTED_CHARS): string {
  const short = text.length > longest ? `${text.slice(0, longest)}…` : text
  return short.replace(UNSAFE, (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`)
}

const SHOWN_NUMBERS_MAX = 4

function describeArray(value: readonly unknown[]): string {
  const isShown = value.length <= SHOWN_NUMBERS_MAX && value.every((each) => typeof each === 'number')
  return isShown ? `[${value.join(', ')}]` : 'an array'
}

/** A value named shortly in a message. */
export function describe(value: unknown): string {
  if (value === null) return 'null'
  if (typeof value === 'string') return `'${printable(value, 40)}'`
  if (Array.isArray(value)) return describeArray(value)
  if (typeof value === 'object') {
    const name: unknown = value.constructor?.name
    if (typeof name !== 'string' || name === '' || name === 'Object') return 'an object'
    return `${/^[AEIOU]/i.test(name) ? 'an' : 'a'} ${name}`
  }
  if (typeof value === 'function') return 'a function'
  return `${typeof value === 'bigint' ? `${value}n` : String(value)}`
}

/** How bytes are shown to a person: as text where they are printable text, as hex where not; never raw. */
export function show(bytes: Uint8Array, longest = 40): string {
  const text = new TextDecoder().decode(bytes.subarray(0, longest * 4))
  const printable = !/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}�"\\]/u.test(text)
  if (printable) return text.length > longest ? `"${text.slice(0, longest)}…"` : `"${text}"`
  const hex = Array.from(bytes.subarray(0, longest / 2), (byte) => byte.toString(16).padStart(2, '0')).join(
    '',
  )
  return `0x${hex}${bytes.length > longest / 2 ? '…' : ''}`
}
