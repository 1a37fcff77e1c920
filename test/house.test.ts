// The house's own rules: which room may know which, and that what is generated is what its source makes.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { expect, test } from 'vitest'

const root = resolve(import.meta.dirname, '..')

/** From the ground up; a room may import from its own floor and from those below. */
const FLOORS: string[][] = [
  [
    'errors',
    'wording',
    'bytes',
    'group',
    'pool',
    'steps',
    'jobs',
    'histogram',
    'host/host',
    'kernels.wasm',
    'health',
  ],
  [
    'kernels',
    'host/machine',
    'host/node',
    'host/beacon',
    'files',
    'io',
    'preamble',
    'cache',
    'findings',
    'room',
  ],
  [
    'segment',
    'manifest',
    'checkpoint-file',
    'claim',
    'lock',
    'keydir/*',
    'memtable',
    'catalog',
    'strangers',
    'pins',
    'replaced',
  ],
  [
    'oversize',
    'ledger',
    'overlay',
    'frozen',
    'leftovers',
    'pass',
    'segment-files',
    'rollcall',
    'salt',
    'survey',
    'repair',
    'originals',
    'copier',
    'scanner',
    'replay',
    'recovery',
    'hint',
    'hinting',
    'checkpoint',
    'restore',
    'reread',
    'active',
    'course',
    'ending',
    'starting',
    'relog',
    'durable',
    'moved',
    'catchup',
    'tail',
    'stand-ins',
    'publisher',
    'log',
    'pace',
    'merge/*',
    'caretaker',
    'rebuild',
    'heartbeat',
    'writer',
    'reader',
    'key-batch',
    'lookup',
    'check',
    'changes-window',
    'changes-segments',
    'changes-cursor',
    'dump',
  ],
  [
    'encoding',
    'options',
    'range',
    'sorting',
    'ordered',
    'key-order',
    'order-walk',
    'walk',
    'window',
    'log-walk',
    'key-walk',
    'walks',
    'reading',
    'source',
    'follower',
    'follower-reads',
    'watch',
    'checking',
    'snapshot',
    'batch',
    'changes-feed',
    'changes',
    'open',
    'stats',
    'casky',
    'upkeep',
    'backup/*',
    'store',
  ],
  ['index'],
  ['cli/*'],
]

function sources(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(folder, name))
}

function importsOf(file: string): { from: string; isTypeOnly: boolean }[] {
  const text = readFileSync(join(root, file), 'utf8')
  const found = text.matchAll(/^(?:import|export)\s+(type\s+)?(?:[^'"]*?\s+from\s+)?['"]([^'"]+)['"]/gm)
  return [...found].map(([, type, from]) => ({ from, isTypeOnly: type !== undefined }))
}

function floorOf(room: string): number {
  return FLOORS.findIndex((rooms) => rooms.includes(room) || rooms.includes(`${room.split('/')[0]}/*`))
}

function roomOf(file: string): string {
  return relative('src', file).replace(/\.ts$/, '')
}

test('every room has a floor', () => {
  expect(
    sources('src')
      .map(roomOf)
      .filter((room) => floorOf(room) < 0),
  ).toEqual([])
})

test('no import runs up', () => {
  const upward: string[] = []
  for (const file of sources('src')) {
    for (const { from, isTypeOnly } of importsOf(file)) {
      if (!from.startsWith('.') || isTypeOnly) continue
      const target = relative(root, resolve(root, dirname(file), from))
      if (!target.startsWith('src/')) continue
      if (floorOf(roomOf(`${target}.ts`)) > floorOf(roomOf(file))) upward.push(`${file} → ${target}`)
    }
  }
  expect(upward).toEqual([])
})

test('no room imports itself in a circle', () => {
  const files = sources('src')
  const graph = new Map(
    files.map((file) => [
      file,
      importsOf(file)
        .filter(({ from, isTypeOnly }) => from.startsWith('.') && !isTypeOnly)
        .map(({ from }) => `${relative(root, resolve(root, dirname(file), from))}.ts`),
    ]),
  )
  const circles: string[] = []
  const visit = (file: string, path: string[]): void => {
    if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(' → '))
    else for (const next of graph.get(file) ?? []) visit(next, [...path, file])
  }
  for (const file of files) visit(file, [])
  expect(circles).toEqual([])
})

test('only the host imports node:fs in the core', () => {
  const importers = sources('src').filter(
    (file) =>
      !file.startsWith('src/cli/') && importsOf(file).some(({ from }) => /^(node:)?fs(\/|$)/.test(from)),
  )
  expect(importers).toEqual(['src/host/node.ts'])
})

test('the command line knows the public surface only', () => {
  const inward = sources('src/cli').flatMap((file) =>
    importsOf(file)
      .map(({ from }) => relative(root, resolve(root, dirname(file), from)))
      .filter(
        (target) => target.startsWith('src/') && !target.startsWith('src/cli/') && target !== 'src/index',
      )
      .map((target) => `${file} → ${target}`),
  )
  expect(inward).toEqual([])
})

test('rooms stay small: none over 450 lines, the median at most 130', () => {
  const lengths = [...sources('src'), ...sources('assembly')]
    .filter((file) => file !== 'src/kernels.wasm.ts')
    .map((file) => ({ file, lines: readFileSync(join(root, file), 'utf8').split('\n').length }))
    .sort((a, b) => a.lines - b.lines)
  expect(lengths.filter(({ lines }) => lines > 450)).toEqual([])
  expect(lengths[Math.floor(lengths.length / 2)].lines).toBeLessThanOrEqual(130)
})

test('the embedded kernels are what assembly/ compiles to', () => {
  const folder = mkdtempSync(join(tmpdir(), 'casky-kernels-'))
  try {
    const asc = join(root, 'node_modules/assemblyscript/bin/asc.js')
    const out = join(folder, 'kernels.wasm')
    execFileSync(
      process.execPath,
      [
        asc,
        'assembly/index.ts',
        '--config',
        'asconfig.json',
        '--target',
        'release',
        '--outFile',
        out,
        '--textFile',
        join(folder, 'kernels.wat'),
      ],
      {
        cwd: root,
      },
    )
    execFileSync(process.execPath, [join(root, 'scripts/embed-wasm.mjs'), '--check', out], { cwd: root })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})

test('nothing of the core is needed at run time but the runtime', () => {
  const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  expect(dependencies).toBeUndefined()
})
