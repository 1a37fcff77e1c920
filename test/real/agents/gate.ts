// Stands in for node:fs under the store: counts the calls that change something, and kills the process at one of them,
// or fails a write, when it is told to.
import * as fs from 'node:fs'
import process from 'node:process'

export * from 'node:fs'

export interface Death {
  call: string
  /** Which one of its calls, from 1 on. */
  n: number
  when: 'before' | 'half' | 'after'
}

interface Gate {
  death?: Death
  counts: Record<string, number>
  /** The next write stops half-way with this code. */
  failure?: string
}

/** Shared with whoever started the store. */
export const gate: Gate = { counts: {} }

function die(): void {
  process.kill(process.pid, 'SIGKILL')
  // The signal comes when it comes; nothing more must happen until then.
  for (;;);
}

function pass<T>(call: string, act: () => T, half?: () => void): T {
  const n = (gate.counts[call] ?? 0) + 1
  gate.counts[call] = n
  const { death } = gate
  const isLast = death?.call === call && death.n === n
  if (isLast && death.when === 'before') die()
  if (isLast && death.when === 'half') {
    half?.()
    die()
  }
  const result = act()
  if (isLast) die()
  return result
}

const { O_CREAT } = fs.constants

export const openSync: typeof fs.openSync = (path, flags, mode) => {
  const isCreating = typeof flags === 'number' && (flags & O_CREAT) !== 0
  const act = () => fs.openSync(path, flags, mode)
  return isCreating ? pass('create', act) : act()
}

type Write = (file: number, from: Uint8Array, at: number, bytes: number, position: number) => number
const write = fs.writeSync as unknown as Write
export const writeSync: Write = (file, from, at, bytes, position) => {
  const part = Math.floor(bytes / 2)
  const half = () => void write(file, from, at, part, position)
  return pass(
    'write',
    () => {
      const { failure } = gate
      if (failure === undefined) return write(file, from, at, bytes, position)
      gate.failure = undefined
      half()
      throw Object.assign(new Error(`${failure}: made by a test`), { code: failure })
    },
    half,
  )
}

export const ftruncateSync: typeof fs.ftruncateSync = (file, bytes) =>
  pass('truncate', () => fs.ftruncateSync(file, bytes))
export const fdatasyncSync: typeof fs.fdatasyncSync = (file) => pass('sync', () => fs.fdatasyncSync(file))
export const fsyncSync: typeof fs.fsyncSync = (file) => pass('directory sync', () => fs.fsyncSync(file))
export const renameSync: typeof fs.renameSync = (from, to) => pass('rename', () => fs.renameSync(from, to))
export const unlinkSync: typeof fs.unlinkSync = (path) => pass('remove', () => fs.unlinkSync(path))
export const closeSync: typeof fs.closeSync = (file) => pass('close', () => fs.closeSync(file))
export const mkdirSync = (path: string): void => pass('make directory', () => void fs.mkdirSync(path))

type Done = (error: unknown) => void
export const fdatasync = (file: number, done: Done): void => {
  pass('sync later', () => fs.fdatasync(file, (error) => pass('sync later done', () => done(error))))
}
