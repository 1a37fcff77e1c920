// MANIFEST: the one list of live segments, and the commit point of every change to it (docs/FORMAT.md, "Manifest").
import { readU64, viewOf, writeU64 } from './bytes'
import { CaskyError, invariant, ioError, systemCode } from './errors'
import { join, MANIFEST, MANIFEST_NEXT, SEGMENT_ID_MAX } from './files'
import type { FileHandle, Host } from './host/host'
import { readWhole, writeFully } from './io'
import type { Kernels } from './kernels'
import { magicOf, readPreamble, writePreamble } from './preamble'
import {
  decodeSegmentHeader,
  encodeSegmentHeader,
  newerFormat,
  SEGMENT_HEADER_BYTES,
  SEGMENT_LENGTH_MAX,
  type SegmentHeader,
  STORE_ID_BYTES,
} from './segment'

const MAGIC = magicOf('CASKYMAN')
const HEADER_BYTES = 96
const STORE_ID_AT = 16
const GENERATION_AT = 32
const CREATED_AT = 40
const NEXT_SEGMENT_ID_AT = 48
const SEGMENT_COUNT_AT = 52
const SECRET_AT = 56
export const SECRET_BYTES = 16

const ENTRY_BYTES = 128
const ENTRY_STATE_AT = SEGMENT_HEADER_BYTES
const ENTRY_RECORDS_AT = 100
const ENTRY_BYTES_AT = 104
const ENTRY_LAST_SEQUENCE_AT = 112
const CRC_BYTES = 4
const SEGMENTS_MAX = 1 << 24
const MANIFEST_BYTES_MAX = HEADER_BYTES + ENTRY_BYTES * SEGMENTS_MAX + CRC_BYTES

const STATES = ['active', 'closed', 'sealed'] as const
/** active: still written to; closed: cut by a recovery at a decided length; sealed: ended on purpose, with a seal. */
export type SegmentState = (typeof STATES)[number]

export interface ManifestEntry {
  header: SegmentHeader
  state: SegmentState
  /** Valid bytes, decided once and for all; 0 while active. */
  bytes: number
  /** Puts and deletes in it; 0 while active. */
  records: number
  lastSequence: number
}

export interface Manifest {
  storeId: Uint8Array
  /** Counts the manifests of this store. */
  generation: number
  createdAtMs: number
  nextSegmentId: number
  /** The key of the store's keyed hash. */
  secret: Uint8Array
  segments: ManifestEntry[]
}

export function encodeManifest(kernels: Kernels, manifest: Manifest): Uint8Array {
  invariant(manifest.segments.length <= SEGMENTS_MAX, 'a store has at most 2^24 segments')
  const bytes = new Uint8Array(HEADER_BYTES + ENTRY_BYTES * manifest.segments.length + CRC_BYTES)
  const view = viewOf(bytes)
  writePreamble(kernels, bytes, MAGIC, HEADER_BYTES)
  bytes.set(manifest.storeId, STORE_ID_AT)
  writeU64(view, GENERATION_AT, manifest.generation)
  writeU64(view, CREATED_AT, manifest.createdAtMs)
  view.setUint32(NEXT_SEGMENT_ID_AT, manifest.nextSegmentId, true)
  view.setUint32(SEGMENT_COUNT_AT, manifest.segments.length, true)
  bytes.set(manifest.secret, SECRET_AT)
  let at = HEADER_BYTES
  for (const entry of manifest.segments) {
    bytes.set(encodeSegmentHeader(kernels, entry.header), at)
    view.setUint32(at + ENTRY_STATE_AT, STATES.indexOf(entry.state), true)
    view.setUint32(at + ENTRY_RECORDS_AT, entry.records, true)
    writeU64(view, at + ENTRY_BYTES_AT, entry.bytes)
    writeU64(view, at + ENTRY_LAST_SEQUENCE_AT, entry.lastSequence)
    at += ENTRY_BYTES
  }
  view.setUint32(at, kernels.crc(bytes.subarray(0, at)), true)
  return bytes
}

function damaged(path: string, what: string): CaskyError {
  return new CaskyError(
    'CASKY_CORRUPT',
    `the manifest is damaged (${what}); run \`casky repair\` on its store: ${path}`,
    {
      path,
    },
  )
}

