// Writes a checkpoint: the keydir as it is, so that opening reads only what was written to the log since. It is a fuzzy
// one, as in ARIES (C. Mohan et al., "ARIES: A Transaction Recovery Method …", ACM TODS 17(1), 1992): its tables are
// copied one after the other while writes go on. So it notes where the log was before the first was copied, and opening
// applies everything again from there. That is right only where the log still reaches what the last table was copied
// with: the checkpoint is published once that is on disk, and believed only where it still is there.
import type { Catalog, Segment } from './catalog'
import {
  CHECKPOINT_HEADER_BYTES,
  type CheckpointBegin,
  type CheckpointPiece,
  type CoveredSegment,
  encodeCheckpoint,
} from './checkpoint-file'
import { invariant } from './errors'
import { CHECKPOINT, CHECKPOINT_NEXT, join } from './files'
import type { Health } from './health'
import type { FileHandle, Host } from './host/host'
import { openIfThere, shrinkSteps, tryRemove, writeFully } from './io'
import type { Kernels } from './kernels'
import { TABLES, type TableImage } from './keydir/keydir'
import type { Ledger } from './ledger'
import type { Manifest } from './manifest'

/** So much makes a piece, which is copied and written in one step, and read at once. */
const PIECE_BYTES = 0x8000
const PIECE_WORDS = PIECE_BYTES / 4
/** Empty tables cost little to pass over, and not nothing. */
const STEP_TABLES = 256
/** Written, and not asked to disk yet, at most: a long sync would hold up those of the writes. */
const UNSYNCED_BYTES_MAX = 0x100_0000

export interface CheckpointRooms {
  host: Host
  kernels: Kernels
  catalog: Catalog
  ledger: Ledger
  health: Health
  manifest: Pick<Manifest, 'storeId' | 'secret'>
  /** Whether the last segment is the one that this process writes to: then syncing the log vouches for its end. */
  isWriting: () => boolean
}

/**
 * `slice`: go on whenever there is time. `sync`: go on once all that is in the log by now is on disk; where that can't
 * be had, end the steps with `return`. A function has something done off the thread: go on once it has called back, and
 * end the steps where it tells of an error. It only spares others a wait, so who holds them up anyway leaves it out.
 */
export type CheckpointStep = 'slice' | 'sync' | ((done: (error: unknown) => void) => void)

export type CheckpointOutcome =
  | { isWritten: true; entries: number; bytes: number; begin: CheckpointBegin }
  | { isWritten: false; reason: string }

/**
 * Writes a checkpoint in steps of well under a millisecond, reads and writes going on in between. A merge, damage or a
 * failed sync meanwhile ends it. Never throws of itself; whatever ends it early leaves nothing behind, and the
 * checkpoint that was there before in its place.
 */
export function* checkpointSteps(rooms: CheckpointRooms): Generator<CheckpointStep, CheckpointOutcome> {
  const { host, catalog, ledger } = rooms
  const refusal = refusalOf(rooms)
  if (refusal !== undefined) return { isWritten: false, reason: refusal }
  const next = join(catalog.directory, CHECKPOINT_NEXT)
  let writer: CheckpointWriter | undefined
  try {
    writer = catalog.withHandles(() => new CheckpointWriter(rooms, next))
    for (let index = 0, passed = 0; index < TABLES; index++) {
      if (!writer.copy(index, ledger))
        return { isWritten: false, reason: 'an entry of the index can not be kept' }
      if (!writer.isPieceFull && ++passed < STEP_TABLES) continue
      passed = 0
      writer.flush()
      yield 'slice'
      if (writer.unsyncedBytes >= UNSYNCED_BYTES_MAX) yield writer.syncLater
      const reason = refusalOf(rooms) ?? writer.refusal()
      if (reason !== undefined) return yield* writer.giveUp(reason)
    }
    writer.flush()
    const end = writer.end()
    yield 'sync'
    end()
    // Where it takes another's place, the system would have it written on the thread.
    yield writer.syncLater
    const reason = refusalOf(rooms) ?? writer.refusal()
    return reason === undefined ? writer.publish() : yield* writer.giveUp(reason)
  } catch (error) {
    return { isWritten: false, reason: error instanceof Error ? error.message : String(error) }
  } finally {
    writer?.close()
    if (writer !== undefined && !writer.isFinished) tryRemove(host, next)
  }
}

