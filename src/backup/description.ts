// What a backup says of itself: the segments that make it, each with its length and CRC, and all that a manifest needs
// to know. One file of JSON for each backup (docs/FORMAT.md, "A directory of backups").
import { Buffer } from 'node:buffer'
import { CaskyError, ioError, isCaskyError } from '../errors'
import { BACKUP_NEXT, backupName, backupSequenceOf, join, SEGMENT_ID_MAX } from '../files'
import type { Host } from '../host/host'
import { readWhole, tryRemove } from '../io'
import type { Kernels } from '../kernels'
import { type Manifest, type ManifestEntry, SECRET_BYTES, type SegmentState } from '../manifest'
import {
  decodeSegmentHeader,
  encodeSegmentHeader,
  SEGMENT_HEADER_BYTES,
  SEGMENT_LENGTH_MAX,
  STORE_ID_BYTES,
} from '../segment'
import type { Job } from './job'

const FORMAT = 1
const KIND = 'casky backup'
/** A segment takes some 400 bytes of it. */
const DESCRIPTION_BYTES_MAX = 0x1000_0000
/** How many of the backups that there are a message names. */
const NAMED_MAX = 5

export interface DescribedSegment extends ManifestEntry {
  /** Of its valid bytes. */
  crc: number
}

export interface Description {
  /** Of the last write in it. */
  sequence: number
  /** The backup that it was added to. */
  since: number | undefined
  takenAtMs: number
  /** How many there were, of those that had not expired by then. */
  entries: number
  manifest: Omit<Manifest, 'segments'>
  segments: DescribedSegment[]
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex')
}

function hex32(value: number): string {
  return value.toString(16).padStart(8, '0')
}

/** What ends the text: the CRC of all before its digits. */
function endOf(crc: number): string {
  return `${hex32(crc)}"\n}\n`
}

export function encodeDescription(kernels: Kernels, description: Description): Uint8Array {
  const { manifest, segments, since, sequence, takenAtMs, entries } = description
  const fields = {
    format: FORMAT,
    kind: KIND,
    storeId: hexOf(manifest.storeId),
    sequence,
    since: since ?? null,
    takenAtMs,
    entries,
    generation: manifest.generation,
    createdAtMs: manifest.createdAtMs,
    nextSegmentId: manifest.nextSegmentId,
    secret: hexOf(manifest.secret),
    segments: segments.map(({ header, state, bytes, records, lastSequence, crc }) => ({
      id: header.id,
      header: hexOf(encodeSegmentHeader(kernels, header)),
      state,
      bytes,
      records,
      lastSequence,
      crc32: hex32(crc),
    })),
  }
  const text = JSON.stringify(fields, undefined, 1).replace(/\n\}$/, ',\n "crc32": "')
  const body = new TextEncoder().encode(text)
  const end = new TextEncoder().encode(endOf(kernels.crc(body)))
  const bytes = new Uint8Array(body.length + end.length)
  bytes.set(body)
  bytes.set(end, body.length)
  return bytes
}

/** What is wrong with the text of a description. */
class Unreadable extends Error {}

type Fields = Record<string, unknown>

function objectOf(value: unknown, what: string): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields
  throw new Unreadable(what)
}

function wholeOf(fields: Fields, name: string, min: number, max: number): number {
  const value = fields[name]
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value
  throw new Unreadable(`its '${name}'`)
}

function bytesOf(fields: Fields, name: string, count: number): Uint8Array {
  const value = fields[name]
  if (typeof value !== 'string' || value.length !== count * 2 || !/^[0-9a-f]*$/.test(value))
    throw new Unreadable(`its '${name}'`)
  return new Uint8Array(Buffer.from(value, 'hex'))
}

function stateOf({ state }: Fields): SegmentState {
  if (state === 'closed' || state === 'sealed') return state
  throw new Unreadable("a segment's 'state'")
}

function segmentOf(kernels: Kernels, value: unknown, storeId: Uint8Array): DescribedSegment {
  const fields = objectOf(value, 'a segment')
  const id = wholeOf(fields, 'id', 1, SEGMENT_ID_MAX)
  const { header } = decodeSegmentHeader(kernels, bytesOf(fields, 'header', SEGMENT_HEADER_BYTES))
  if (header === undefined || header.id !== id || hexOf(header.storeId) !== hexOf(storeId))
    throw new Unreadable(`the header of segment ${id}`)
  const [first, second, third, fourth] = bytesOf(fields, 'crc32', 4)
  return {
    header,
    state: stateOf(fields),
    bytes: wholeOf(fields, 'bytes', SEGMENT_HEADER_BYTES, SEGMENT_LENGTH_MAX),
    records: wholeOf(fields, 'records', 0, 0xffff_ffff),
    lastSequence: wholeOf(fields, 'lastSequence', 0, Number.MAX_SAFE_INTEGER),
    crc: ((first << 24) | (second << 16) | (third << 8) | fourth) >>> 0,
  }
}

