// Figures as charts: a bar for each entry of a row, on a logarithmic scale, with how it stands to casky.
// From results that were kept: node bench/rivals/charts.mjs DIR results.json...
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { parse, View } from 'vega'
import { compile } from 'vega-lite'
import { machineText } from '../report.mjs'
import { isCasky, SHOWN, timesToCasky } from './report.mjs'
import { rows } from './rows.mjs'

/** Between black and white, so that it reads on GitHub's light theme and on its dark one. */
const INK = '#7d8590'
const FAINT = '#7d859055'
const CASKY = '#e8710a'
const RIVAL = '#5b8fc7'
const FONT = 'system-ui, sans-serif'
const WIDTH = 480
const BAR_HEIGHT = 18
const LABEL_WIDTH = 250
const LINE_LENGTH = 80

/** One chart a file: rows whose figures share a scale. */
const CHARTS = {
  put: { title: 'put, operations a second', groups: ['put'] },
  durable: { title: 'put, durable, and batches, operations a second', groups: ['durable', 'batch'] },
  get: { title: 'get, and among updates, operations a second', groups: ['get', 'ycsb', 'iterate'] },
  open: { title: 'open a store, milliseconds (less is better)', groups: ['open'] },
  stall: {
    title: 'longest block of the event loop, milliseconds (less is better)',
    ids: ['stall-loading', 'stall-compacting'],
  },
  memory: { title: 'memory, bytes a key beyond the key (less is better)', ids: ['memory'] },
  space: {
    title: 'on disk after overwriting and compacting, to live bytes (less is better)',
    ids: ['space'],
  },
}

const belongs = ({ groups = [], ids = [] }, row) => groups.includes(row.group) || ids.includes(row.id)

/** A bar for each entry of these rows. A scale that is logarithmic has no place for zero. */
function barsOf(shown, results) {
  const LEAST = 0.01
  return shown.flatMap(({ id, title, figure }) =>
    Object.entries(results[id]).map(([name, figures], order) => {
      const { median } = figures[figure]
      const times = timesToCasky({ id, figure }, results, median)
      const note = times === undefined || isCasky(name) ? '' : `, ${times} as good as casky`
      const value = Math.max(median, LEAST)
      return { row: title, name, order, value, label: SHOWN[figure](median) + note, isOurs: isCasky(name) }
    }),
  )
}

/** Where bars begin: a power of ten that is well below the least. */
const floorOf = (bars) => 10 ** Math.floor(Math.log10(Math.min(...bars.map(({ value }) => value)) / 1.5))

function specOf({ title }, subtitle, shown, bars) {
  const floor = floorOf(bars)
  const most = Math.max(...bars.map(({ value }) => value))
  const x = {
    field: 'value',
    type: 'quantitative',
    // Room for the labels behind the longest bar.
    scale: { type: 'log', domain: [floor, most * (most / floor) ** 0.6], nice: false },
    axis: { title: null, format: '~s', grid: true, tickCount: 4 },
  }
  const y = { field: 'name', type: 'nominal', sort: { field: 'order' }, axis: { title: null } }
  const colour = { condition: { test: 'datum.isOurs', value: CASKY }, value: RIVAL }
  const panels = shown.map((row) => ({
    title: { text: row.title, anchor: 'start', frame: 'group', fontSize: 12, fontWeight: 600, color: INK },
    width: WIDTH,
    height: { step: BAR_HEIGHT },
    data: { values: bars.filter((bar) => bar.row === row.title) },
    layer: [
      {
        mark: { type: 'bar', height: { band: 0.72 } },
        encoding: { x, x2: { datum: floor }, y, color: colour },
      },
      {
        mark: { type: 'text', align: 'left', dx: 5, color: INK, fontSize: 11 },
        encoding: { x, y, text: { field: 'label' } },
      },
    ],
  }))
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    background: 'transparent',
    padding: 8,
    title: {
      text: title,
      subtitle,
      anchor: 'start',
      color: INK,
      subtitleColor: INK,
      fontSize: 15,
      offset: 14,
    },
    vconcat: panels,
    spacing: 14,
    config: {
      font: FONT,
      view: { stroke: null },
      axis: {
        labelColor: INK,
        labelFontSize: 11,
        labelLimit: 0,
        gridColor: FAINT,
        domain: false,
        ticks: false,
      },
      axisY: { grid: false, minExtent: LABEL_WIDTH, maxExtent: LABEL_WIDTH },
    },
  }
}

async function svgOf(spec) {
  const view = new View(parse(compile(spec).spec), { renderer: 'none' })
  const svg = await view.toSVG()
  view.finalize()
  return svg
}

/** Parts, as many in a line as it holds: a longer line would make all of the chart wider. */
function linesOf(parts) {
  const lines = ['']
  for (const part of parts) {
    const longer = lines.at(-1) === '' ? part : `${lines.at(-1)}; ${part}`
    if (longer.length <= LINE_LENGTH) lines[lines.length - 1] = longer
    else lines.push(part)
  }
  return lines
}

/** Draws what there is in `reports`, which may be parts of one run, group by group. */
export async function drawCharts(directory, reports) {
  const results = Object.assign({}, ...reports.map((report) => report.results))
  const [about] = reports
  const versions = Object.entries(Object.assign({}, ...reports.map(({ rivals }) => rivals)))
  const how = about.runs === 1 ? 'one run' : `medians of ${about.runs} runs`
  const subtitle = linesOf([
    ...machineText(about).split('; '),
    `${about.keys.toLocaleString('en-US')} keys of 16 bytes, values of 100`,
    `${how}, ${about.at.slice(0, 10)}`,
    ...versions.map((each) => each.join(' ')),
  ])
  mkdirSync(directory, { recursive: true })
  const written = []
  for (const [name, chart] of Object.entries(CHARTS)) {
    const shown = rows.filter((row) => belongs(chart, row) && results[row.id] !== undefined)
    if (shown.length === 0) continue
    const file = join(directory, `${name}.svg`)
    writeFileSync(file, `${await svgOf(specOf(chart, subtitle, shown, barsOf(shown, results)))}\n`)
    written.push(file)
  }
  return written
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [directory, ...files] = process.argv.slice(2)
  if (files.length === 0) throw new Error('usage: node bench/rivals/charts.mjs DIR results.json...')
  const reports = files.map((file) => JSON.parse(readFileSync(file, 'utf8')))
  for (const file of await drawCharts(directory, reports)) console.log(file)
}
