// Statistics as a picture for a terminal of any width.
import type { SegmentStats, Stats } from '../index'
import { oneLine } from './escape'
import { countOf, numberOf, sizeOf } from './units'

const WIDTH_MIN = 40
/** From here on a segment's line has room for its state and its records. */
const WIDTH_WIDE = 76
const BAR_COLUMNS_MAX = 60
const LABEL_COLUMNS = 9
const SIZE_COLUMNS = 11
const PERCENT_COLUMNS = 5
const STATE_COLUMNS = 8
const RECORDS_COLUMNS = 14
const GREEN = '\x1b[32m'
const YELLOW = '\x1b[33m'
const PLAIN = '\x1b[0m'
const LIVE = '█'
const DEAD = '░'

interface Style {
  width: number
  hasColour: boolean
}

/** The lines, none of them wider than `width`, but never made for less than 40 columns. */
export function picture(stats: Stats, path: string, width: number, hasColour: boolean): string[] {
  const style: Style = { width: Math.max(WIDTH_MIN, Math.floor(width)), hasColour }
  const { liveBytes, deadBytes, keydir, recovery } = stats
  const total = liveBytes + deadBytes
  const lines = [
    fit(oneLine(path), style.width),
    row('entries', numberOf(stats.entries)),
    ...(stats.expired > 0 ? [row('', `${numberOf(stats.expired)} expired, not swept yet`)] : []),
    row('sequence', `${numberOf(stats.lastSequence)} is the last`),
    row('on disk', `${sizeOf(stats.bytes)} in ${countOf(stats.segments.length, 'segment')}`),
    row('live', `${sizeOf(liveBytes)}, ${percentOf(liveBytes, total)}`),
    row('dead', `${sizeOf(deadBytes)}, ${percentOf(deadBytes, total)}`),
    row('keydir', sizeOf(keydir.bytes)),
    ...(keydir.bytesPerKey > 0 ? [row('', `${keydir.bytesPerKey.toFixed(1)} bytes a key`)] : []),
    row('opening', `${numberOf(recovery.durationMs)} ms, ${sizeOf(recovery.bytesRead)} read`),
  ].map((line) => fit(line, style.width))
  if (stats.segments.length === 0) return lines
  const largest = highest(stats.segments, (segment) => segment.bytes)
  const idColumns = highest(stats.segments, (segment) => String(segment.id).length)
  const bars = stats.segments.map((segment) => segmentLine(segment, largest, idColumns, style))
  return [...lines, '', fit(`segments: ${LIVE} live ${DEAD} dead`, style.width), ...bars]
}

/** There may be more segments than a call takes arguments. */
function highest(segments: SegmentStats[], pick: (segment: SegmentStats) => number): number {
  return segments.reduce((most, segment) => Math.max(most, pick(segment)), 0)
}

function row(label: string, text: string): string {
  return `${label.padEnd(LABEL_COLUMNS)}${text}`
}

function fit(text: string, width: number): string {
  return text.length > width ? `…${text.slice(text.length - width + 1)}` : text
}

function percentOf(part: number, total: number): string {
  return total === 0 ? '0%' : `${Math.round((part / total) * 100)}%`
}

function segmentLine(segment: SegmentStats, largest: number, idColumns: number, style: Style): string {
  const { id, bytes, liveBytes, deadBytes, state, records } = segment
  const isWide = style.width >= WIDTH_WIDE
  const text = [
    String(id).padStart(idColumns),
    isWide ? ` ${state.padEnd(STATE_COLUMNS)}${countOf(records, 'record').padStart(RECORDS_COLUMNS)}` : '',
    sizeOf(bytes).padStart(SIZE_COLUMNS),
    percentOf(liveBytes, liveBytes + deadBytes).padStart(PERCENT_COLUMNS),
    ' ',
  ].join('')
  const columns = Math.min(BAR_COLUMNS_MAX, style.width - text.length)
  return columns < 1 ? fit(text.trimEnd(), style.width) : text + bar(segment, columns / largest, style)
}

/** As long as the segment is against the largest, and in it what is live against what is dead. */
function bar({ bytes, liveBytes, deadBytes }: SegmentStats, columnsPerByte: number, style: Style): string {
  const total = liveBytes + deadBytes
  const cells = Math.max(1, Math.round(bytes * columnsPerByte))
  const exact = total === 0 ? 0 : (cells * liveBytes) / total
  // A little of either is to be seen, if there is room for both.
  const least = liveBytes > 0 && cells > 1 ? 1 : 0
  const most = deadBytes > 0 && cells > 1 ? cells - 1 : cells
  const live = Math.min(most, Math.max(least, Math.round(exact)))
  const [liveBar, deadBar] = [LIVE.repeat(live), DEAD.repeat(cells - live)]
  return style.hasColour ? `${GREEN}${liveBar}${YELLOW}${deadBar}${PLAIN}` : liveBar + deadBar
}
