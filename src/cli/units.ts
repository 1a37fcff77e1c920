// Numbers as people read them.
const STEP = 1024
const MS_PER_SECOND = 1000
const NUMBERS = new Intl.NumberFormat('en-US')
const TENTHS = new Intl.NumberFormat('en-US', { minimumFractionDigits: 1, maximumFractionDigits: 1 })
const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']

export function sizeOf(bytes: number): string {
  let unit = 0
  let size = bytes
  // What would be rounded to 1024.0 is one of the next unit.
  while (size >= STEP - 0.05 && unit < UNITS.length - 1) {
    size /= STEP
    unit++
  }
  return unit === 0 ? `${size} ${size === 1 ? 'byte' : 'bytes'}` : `${size.toFixed(1)} ${UNITS[unit]}`
}

export function countOf(count: number, one: string, many = `${one}s`): string {
  return `${numberOf(count)} ${count === 1 ? one : many}`
}

export function numberOf(value: number): string {
  return NUMBERS.format(value)
}

/** With one digit behind the point. */
export function tenthsOf(value: number): string {
  return TENTHS.format(value)
}

/** A time as ISO 8601; times past what a Date holds as the number they are. */
export function timeOf(ms: number): string {
  const date = new Date(ms)
  return Number.isNaN(date.getTime()) ? String(ms) : date.toISOString()
}

/** Two digits of a short time, whole milliseconds of a longer one. */
export function durationOf(ms: number): string {
  if (ms >= MS_PER_SECOND) return `${tenthsOf(ms / MS_PER_SECOND)} s`
  return `${ms < 10 ? Number(ms.toPrecision(2)) : Math.round(ms)} ms`
}
