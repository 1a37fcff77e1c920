// What an import reads: the log of a C Casky, or JSON lines, as somebody would write them who wants it to stumble.
import { crc32 } from 'node:zlib'
import { BadLine } from '../../src/cli/bad-line'
import { CaskyCLog } from '../../src/cli/casky-c'
import { parseEntry } from '../../src/cli/entry'
import { Lines } from '../../src/cli/lines'
import { NASTY } from './bases'
import { Chance } from './mutate'

export interface MadeImport {
  format: 'casky-c' | 'jsonl'
  bytes: Buffer
  story: string[]
}

const LENGTHS = [0, 1, 0xff, 0xffff, 0x1_0000, 2 ** 30, 2 ** 30 + 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1]

function mendRecord(bytes: Buffer, offset: number, end: number): void {
  bytes.writeUInt32LE(crc32(bytes.subarray(offset + 4, Math.min(end, bytes.length))), offset)
}

/** A log of so many records with one of the headers, and where they begin. */
function makeLog(chance: Chance): { bytes: Buffer; offsets: number[]; header: number } {
  const header = chance.pick([28, 20, 16])
  const parts: Buffer[] = []
  const offsets: number[] = []
  let offset = 0
  for (let i = chance.below(30) + 1; i > 0; i--) {
    const key = chance.isOneIn(4) ? Buffer.from(chance.pick(NASTY)) : Buffer.from(`key ${i}`)
    const value = chance.bytes(chance.below(60))
    const record = Buffer.concat([Buffer.alloc(header), key, value])
    record.writeUInt32LE(key.length, header - 8)
    record.writeUInt32LE(value.length, header - 4)
    record.writeUInt32LE(1_700_000_000, 4)
    mendRecord(record, 0, record.length)
    offsets.push(offset)
    parts.push(record)
    offset += record.length
  }
  return { bytes: Buffer.concat(parts), offsets, header }
}

function hostileLog(chance: Chance): MadeImport {
  const { bytes, offsets, header } = makeLog(chance)
  const story = [`a log of ${offsets.length} records with headers of ${header}`]
  let made = bytes
  for (let changes = chance.below(4); changes > 0; changes--) {
    const at = chance.pick(offsets)
    if (at + header > made.length) continue
    const how = chance.below(6)
    if (how < 2) {
      const field = at + header - chance.pick([4, 8])
      const value = chance.isOneIn(2) ? chance.pick(LENGTHS) : made.length - at - chance.below(40)
      made.writeUInt32LE(Math.max(0, value) >>> 0, field)
      const end = at + header + made.readUInt32LE(at + header - 8) + made.readUInt32LE(at + header - 4)
      mendRecord(made, at, end)
      story.push(`length at ${field} = ${value}`)
    } else if (how === 2 && header === 28) {
      made.writeBigUInt64LE(chance.pick([0n, 1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]), at + 12)
      mendRecord(made, at, at + header + made.readUInt32LE(at + 20) + made.readUInt32LE(at + 24))
      story.push(`expiry at ${at} set to an extreme`)
    } else if (how === 3) {
      made = Buffer.from(made.subarray(0, chance.below(made.length)))
      story.push(`cut to ${made.length}`)
    } else if (how === 4) {
      made = Buffer.concat([
        made,
        chance.isOneIn(2) ? Buffer.alloc(chance.below(5000)) : chance.bytes(chance.below(500)),
      ])
      story.push(`extended to ${made.length}`)
    } else if (made.length > 0) {
      made[chance.below(made.length)] ^= 1 << chance.below(8)
      story.push('a bit flipped')
    }
  }
  return { format: 'casky-c', bytes: made, story }
}

const VALUES: unknown[] = [
  '',
  'v',
  ...NASTY,
  null,
  true,
  1e308,
  -1,
  {},
  [],
  '\ud800',
  'AA==',
  'A',
  2 ** 53,
  0.5,
]
const NAMES = ['key', 'value', 'encoding', 'expiresAtMs', '__proto__', 'constructor', 'toString', 'Key', '']

function hostileLines(chance: Chance): MadeImport {
  const lines = Array.from({ length: 1 + chance.below(20) }, () => {
    const entry = Array.from({ length: chance.below(6) }, () => {
      const value = chance.isOneIn(3) ? 'base64' : chance.pick(VALUES)
      return `${JSON.stringify(chance.pick(NAMES))}:${JSON.stringify(value)}`
    })
    const good = `"key":${JSON.stringify(chance.pick(NASTY))},"value":"v"`
    const text = `{${chance.isOneIn(2) ? [good, ...entry].join() : entry.join()}}`
    if (chance.isOneIn(8)) return text.slice(0, chance.below(text.length))
    if (chance.isOneIn(30)) return `${'['.repeat(200_000)}`
    return text
  })
  const bytes = Buffer.from(lines.join(chance.pick(['\n', '\r\n', '\n\n', '\0'])))
  if (chance.isOneIn(3)) for (let i = 0; i < 3; i++) bytes[chance.below(bytes.length)] = chance.below(256)
  return { format: 'jsonl', bytes, story: [`${lines.length} lines`] }
}

export function makeImport(seed: number): MadeImport {
  const chance = new Chance(seed)
  return chance.isOneIn(2) ? hostileLog(chance) : hostileLines(chance)
}

/** Reads it as the command line does. */
export function runImport(
  made: MadeImport,
  fault: (what: string) => void,
  count: (code: string) => void,
): void {
  if (made.format === 'casky-c') readLog(made.bytes, fault, count)
  else readLines(made.bytes, fault, count)
}

function readLog(bytes: Buffer, fault: (what: string) => void, count: (code: string) => void): void {
  const log = new CaskyCLog({
    bytes: bytes.length,
    read: (into, position) => bytes.copy(into, 0, position, Math.min(bytes.length, position + into.length)),
    close: () => {},
  })
  let end = 0
  for (const event of log.events()) {
    if (event.kind === 'searching') continue
    count(event.kind)
    if (event.offset < end) fault(`goes back from ${end} to ${event.offset}`)
    end = event.offset
    if (event.offset > bytes.length) fault(`tells of byte ${event.offset} of ${bytes.length}`)
    if (event.kind === 'record' && event.key.length + event.value.length > bytes.length)
      fault('a record longer than the log')
  }
}

function readLines(bytes: Buffer, fault: (what: string) => void, count: (code: string) => void): void {
  const lines = new Lines(2 ** 31)
  const take = (line: Buffer): void => {
    try {
      count(parseEntry(line) === undefined ? 'blank' : 'entry')
    } catch (error) {
      if (!(error instanceof BadLine)) fault(`throws ${(error as Error).name}: ${(error as Error).message}`)
      count('bad line')
    }
  }
  for (const line of lines.push(bytes)) take(line)
  const last = lines.last()
  if (last !== undefined) take(last)
}
