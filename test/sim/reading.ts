// What one sees who only looks: a read-only store, opened beside a writer or where there is none, read and closed; and files.
import { segmentName } from '../../src/files'
import type { Casky } from '../../src/index'
import { Kernels } from '../../src/kernels'
import { readManifest } from '../../src/manifest'
import { openSyncOn } from '../../src/store'
import type { SimDisk } from './disk'
import { contentsOf } from './oracle'
import { Random } from './random'
import { STORE, World } from './world'

export interface Read {
  /** undefined where an error came in the way that was to be expected. */
  contents?: ReturnType<typeof contentsOf>
  /** What must not have been. */
  message?: string
}

export function readBeside(world: World, mayFail: boolean): Read {
  let db: Casky | undefined
  try {
    db = openSyncOn<'utf8', 'utf8'>(world.ground, STORE, { readOnly: true, cacheBytes: 0 })
    const [damage] = db.health().damage
    if (damage !== undefined) return { message: `${damage.path} at ${damage.offset}: ${damage.reason}` }
    return { contents: contentsOf(db) }
  } catch (error) {
    const { code } = error as { code?: string }
    // An error kept it from being made.
    if (code === 'CASKY_NOT_FOUND' && world.disk.find(`${STORE}/MANIFEST`) === undefined) return {}
    const isTyped = code?.startsWith('CASKY_') === true && code !== 'CASKY_CORRUPT'
    return mayFail && isTyped ? {} : { message: String((error as Error).stack) }
  } finally {
    db?.closeSync()
  }
}

/** Segments in the directory that the manifest doesn't name. */
export function strayIn(disk: SimDisk): string[] {
  const store = disk.find(STORE)
  if (store?.kind !== 'directory') return []
  const manifest = readManifest(new World(disk, new Random(1)).ground.host, new Kernels(), STORE)
  const named = new Set(manifest?.segments.map(({ header }) => segmentName(header.id)))
  return [...store.live.keys()].filter((name) => name.endsWith('.data') && !named.has(name))
}