/** As `checkpointSteps`, done on return. `makeDurable` has all of the log on disk when it returns. */
export function writeCheckpointNow(rooms: CheckpointRooms, makeDurable: () => void): CheckpointOutcome {
  const steps = checkpointSteps(rooms)
  for (;;) {
    const step = steps.next()
    if (step.done === true) return step.value
    if (step.value !== 'sync') continue
    try {
      makeDurable()
    } catch (error) {
      steps.return({ isWritten: false, reason: 'the log could not be synced' })
      throw error
    }
  }
}

/** Why no checkpoint may be written now. */
function refusalOf({ catalog, health, isWriting }: CheckpointRooms): string | undefined {
  // What was found has to be found again by each open.
  if (health.damage.length > 0) return 'the store is damaged'
  if (health.poisoned !== undefined) return 'the log could not be synced'
  const last = catalog.segments.at(-1)
  if (last === undefined) return 'there is nothing in the store'
  // What a crash left uncertified may be in memory only.
  const isDoubtful = last.state === 'active' && !isWriting() && last.certifiedBytes < last.bytes
  return isDoubtful ? 'the end of the log is not known to be on disk' : undefined
}

class CheckpointWriter {
  isFinished = false
  private file: FileHandle | undefined
  private isSyncing = false
  private syncedBytes = 0
  /** The log when the first table was copied. */
  private readonly begin: CheckpointBegin
  private readonly before: readonly Segment[]
  private readonly beginTombstoneBytes: number
  private readonly pieces: CheckpointPiece[] = []
  /** Those that wait in `words`. */
  private tables: TableImage[] = []
  private liveBytes: Float64Array
  private indexes: Int32Array | undefined
  private words = new Uint32Array(2 * PIECE_WORDS)
  private filledWords = 0
  private position = CHECKPOINT_HEADER_BYTES
  private entries = 0

  constructor(
    private readonly rooms: CheckpointRooms,
    private readonly next: string,
  ) {
    const { host, catalog } = rooms
    const last = catalog.segments[catalog.segments.length - 1]
    this.before = [...catalog.segments]
    const { bytes, records, lastSequence, tombstoneBytes } = last
    this.beginTombstoneBytes = tombstoneBytes
    this.begin = { index: this.before.length - 1, bytes, records, lastSequence }
    this.liveBytes = new Float64Array(this.before.length)
    if (host.inspect(next) !== undefined) host.remove(next)
    this.file = host.open(next, 'create')
  }

  get isPieceFull(): boolean {
    return this.filledWords >= PIECE_WORDS
  }

  get unsyncedBytes(): number {
    return this.position - this.syncedBytes
  }

  /** Has what is written on disk. A handle stays open while a sync through it is under way. */
  readonly syncLater = (done: (error: unknown) => void): void => {
    const { file, position } = this
    const { host } = this.rooms
    invariant(file !== undefined, 'a checkpoint is open until it is published')
    this.isSyncing = true
    host.syncLater(file, (error) => {
      this.isSyncing = false
      this.syncedBytes = position
      if (this.file === undefined) host.close(file)
      done(error)
    })
  };

  /** Others may run while what was written goes. */
  *giveUp(reason: string): Generator<'slice', CheckpointOutcome> {
    const { file, position, rooms } = this
    if (file !== undefined) for (const _ of shrinkSteps(rooms.host, file, position)) yield 'slice'
    return { isWritten: false, reason }
  }