/** Throws CASKY_CORRUPT where that is no manifest. */
export function decodeManifest(kernels: Kernels, bytes: Uint8Array, path: string): Manifest {
  const preamble = readPreamble(kernels, bytes, MAGIC)
  if (preamble.kind === 'newer') throw newerFormat(path, preamble.version)
  if (preamble.kind === 'foreign') {
    throw new CaskyError(
      'CASKY_NOT_A_STORE',
      `not a casky manifest, so this is not casky's directory: ${path}`,
      { path },
    )
  }
  if (preamble.kind === 'damaged') throw damaged(path, 'its first bytes')
  const view = viewOf(bytes)
  const bodyBytes = bytes.length - CRC_BYTES
  if (bodyBytes < HEADER_BYTES) throw damaged(path, 'too short')
  if (view.getUint32(bodyBytes, true) !== kernels.crc(bytes.subarray(0, bodyBytes)))
    throw damaged(path, 'its CRC')
  const count = view.getUint32(SEGMENT_COUNT_AT, true)
  if (HEADER_BYTES + count * ENTRY_BYTES !== bodyBytes) throw damaged(path, 'its length')
  const storeId = bytes.slice(STORE_ID_AT, STORE_ID_AT + STORE_ID_BYTES)
  const segments: ManifestEntry[] = []
  for (let i = 0; i < count; i++) {
    const at = HEADER_BYTES + i * ENTRY_BYTES
    const { header } = decodeSegmentHeader(kernels, bytes.subarray(at, at + SEGMENT_HEADER_BYTES))
    const state = STATES[view.getUint32(at + ENTRY_STATE_AT, true)]
    if (header === undefined || state === undefined) throw damaged(path, `its entry ${i + 1}`)
    segments.push({
      header,
      state,
      records: view.getUint32(at + ENTRY_RECORDS_AT, true),
      bytes: readU64(view, at + ENTRY_BYTES_AT),
      lastSequence: readU64(view, at + ENTRY_LAST_SEQUENCE_AT),
    })
  }
  const manifest: Manifest = {
    storeId,
    generation: readU64(view, GENERATION_AT),
    createdAtMs: readU64(view, CREATED_AT),
    nextSegmentId: view.getUint32(NEXT_SEGMENT_ID_AT, true),
    secret: bytes.slice(SECRET_AT, SECRET_AT + SECRET_BYTES),
    segments,
  }
  const fault = faultOf(manifest)
  if (fault !== undefined) throw damaged(path, fault)
  return manifest
}

/** What no manifest of casky's has, and one that was made up may: asked of what is read and of what is written. */
function faultOf({ nextSegmentId, segments }: Manifest): string | undefined {
  if (nextSegmentId < 1 || nextSegmentId > SEGMENT_ID_MAX + 1) return 'its next segment id'
  const ids = new Set<number>()
  let firstSequence = 0
  for (const [i, { header, bytes, lastSequence }] of segments.entries()) {
    const isSound =
      !ids.has(header.id) &&
      header.id > 0 &&
      header.firstSequence >= firstSequence &&
      Math.max(header.firstSequence, lastSequence) <= Number.MAX_SAFE_INTEGER &&
      bytes <= SEGMENT_LENGTH_MAX
    if (!isSound) return `its entry ${i + 1}`
    // It would be given a second time.
    if (header.id >= nextSegmentId)
      return `its next segment id, which is not above that of its entry ${i + 1}`
    ids.add(header.id)
    firstSequence = header.firstSequence
  }
  return undefined
}

/** The segment headers that can still be read in a manifest that is damaged elsewhere; each has a CRC of its own. */
export function salvageHeaders(host: Host, kernels: Kernels, directory: string): SegmentHeader[] {
  const path = join(directory, MANIFEST)
  if (host.inspect(path)?.kind !== 'file') return []
  let bytes: Uint8Array | undefined
  try {
    bytes = readWhole(host, path, MANIFEST_BYTES_MAX)
  } catch (cause) {
    // Too long to be one. What can't be read now may tell more the next time.
    if (systemCode(cause) === undefined) return []
    throw ioError('read the manifest', path, cause)
  }
  const headers: SegmentHeader[] = []
  for (let at = HEADER_BYTES; bytes !== undefined && at < bytes.length; at += ENTRY_BYTES) {
    const { header } = decodeSegmentHeader(kernels, bytes.subarray(at, at + SEGMENT_HEADER_BYTES))
    if (header !== undefined) headers.push(header)
  }
  return headers
}

