// Text and bars for a terminal: how wide it is, whether it takes colours, and which characters.
export interface Glyphs {
  full: string
  rest: string
  /** What ends a bar between two columns, from the least; none where a bar ends at a column. */
  tips: string
  cut: string
  to: string
}

export interface Style {
  width: number
  hasColour: boolean
  glyphs: Glyphs
}

export const UNICODE: Glyphs = { full: '█', rest: '░', tips: '▏▎▍▌▋▊▉', cut: '…', to: '–' }
export const ASCII: Glyphs = { full: '#', rest: '.', tips: '', cut: '~', to: '-' }

const WIDTH = 80
const WIDTH_MIN = 20
const WIDTH_ROOMY = 40
const INDENT = 2
const CODES = { bold: 1, green: 32, yellow: 33, cyan: 36 }
/** Characters that take two columns, but for rare ones. */
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1f64f}\u{1f680}-\u{1faff}\u{20000}-\u{3fffd}]/u
const WITHOUT_WIDTH = /\p{M}/u

type Environment = Record<string, string | undefined>

/** How to draw on standard output. */
export function styleOf({ columns, isTTY }: { columns?: number; isTTY?: boolean }, env: Environment): Style {
  // What runs a command in a window of its own, like watch, tells the width so. A terminal without one says 0.
  const width = columns || Number(env.COLUMNS) || WIDTH
  const hasColour = isTTY === true && (env.NO_COLOR ?? '') === '' && env.TERM !== 'dumb'
  const locale = env.LC_ALL || env.LC_CTYPE || env.LANG || ''
  const isUnicode = locale === '' || /utf-?8/i.test(locale)
  return {
    width: Math.max(WIDTH_MIN, Math.floor(width)),
    hasColour,
    glyphs: isUnicode ? UNICODE : ASCII,
  }
}

export function paint({ hasColour }: Style, colour: keyof typeof CODES, text: string): string {
  return hasColour && text !== '' ? `\x1b[${CODES[colour]}m${text}\x1b[0m` : text
}

function columnsOf(character: string): number {
  return WITHOUT_WIDTH.test(character) ? 0 : WIDE.test(character) ? 2 : 1
}

/** The columns that a text takes. */
export function widthOf(text: string): number {
  return Array.from(text).reduce((sum, character) => sum + columnsOf(character), 0)
}

/** A text in one line: of one that is too long the end, which tells more of a path. */
export function fit(text: string, { width, glyphs }: Style): string {
  if (widthOf(text) <= width) return text
  const characters = Array.from(text)
  let left = width - 1
  let at = characters.length
  while (at > 0 && columnsOf(characters[at - 1]) <= left) left -= columnsOf(characters[--at])
  return glyphs.cut + characters.slice(at).join('')
}

/** How far in text stands behind its label: on a narrow terminal there is no room to set labels apart. */
export function indentOf(columns: number, { width }: Style): number {
  return width < WIDTH_ROOMY ? Math.min(columns, INDENT) : columns
}

/** A text as lines: the first begins with `label`, and all of them stand `columns` in. */
export function wrap(label: string, text: string, columns: number, style: Style): string[] {
  const indent = indentOf(columns, style)
  const lines: string[] = []
  let line = indent < columns && label !== '' ? `${label} ` : label.padEnd(indent)
  let space = ''
  for (const word of text.split(' ')) {
    const longer = line + space + word
    if (line.trim() === '' || widthOf(longer) <= style.width) {
      line = longer
    } else {
      lines.push(line.trimEnd())
      line = ' '.repeat(indent) + word
    }
    space = ' '
  }
  return [...lines, line].map((each) => fit(each, style))
}

/** `part` of `whole`; what is neither nothing nor all is not said to be. */
export function percentOf(part: number, whole: number): string {
  if (part <= 0 || whole <= 0) return '0%'
  if (part >= whole) return '100%'
  const percent = Math.round((part / whole) * 100)
  return percent < 1 ? '<1%' : percent > 99 ? '>99%' : `${percent}%`
}

/** As long as `amount` is against `largest`; the least is seen too. */
export function bar(amount: number, largest: number, columns: number, style: Style): string {
  if (!(amount > 0)) return ''
  const { full, tips } = style.glyphs
  const steps = tips.length + 1
  const length = Math.min(columns * steps, Math.max(1, Math.round((amount / largest) * columns * steps)))
  return paint(style, 'cyan', full.repeat(Math.floor(length / steps)) + (tips[(length % steps) - 1] ?? ''))
}

/** Two parts of one bar of so many columns. A little of either is to be seen, if there is room for both. */
export function splitBar(live: number, dead: number, columns: number, style: Style): string {
  const { full, rest } = style.glyphs
  const isMixed = live > 0 && dead > 0 && columns > 1
  const exact = live + dead === 0 ? 0 : Math.round((columns * live) / (live + dead))
  const cells = isMixed ? Math.min(columns - 1, Math.max(1, exact)) : exact
  return paint(style, 'green', full.repeat(cells)) + paint(style, 'yellow', rest.repeat(columns - cells))
}
