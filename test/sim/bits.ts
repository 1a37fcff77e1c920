// Every harm of a kind, and not one drawn by chance, over two small stores: each bit flipped, each cut, each piece
// zeroed, doubled or swapped, each file missing, swapped or another store's, each length set to an extreme with the CRC
// of its header or manifest mended.
import { crc32 } from 'node:zlib'
import {
  type Field,
  getField,
  manifestFields,
  mendManifest,
  recordExtent,
  recordOffsets,
  SEGMENT_HEADER_BYTES,
  segmentFields,
  setField,
} from '../support/hostile'
import type { Failure } from './cases'
import { newTally, type Tally, Violation } from './oracle'
import { Random } from './random'
import { cutAt, fileOf, flip, type Hurt, removed, rewrite, swapped } from './rot'
import { Simulation } from './simulation'
import { type Role, suffer } from './suffering'
import { filesOf, type Victim } from './victim'
import type { Step, Trace } from './workload'

const PIECE_BYTES = 32

/** A store with sealed segments, one that a recovery ended, one of copies, and a live one with an uncertified end. */
const STEPS: Step[] = [
  { do: 'put', key: 'a', bytes: 3 },
  { do: 'put', key: 'b', bytes: 9 },
  { do: 'settle' },
  { do: 'put', key: 'a', bytes: 5 },
  { do: 'settle' },
  // What it leaves is copied by the next open.
  { do: 'kill' },
  { do: 'put', key: 'b', bytes: 0 },
  { do: 'reopen' },
  { do: 'put', key: 'e', bytes: 4, ttlMs: 5000 },
  { do: 'delete', key: 'b' },
  // The rule for batches is for those of the last process.
  {
    do: 'batch',
    changes: [{ key: 'c', bytes: 2 }, { key: 'd', bytes: 1 }, { key: 'a' }],
  },
  { do: 'settle' },
  // A marker certifies it.
  { do: 'advance', ms: 250 },
  { do: 'settle' },
  { do: 'put', key: 'f', bytes: 6 },
  { do: 'settle' },
]

function traceOf(seed: number): Trace {
  return { seed, settings: { sync: 'always', maxSegmentBytes: 4096, cacheBytes: 0 }, steps: STEPS }
}

function leave(seed: number, isClosed: boolean): Promise<Victim> {
  return new Simulation(traceOf(seed), { crashesPerCall: undefined }, newTally()).victim({
    isClosed,
    isMerged: false,
  })
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i)

function pieces(name: string, bytes: number): Hurt[] {
  const starts = upTo(Math.ceil(bytes / PIECE_BYTES)).map((i) => i * PIECE_BYTES)
  const piece = (what: string, change: (content: Uint8Array) => void): Hurt => ({
    path: name,
    what,
    keysMax: undefined,
    apply: (disk) =>
      rewrite(disk, name, (content) => {
        change(content)
        return content
      }),
  })
  const doubled = (content: Uint8Array, from: number, to: number): void => {
    const length = Math.min(PIECE_BYTES, bytes - to, bytes - from)
    content.copyWithin(to, from, from + length)
  }
  return starts.flatMap((a) => [
    piece(`piece at ${a} zeroed`, (content) => content.fill(0, a, Math.min(bytes, a + PIECE_BYTES))),
    ...starts
      .filter((b) => b !== a)
      .map((b) => piece(`piece at ${a} doubled at ${b}`, (content) => doubled(content, a, b))),
    ...starts
      .filter((b) => b > a)
      .map((b) =>
        piece(`pieces at ${a} and ${b} swapped`, (content) => {
          const before = content.slice(a, a + PIECE_BYTES)
          doubled(content, b, a)
          content.set(before.subarray(0, Math.min(PIECE_BYTES, bytes - b)), b)
        }),
      ),
  ])
}

/** The file as another store has it under the same name. */
function foreign(name: string, other: Victim): Hurt {
  const bytes = fileOf(other.disk, name).live.bytes
  return {
    path: name,
    what: "is another store's",
    keysMax: undefined,
    shortens: true,
    apply: (disk) => rewrite(disk, name, () => bytes.slice()),
  }
}

/** Numbers that say how much there is of something. */
const LENGTHS = /(length|count|records|sequence|next segment id)$/