/** The manifest of a directory; `undefined` where there is none. */
export function readManifest(host: Host, kernels: Kernels, directory: string): Manifest | undefined {
  const bytes = readManifestBytes(host, directory)
  return bytes === undefined ? undefined : decodeManifest(kernels, bytes, join(directory, MANIFEST))
}

/** The same, not looked at yet. */
export function readManifestBytes(host: Host, directory: string): Uint8Array | undefined {
  const path = join(directory, MANIFEST)
  try {
    return readWhole(host, path, MANIFEST_BYTES_MAX)
  } catch (cause) {
    throw ioError('read the manifest', path, cause)
  }
}

/** What is left of a manifest that could not be written takes room where there may be none. */
export function discardNext(host: Host, directory: string): void {
  const next = join(directory, MANIFEST_NEXT)
  try {
    if (host.inspect(next) !== undefined) host.remove(next)
  } catch {
    // The next one removes it.
  }
}

/** Writes the manifest aside; the caller syncs and closes the file. A failure leaves the old one in force. */
export function writeNext(host: Host, kernels: Kernels, directory: string, manifest: Manifest): FileHandle {
  const path = join(directory, MANIFEST)
  const next = join(directory, MANIFEST_NEXT)
  const fault = faultOf(manifest)
  if (fault !== undefined) {
    throw new CaskyError(
      'CASKY_CORRUPT',
      `what the segments say of themselves makes no manifest (${fault}), so none was written and the old one stays: ${path}`,
      { path },
    )
  }
  const bytes = encodeManifest(kernels, manifest)
  let file: FileHandle | undefined
  try {
    if (host.inspect(next) !== undefined) host.remove(next)
    file = host.open(next, 'create')
    writeFully(host, file, bytes, 0, bytes.length, 0)
    return file
  } catch (cause) {
    if (file !== undefined) host.close(file)
    discardNext(host, directory)
    throw ioError('write the manifest', path, cause)
  }
}

/** Puts what was written aside, and synced, in force. Throws CASKY_POISONED where it is unknown whether it is. */
export function renameNext(host: Host, directory: string): void {
  const path = join(directory, MANIFEST)
  const next = join(directory, MANIFEST_NEXT)
  try {
    host.rename(next, path)
  } catch (cause) {
    if (isStillThere(host, next)) throw ioError('write the manifest', path, cause)
    // It was done, and said to have failed; or nobody can tell.
    throw unknownManifest(directory, cause)
  }
}

function isStillThere(host: Host, path: string): boolean {
  try {
    return host.inspect(path) !== undefined
  } catch {
    return false
  }
}

/** A rename or a sync of the directory that failed leaves open which of two manifests a crash would leave. */
export function unknownManifest(directory: string, cause: unknown): CaskyError {
  return new CaskyError(
    'CASKY_POISONED',
    `it is unknown which of two manifests is on disk, since its rename or the sync of its directory failed; reopen the store: ${directory}`,
    { path: directory, cause },
  )
}

/**
 * Writes the manifest aside, syncs it, renames it into place and syncs the directory. A failure before the rename
 * leaves the old manifest in force. One after it is thrown as CASKY_POISONED: which of the two a crash would leave
 * is unknown.
 */
export function publishManifest(host: Host, kernels: Kernels, directory: string, manifest: Manifest): void {
  const file = writeNext(host, kernels, directory, manifest)
  try {
    try {
      host.sync(file)
    } finally {
      host.close(file)
    }
    renameNext(host, directory)
  } catch (cause) {
    discardNext(host, directory)
    throw ioError('write the manifest', join(directory, MANIFEST), cause)
  }
  try {
    host.syncDirectory(directory)
  } catch (cause) {
    throw unknownManifest(directory, cause)
  }
}
