// Rows of numbers with a bar behind each, in as many columns as there is room for.
import { fit, type Style, widthOf } from './canvas'

export interface Column {
  heading: string
  cells: string[]
  /** It is left out where it would leave less than that for the bar; the less it asks for, the sooner it comes in. */
  barMin: number
  isLeft?: boolean
}

const GAP = 2
const BAR_MAX = 100

/** The lines, headings first; `barOf` draws a row's bar in so many columns. */
export function table(
  columns: Column[],
  barOf: (row: number, columns: number) => string,
  style: Style,
): string[] {
  const widths = new Map(columns.map((column) => [column, widest(column)]))
  let left = style.width
  const kept = new Set<Column>()
  for (const column of [...columns].sort((a, b) => a.barMin - b.barMin)) {
    const rest = left - (widths.get(column) ?? 0) - GAP
    if (rest < column.barMin) break
    kept.add(column)
    left = rest
  }
  const shown = columns.filter((column) => kept.has(column))
  const line = (pick: (column: Column) => string): string =>
    shown
      .map((column) => {
        const width = widths.get(column) ?? 0
        return column.isLeft === true ? pick(column).padEnd(width) : pick(column).padStart(width)
      })
      .join(' '.repeat(GAP))
  const barColumns = Math.min(BAR_MAX, left)
  const margin = shown.length === 0 ? '' : ' '.repeat(GAP)
  const rows = columns[0].cells.map((_, row) => {
    return (line(({ cells }) => cells[row]) + margin + barOf(row, barColumns)).trimEnd()
  })
  return [fit(line(({ heading }) => heading).trimEnd(), style), ...rows]
}

function widest({ heading, cells }: Column): number {
  return cells.reduce((most, cell) => Math.max(most, widthOf(cell)), heading.length)
}
