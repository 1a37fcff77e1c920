// From the figures of all rivals to one table, and who is ahead.
import { machineText } from '../report.mjs'
import { rows } from './rows.mjs'

const whole = (value) => Math.round(value).toLocaleString('en-US')
const short = (value) => (value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : whole(value))
/** How the figure that is compared is shown. */
export const SHOWN = {
  perSecond: (value) => `${whole(value)} /s`,
  ms: (value) => `${short(value)} ms`,
  bytesPerKey: (value) => `${short(value)} bytes`,
  ratio: (value) => value.toFixed(3),
}
/** Where others had more of a core than this, a figure is worse than it ought to be; the kernel does some of our work. */
const DISTURBED_SHARE = 0.1
/** Figures beside the one that is compared, in words. */
const BESIDE = {
  p50Ms: (value) => `p50 ${short(value)} ms`,
  p99Ms: (value) => `p99 ${short(value)} ms`,
  p999Ms: (value) => `p99.9 of all turns ${short(value)} ms`,
  p99OfTimeMs: (value) => `p99 of the time ${short(value)} ms`,
  tookMs: (value) => `took ${short(value)} ms`,
  mappedBytesPerKey: (value) => `${short(value)} mapped from files`,
  indexBytesPerKey: (value) => `${short(value)} in the index by its own count`,
  beforeMib: (value) => `${short(value)} MiB before`,
  othersShare: (value) => (value < DISTURBED_SHARE ? '' : `others had ${value.toFixed(2)} of a core`),
  recordRatio: (value) => `its log ${value.toFixed(3)} to its live records`,
  afterMib: (value) => `${short(value)} MiB after`,
}
const COLUMNS = ['', 'median', 'least – most', 'to casky', 'beside it']

export const isCasky = (name) => name === 'casky' || name.startsWith('casky,')

/** How many times as good one figure is as another. */
export const timesAsGood = (figure, one, other) => (figure === 'perSecond' ? one / other : other / one)

/** Of these entries the one with the best median. */
function best(figure, entries) {
  return entries.reduce((found, entry) =>
    timesAsGood(figure, entry[1][figure].median, found[1][figure].median) > 1 ? entry : found,
  )
}

/** For each row that was measured: the best entry of casky's and of the rivals', and how they stand to each other. */
export function standings(results) {
  return rows.flatMap(({ id, title, figure }) => {
    const entries = Object.entries(results[id] ?? {})
    const ours = entries.filter(([name]) => isCasky(name))
    const theirs = entries.filter(([name]) => !isCasky(name))
    if (ours.length === 0 || theirs.length === 0) return []
    const [ourName, our] = best(figure, ours)
    const [theirName, their] = best(figure, theirs)
    const times = timesAsGood(figure, our[figure].median, their[figure].median)
    return [{ id, title, figure, ours: ourName, theirs: theirName, times }]
  })
}

/** How many times as good as casky's best this is, in words; undefined where casky wasn't measured. */
export function timesToCasky({ id, figure }, results, median) {
  const ours = Object.entries(results[id]).filter(([name]) => isCasky(name))
  if (ours.length === 0) return undefined
  return `${short(timesAsGood(figure, median, best(figure, ours)[1][figure].median))}×`
}

function linesOf(row, results) {
  const { id, figure } = row
  return Object.entries(results[id]).map(([name, figures]) => {
    const { median, min, max } = figures[figure]
    const show = SHOWN[figure]
    return [
      `  ${name}`,
      show(median),
      min === max ? '' : `${show(min)} – ${show(max)}`,
      timesToCasky(row, results, median) ?? '',
      Object.entries(BESIDE)
        .filter(([key]) => figures[key] !== undefined)
        .map(([key, words]) => words(figures[key].median))
        .filter((text) => text !== '')
        .join(', '),
    ]
  })
}

export function printTable(report) {
  const { results, directory, loadBefore, keys, runs } = report
  console.log(machineText(report))
  const versions = Object.entries(report.rivals).map(([name, version]) => `${name} ${version}`)
  if (versions.length > 0) console.log(`beside ${versions.join(', ')}`)
  console.log(`in ${directory}; load before: ${loadBefore.toFixed(1)} (other work makes every figure worse)`)
  const how = runs === 1 ? 'one run' : `medians of ${runs} runs`
  console.log(
    `${whole(keys)} keys of 16 bytes, values of 100 that don't compress; each workload in a process of its own; ${how}`,
  )
  const shown = rows.filter(({ id }) => results[id] !== undefined)
  const lines = shown.map((row) => ({ title: row.title, cells: linesOf(row, results) }))
  const all = [COLUMNS, ...lines.flatMap(({ cells }) => cells)]
  const widths = COLUMNS.map((_, i) => Math.max(...all.map((cells) => cells[i].length)))
  const line = (cells) =>
    cells
      .map((cell, i) => (i === 0 || i === 4 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])))
      .join('  ')
      .trimEnd()
  console.log(`\n${line(COLUMNS)}`)
  for (const { title, cells } of lines) console.log([title, ...cells.map(line)].join('\n'))
  printStandings(standings(results))
  printDisturbed(results)
}

/** Figures that were taken beside other work are nothing to keep. */
function printDisturbed(results) {
  const all = Object.values(results).flatMap((entries) => Object.values(entries))
  const disturbed = all.filter(({ othersShare }) => othersShare?.median >= DISTURBED_SHARE).length
  if (disturbed > 0)
    console.log(`\n${disturbed} of ${all.length} figures were disturbed by other work: not for keeping`)
}

function printStandings(all) {
  if (all.length === 0) return
  const behind = all.filter(({ times }) => times < 1)
  console.log(`\ncasky is ahead in ${all.length - behind.length} of ${all.length} rows`)
  for (const { title, ours, theirs, times } of behind)
    console.log(`  behind in '${title}': ${theirs} is ${short(1 / times)}× as good as ${ours}`)
}
