// Stores with hints and checkpoints made by hand, and what opening them says.
import { readdirSync } from 'node:fs'
import { type Casky, storeOf } from '../../src/casky'
import { type CheckpointOutcome, type CheckpointRooms, writeCheckpointNow } from '../../src/checkpoint'
import { CHECKPOINT } from '../../src/files'
import { hintSteps } from '../../src/hinting'
import { nodeBeacon } from '../../src/host/beacon'
import type { Host } from '../../src/host/host'
import { nodeHost } from '../../src/host/node'
import { openSteps, type Rooms } from '../../src/open'
import { type OpenOptions, openSettings } from '../../src/options'
import type { OpenProgress, RecoveryReport } from '../../src/recovery'
import { systemError } from './ground'
import { recycled } from './memory'

export interface Opened {
  rooms: Rooms
  db: Casky
  progress: OpenProgress[]
}

/** An open store, with what it is made of. */
export function openRooms(path: string, options: OpenOptions = {}, host: Host = nodeHost): Opened {
  const settings = openSettings({ cacheBytes: 0, ...options })
  const steps = openSteps(host, nodeBeacon, path, settings)
  const progress: OpenProgress[] = []
  let step = steps.next()
  while (step.done !== true) {
    if ('phase' in step.value) {
      progress.push(step.value)
      step = steps.next()
    } else {
      step = steps.next(nodeBeacon.answerSync(host, step.value))
    }
  }
  return { rooms: step.value, db: storeOf(step.value, settings), progress }
}

export function checkpointRooms(rooms: Rooms, host: Host = rooms.host): CheckpointRooms {
  return { ...rooms, host, isWriting: () => (rooms.writing?.log.writtenBytes ?? 0) > 0 }
}

/** Everything written is in the log on return, on disk or not. */
export function commit({ rooms }: Pick<Opened, 'rooms'>): void {
  rooms.writing?.writer.commit()
}

export function checkpoint(opened: Pick<Opened, 'rooms'>, host?: Host): CheckpointOutcome {
  commit(opened)
  return writeCheckpointNow(checkpointRooms(opened.rooms, host), () => opened.rooms.writing?.writer.syncNow())
}

/** Writes the hints of all segments that have ended; returns how many there are now. */
export function writeHints({ rooms }: Pick<Opened, 'rooms'>, host = rooms.host): number {
  let written = 0
  for (const segment of rooms.catalog.segments) {
    const steps = hintSteps({ ...rooms, host }, segment)
    let step = steps.next()
    while (step.done !== true) step = steps.next()
    if (step.value) written++
  }
  return written
}

/** What a read-only open finds (a checkpoint may certify more than the log itself does): contents, the numbers of each segment, findings, and which way it all came in. */
export interface Found {
  entries: [string, string | undefined][]
  numbers: unknown
  findings: unknown
  recovery: RecoveryReport
}

export function find(path: string, options: OpenOptions = {}, host: Host = nodeHost): Found {
  return recycled(() => foundIn(path, options, host))
}

function foundIn(path: string, options: OpenOptions, host: Host): Found {
  const { rooms, db } = openRooms(path, { readOnly: true, ...options }, host)
  try {
    const { damage, tornTails } = db.health()
    const entries = [...db.keys()].map((key): [string, string | undefined] => [key, valueIn(db, key)])
    const segments = rooms.catalog.segments.map(
      ({ slot, header, path: _path, certifiedBytes: _certified, ...numbers }) => ({
        slot,
        id: header.id,
        ...numbers,
      }),
    )
    const findings = { damage: damage.map((each) => ({ ...each, foundAtMs: 0 })), tornTails }
    return { entries, numbers: { size: db.size, segments }, findings, recovery: rooms.recovery }
  } finally {
    db.closeSync()
  }
}

const isCachePath = (path: string): boolean => path.endsWith(`/${CHECKPOINT}`) || path.endsWith('.hint')

/** Before it no store has a checkpoint or a hint. */
const uncached: Host = {
  ...nodeHost,
  list: (directory) => nodeHost.list(directory).filter((name) => !isCachePath(`/${name}`)),
  inspect: (path) => (isCachePath(path) ? undefined : nodeHost.inspect(path)),
  open: (path, mode) => {
    if (isCachePath(path)) throw systemError('ENOENT')
    return nodeHost.open(path, mode)
  },
}

/** What opening finds without any cache. */
export function findUncached(path: string): Found {
  return find(path, {}, uncached)
}

function valueIn(db: Casky, key: string): string | undefined {
  try {
    return db.get(key)
  } catch (error) {
    if ((error as { code?: string }).code === 'CASKY_CORRUPT') return 'damaged'
    throw error
  }
}

/** All that has to be the same whichever way it came in. */
export function same({ entries, numbers, findings }: Found): Omit<Found, 'recovery'> {
  return { entries, numbers, findings }
}

export function filesOf(path: string, ending: string): string[] {
  return readdirSync(path)
    .filter((name) => name.endsWith(ending))
    .sort()
}
