// A store's segments, each with a bar of what is live and what is dead in it.
import type { SegmentStats } from '../index'
import { fit, paint, percentOf, type Style, splitBar, widthOf } from './canvas'
import { table } from './table'
import { numberOf, sizeOf } from './units'

/** Of more than that the ones in the middle are summed up in one line. */
const SHOWN_MAX = 24

export function pictureOfSegments(segments: SegmentStats[], style: Style, isAll: boolean): string[] {
  if (segments.length === 0) return []
  // A line is not saved by a line that says so.
  const isFolded = !isAll && segments.length > SHOWN_MAX + 1
  const ends = SHOWN_MAX / 2
  const shown = isFolded ? [...segments.slice(0, ends), ...segments.slice(-ends)] : segments
  const [headings, ...rows] = rowsOf(shown, highest(segments), style)
  if (isFolded) rows.splice(ends, 0, folded(segments.slice(ends, -ends), style))
  return [title(style), headings, ...rows]
}

function title(style: Style): string {
  const { full, rest } = style.glyphs
  const plain = `segments: ${full} live ${rest} dead`
  if (widthOf(plain) > style.width) return paint(style, 'bold', 'segments')
  const key = `${paint(style, 'green', full)} live ${paint(style, 'yellow', rest)} dead`
  return `${paint(style, 'bold', 'segments:')} ${key}`
}

/** There may be more segments than a call takes arguments. */
function highest(segments: SegmentStats[]): number {
  return segments.reduce((most, { bytes }) => Math.max(most, bytes), 0)
}

/** Columns in the order in which they stand; each comes in where it leaves so much room for the bars. */
function rowsOf(segments: SegmentStats[], largestBytes: number, style: Style): string[] {
  const cells = (pick: (segment: SegmentStats) => string): string[] => segments.map(pick)
  const columns = [
    { heading: 'id', cells: cells(({ id }) => String(id)), barMin: 0 },
    { heading: 'state', cells: cells(({ state }) => state), barMin: 20, isLeft: true },
    {
      heading: 'sequence',
      cells: cells((segment) => sequencesOf(segment, style)),
      barMin: 40,
    },
    { heading: 'writes', cells: cells(({ records }) => numberOf(records)), barMin: 24 },
    { heading: 'size', cells: cells(({ bytes }) => sizeOf(bytes)), barMin: 8 },
    { heading: 'dead', cells: cells(({ deadBytes }) => sizeOf(deadBytes)), barMin: 16 },
    {
      heading: 'live',
      cells: cells(({ liveBytes, deadBytes }) => percentOf(liveBytes, liveBytes + deadBytes)),
      barMin: 2,
    },
  ]
  const barOf = (row: number, barColumns: number): string => {
    const { bytes, liveBytes, deadBytes } = segments[row]
    const length = Math.min(barColumns, Math.max(1, Math.round((barColumns * bytes) / largestBytes)))
    return splitBar(liveBytes, deadBytes, length, style)
  }
  return table(columns, barOf, style)
}

function sequencesOf({ records, firstSequence, lastSequence }: SegmentStats, { glyphs }: Style): string {
  if (records === 0) return ''
  return `${numberOf(firstSequence)}${glyphs.to}${numberOf(lastSequence)}`
}

/** As much of it as a line takes. */
function folded(segments: SegmentStats[], style: Style): string {
  const sum = (pick: (segment: SegmentStats) => number): number =>
    segments.reduce((total, segment) => total + pick(segment), 0)
  const live = sum(({ liveBytes }) => liveBytes)
  const dead = sum(({ deadBytes }) => deadBytes)
  const count = `${style.glyphs.cut} ${numberOf(segments.length)} more`
  const size = `${count}: ${sizeOf(sum(({ bytes }) => bytes))}`
  const texts = [
    `${size}, ${sizeOf(dead)} of it dead, ${percentOf(live, live + dead)} live; --all shows them`,
    `${size}, ${percentOf(live, live + dead)} live; --all shows them`,
    `${size}, ${percentOf(live, live + dead)} live`,
    size,
  ]
  return texts.find((text) => widthOf(text) <= style.width) ?? fit(count, style)
}
