// What the demo prints with: colour where a person looks on, plain text where a file does.
import process from 'node:process'

const isColoured = process.stdout.isTTY === true && process.env.NO_COLOR === undefined
const paint = (code) => (text) => (isColoured ? `\x1b[${code}m${text}\x1b[0m` : String(text))

export const bold = paint(1)
export const dim = paint(2)
export const red = paint(31)
export const green = paint(32)
export const yellow = paint(33)
export const cyan = paint(36)

export const print = (text = '') => console.log(text)
export const heading = (title) => print(`\n${bold(cyan(title))}`)
/** One line of a step: what was done, and what came of it. */
export const line = (what, result) => print(`  ${dim(what.padEnd(24))} ${result}`)

export const number = (value) => Math.round(value).toLocaleString('en-US')
export const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`
export const seconds = (ms) =>
  ms < 1000 ? `${Math.max(1, Math.round(ms))} ms` : `${(ms / 1000).toFixed(2)} s`

/** Runs `work` and says how long it took, in milliseconds. */
export async function timed(work) {
  const begin = performance.now()
  const result = await work()
  return { result, ms: performance.now() - begin }
}

/** A bar of full and light cells; `scale` is what `width` cells stand for. Nothing but 0 is drawn as nothing. */
export function bar(full, light, scale, width) {
  const cells = (value) => (value === 0 ? 0 : Math.max(1, Math.round((value / scale) * width)))
  const lightCells = cells(light)
  const fullCells = full === 0 ? 0 : Math.max(1, cells(full + light) - lightCells)
  return green('█'.repeat(fullCells)) + yellow('░'.repeat(lightCells))
}

/** What must hold, or the demo has failed. */
export function must(holds, what) {
  if (!holds) throw new Error(what)
}
