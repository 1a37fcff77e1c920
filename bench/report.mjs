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
const mibText = (value) => `${whole(value)} MiB/s`
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

function besides(name, figures, results) {
  const { keydirBytesPerKey, diskBytesPerKey, putsPerGroup, cacheHits, firstMs, perSecond } = figures
  const { longestStallMs, p999Ms, spaceBefore, spaceAfter } = figures
  const notes = []
  if (keydirBytesPerKey !== undefined) {
    notes.push(`${keydirBytesPerKey.median.toFixed(1)} bytes of memory a key beyond the key itself`)
    notes.push(`${diskBytesPerKey.median.toFixed(1)} on disk`)
  }
  if (putsPerGroup !== undefined) {
    const bare =
      results[name.replace('put, durable,', 'bare write and fdatasync,').replace('in flight', 'at once')]
    notes.push(`${putsPerGroup.median.toFixed(1)} a group`)
    notes.push(`${(perSecond.median / bare.perSecond.median).toFixed(2)}× the bare disk`)
  }
  if (longestStallMs !== undefined) {
    notes.push(`nothing else ran for ${ms(longestStallMs.median)} at most, p99.9 ${ms(p999Ms.median)}`)
    notes.push(
      `disk to live bytes ${spaceBefore.median.toFixed(2)} before, ${spaceAfter.median.toFixed(3)} after`,
    )
  }
  if (cacheHits !== undefined) notes.push(`${Math.round(cacheHits.median * 100)} % from the block cache`)
  if (firstMs !== undefined) notes.push(`the first after ${ms(firstMs.median)}`)
  return notes.join(', ')
}

export function printReport(about, results) {
  const { casky, runtime, cpu, cores, memory, kernel, fileSystem, directory, loadBefore, keys, runs } = about
  console.log(`casky ${casky} on ${runtime}; ${cpu}, ${cores} cores, ${memory}; ${kernel}; ${fileSystem}`)
  const how = runs === 1 ? 'one run' : `medians of ${runs} runs`
  console.log(`in ${directory}; load before: ${loadBefore.toFixed(1)} (other work makes every figure worse)`)
  console.log(`${whole(keys)} keys of 16 bytes, values of 100; each workload in a process of its own; ${how}`)
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
