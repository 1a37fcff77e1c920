// A read-only store, opened beside a writer or where there is none, read and closed.
import type { Casky } from '../../src/index'
import { openSyncOn } from '../../src/store'
import { contentsOf } from './oracle'
import { STORE, type World } from './world'

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
