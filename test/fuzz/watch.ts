// What a process does to files and memory, noted at the doors: the functions of node:fs and the typed arrays. Import
// it before the store.
import { createRequire, syncBuiltinESMExports } from 'node:module'
import { dirname, resolve } from 'node:path'

type AnyFunction = (...given: unknown[]) => unknown

const real = createRequire(import.meta.url)('node:fs') as Record<string, AnyFunction> & {
  constants: Record<string, number>
}
/** As they were: what the watcher itself and its owner use. */
export const untouched = { ...real } as unknown as typeof import('node:fs')

const { O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND } = real.constants
const WRITING = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND
/** Those that change names or files; the numbers say which arguments are paths. */
const CHANGING: Record<string, number[]> = {
  renameSync: [0, 1],
  unlinkSync: [0],
  rmSync: [0],
  rmdirSync: [0],
  mkdirSync: [0],
  mkdtempSync: [0],
  writeFileSync: [0],
  appendFileSync: [0],
  truncateSync: [0],
  symlinkSync: [1],
  linkSync: [0, 1],
  copyFileSync: [1],
  cpSync: [1],
  chmodSync: [0],
  utimesSync: [0],
}

export interface Fence {
  /** What may be opened and changed: paths under one of these, with links followed. */
  readonly roots: string[]
  readonly mayWrite: boolean
}

let fence: Fence | undefined
const faults: string[] = []

function isInside(path: string): boolean {
  return fence === undefined || fence.roots.some((root) => path === root || path.startsWith(`${root}/`))
}

/** Where a name lies once the links in the directories above it are followed. */
function placeOf(path: string): string {
  const absolute = resolve(path)
  try {
    return `${untouched.realpathSync(dirname(absolute))}/${absolute.slice(dirname(absolute).length + 1)}`
  } catch {
    return absolute
  }
}

function noteChange(name: string, given: unknown): void {
  if (fence === undefined || typeof given !== 'string') return
  if (!fence.mayWrite) faults.push(`${name} in what only reads: ${given}`)
  else if (!isInside(placeOf(given))) faults.push(`${name} outside of the store: ${given}`)
}

function noteOpen(given: unknown, flags: unknown, handle: number): void {
  if (fence === undefined || typeof given !== 'string') return
  const isWriting = typeof flags === 'number' ? (flags & WRITING) !== 0 : flags !== undefined && flags !== 'r'
  if (isWriting) noteChange('openSync', given)
  const opened = untouched.readlinkSync(`/proc/self/fd/${handle}`)
  if (isInside(opened) || opened.startsWith('/proc/') || given.startsWith('/proc/')) return
  // The directories on the way to a new store are synced, so that its name lasts.
  const isOnTheWay = fence.roots.some((root) => opened === '/' || root.startsWith(`${opened}/`))
  if (!(isOnTheWay && !isWriting)) faults.push(`a file outside of the store is opened: ${given} is ${opened}`)
}

const open = real.openSync
real.openSync = (...given) => {
  const handle = open(...given) as number
  noteOpen(given[0], given[1], handle)
  return handle
}
for (const [name, paths] of Object.entries(CHANGING)) {
  const original = real[name]
  real[name] = (...given) => {
    for (const at of paths) noteChange(name, given[at])
    return original(...given)
  }
}
syncBuiltinESMExports()

let largestBytes = 0
function measured<T extends object>(type: T, bytesEach: number): T {
  return new Proxy(type, {
    construct: (target, given: unknown[], newTarget) => {
      if (typeof given[0] === 'number') largestBytes = Math.max(largestBytes, given[0] * bytesEach)
      return Reflect.construct(
        target as never,
        given,
        newTarget === proxies.get(target) ? (target as never) : newTarget,
      )
    },
  })
}
const proxies = new Map<object, unknown>()
const ARRAYS: [string, number][] = [
  ['Uint8Array', 1],
  ['Uint16Array', 2],
  ['Uint32Array', 4],
  ['Int32Array', 4],
  ['Float64Array', 8],
  ['ArrayBuffer', 1],
]
const scope = globalThis as unknown as Record<string, object>
for (const [name, bytesEach] of ARRAYS) {
  const type = scope[name]
  const proxy = measured(type, bytesEach)
  proxies.set(type, proxy)
  scope[name] = proxy
}
const buffer = Buffer as unknown as Record<string, AnyFunction>
for (const name of ['alloc', 'allocUnsafe', 'allocUnsafeSlow']) {
  const original = buffer[name]
  buffer[name] = (...given) => {
    largestBytes = Math.max(largestBytes, Number(given[0]))
    return original.apply(Buffer, given)
  }
}

/** From now on what is done is noted; `undefined`: no more. Returns what was wrong before. */
export function guard(next: Fence | undefined): string[] {
  fence = next
  return faults.splice(0)
}

/** The largest piece of memory that was asked for since the last call. */
export function largestAllocation(): number {
  const bytes = largestBytes
  largestBytes = 0
  return bytes
}
