// Loads a checkpoint, if there is one that fits the store as it is now. Tables are taken over in bulk: no key is looked
// at; and a writer's only when they are first used. Whatever is wrong with a checkpoint, opening goes on without it.
import {
  ROW_KIND,
  ROW_VALUE_DAMAGED,
  ROW_WORDS,
  SCAN_AT,
  SCAN_BYTES,
  SCAN_TABLE_AT,
} from '../assembly/layout'
import { isEqual } from './bytes'
import type { Catalog, Segment } from './catalog'
import { CHECKPOINT_HEADER_BYTES, type CheckpointLists, decodeCheckpoint, listsOf } from './checkpoint-file'
import { CaskyError } from './errors'
import { CHECKPOINT, join } from './files'
import { Health } from './health'
import type { FileHandle, Host } from './host/host'
import { readFully } from './io'
import { Kernels } from './kernels'
import type { FoldedPiece, PieceSource } from './keydir/keydir'
import type { Ledger } from './ledger'
import type { Manifest } from './manifest'
import { checkHeader, openNamed, type ReadFrom } from './pass'
import { SegmentScan } from './scanner'
import { SEGMENT_HEADER_BYTES } from './segment'

const TABLE = SCAN_TABLE_AT / 4
/** Why a checkpoint with damaged tables is not used. */
export const DAMAGED = 'it is damaged'
/** How much is loaded between two looks at the event loop. */
const STEP_BYTES = 0x40_0000

export interface RestoreRooms {
  host: Host
  kernels: Kernels
  catalog: Catalog
  ledger: Ledger
  /** Tables come in when they are first used; else all of them at once. */
  isLazy?: boolean
}

/** What a checkpoint came to. */
export interface Restored {
  entries: number
  bytesRead: number
  /** How much of the store it stands for, and where to read on: in the segment at this place of the list. */
  begin: ReadFrom & { index: number }
}

export interface Refusal {
  reason: string
  bytesRead: number
}

/** `segments` are those of the manifest, nothing of them read yet; `present` the ids of those whose file is there. */
export function* restore(
  rooms: RestoreRooms,
  manifest: Manifest,
  segments: readonly Segment[],
  present: ReadonlySet<number>,
): Generator<void, Restored | Refusal | undefined> {
  const { host, catalog } = rooms
  const path = join(catalog.directory, CHECKPOINT)
  let file: FileHandle | undefined
  try {
    if (host.inspect(path) === undefined) return undefined
    file = host.open(path, 'read')
  } catch {
    return { reason: 'it can not be opened', bytesRead: 0 }
  }
  const source = new CheckpointSource(host, file)
  let isKept = false
  try {
    const checkpoint = source.begin(rooms.kernels)
    const reason =
      typeof checkpoint === 'string'
        ? checkpoint
        : (misfitOf(checkpoint, manifest) ?? shortfallOf(rooms, checkpoint, manifest, segments, present))
    if (typeof checkpoint === 'string' || reason !== undefined)
      return { reason: reason ?? '', bytesRead: source.bytesRead }
    rooms.ledger.keydir.adopt(checkpoint.keydir, source)
    if (rooms.isLazy !== true && !(yield* bringIn(rooms.ledger))) {
      rooms.ledger.keydir.clear()
      return { reason: DAMAGED, bytesRead: source.bytesRead }
    }
    isKept = true
    settle(checkpoint, segments)
    const { begin, entries } = checkpoint
    const certifiedBytes =
      begin.index === checkpoint.segments.length - 1 ? lastBytes(checkpoint) : begin.bytes
    return { entries, bytesRead: source.bytesRead, begin: { ...begin, certifiedBytes } }
  } finally {
    if (!isKept) source.close()
  }
}

/** All tables come in; false where some are damaged. */
function* bringIn({ keydir }: Ledger): Generator<void, boolean> {
  let stepBytes = 0
  while (keydir.isFolded) {
    const bytes = keydir.unfoldNext()
    if (bytes === undefined) return false
    stepBytes += bytes
    if (stepBytes < STEP_BYTES) continue
    stepBytes = 0
    yield
  }
  return true
}

function lastBytes({ segments }: CheckpointLists): number {
  return segments[segments.length - 1].bytes
}

/** What keeps a checkpoint from being one of the log that the manifest names: it must be of that, or of how it began. */
function misfitOf(
  { storeId, secret, segments, begin }: CheckpointLists,
  manifest: Manifest,
): string | undefined {
  if (!isEqual(storeId, manifest.storeId)) return 'it belongs to another store'
  if (!isEqual(secret, manifest.secret)) return 'it is older than a repair'
  if (segments.length > manifest.segments.length) return 'the manifest names fewer segments'
  const last = segments.length - 1
  for (const [i, covered] of segments.entries()) {
    const { header, state, bytes, records, lastSequence } = manifest.segments[i]
    if (covered.id !== header.id || covered.salt !== header.salt) return 'the manifest names other segments'
    const isEnded = state !== 'active'
    if (covered.isEnded) {
      const isSame =
        isEnded &&
        covered.bytes === bytes &&
        covered.records === records &&
        covered.lastSequence === lastSequence
      if (!isSame) return 'a segment has ended elsewhere'
    } else if (i < last || (isEnded && bytes < covered.bytes)) {
      return 'a segment has ended elsewhere'
    }
    if (covered.bytes < SEGMENT_HEADER_BYTES) return 'a segment has ended elsewhere'
  }
  const first = manifest.segments[begin.index].header.firstSequence
  const isPlausible = begin.bytes >= SEGMENT_HEADER_BYTES && begin.lastSequence >= first - 1
  return isPlausible ? undefined : 'its lists make no sense'
}

