// Runs the real command line, built from the sources as they are.
import { type ChildProcess, spawn } from 'node:child_process'
import * as fs from 'node:fs'
import * as os from 'node:os'
import * as path from 'node:path'
import { build } from 'esbuild'
import { afterAll, beforeAll } from 'vitest'
import { openSync } from '../../src/index'

const ROOT = path.resolve(import.meta.dirname, '../..')

/** A directory of this test file's own; removed at its end. */
export const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'casky-cli-'))
export const PROGRAM = path.join(scratch, 'cli.mjs')

export function useCli(): void {
  beforeAll(async () => {
    await build({
      entryPoints: [path.join(ROOT, 'src/cli/main.ts')],
      outfile: PROGRAM,
      bundle: true,
      platform: 'node',
      format: 'esm',
      target: 'es2022',
      banner: {
        js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
      },
    })
  })
  afterAll(() => fs.rmSync(scratch, { recursive: true, force: true }))
}

let names = 0

/** A path that nothing is at. */
export function freshPath(): string {
  return path.join(scratch, `at${++names}`)
}

export interface Result {
  code: number | null
  out: Buffer
  /** Standard output and standard error as text. */
  text: string
  err: string
}

export interface Running {
  child: ChildProcess
  result: Promise<Result>
}

export function start(args: string[], env: Record<string, string> = {}): Running {
  const child = spawn(process.execPath, [PROGRAM, ...args], { env: { ...process.env, ...env } })
  return { child, result: resultOf(child) }
}

function resultOf(child: ChildProcess): Promise<Result> {
  const out: Buffer[] = []
  const err: Buffer[] = []
  child.stdout?.on('data', (chunk: Buffer) => out.push(chunk))
  child.stderr?.on('data', (chunk: Buffer) => err.push(chunk))
  child.stdin?.on('error', () => {})
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => {
      const whole = Buffer.concat(out)
      resolve({ code, out: whole, text: whole.toString(), err: Buffer.concat(err).toString() })
    })
  })
}

/** Runs a command to its end. */
export function casky(args: string[], input: string | Uint8Array = ''): Promise<Result> {
  const { child, result } = start(args)
  child.stdin?.end(input)
  return result
}

/** Runs a line of shell, in which `casky` is the program. */
export function shell(line: string): Promise<Result> {
  const script = `casky() { "${process.execPath}" "${PROGRAM}" "$@"; }\n${line}`
  const child = spawn('bash', ['-c', script], { cwd: scratch })
  child.stdin.end()
  return resultOf(child)
}

/** Runs a line of shell on a terminal of so many columns. Everything on it comes back as one text. */
export async function onTerminal(line: string, columns = 100): Promise<Result> {
  const program = path.join(scratch, 'casky')
  if (!fs.existsSync(program)) {
    fs.writeFileSync(program, `#!/bin/sh\nexec "${process.execPath}" "${PROGRAM}" "$@"\n`, { mode: 0o755 })
  }
  const inside = `stty cols ${columns}; ${line}`
  const child = spawn('script', ['-qec', inside, '/dev/null'], {
    cwd: scratch,
    env: { ...process.env, PATH: `${scratch}:${process.env.PATH}`, TERM: 'xterm', NO_COLOR: '' },
  })
  child.stdin.end()
  return await resultOf(child)
}

export const hasTerminal = (process.env.PATH ?? '')
  .split(':')
  .some((directory) => fs.existsSync(path.join(directory, 'script')))

type Entries = Iterable<[string | Uint8Array, string | Uint8Array, number?]>

/** A store with these entries, closed. */
export function makeStore(entries: Entries, directory = freshPath()): string {
  const store = openSync(directory, { sync: 'never' })
  for (const [key, value, expiresAtMs] of entries) {
    store.putSync(key, value, expiresAtMs === undefined ? undefined : { expiresAtMs })
  }
  store.closeSync()
  return directory
}

export function readStore(directory: string): Record<string, string> {
  const store = openSync(directory, { readOnly: true })
  try {
    return Object.fromEntries(store.entries())
  } finally {
    store.closeSync()
  }
}

/** Turns one byte of a file over. */
export function flip(file: string, offset: number): void {
  const handle = fs.openSync(file, 'r+')
  const byte = Buffer.alloc(1)
  fs.readSync(handle, byte, 0, 1, offset)
  byte[0] ^= 0xff
  fs.writeSync(handle, byte, 0, 1, offset)
  fs.closeSync(handle)
}

export function firstSegment(directory: string): string {
  return path.join(directory, '0000000001.data')
}

/** Where `text` stands in the store's first segment. */
export function offsetOf(directory: string, text: string): number {
  const offset = fs.readFileSync(firstSegment(directory)).indexOf(text)
  if (offset < 0) throw new Error(`no '${text}' in ${directory}`)
  return offset
}

/** Every file of a directory with its bytes, to see that nothing changed. */
export function contentsOf(directory: string): Record<string, string> {
  const files = fs.readdirSync(directory, { recursive: true, withFileTypes: true })
  return Object.fromEntries(
    files
      .filter((file) => file.isFile())
      .map((file) => {
        const at = path.join(file.parentPath, file.name)
        return [at, fs.readFileSync(at).toString('base64')]
      }),
  )
}