function extremesOf(field: Field, now: bigint): bigint[] {
  const max = 2n ** BigInt(8 * field.bytes) - 1n
  const some = [0n, 1n, 95n, 96n, 97n, now - 1n, now + 1n, 2n ** 31n - 1n, 2n ** 31n, 2n ** 32n - 1n]
  const large = [2n ** 53n - 1n, 2n ** 53n, max / 2n, max - 1n, max]
  return [...new Set([...some, ...large])].filter((value) => value >= 0n && value <= max && value !== now)
}

/** The CRC of a record's header; its value's stays as it is, so that no value is made which nobody wrote. */
function mendRecordHeader(segment: Buffer, offset: number, salt: number): void {
  const extent = recordExtent(segment, offset)
  if (extent === undefined || extent.valueAt > segment.length) return
  const header = segment.subarray(offset + 4, extent.valueAt)
  segment.writeUInt32LE(crc32(header, (salt ^ offset) >>> 0), offset)
}

function lengths(name: string, content: Uint8Array): Hurt[] {
  const bytes = Buffer.from(content)
  const isManifest = name === 'MANIFEST'
  const offsets = isManifest ? [] : recordOffsets(bytes)
  const fields = (isManifest ? manifestFields(bytes) : segmentFields(bytes, offsets)).filter((field) =>
    LENGTHS.test(field.name),
  )
  const mend = (changed: Buffer, at: number): void => {
    const salt = changed.readUInt32LE(36)
    const record = offsets.findLast((offset) => offset <= at)
    if (isManifest) mendManifest(changed)
    else if (record !== undefined) mendRecordHeader(changed, record, salt)
    else changed.writeUInt32LE(crc32(changed.subarray(0, SEGMENT_HEADER_BYTES - 4)), SEGMENT_HEADER_BYTES - 4)
  }
  return fields.flatMap((field) =>
    extremesOf(field, getField(bytes, field)).map((value) => ({
      path: name,
      what: `${field.name} = ${value}, mended`,
      keysMax: undefined,
      isForged: true,
      apply: (disk) =>
        rewrite(disk, name, (before) => {
          const changed = Buffer.from(before)
          setField(changed, field, value)
          mend(changed, field.at)
          return new Uint8Array(changed)
        }),
    })),
  )
}

interface Harm {
  hurt: Hurt
  roles: Role[]
}

/** A writer reads a store as a reader does, and goes on from there: for it one bit of each byte will do. */
function flips(name: string, bytes: number): Harm[] {
  return upTo(bytes * 8).map((bit) => {
    const isWritten = (bit & 7) === ((bit >>> 3) & 7)
    return { hurt: flip(name, bit), roles: isWritten ? ['reader', 'writer'] : ['reader'] }
  })
}

/** Of a store that was killed only what tells it from one that was closed. */
function harmsOf(victim: Victim, other: Victim): Harm[] {
  const { segments, isEnded } = victim
  const files = filesOf(victim).filter(
    ({ name }) => isEnded || name === segments.at(-1)?.name || name === 'MANIFEST',
  )
  return files.flatMap(({ name, bytes }, i) => [
    ...flips(name, bytes),
    ...othersOf(victim, other, name, bytes, files.slice(i + 1)).map(
      (hurt): Harm => ({ hurt, roles: ['reader', 'writer'] }),
    ),
  ])
}

function othersOf(
  victim: Victim,
  other: Victim,
  name: string,
  bytes: number,
  behind: { name: string }[],
): Hurt[] {
  return [
    ...upTo(bytes).map((at) => cutAt(name, at)),
    ...pieces(name, bytes),
    removed(name),
    ...behind.map((each) => swapped(name, each.name)),
    foreign(name, other),
    ...lengths(name, fileOf(victim.disk, name).live.bytes.slice(0, bytes)),
  ]
}

/** What is run at a time, in a thread of its own. */
export const BIT_SHARES = 2

/** One share of all of it, to a reader and to a writer. */
export async function runBits(seed: number, tally: Tally): Promise<Failure | undefined> {
  const share = seed % BIT_SHARES
  const random = new Random(share)
  try {
    for (const isClosed of [true, false]) {
      const [ours, other] = [await leave(1, isClosed), await leave(2, isClosed)]
      for (const [i, { hurt, roles }] of harmsOf(ours, other).entries()) {
        if (i % BIT_SHARES !== share) continue
        for (const role of roles) await suffer(ours, hurt, random, tally, role)
      }
    }
    return undefined
  } catch (error) {
    if (!(error instanceof Violation)) throw error
    const { rule, message, where } = error
    return { kind: 'bits', seed, rule, message, where, trace: traceOf(1) }
  }
}
