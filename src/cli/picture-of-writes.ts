// How large the groups of writes were, and how long their syncs took.
import type { TimeStats, WriteStats } from '../index'
import { bar, paint, percentOf, type Style, wrap } from './canvas'
import { table } from './table'
import { countOf, durationOf, numberOf, tenthsOf } from './units'

interface Counted {
  label: string
  count: number
}

export function pictureOfGroups(writes: WriteStats, style: Style): string[] {
  const { groups, records, largestGroupRecords, groupSizes } = writes
  if (groups === 0) return []
  const text =
    `${countOf(records, 'write')} in ${countOf(groups, 'group')}, ${tenthsOf(records / groups)} a group, ` +
    `${numberOf(largestGroupRecords)} in the largest`
  const rows = groupSizes.map(({ minRecords, maxRecords, groups: count }) => ({
    label: minRecords === maxRecords ? numberOf(minRecords) : between(minRecords, maxRecords, style),
    count,
  }))
  return [...titled('group sizes:', text, style), ...histogram('writes', 'groups', rows, style)]
}

export function pictureOfSyncs(times: TimeStats, style: Style): string[] {
  const { count, totalMs, p50Ms, p99Ms, maxMs, buckets } = times
  if (count === 0) return []
  const [p50, p99, max, mean] = [p50Ms, p99Ms, maxMs, totalMs / count].map(durationOf)
  const text = `${countOf(count, 'sync')}, p50 ${p50}, p99 ${p99}, max ${max}, mean ${mean}`
  const rows = buckets.map(({ fromMs, belowMs, count: syncs }) => ({
    label: between(rounded(fromMs), rounded(belowMs), style),
    count: syncs,
  }))
  return [...titled('sync times:', text, style), ...histogram('ms', 'syncs', rows, style)]
}

function titled(title: string, text: string, style: Style): string[] {
  const [first, ...others] = wrap(title, text, title.length + 1, style)
  return [paint(style, 'bold', title) + first.slice(title.length), ...others]
}

function between(from: number, to: number, { glyphs }: Style): string {
  return `${numberOf(from)}${glyphs.to}${numberOf(to)}`
}

function rounded(ms: number): number {
  return ms < 1 ? Number(ms.toPrecision(2)) : ms
}

function histogram(unit: string, counted: string, all: Counted[], style: Style): string[] {
  const rows = withoutGaps(all, style)
  const largest = rows.reduce((most, { count }) => Math.max(most, count), 0)
  const total = rows.reduce((sum, { count }) => sum + count, 0)
  const cells = (pick: (count: number) => string): string[] =>
    rows.map(({ count }) => (count === 0 ? '' : pick(count)))
  const columns = [
    { heading: unit, cells: rows.map(({ label }) => label), barMin: 0 },
    { heading: counted, cells: cells(numberOf), barMin: 2 },
    { heading: '', cells: cells((count) => percentOf(count, total)), barMin: 12 },
  ]
  return table(columns, (row, barColumns) => bar(rows[row].count, largest, barColumns, style), style)
}

/** Between the usual and a rare outlier there may be long stretches of nothing: one line each. */
function withoutGaps(rows: Counted[], { glyphs }: Style): Counted[] {
  const isEmpty = (i: number): boolean => rows[i]?.count === 0
  return rows.flatMap((row, i) => {
    if (!isEmpty(i) || (!isEmpty(i - 1) && !isEmpty(i + 1))) return [row]
    return isEmpty(i - 1) ? [] : [{ label: glyphs.cut, count: 0 }]
  })
}
