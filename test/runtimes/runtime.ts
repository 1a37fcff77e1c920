// The runtimes under test. Bun and Deno come as npm packages with the binary inside; it is started itself and not
// through the wrapper in .bin, so that a signal reaches the process that holds the store.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { ROOT } from './package'

export interface Runtime {
  name: string
  /** Arguments before the script; `reach` is what a sandbox must let it read and write. */
  command(reach: { read: string[]; write: string[] }): [string, ...string[]]
}

const EXTENSION = process.platform === 'win32' ? '.exe' : ''

/** The binary inside an npm package, or inside the one for this platform that it chose while it was installed. */
function binaryOf(name: string, scope: string, below: string): string {
  const modules = join(ROOT, 'node_modules')
  const platforms = existsSync(join(modules, scope)) ? readdirSync(join(modules, scope)) : []
  const tried = [
    join(modules, name, below, `${name}.exe`),
    join(modules, name, below, name),
    ...platforms.map((platform) => join(modules, scope, platform, below, name + EXTENSION)),
  ]
  const found = tried.find((path) => {
    try {
      execFileSync(path, ['--version'], { stdio: 'ignore' })
      return true
    } catch {
      return false
    }
  })
  if (found === undefined) throw new Error(`no ${name} runs here: run \`npm ci\`; tried ${tried.join(', ')}`)
  return found
}

const bun = binaryOf('bun', '@oven', 'bin')
const deno = binaryOf('deno', '@deno', '')
const DENO = [deno, 'run', '--no-prompt', '--no-remote', '--quiet'] as const

export const node: Runtime = { name: 'node', command: () => [process.execPath] }
export const bunRuntime: Runtime = { name: 'bun', command: () => [bun, '--no-install', 'run'] }
export const denoRuntime: Runtime = { name: 'deno', command: () => [...DENO, '--allow-all'] }
/** With nothing but the files that it needs. */
export const denoSandbox: Runtime = {
  name: 'deno, sandboxed',
  command: ({ read, write }) => [
    ...DENO,
    `--allow-read=${read.join(',')}`,
    `--allow-write=${write.join(',')}`,
  ],
}

export interface Started {
  child: ChildProcess
  /** The next line that it prints, as JSON; rejects with its standard error where it ends instead. */
  next(): Promise<unknown>
  send(line: string): void
  /** Resolves once the process is gone. */
  ended: Promise<void>
  kill(): Promise<void>
}

export function start(
  runtime: Runtime,
  cwd: string,
  script: string,
  args: string[],
  writable = args[0]!,
): Started {
  const [command, ...before] = runtime.command({
    read: [join(cwd, 'node_modules/casky'), writable],
    write: [writable],
  })
  const env = { ...process.env, DENO_DIR: join(cwd, '.deno'), DENO_NO_UPDATE_CHECK: '1', NO_COLOR: '1' }
  const child = spawn(command, [...before, join(cwd, script), ...args], { cwd, env })
  // Where it has ended already, `next` tells.
  child.stdin.on('error', () => {})
  let errors = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text
  })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const ended = new Promise<void>((resolve) => {
    child.once('close', () => resolve())
  })
  const next = async (): Promise<unknown> => {
    const { value, done } = await lines.next()
    if (!done) return JSON.parse(value)
    await ended
    throw new Error(`${runtime.name} ${script} ended (${child.exitCode ?? child.signalCode}): ${errors}`)
  }
  const kill = (): Promise<void> => {
    child.kill('SIGKILL')
    return ended
  }
  return { child, next, send: (line) => child.stdin.write(`${line}\n`), ended, kill }
}