  /** A merge puts other segments in the place of those that were copied. */
  refusal(): string | undefined {
    const { segments } = this.rooms.catalog
    const isSame = this.before.every((segment, i) => segments[i] === segment)
    return isSame ? undefined : 'the segments have changed meanwhile'
  }

  /** The place in the list of each slot's segment: in one step no segment comes or goes. */
  private indexOfSlot(): Int32Array {
    const { segments } = this.rooms.catalog
    if (this.indexes !== undefined) return this.indexes
    if (this.liveBytes.length < segments.length) {
      const grown = new Float64Array(segments.length)
      grown.set(this.liveBytes)
      this.liveBytes = grown
    }
    const slots = segments.reduce((most, { slot }) => Math.max(most, slot + 1), 0)
    const indexes = new Int32Array(slots).fill(-1)
    for (const [i, { slot }] of segments.entries()) indexes[slot] = i
    this.indexes = indexes
    return indexes
  }

  /** Copies the table of an index; false where it can't be kept. */
  copy(index: number, ledger: Ledger): boolean {
    const { keydir } = ledger
    const imageWords = keydir.imageWordsOf(index)
    if (imageWords === 0) return true
    const indexes = this.indexOfSlot()
    const end = this.filledWords + imageWords
    if (end > this.words.length) {
      const grown = new Uint32Array(end + PIECE_WORDS)
      grown.set(this.words.subarray(0, this.filledWords))
      this.words = grown
    }
    const image = keydir.exportOf(index, this.words, this.filledWords, indexes, this.liveBytes)
    if (image === undefined) return false
    this.tables.push(image)
    this.entries += image.count
    this.filledWords = end
    return true
  }

  /** Writes what waits as a piece of its own. */
  flush(): void {
    const { tables } = this
    if (tables.length > 0) {
      const bytes = new Uint8Array(this.words.buffer, 0, this.filledWords * 4)
      this.write(bytes, this.position)
      this.pieces.push({ tables, crc: this.rooms.kernels.crc(bytes) })
      this.position += bytes.length
    }
    this.tables = []
    this.filledWords = 0
    this.indexes = undefined
  }

  private write(bytes: Uint8Array, position: number): void {
    const { file, rooms } = this
    if (file !== undefined) writeFully(rooms.host, file, bytes, 0, bytes.length, position)
  }

  /** All tables are copied: the log has to reach what it holds now. Returns what writes the rest of the checkpoint. */
  end(): () => void {
    const { rooms, begin, beginTombstoneBytes, pieces, entries } = this
    this.indexOfSlot()
    const segments = rooms.catalog.segments.map(
      ({ header, state, records, bytes, lastSequence, tombstoneBytes }, i): CoveredSegment => ({
        id: header.id,
        salt: header.salt,
        isEnded: state !== 'active',
        records,
        bytes,
        lastSequence,
        liveBytes: this.liveBytes[i],
        // Of what is applied again they are counted again.
        tombstoneBytes: i < begin.index ? tombstoneBytes : i === begin.index ? beginTombstoneBytes : 0,
      }),
    )
    return () => {
      const { kernels, manifest } = rooms
      const { storeId, secret } = manifest
      const { header, lists } = encodeCheckpoint(kernels, {
        storeId,
        secret,
        begin,
        entries,
        segments,
        pieces,
      })
      this.write(lists, this.position)
      this.write(header, 0)
      this.position += lists.length
    }
  }

  publish(): CheckpointOutcome {
    const { begin, entries, position, rooms } = this
    const { host, catalog } = rooms
    const path = join(catalog.directory, CHECKPOINT)
    this.close()
    // The last handle on what loses its name is given back off the thread.
    const old = openIfThere(host, path)
    try {
      host.rename(this.next, path)
    } finally {
      if (old !== undefined) host.closeLater(old)
    }
    this.isFinished = true
    return { isWritten: true, entries, bytes: position, begin }
  }

  close(): void {
    const { file, rooms } = this
    this.file = undefined
    if (file !== undefined && !this.isSyncing) rooms.host.close(file)
  }
}
