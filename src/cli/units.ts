// Numbers as people read them.
const STEP = 1024
const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']

export function sizeOf(bytes: number): string {
  let unit = 0
  let size = bytes
  while (size >= STEP && unit < UNITS.length - 1) {
    size /= STEP
    unit++
  }
  return unit === 0 ? `${size} ${size === 1 ? 'byte' : 'bytes'}` : `${size.toFixed(1)} ${UNITS[unit]}`
}

export function countOf(count: number, one: string, many = `${one}s`): string {
  return `${numberOf(count)} ${count === 1 ? one : many}`
}

export function numberOf(value: number): string {
  return value.toLocaleString('en-US')
}

/** A time as ISO 8601; times past what a Date holds as the number they are. */
export function timeOf(ms: number): string {
  const date = new Date(ms)
  return Number.isNaN(date.getTime()) ? String(ms) : date.toISOString()
}
