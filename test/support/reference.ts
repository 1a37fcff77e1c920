// A second reader, written from docs/FORMAT.md alone: plain, slow, and sharing no code with src/ or assembly/.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** CRC-32, one bit at a time. */
export function slowCrc32(bytes: Uint8Array, seed = 0): number {
  let crc = ~seed
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0)
  }
  return ~crc >>> 0
}

export function slowDjb2Xor(bytes: Uint8Array): bigint {
  let hash = 5381n
  for (const byte of bytes) hash = ((hash * 33n) ^ BigInt(byte)) & 0xffff_ffff_ffff_ffffn
  return hash
}

export function slowFinalizer(hash: bigint): bigint {
  const mask = 0xffff_ffff_ffff_ffffn
  let h = hash
  h ^= h >> 33n
  h = (h * 0xff51afd7ed558ccdn) & mask
  h ^= h >> 33n
  h = (h * 0xc4ceb9fe1a85ec53n) & mask
  return h ^ (h >> 33n)
}

export interface ReferenceRecord {
  offset: number
  bytes: number
  kind: number
  flags: number
  sequence: bigint
  timeMs: bigint
  expiresAtMs: bigint | undefined
  certifiedBytes: number
  key: Buffer
  value: Buffer
}

/** The record at `offset`, or undefined where none of the rules of FORMAT.md's "A record is valid" fails. */
export function referenceRecord(
  file: Buffer,
  offset: number,
  salt: number,
  firstSequence: bigint,
): ReferenceRecord | undefined {
  if (offset + 29 > file.length) return undefined
  const kindByte = file.readUInt8(offset + 28)
  const kind = kindByte & 0x0f
  const flags = kindByte & 0xf0
  const keyBytes = file.readUInt16LE(offset + 20)
  const valueBytes = file.readUInt32LE(offset + 16)
  if (kind < 1 || kind > 4 || flags & 0x80) return undefined
  if (kind === 1 && (keyBytes === 0 || valueBytes > 2 ** 30)) return undefined
  if (kind === 2 && (keyBytes === 0 || valueBytes !== 0 || flags & 0x10)) return undefined
  if (kind === 3 && (keyBytes !== 0 || valueBytes !== 0 || flags !== 0)) return undefined
  if (kind === 4 && (keyBytes !== 0 || valueBytes !== 16 || flags !== 0)) return undefined
  const keyAt = offset + 29 + (flags & 0x10 ? 8 : 0)
  const valueAt = keyAt + keyBytes
  if (valueAt + valueBytes > file.length) return undefined
  const seed = (salt ^ offset) >>> 0
  if (slowCrc32(file.subarray(offset + 4, valueAt), seed) !== file.readUInt32LE(offset)) return undefined
  const value = file.subarray(valueAt, valueAt + valueBytes)
  if (slowCrc32(value, seed) !== file.readUInt32LE(offset + 4)) return undefined
  return {
    offset,
    bytes: valueAt + valueBytes - offset,
    kind,
    flags,
    sequence: firstSequence + BigInt(file.readUInt32LE(offset + 12)),
    timeMs: BigInt(file.readUIntLE(offset + 22, 6)),
    expiresAtMs: flags & 0x10 ? file.readBigUInt64LE(offset + 29) : undefined,
    certifiedBytes: file.readUInt32LE(offset + 8),
    key: file.subarray(keyAt, valueAt),
    value,
  }
}

/** Every record of a segment file, up to the first that is not valid. */
export function referenceSegment(file: Buffer): {
  header: { salt: number; firstSequence: bigint }
  records: ReferenceRecord[]
} {
  if (file.toString('latin1', 0, 8) !== 'CASKYSEG') throw new Error('no segment')
  if (slowCrc32(file.subarray(0, 12)) !== file.readUInt32LE(12)) throw new Error('bad preamble')
  if (slowCrc32(file.subarray(0, 92)) !== file.readUInt32LE(92)) throw new Error('bad header')
  const salt = file.readUInt32LE(36)
  const firstSequence = file.readBigUInt64LE(48)
  const records: ReferenceRecord[] = []
  for (let offset = file.readUInt16LE(10); ; ) {
    const record = referenceRecord(file, offset, salt, firstSequence)
    if (record === undefined) return { header: { salt, firstSequence }, records }
    records.push(record)
    offset += record.bytes
  }
}

