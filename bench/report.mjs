// From several runs to one table.

const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** For every workload and figure the median, the least and the most. */
export function summarize(runs) {
  const results = {}
  for (const workload of Object.keys(runs[0])) {
    results[workload] = {}
    for (const figure of Object.keys(runs[0][workload])) {
      const values = runs.map((run) => run[workload][figure])
      results[workload][figure] = {
        median: median(values),
        min: Math.min(...values),
        max: Math.max(...values),
      }
    }
  }
  return results
}

const whole = (value) => Math.round(value).toLocaleString('en-US')
const ms = (value) => `${value < 10 ? value.toFixed(2) : whole(value)} ms`
const perSecondText = (value) => `${whole(value)} /s`
const mib = (value) => `${value < 10 ? value.toFixed(1) : whole(value)} MiB`
const mibText = (value) => `${mib(value)}/s`
const COLUMNS = ['workload', 'median', 'least – most', 'p50', 'p99', 'beside it']

function rowOf(name, figures, results) {
  const { perSecond, ms: took, p50Ms, p99Ms } = figures
  const main = perSecond ?? figures.mibPerSecond ?? took
  const show = perSecond !== undefined ? perSecondText : figures.mibPerSecond !== undefined ? mibText : ms
  return [
    name,
    show(main.median),
    main.min === main.max ? '' : `${show(main.min)} – ${show(main.max)}`,
    p50Ms === undefined ? '' : ms(p50Ms.median),
    p99Ms === undefined ? '' : ms(p99Ms.median),
    besides(name, figures, results),
  ]
}

/** What a workload is set against, in which words. */
const COMPARED = {
  'open, after close': ['open, by scan', 'as fast as by scan'],
  'open, by hints': ['open, by scan', 'as fast as by scan'],
  'open, after SIGKILL, a tenth behind the checkpoint': ['open, by scan', 'as fast as by scan'],
  'open, after SIGKILL, never synced': ['open, by scan', 'as fast as by scan after a close'],
  'merge, under load': ['merge, alone', 'as fast as alone'],
  'puts and gets, while it merges': ['puts and gets, without a merge', 'as many as without'],
  'longest turn of the event loop, while it merges': [
    'longest turn of the event loop, without a merge',
    'as long as without',
  ],
  'backup, by link': ['backup, by copy', 'as fast as by copy'],
  'backup, a tenth added': ['backup, by link', 'as fast as all of it by link'],
  'put, relaxed, and a live feed': ['put, relaxed, no feed', 'as many as without a feed'],
  'put, durable, and a live feed': ['put, durable, no feed', 'as many as without a feed'],
}

function comparison(name, figures, results) {
  const [against, words] = COMPARED[name] ?? []
  const other = results[against]
  if (other === undefined) return []
  const times = (value) => `${value < 10 ? value.toFixed(2) : whole(value)}×`
  if (name.startsWith('longest turn')) {
    const p99 = times(figures.p99Ms.median / other.p99Ms.median)
    return [`${times(figures.ms.median / other.ms.median)} ${words}, p99 ${p99}`]
  }
  const ratio =
    figures.perSecond !== undefined
      ? figures.perSecond.median / other.perSecond.median
      : figures.mibPerSecond !== undefined
        ? figures.mibPerSecond.median / other.mibPerSecond.median
        : (other.ms ?? other.tookMs).median / figures.ms.median
  return [`${times(ratio)} ${words}`]
}

/** Each figure that is no column, in words. */
const WORDS = {
  keydirBytesPerKey: (value) => `${value.toFixed(1)} bytes of memory a key beyond the key itself`,
  diskBytesPerKey: (value) => `${value.toFixed(1)} on disk`,
  putsPerGroup: (value) => `${value.toFixed(1)} a group`,
  peakMib: (value) => `${mib(value)} of memory at most`,
  peakBeforeMib: (value) => `${mib(value)} before`,
  readMib: (value) => `${mib(value)} read`,
  writtenMibPerSecond: (value) => `${mib(value)}/s written`,
  beforeMib: (value) => `${mib(value)} on disk before`,
  afterMib: (value) => `${mib(value)} after`,
  spaceBefore: (value) => `${value.toFixed(2)} times the live bytes before`,
  spaceAfter: (value) => `${value.toFixed(3)} after`,
  tookMs: (value) => `${ms(value)} for all`,
  broughtMib: (value) => mib(value),
  copiedShare: (value) => `${Math.round(value * 100)} % of that copied`,
  sliceMs: (value) => `${ms(value)} at a stretch at most`,
  lagMaxMs: (value) => `told ${ms(value)} after the call at most; p50 and p99 are of that`,
  mostBehind: (value) => `${whole(value)} puts behind at most`,
  operationsATurn: (value) => `${value} in each turn of the event loop`,
  cacheHits: (value) => `${Math.round(value * 100)} % from the block cache`,
  firstMs: (value) => `the first after ${ms(value)}`,
}

function besides(name, figures, results) {
  const notes = comparison(name, figures, results)
  for (const [figure, words] of Object.entries(WORDS))
    if (figures[figure] !== undefined) notes.push(words(figures[figure].median))
  const bare =
    results[name.replace('put, durable,', 'bare write and fdatasync,').replace('in flight', 'at once')]
  if (figures.putsPerGroup !== undefined)
    notes.push(`${(figures.perSecond.median / bare.perSecond.median).toFixed(2)}× the bare disk`)
  return notes.join(', ')
}

/** What ran where, in one line. */
export function machineText({ casky, runtime, cpu, cores, memory, kernel, fileSystem, pin }) {
  const core = pin === undefined ? '' : `; on core ${pin} alone`
  return `casky ${casky} on ${runtime}; ${cpu}, ${cores} cores, ${memory}; ${kernel}; ${fileSystem}${core}`
}

export function printReport(about, results) {
  const { directory, loadBefore, keys, runs } = about
  console.log(machineText(about))
  const how = runs === 1 ? 'one run' : `medians of ${runs} runs`
  console.log(`in ${directory}; load before: ${loadBefore.toFixed(1)} (other work makes every figure worse)`)
  console.log(
    `${whole(keys)} keys of 16 bytes, values of 100; each workload in a process of its own, files in the page cache; ${how}`,
  )
  const rows = Object.entries(results).map(([name, figures]) => rowOf(name, figures, results))
  const widths = COLUMNS.map((column, i) => Math.max(column.length, ...rows.map((row) => row[i].length)))
  const line = (cells) =>
    cells
      .map((cell, i) => (i === 0 || i === 5 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])))
      .join('  ')
  console.log(`\n${line(COLUMNS).trimEnd()}`)
  console.log(widths.map((width) => '─'.repeat(width)).join('  '))
  for (const row of rows) console.log(line(row).trimEnd())
}
