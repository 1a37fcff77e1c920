// The command line on hostile stores, in processes of its own: how it ends, and each byte that it prints.
import { spawn } from 'node:child_process'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import { ATTACKS } from './attacks'
import { type Bases, makeBases, NASTY } from './bases'
import { fingerprint, type Image, writeImage } from './image'
import { makeImport } from './imports'
import { bytesAt, cloneOf, makeCase } from './mutate'
import { ROOT } from './root'

const COMMAND_MS_MAX = 30_000
/** A name that a terminal would obey, for the directory itself. */
const NASTY_NAME = 'st\x1b[31m\u202Eore\x07'

export interface CliFault {
  store: string
  command: string[]
  what: string
}

export interface CliResult {
  commands: number
  exitCodes: Record<string, number>
  faults: CliFault[]
}

export async function buildCli(home: string): Promise<string> {
  const program = join(home, 'cli.mjs')
  await build({
    entryPoints: [join(ROOT, 'src/cli/main.ts')],
    outfile: program,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'es2022',
    logLevel: 'error',
    banner: {
      js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
    },
  })
  return program
}

/** C0 without tab and newline, DEL, C1, and what turns the direction of writing around. */
const CONTROL = /[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/u

/** What a terminal would obey in these bytes; undefined where it would only show them. */
export function obeyed(bytes: Uint8Array): string | undefined {
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return 'bytes that are no UTF-8'
  }
  const found = CONTROL.exec(text)
  if (found === null) return undefined
  const around = text.slice(Math.max(0, found.index - 30), found.index + 10)
  return `U+${found[0].charCodeAt(0).toString(16).padStart(4, '0')} in ${JSON.stringify(around)}`
}

interface Ended {
  code: number | null
  out: Buffer
  err: Buffer
}

function run(program: string, args: string[], cwd: string): Promise<Ended> {
  return new Promise((resolve) => {
    const options = ['--max-old-space-size=512', program, ...args]
    const child = spawn(process.execPath, options, { cwd, timeout: COMMAND_MS_MAX, killSignal: 'SIGKILL' })
    const out: Buffer[] = []
    const err: Buffer[] = []
    child.stdin.end()
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk))
    child.on('close', (code) => resolve({ code, out: Buffer.concat(out), err: Buffer.concat(err) }))
  })
}

/** What is wrong with how a command ended. */
export function faultsOf({ code, out, err }: Ended): string[] {
  const faults: string[] = []
  if (code === null) faults.push('was killed, or ran for too long')
  else if (![0, 1, 2, 3].includes(code)) faults.push(`exit code ${code}`)
  const text = err.toString()
  if (/internal error|please report|\n {4}at /.test(text)) faults.push(`fails inside: ${text.slice(0, 500)}`)
  for (const [name, bytes] of Object.entries({ 'standard output': out, 'standard error': err })) {
    const what = obeyed(bytes)
    if (what !== undefined) faults.push(`prints raw on ${name}: ${what}`)
  }
  return faults
}

interface Sample {
  name: string
  image: Image
}

/** A store whose keys and values are all that a terminal must not see. */
function nastyStore(bases: Bases): Image {
  const image = cloneOf(bases.closed)
  for (const name of NASTY) image.set(name.replaceAll(/[\0/]/g, ''), { kind: 'directory' })
  const segment = bytesAt(image, '0000000002.data')
  // A damaged one, so that its key is told of.
  if (segment !== undefined) segment[segment.indexOf('vvvv')] ^= 1
  return image
}

function samplesOf(bases: Bases, seed: number, count: number): Sample[] {
  const made = Array.from({ length: count }, (_, i) => {
    const each = (Math.imul(seed, 0x9e37_79b1) + i * 7919) >>> 0
    return { name: `case ${each}`, image: makeCase(bases, each).image }
  })
  const chosen = ['a claim in colours', 'an expiry of 2^64-1']
  return [
    { name: 'nasty', image: nastyStore(bases) },
    ...chosen.map((name) => ({ name, image: ATTACKS[name](bases) })),
    ...made,
  ]
}

const READING = [
  ['check'],
  ['check', '--json'],
  ['dump'],
  ['dump', '--json'],
  ['list', '--values'],
  ['list', '--json'],
  ['export'],
  ['stats'],
  ['stats', '--json'],
]
const FORMATS = { jsonl: [], 'casky-c': ['--format', 'casky-c'] }

export async function fuzzCli(
  home: string,
  seed: number,
  count: number,
  program: string,
): Promise<CliResult> {
  const result: CliResult = { commands: 0, exitCodes: {}, faults: [] }
  const bases = makeBases(home)
  const fifo = join(home, 'fifo')
  await new Promise((resolve) => spawn('mkfifo', [fifo]).once('close', resolve))
  const outside = join(home, 'outside')
  fs.mkdirSync(outside)
  fs.writeFileSync(join(outside, 'secret.data'), 'outside secret\n')
  const outsideBefore = fingerprint(outside)

  const judge = async (store: string, command: string[], cwd: string): Promise<void> => {
    const ended = await run(program, command, cwd)
    result.commands++
    result.exitCodes[String(ended.code)] = (result.exitCodes[String(ended.code)] ?? 0) + 1
    const faults = faultsOf(ended)
    if (Buffer.concat([ended.out, ended.err]).includes('outside secret'))
      faults.push('tells of what lies outside')
    for (const what of faults) result.faults.push({ store, command, what })
  }

  const work = async (samples: Sample[], directory: string): Promise<void> => {
    for (const [i, { name, image }] of samples.entries()) {
      const cwd = join(directory, String(i))
      const store = join(cwd, NASTY_NAME)
      const placed: Image = new Map(
        [...image].map(([at, thing]) => [
          at,
          thing.kind === 'link' ? { kind: 'link', to: thing.to.replace('@OUTSIDE', outside) } : thing,
        ]),
      )
      writeImage(placed, store, fifo)
      const before = fingerprint(store)
      for (const [command, ...flags] of READING) await judge(name, [command, NASTY_NAME, ...flags], cwd)
      if (fingerprint(store) !== before)
        result.faults.push({ store: name, command: ['all'], what: 'changed the store' })
      const { format, bytes } = makeImport(seed + i)
      fs.writeFileSync(join(cwd, 'file\x1b[2J'), bytes)
      await judge(name, ['import', NASTY_NAME, 'file\x1b[2J', ...FORMATS[format]], cwd)
      await judge(name, ['get', NASTY_NAME, 'not\x1bthere'], cwd)
      await judge(name, ['repair', NASTY_NAME], cwd)
      await judge(name, ['check', NASTY_NAME], cwd)
      const made = fs.readdirSync(cwd).filter((each) => each !== NASTY_NAME && each !== 'file\x1b[2J')
      if (made.length > 0) result.faults.push({ store: name, command: ['all'], what: `made ${made}` })
    }
  }
  const samples = samplesOf(bases, seed, count)
  const half = Math.ceil(samples.length / 2)
  await Promise.all([
    work(samples.slice(0, half), join(home, 'a')),
    work(samples.slice(half), join(home, 'b')),
  ])
  if (fingerprint(outside) !== outsideBefore) {
    result.faults.push({ store: 'all', command: ['all'], what: 'changed something outside of the store' })
  }
  return result
}