/** The live entries of an undamaged store, by their keys in hex. */
export function referenceStore(directory: string, nowMs: number): Map<string, Buffer> {
  const manifest = readFileSync(join(directory, 'MANIFEST'))
  if (manifest.toString('latin1', 0, 8) !== 'CASKYMAN') throw new Error('no manifest')
  if (slowCrc32(manifest.subarray(0, -4)) !== manifest.readUInt32LE(manifest.length - 4))
    throw new Error('bad manifest')
  const entries = new Map<string, Buffer>()
  const count = manifest.readUInt32LE(52)
  for (let i = 0; i < count; i++) {
    const at = 96 + i * 128
    const id = manifest.readUInt32LE(at + 32)
    const state = manifest.readUInt32LE(at + 96)
    const file = readFileSync(join(directory, `${String(id).padStart(10, '0')}.data`))
    const decided = Number(manifest.readBigUInt64LE(at + 104))
    applyRecords(entries, referenceSegment(state === 0 ? file : file.subarray(0, decided)).records, nowMs)
  }
  const named = new Set(readdirSync(directory).filter((name) => name.endsWith('.data')))
  if (named.size < count) throw new Error('a segment is missing')
  return entries
}

function applyRecords(entries: Map<string, Buffer>, records: ReferenceRecord[], nowMs: number): void {
  let batch: ReferenceRecord[] = []
  for (const record of records) {
    if (record.kind > 2) continue
    batch.push(record)
    if (record.flags & 0x40) continue
    for (const { kind, key, value, expiresAtMs } of batch) {
      const isGone = kind === 2 || (expiresAtMs !== undefined && expiresAtMs <= BigInt(nowMs))
      if (isGone) entries.delete(key.toString('hex'))
      else entries.set(key.toString('hex'), Buffer.from(value))
    }
    batch = []
  }
}

const U64 = (1n << 64n) - 1n
const rotate = (word: bigint, bits: bigint): bigint => ((word << bits) | (word >> (64n - bits))) & U64

/** SipHash as its paper has it, with `c` rounds for each word and `d` at the end. */
export function slowSipHash(c: number, d: number, key: Buffer, message: Buffer): bigint {
  const [k0, k1] = [key.readBigUInt64LE(0), key.readBigUInt64LE(8)]
  let a = k0 ^ 0x736f6d6570736575n
  let b = k1 ^ 0x646f72616e646f6dn
  let e = k0 ^ 0x6c7967656e657261n
  let f = k1 ^ 0x7465646279746573n
  const rounds = (count: number): void => {
    for (let i = 0; i < count; i++) {
      a = (a + b) & U64
      b = rotate(b, 13n) ^ a
      a = rotate(a, 32n)
      e = (e + f) & U64
      f = rotate(f, 16n) ^ e
      a = (a + f) & U64
      f = rotate(f, 21n) ^ a
      e = (e + b) & U64
      b = rotate(b, 17n) ^ e
      e = rotate(e, 32n)
    }
  }
  const padded = Buffer.alloc((Math.floor(message.length / 8) + 1) * 8)
  message.copy(padded)
  padded[padded.length - 1] = message.length & 0xff
  for (let at = 0; at < padded.length; at += 8) {
    const word = padded.readBigUInt64LE(at)
    f ^= word
    rounds(c)
    a ^= word
  }
  e ^= 0xffn
  rounds(d)
  return a ^ b ^ e ^ f
}
