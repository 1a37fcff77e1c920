// A second reader of hints and checkpoints, written from docs/FORMAT.md alone.
import { slowCrc32, slowDjb2Xor, slowFinalizer, slowSipHash } from './reference'

/** The hint that a segment file has to have, of which the manifest says `entry`. */
export function referenceHint(
  segment: Buffer,
  records: { offset: number; key: Buffer; expiresAtMs: bigint | undefined }[],
  entry: { records: number; bytes: number; lastSequence: number },
): Buffer {
  const header = Buffer.alloc(96)
  header.write('CASKYHNT', 0, 'latin1')
  header.writeUInt16LE(1, 8)
  header.writeUInt16LE(96, 10)
  header.writeUInt32LE(slowCrc32(header.subarray(0, 12)), 12)
  segment.copy(header, 16, 16, 32)
  segment.copy(header, 32, 32, 40)
  segment.copy(header, 48, 48, 56)
  header.writeBigUInt64LE(BigInt(entry.bytes), 64)
  header.writeBigUInt64LE(BigInt(entry.lastSequence), 72)
  header.writeUInt32LE(entry.records, 80)
  header.writeUInt32LE(slowCrc32(header.subarray(0, 92)), 92)
  const prefixes = records.map(({ offset, key, expiresAtMs }) =>
    segment.subarray(offset, offset + 29 + (expiresAtMs === undefined ? 0 : 8) + key.length),
  )
  const content = Buffer.concat([header, ...prefixes])
  const crc = Buffer.alloc(4)
  crc.writeUInt32LE(slowCrc32(content))
  return Buffer.concat([content, crc])
}

export interface ReferencePlace {
  segmentId: number
  offset: number
  valueBytes: number
  expiresAtMs: bigint | undefined
}

export interface ReferenceCheckpoint {
  begin: { segmentId: number; records: number; bytes: number; lastSequence: number }
  segments: { id: number; isEnded: boolean; records: number; bytes: number; liveBytes: number }[]
  /** By their keys; each found again by its hash. */
  entries: Map<string, ReferencePlace>
  /** Of the tables, those that are hashed by key. */
  keyedTables: number
}

export function referenceCheckpoint(file: Buffer): ReferenceCheckpoint {
  const check = (holds: boolean, what: string) => {
    if (!holds) throw new Error(what)
  }
  check(file.toString('latin1', 0, 8) === 'CASKYKDR', 'magic')
  check(slowCrc32(file.subarray(0, 12)) === file.readUInt32LE(12), 'preamble')
  check(slowCrc32(file.subarray(0, 108)) === file.readUInt32LE(108), 'header')
  const listsAt = 112 + Number(file.readBigUInt64LE(40))
  check(slowCrc32(file.subarray(listsAt)) === file.readUInt32LE(104), 'lists')
  const segments = Array.from({ length: file.readUInt32LE(32) }, (_, i) => {
    const at = listsAt + 48 * i
    return {
      id: file.readUInt32LE(at),
      isEnded: file.readUInt32LE(at + 8) === 1,
      records: file.readUInt32LE(at + 12),
      bytes: Number(file.readBigUInt64LE(at + 16)),
      liveBytes: Number(file.readBigUInt64LE(at + 32)),
    }
  })
  const entries = new Map<string, ReferencePlace>()
  let at = listsAt + 48 * segments.length
  let wordsAt = 112
  let keyedTables = 0
  let last = -1
  let tablesLeft = file.readUInt32LE(36)
  for (let piece = file.readUInt32LE(80); piece > 0; piece--) {
    const pieceAt = wordsAt
    const tables = file.readUInt32LE(at)
    const crc = file.readUInt32LE(at + 4)
    at += 8
    for (let table = 0; table < tables; table++, at += 16, tablesLeft--) {
      const [index, count, words, expiring] = [0, 4, 8, 12].map((field) => file.readUInt32LE(at + field))
      if (index >= 2 ** 31) keyedTables++
      check(index % 2 ** 31 > last, 'order')
      last = index % 2 ** 31
      const found = readTable(file.subarray(wordsAt, wordsAt + words * 4), index, file.subarray(88, 104))
      wordsAt += words * 4
      check(found.length === count, 'count')
      check(found.filter(({ expiresAtMs }) => expiresAtMs !== undefined).length === expiring, 'expiring')
      for (const { key, segment, ...place } of found)
        entries.set(key.toString('latin1'), { segmentId: segments[segment].id, ...place })
    }
    check(slowCrc32(file.subarray(pieceAt, wordsAt)) === crc, 'piece')
  }
  check(tablesLeft === 0 && wordsAt === listsAt && at === file.length, 'lengths')
  check(entries.size === Number(file.readBigUInt64LE(72)), 'entries')
  const begin = {
    segmentId: segments[file.readUInt32LE(48)].id,
    records: file.readUInt32LE(52),
    bytes: Number(file.readBigUInt64LE(56)),
    lastSequence: Number(file.readBigUInt64LE(64)),
  }
  return { begin, segments, entries, keyedTables }
}

function readTable(table: Buffer, index: number, secret: Buffer) {
  const found: (Omit<ReferencePlace, 'segmentId'> & { key: Buffer; segment: number })[] = []
  for (let at = 0; at < table.length; ) {
    const word = (i: number) => table.readUInt32LE(at + 4 * i)
    const expires = word(1) >= 2 ** 31
    const keyAt = at + (expires ? 24 : 16)
    const keyBytes = word(3) & 0xffff
    const key = table.subarray(keyAt, keyAt + keyBytes)
    const hash = slowFinalizer(slowDjb2Xor(key))
    const within = index >= 2 ** 31 ? slowSipHash(1, 3, secret, key) : hash
    const hash24 = Number((within >> 8n) & 0xff_ffffn)
    if (Number(hash >> 54n) !== index % 2 ** 31 || word(0) >>> 8 !== hash24) throw new Error('hash')
    found.push({
      key,
      segment: (word(0) & 0xff) * 2 ** 16 + (word(3) >>> 16),
      offset: word(1) % 2 ** 31,
      valueBytes: word(2),
      expiresAtMs: expires ? table.readBigUInt64LE(at + 16) : undefined,
    })
    at = keyAt + Math.ceil(keyBytes / 4) * 4
  }
  return found
}
