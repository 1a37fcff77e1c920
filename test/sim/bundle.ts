// The simulator as one file to run in a worker, with the sources of casky changed here and there: to simulate faster,
// to meet the edges of buffers with little data, or to plant a defect. What is published is built from the sources.
import { readFileSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { build, type Plugin } from 'esbuild'

const root = resolve(import.meta.dirname, '../..')

export interface Change {
  /** Below the repository's root. */
  file: string
  find: string
  replace: string
}

/** Tables that are made anew for each open store, and need not hold more than a simulated one has. */
const SMALL_TABLES: Change[] = [
  { file: 'src/memtable.ts', find: 'const SLOTS = 16_384', replace: 'const SLOTS = 512' },
  { file: 'src/keydir/keydir.ts', find: 'const TABLE_BITS = 10', replace: 'const TABLE_BITS = 3' },
]

/** Memory for the kernels is taken from a pool: making an instance takes longer than judging a crash. */
const POOL: Change[] = [
  {
    file: 'src/kernels.ts',
    find: 'compiled ??= new WebAssembly.Module',
    replace: `const pool = (globalThis as any).caskyKernels
    const pooled = pool?.take(cacheBytes)
    if (pooled !== undefined) return pooled
    pool?.made(cacheBytes, this)
    compiled ??= new WebAssembly.Module`,
  },
]

/** A process's own list, which dies with it: here many live and die in one. */
const OWN_LISTS: Change[] = [
  {
    file: 'src/backup/backups.ts',
    find: 'const underWay = new Set<string>()',
    replace:
      'const underWay = { has: (_: string) => false, add: (_: string) => {}, delete: (_: string) => {} }',
  },
]

/** Hints and checkpoints of stores that are far too small for them. */
export const EARLY_CACHES: Change[] = [
  {
    file: 'src/caretaker.ts',
    find: 'HINT_SEGMENT_BYTES_MIN = 0x1_0000',
    replace: 'HINT_SEGMENT_BYTES_MIN = 300',
  },
  { file: 'src/caretaker.ts', find: 'LOG_BYTES_MIN = 0x4_0000', replace: 'LOG_BYTES_MIN = 500' },
  { file: 'src/caretaker.ts', find: 'LOG_BYTES_MAX = 0x200_0000', replace: 'LOG_BYTES_MAX = 2500' },
  // The keydir of a simulated store is mostly room.
  { file: 'src/caretaker.ts', find: 'keydir.memoryBytes / 2', replace: 'keydir.count' },
  { file: 'src/checkpoint.ts', find: 'PIECE_BYTES = 0x8000', replace: 'PIECE_BYTES = 200' },
  {
    file: 'src/checkpoint.ts',
    find: 'UNSYNCED_BYTES_MAX = 0x100_0000',
    replace: 'UNSYNCED_BYTES_MAX = 700',
  },
]

/** Buffers so small that a few hundred bytes fill them. */
const SMALL_ROOMS: Change[] = [
  { file: 'assembly/layout.ts', find: 'WRITE_BYTES = 0x4_0000', replace: 'WRITE_BYTES = 3000' },
  { file: 'src/heartbeat.ts', find: 'COPIED_BYTES_MAX = 0x10_0000', replace: 'COPIED_BYTES_MAX = 1000' },
  {
    file: 'src/heartbeat.ts',
    find: 'SYNCED_AT_ONCE_BYTES = 0x100_0000',
    replace: 'SYNCED_AT_ONCE_BYTES = 1500',
  },
  { file: 'assembly/layout.ts', find: 'READ_BYTES = 0x8_0000', replace: 'READ_BYTES = 700' },
  {
    file: 'src/merge/output.ts',
    find: 'MERGE_WINDOW_BYTES = 0x1_0000',
    replace: 'MERGE_WINDOW_BYTES = 900',
  },
  {
    file: 'src/merge/output.ts',
    find: 'UNSYNCED_BYTES_MAX = 0x100_0000',
    replace: 'UNSYNCED_BYTES_MAX = 2500',
  },
  { file: 'src/room.ts', find: 'ROOM_BYTES = 0x4_0000', replace: 'ROOM_BYTES = 1200' },
  { file: 'src/io.ts', find: 'SHRUNK_AT_ONCE_BYTES = 0x10_0000', replace: 'SHRUNK_AT_ONCE_BYTES = 700' },
  // The clock moves by a hundredth each time it is looked at.
  { file: 'src/pace.ts', find: 'const SLICE_MS = 0.5', replace: 'const SLICE_MS = 0.03' },
  { file: 'src/merge/output.ts', find: 'const OUT_BYTES = 0x3_0000', replace: 'const OUT_BYTES = 0x1_1000' },
]

export function change(text: string, { file, find, replace }: Change): string {
  const count = text.split(find).length - 1
  if (count !== 1) throw new Error(`${file} holds ${count} times what is to be changed: ${find}`)
  return text.replace(find, () => replace)
}

function changing(changes: Change[]): Plugin {
  const byFile = new Map<string, Change[]>()
  for (const each of changes) {
    const path = join(root, each.file)
    byFile.set(path, [...(byFile.get(path) ?? []), each])
  }
  const done = new Set<string>()
  return {
    name: 'change sources',
    setup: (builder) => {
      // Each file that passes this comes by way of this process.
      const names = [...byFile.keys()].map((path) => basename(path, '.ts'))
      builder.onLoad({ filter: new RegExp(`/(${names.join('|')})\\.ts$`) }, ({ path }) => {
        const wanted = byFile.get(path)
        if (wanted === undefined) return undefined
        done.add(path)
        return { contents: wanted.reduce(change, readFileSync(path, 'utf8')), loader: 'ts' }
      })
      builder.onEnd(() => {
        for (const path of byFile.keys()) {
          if (!done.has(path)) throw new Error(`nothing imports what is to be changed: ${path}`)
        }
      })
    },
  }
}

export type Rooms = 'small' | 'real'

/** Writes the worker to `outfile`. */
export async function bundleWorker(
  outfile: string,
  rooms: Rooms,
  mutation: Change[] = [],
  entry = join(root, 'test/sim/worker.ts'),
): Promise<void> {
  // A defect is found sooner without them.
  const caches = rooms === 'small' && mutation.length === 0 ? EARLY_CACHES : []
  await build({
    entryPoints: [entry],
    bundle: true,
    platform: 'node',
    format: 'esm',
    outfile,
    logLevel: 'error',
    plugins: [
      changing([
        ...POOL,
        ...OWN_LISTS,
        ...SMALL_TABLES,
        ...(rooms === 'small' ? SMALL_ROOMS : []),
        ...caches,
        ...mutation,
      ]),
    ],
  })
}
