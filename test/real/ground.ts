// Where the real stores stand, and what works on them: bundles of the sources as they are, for every runtime.
import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type BuildOptions, build, type Plugin } from 'esbuild'
import { ROOT } from '../fuzz/root'
import { bunRuntime, denoRuntime, node, type Runtime, type Started, start } from '../runtimes/runtime'

export const RUNTIMES: readonly Runtime[] = [node, bunRuntime, denoRuntime]

/** The agents share one store and one gate, and the store goes to the system through the gate, on every runtime. */
const shared: Plugin = {
  name: 'shared modules',
  setup: (context) => {
    context.onResolve({ filter: /^node:fs$/ }, ({ importer }) =>
      importer.includes(`${ROOT}/src/`) ? { path: './gate.mjs', external: true } : undefined,
    )
    context.onResolve({ filter: /\/src\/index$/ }, () => ({ path: './casky.mjs', external: true }))
    context.onResolve({ filter: /^\.\/gate$/ }, () => ({ path: './gate.mjs', external: true }))
  },
}

/** A scratch directory with everything that the tests start: `casky.mjs`, `gate.mjs` and the agents. */
export async function makeWorkshop(): Promise<string> {
  const folder = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), 'casky-real-')))
  const common: BuildOptions = {
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'es2022',
    logLevel: 'error',
    outdir: folder,
    outExtension: { '.js': '.mjs' },
    plugins: [shared],
  }
  await build({ ...common, entryPoints: { casky: join(ROOT, 'src/index.ts') } })
  const agents = ['gate', 'writer', 'steps', 'racer', 'chores']
  const entryPoints = agents.map((name) => join(ROOT, 'test/real/agents', `${name}.ts`))
  await build({ ...common, entryPoints })
  return folder
}

export function begin(runtime: Runtime, workshop: string, agent: string, args: string[]): Started {
  return start(runtime, workshop, `${agent}.mjs`, args)
}

/** Runs an agent to its end; each line that it prints is JSON. */
export async function ask(
  runtime: Runtime,
  workshop: string,
  agent: string,
  args: string[],
): Promise<unknown> {
  const started = begin(runtime, workshop, agent, args)
  try {
    return await started.next()
  } finally {
    await started.kill()
  }
}

export function removeAll(path: string): void {
  fs.rmSync(path, { recursive: true, force: true })
}

/** A small file system of its own in memory. */
export interface SmallDisk {
  path: string
  remount(options: string): void
  release(): void
}

export function makeDisk(bytes: number): SmallDisk {
  const path = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), 'casky-disk-')))
  mount('-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', path)
  return {
    path,
    remount: (options) => mount('-o', `remount,${options}`, path),
    release: () => {
      spawnSync('umount', ['-l', path])
      fs.rmdirSync(path)
    },
  }
}

function mount(...args: string[]): void {
  const { status, stderr } = spawnSync('mount', args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`mount ${args.join(' ')}: ${stderr}`)
}

/** Why a small disk can't be had here; undefined where it can. */
export function whyNoDisk(): string | undefined {
  if (process.platform !== 'linux') return 'mounting a tmpfs takes Linux'
  if (process.getuid?.() !== 0) return 'mounting a tmpfs takes root'
  try {
    makeDisk(65_536).release()
    return undefined
  } catch (error) {
    return (error as Error).message.trim()
  }
}