/** What keeps the files from bearing a checkpoint out: they are asked as far as that is cheap. */
function shortfallOf(
  rooms: RestoreRooms,
  { segments: covered, begin }: CheckpointLists,
  { segments: entries }: Manifest,
  segments: readonly Segment[],
  present: ReadonlySet<number>,
): string | undefined {
  const { host, catalog } = rooms
  const nowMs = host.nowMs()
  for (let i = 0; i < covered.length; i++) {
    // Asking the system for each of very many would take long.
    const file = present.has(covered[i].id) ? openNamed(catalog, segments[i]) : undefined
    if (file === undefined) return 'a segment is missing'
    const bytes = Math.max(covered[i].bytes, entries[i].bytes)
    if (host.status(file).bytes < bytes) return 'a segment is too short'
    // What is wrong is reported where the segment is read.
    if (!checkHeader({ ...rooms, health: new Health() }, segments[i], file, nowMs))
      return "a segment's header is damaged"
  }
  for (let i = begin.index; i < covered.length; i++) {
    const from = i === begin.index ? begin : undefined
    if (!isWhole(rooms, segments[i], covered[i].bytes, from))
      return 'the log can not be read up to where the checkpoint was made'
  }
  return undefined
}

/** Whether a segment can be read up to there: some of the tables were copied with it, and some without. */
function isWhole(
  { host, kernels, catalog }: RestoreRooms,
  segment: Segment,
  bytes: number,
  from: { bytes: number; lastSequence: number } | undefined,
): boolean {
  if (from !== undefined && from.bytes === bytes) return true
  const { path, header } = segment
  const scan = new SegmentScan(host, kernels, {
    file: catalog.fileOf(segment),
    path,
    salt: header.salt,
    fileBytes: bytes,
    decidedBytes: bytes,
    fromBytes: from?.bytes,
    fromSequence: from && from.lastSequence + 1 - header.firstSequence,
  })
  const { words } = kernels
  for (const event of scan.events()) {
    if (event.kind !== 'rows') return false
    for (let row = 0; row < event.count; row++)
      if ((words[TABLE + row * ROW_WORDS + ROW_KIND] & ROW_VALUE_DAMAGED) !== 0) return false
  }
  return true
}

/** What the catalog would know, had the segments been read up to where the log was. */
function settle({ segments: covered }: CheckpointLists, segments: readonly Segment[]): void {
  for (const [i, { liveBytes, tombstoneBytes }] of covered.entries()) {
    const segment = segments[i]
    segment.liveBytes = liveBytes
    segment.tombstoneBytes = tombstoneBytes
  }
}

/** The file of a checkpoint, open for as long as tables are to come in. */
class CheckpointSource implements PieceSource {
  bytesRead = 0
  private header = new Uint8Array(CHECKPOINT_HEADER_BYTES)
  /** Of its own: tables come in in the midst of whatever the store's are used for. */
  private kernels: Kernels | undefined
  private isClosed = false

  constructor(
    private readonly host: Host,
    private readonly file: FileHandle,
  ) {}

  /** The header and the lists, or what is wrong with them. */
  begin(kernels: Kernels): CheckpointLists | string {
    const { host, header } = this
    try {
      const fileBytes = host.status(this.file).bytes
      if (!this.readAt(header, 0, header.length, 0)) return 'it is too short'
      const lists = listsOf(kernels, header, fileBytes)
      if (typeof lists === 'string') return lists
      const bytes = new Uint8Array(lists.bytes)
      if (!this.readAt(bytes, 0, bytes.length, lists.at)) return 'it is too short'
      return decodeCheckpoint(kernels, header, bytes)
    } catch {
      return 'it can not be read'
    }
  }

  private readAt(into: Uint8Array, at: number, bytes: number, position: number): boolean {
    const read = readFully(this.host, this.file, into, at, bytes, position)
    this.bytesRead += read
    return read === bytes
  }

  read(piece: FoldedPiece): Uint8Array | undefined {
    if (this.isClosed) throw new CaskyError('CASKY_CLOSED', 'the store was closed meanwhile')
    this.kernels ??= new Kernels()
    const { bytes: memory, call } = this.kernels
    // Its memory is in use again and again, and so at hand; only what is too long for it gets another.
    const fits = piece.bytes <= SCAN_BYTES
    const bytes = fits ? memory.subarray(SCAN_AT, SCAN_AT + piece.bytes) : new Uint8Array(piece.bytes)
    try {
      if (!this.readAt(bytes, 0, bytes.length, piece.position)) return undefined
    } catch {
      return undefined
    }
    const crc = fits ? call.crc32(0, SCAN_AT, bytes.length) >>> 0 : this.kernels.crc(bytes)
    if (crc !== piece.crc) return undefined
    return bytes
  }

  close(): void {
    if (this.isClosed) return
    this.isClosed = true
    this.kernels = undefined
    this.host.close(this.file)
  }
}