function fieldsOf(kernels: Kernels, bytes: Uint8Array): Fields {
  const endBytes = endOf(0).length
  const body = bytes.subarray(0, Math.max(0, bytes.length - endBytes))
  const end = new TextDecoder('latin1').decode(bytes.subarray(body.length))
  if (end !== endOf(kernels.crc(body))) throw new Unreadable('its CRC')
  try {
    return objectOf(JSON.parse(new TextDecoder().decode(bytes)), 'its form')
  } catch {
    throw new Unreadable('its form')
  }
}

function decode(kernels: Kernels, bytes: Uint8Array, path: string): Description {
  const fields = fieldsOf(kernels, bytes)
  if (fields.kind !== KIND) throw new Unreadable("its 'kind'")
  const format = wholeOf(fields, 'format', 1, Number.MAX_SAFE_INTEGER)
  if (format > FORMAT) {
    throw new CaskyError(
      'CASKY_NEWER_FORMAT',
      `a backup of format ${format}, and this casky reads up to ${FORMAT}; use a newer casky: ${path}`,
      { path, expected: FORMAT, got: format },
    )
  }
  const most = Number.MAX_SAFE_INTEGER
  const storeId = bytesOf(fields, 'storeId', STORE_ID_BYTES)
  if (!Array.isArray(fields.segments)) throw new Unreadable("its 'segments'")
  const segments = fields.segments.map((each) => segmentOf(kernels, each, storeId))
  const ids = new Set(segments.map(({ header }) => header.id))
  const nextSegmentId = wholeOf(fields, 'nextSegmentId', 1, SEGMENT_ID_MAX + 1)
  if (ids.size < segments.length || Math.max(0, ...ids) >= nextSegmentId)
    throw new Unreadable("the ids of its 'segments'")
  return {
    sequence: wholeOf(fields, 'sequence', 0, most),
    since: fields.since === null ? undefined : wholeOf(fields, 'since', 0, most),
    takenAtMs: wholeOf(fields, 'takenAtMs', 0, most),
    entries: wholeOf(fields, 'entries', 0, most),
    manifest: {
      storeId,
      generation: wholeOf(fields, 'generation', 0, most),
      createdAtMs: wholeOf(fields, 'createdAtMs', 0, most),
      nextSegmentId,
      secret: bytesOf(fields, 'secret', SECRET_BYTES),
    },
    segments,
  }
}

/** The description of the backup with this sequence number. */
export function readDescription(
  host: Host,
  kernels: Kernels,
  directory: string,
  sequence: number,
): Description {
  const path = join(directory, backupName(sequence))
  try {
    const bytes = readWhole(host, path, DESCRIPTION_BYTES_MAX)
    if (bytes === undefined) throw new Unreadable('it is gone')
    const description = decode(kernels, bytes, path)
    if (description.sequence !== sequence) throw new Unreadable(`it is of number ${description.sequence}`)
    return description
  } catch (cause) {
    if (isCaskyError(cause)) throw cause
    if (!(cause instanceof Unreadable)) throw ioError('read the description of a backup', path, cause)
    throw new CaskyError(
      'CASKY_CORRUPT',
      `the description of this backup is damaged (${cause.message}), so it can't be restored; restore another one, or remove this file: ${path}`,
      { path },
    )
  }
}

/** Writes it aside, on disk once this resolves; `publishDescription` makes a backup of it. */
export async function writeDescription(
  job: Job,
  kernels: Kernels,
  directory: string,
  description: Description,
): Promise<void> {
  const bytes = encodeDescription(kernels, description)
  await job.rest()
  await job.writeFile(join(directory, BACKUP_NEXT), bytes)
}

/** Puts what was written aside in place. A failure leaves no backup, or one that is whole. */
export async function publishDescription(job: Job, directory: string, sequence: number): Promise<void> {
  const path = join(directory, backupName(sequence))
  try {
    job.host.rename(join(directory, BACKUP_NEXT), path)
    await job.syncDirectory(directory)
  } catch (cause) {
    // Whoever is told that there is none should find none.
    tryRemove(job.host, path)
    throw ioError('write the description of a backup', path, cause)
  }
}

/** The sequence numbers of the backups that these names tell of, in their order. */
export function sequencesIn(names: readonly string[]): number[] {
  return names.flatMap((name) => backupSequenceOf(name) ?? []).sort((a, b) => a - b)
}

/** For a message. */
export function listed(sequences: readonly number[]): string {
  if (sequences.length <= NAMED_MAX) return sequences.join(', ')
  return `${sequences.length} from ${sequences[0]} to ${sequences.at(-1)}`
}

/** What was restored, or kept, is sound in itself, and not what the description says. */
export function notAsDescribed(path: string): CaskyError {
  return new CaskyError(
    'CASKY_CORRUPT',
    `this is not what the backup was made of: its bytes are not those that its description tells of: ${path}`,
    { path },
  )
}
