// Random damage to a store, as somebody would do it who knows the format and wants the reader to stumble.
import { randomFrom } from '../support/ground'
import {
  entriesIn,
  type Field,
  getField,
  MANIFEST_HEADER_BYTES,
  manifestFields,
  mendManifest,
  mendSegment,
  recordExtent,
  recordOffsets,
  SEGMENT_HEADER_BYTES,
  saltInForce,
  segmentFields,
  setField,
  withEntries,
} from '../support/hostile'
import { type Bases, NASTY } from './bases'
import { file, type Image, type Thing } from './image'

export interface Case {
  image: Image
  /** What was done, for a person. */
  story: string[]
}

export class Chance {
  readonly #next: () => number

  constructor(seed: number) {
    this.#next = randomFrom(seed)
  }

  below(limit: number): number {
    return Math.floor(this.#next() * limit)
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]
  }

  isOneIn(count: number): boolean {
    return this.below(count) === 0
  }

  bytes(count: number): Buffer {
    return Buffer.from(Array.from({ length: count }, () => this.below(256)))
  }
}

const TWO = (power: number): bigint => 1n << BigInt(power)
const EXTREMES = [
  0n,
  1n,
  0x7fn,
  0x80n,
  0xffn,
  0xffffn,
  ...[16, 24, 30, 31, 32, 48, 53, 63, 64].flatMap(around),
]

function around(power: number): bigint[] {
  return [TWO(power) - 1n, TWO(power), TWO(power) + 1n]
}

function extremeFor(chance: Chance, now: bigint, fileBytes: number): bigint {
  const near = [
    now + 1n,
    now - 1n,
    now * 2n,
    BigInt(fileBytes),
    BigInt(fileBytes) - 1n,
    BigInt(fileBytes) + 1n,
  ]
  const value = chance.isOneIn(3) ? chance.pick(near) : chance.pick(EXTREMES)
  return value < 0n ? 0n : value
}

export function segmentId(name: string): number | undefined {
  const digits = /^(\d{10})\.data$/.exec(name)?.[1]
  return digits === undefined ? undefined : Number(digits)
}

export function bytesAt(image: Image, name: string): Buffer | undefined {
  const thing = image.get(name)
  return thing?.kind === 'file' ? thing.bytes : undefined
}

export function segmentNames(image: Image): string[] {
  return [...image]
    .filter(([name, { kind }]) => kind === 'file' && segmentId(name) !== undefined)
    .map(([name]) => name)
}

export function cloneOf(image: Image): Image {
  return new Map(
    [...image].map(([name, thing]): [string, Thing] => [
      name,
      thing.kind === 'file' ? file(Buffer.from(thing.bytes)) : thing,
    ]),
  )
}

/** The CRCs of a file as it is now, with records where they were before. */
export function mend(image: Image, name: string, offsets: readonly number[]): void {
  const bytes = bytesAt(image, name)
  if (bytes === undefined) return
  const id = segmentId(name)
  if (id !== undefined) mendSegment(bytes, offsets, saltInForce(bytesAt(image, 'MANIFEST'), id))
  else if (name === 'MANIFEST') mendManifest(bytes)
}

/** The header of a segment stands twice, in its file and in the manifest: makes them agree. */
export function agree(image: Image): void {
  const manifest = bytesAt(image, 'MANIFEST')
  for (const entry of manifest === undefined ? [] : entriesIn(manifest)) {
    const name = `${String(entry.readUInt32LE(32)).padStart(10, '0')}.data`
    const bytes = bytesAt(image, name)
    if (bytes === undefined || bytes.length < SEGMENT_HEADER_BYTES) continue
    const offsets = recordOffsets(bytes)
    entry.copy(bytes, 0, 0, SEGMENT_HEADER_BYTES)
    mend(image, name, offsets)
  }
}

interface Context {
  image: Image
  chance: Chance
  bases: Bases
}

type Mutation = (context: Context) => string

function anyFile({ image, chance }: Context): { name: string; bytes: Buffer } | undefined {
  const files = [...image].flatMap(([name, thing]) =>
    thing.kind === 'file' ? [{ name, bytes: thing.bytes }] : [],
  )
  return files.length === 0 ? undefined : chance.pick(files)
}

/** A field set to a value that it never has, and the CRCs mended. */
const setExtreme: Mutation = (context) => {
  const { image, chance } = context
  const found = chance.isOneIn(2)
    ? { name: 'MANIFEST', bytes: bytesAt(image, 'MANIFEST') }
    : { name: '', ...anyFile(context) }
  const { name, bytes } = found
  if (bytes === undefined) return 'nothing'
  const offsets = recordOffsets(bytes)
  const fields: Field[] = name === 'MANIFEST' ? manifestFields(bytes) : segmentFields(bytes, offsets)
  if (fields.length === 0) return 'nothing'
  const field = chance.pick(fields)
  const value = extremeFor(chance, getField(bytes, field), bytes.length)
  setField(bytes, field, value)
  if (!chance.isOneIn(10)) mend(image, name, offsets)
  if (chance.isOneIn(2)) agree(image)
  return `${name}: ${field.name} = ${value}`
}

const flipBits: Mutation = (context) => {
  const { image, chance } = context
  const found = anyFile(context)
  if (found === undefined || found.bytes.length === 0) return 'nothing'
  const offsets = recordOffsets(found.bytes)
  const bits = Array.from({ length: 1 + chance.below(4) }, () => chance.below(found.bytes.length * 8))
  for (const bit of bits) found.bytes[bit >>> 3] ^= 1 << (bit & 7)
  const isMended = chance.isOneIn(2)
  if (isMended) mend(image, found.name, offsets)
  return `${found.name}: bits ${bits} flipped${isMended ? ', mended' : ''}`
}

const overwrite: Mutation = (context) => {
  const { image, chance } = context
  const found = anyFile(context)
  if (found === undefined || found.bytes.length === 0) return 'nothing'
  const offsets = recordOffsets(found.bytes)
  const at = chance.below(found.bytes.length)
  const length = Math.min(1 + chance.below(chance.isOneIn(4) ? 512 : 8), found.bytes.length - at)
  const isGarbage = chance.isOneIn(2)
  const byte = chance.pick([0, 0x7f, 0x80, 0xff])
  if (isGarbage) chance.bytes(length).copy(found.bytes, at)
  else found.bytes.fill(byte, at, at + length)
  const isMended = chance.isOneIn(2)
  if (isMended) mend(image, found.name, offsets)
  return `${found.name}: ${length} bytes at ${at} = ${isGarbage ? 'garbage' : byte}${isMended ? ', mended' : ''}`
}

const truncate: Mutation = (context) => {
  const { image, chance } = context
  const found = anyFile(context)
  if (found === undefined) return 'nothing'
  const offsets = recordOffsets(found.bytes)
  const near =
    offsets.length > 0 && chance.isOneIn(2) ? chance.pick(offsets) + chance.below(3) - 1 : undefined
  const length = Math.max(0, Math.min(near ?? chance.below(found.bytes.length + 1), found.bytes.length))
  image.set(found.name, file(Buffer.from(found.bytes.subarray(0, length))))
  if (found.name === 'MANIFEST' && chance.isOneIn(2)) mend(image, found.name, [])
  return `${found.name}: cut to ${length}`
}

const extend: Mutation = (context) => {
  const { image, chance } = context
  const found = anyFile(context)
  if (found === undefined) return 'nothing'
  const length = 1 + chance.below(chance.isOneIn(10) ? 100_000 : 600)
  const [what, tail] = chance.pick<[string, Buffer]>([
    ['zeros', Buffer.alloc(length)],
    ['ones', Buffer.alloc(length, 0xff)],
    ['garbage', chance.bytes(Math.min(length, 4096))],
    ['its own beginning', found.bytes.subarray(0, length)],
  ])
  image.set(found.name, file(Buffer.concat([found.bytes, tail])))
  if (found.name === 'MANIFEST' && chance.isOneIn(2)) mend(image, found.name, [])
  return `${found.name}: ${length} bytes of ${what} behind it`
}

/** Records dropped, doubled and shuffled, each mended for the place where it comes to lie. */
const shuffleRecords: Mutation = (context) => {
  const { image, chance } = context
  const names = segmentNames(image)
  if (names.length === 0) return 'nothing'
  const name = chance.pick(names)
  const bytes = bytesAt(image, name) ?? Buffer.alloc(0)
  const offsets = recordOffsets(bytes)
  const records = offsets.map((offset) => bytes.subarray(offset, recordExtent(bytes, offset)?.end))
  const tail = bytes.subarray(
    offsets.length === 0 ? bytes.length : recordExtent(bytes, offsets[offsets.length - 1])?.end,
  )
  for (let changes = 1 + chance.below(4); changes > 0 && records.length > 0; changes--) {
    const at = chance.below(records.length)
    const other = chance.below(records.length)
    const how = chance.below(3)
    if (how === 0) records.splice(at, 1)
    else if (how === 1) records.splice(at, 0, records[other])
    else [records[at], records[other]] = [records[other], records[at]]
  }
  const changed = Buffer.concat([bytes.subarray(0, Math.min(96, bytes.length)), ...records, tail])
  image.set(name, file(changed))
  mend(image, name, recordOffsets(changed))
  return `${name}: its records shuffled, ${offsets.length} to ${records.length}`
}

const moveBlock: Mutation = (context) => {
  const { chance } = context
  const found = anyFile(context)
  if (found === undefined) return 'nothing'
  const block = chance.pick([1, 16, 29, 128, 512])
  const blocks = Math.floor(found.bytes.length / block)
  if (blocks < 2) return 'nothing'
  const [from, to] = [chance.below(blocks) * block, chance.below(blocks) * block]
  const saved = Buffer.from(found.bytes.subarray(to, to + block))
  found.bytes.copyWithin(to, from, from + block)
  const isSwap = chance.isOneIn(2)
  if (isSwap) saved.copy(found.bytes, from)
  return `${found.name}: ${block} bytes at ${from} ${isSwap ? 'swapped with' : 'copied to'} ${to}`
}

const swapFiles: Mutation = (context) => {
  const { image, chance, bases } = context
  const names = [...image.keys()]
  if (names.length === 0) return 'nothing'
  const name = chance.pick(names)
  const isForeign = chance.isOneIn(2)
  const source = isForeign ? bases[chance.pick(Object.keys(bases))] : image
  const other = chance.pick([...source.keys()])
  const [mine, theirs] = [image.get(name), source.get(other)]
  if (mine === undefined || theirs === undefined) return 'nothing'
  image.set(name, theirs.kind === 'file' ? file(Buffer.from(theirs.bytes)) : theirs)
  if (!isForeign && chance.isOneIn(2)) image.set(other, mine)
  return `${name}: replaced by ${other}${isForeign ? ' of another store' : ''}`
}

const remove: Mutation = ({ image, chance }) => {
  const names = [...image.keys()]
  if (names.length === 0) return 'nothing'
  const name = chance.pick(names)
  image.delete(name)
  return `${name}: removed`
}

/** Where a link may lead: out, nowhere, to itself, and to a neighbour. `@OUTSIDE` is put in by who writes it. */
const TARGETS = [
  '@OUTSIDE/secret.data',
  '@OUTSIDE/MANIFEST',
  '@OUTSIDE',
  '/proc/self/environ',
  'MANIFEST',
  'nowhere',
]

const NAMES = [
  'MANIFEST',
  'MANIFEST.next',
  'LOCK',
  'CHECKPOINT',
  '0000000001.data',
  '0000000001.hint',
  '0000000000.data',
]

function nextSegmentName(image: Image): string {
  const ids = segmentNames(image).map((name) => segmentId(name) ?? 0)
  return `${String(Math.max(0, ...ids) + 1).padStart(10, '0')}.data`
}

const oddThing: Mutation = ({ image, chance }) => {
  const name = chance.pick([...NAMES, ...image.keys(), nextSegmentName(image)])
  for (const known of [...image.keys()]) if (known.startsWith(`${name}/`)) image.delete(known)
  image.delete(name)
  const how = chance.below(4)
  const to = chance.isOneIn(6) ? name : chance.pick(TARGETS)
  const thing: Thing = how < 2 ? { kind: 'link', to } : { kind: how === 2 ? 'fifo' : 'directory' }
  image.set(name, thing)
  return `${name}: a ${thing.kind}${thing.kind === 'link' ? ` to ${to}` : ''}`
}

const oddEntries: Mutation = ({ image, chance }) => {
  const manifest = bytesAt(image, 'MANIFEST')
  if (manifest === undefined || manifest.length < MANIFEST_HEADER_BYTES) return 'nothing'
  const entries = entriesIn(manifest)
  const before = entries.length
  const at = chance.below(entries.length + 1)
  const how = chance.below(5)
  if (how === 0) entries.splice(at, 1)
  else if (how === 1 && before > 0) entries.splice(at, 0, chance.pick(entries))
  else if (how === 2) entries.reverse()
  else if (how === 3 && before > 0)
    entries.push(...Array.from({ length: 1 + chance.below(200) }, () => chance.pick(entries)))
  else entries.splice(at, 0, chance.bytes(128))
  image.set('MANIFEST', file(withEntries(manifest, entries)))
  return `MANIFEST: entries changed (${how}), ${before} to ${entries.length}`
}

const CLAIM_VALUES: unknown[] = [
  0,
  -1,
  1,
  2 ** 31,
  2 ** 53 - 1,
  -(2 ** 53 - 1),
  1e308,
  true,
  null,
  '',
  [],
  {},
  ...NASTY,
]
const CLAIM_FIELDS = [
  'pid',
  'sinceMs',
  'runtime',
  'hostName',
  'bootId',
  'pidNamespace',
  'netNamespace',
  'startTicks',
]
const CLAIM_FLAGS = ['abstractSocket', 'socket', 'fileLock']

const oddLock: Mutation = ({ image, chance }) => {
  image.set('LOCK', { kind: 'directory' })
  for (let claims = 1 + chance.below(chance.isOneIn(20) ? 50 : 3); claims > 0; claims--) {
    const token = chance.bytes(16).toString('hex')
    const claim: Record<string, unknown> = { format: 1, token }
    for (const name of CLAIM_FIELDS) if (!chance.isOneIn(3)) claim[name] = chance.pick(CLAIM_VALUES)
    for (const name of CLAIM_FLAGS) claim[name] = chance.isOneIn(4)
    const bytes = chance.isOneIn(5) ? chance.bytes(chance.below(200)) : Buffer.from(JSON.stringify(claim))
    const kinds: Thing[] = [
      { kind: 'fifo' },
      { kind: 'directory' },
      { kind: 'link', to: chance.pick(TARGETS) },
    ]
    const thing = chance.isOneIn(5) ? chance.pick(kinds) : file(bytes)
    image.set(`LOCK/${token}.${chance.pick(['claim', 'claim', 'tmp', 'sock', 'bind', 'held', 'odd'])}`, thing)
    if (chance.isOneIn(2)) image.set(`LOCK/${token}.held`, file(Buffer.alloc(0)))
  }
  return 'LOCK: made-up claims'
}

const crowd: Mutation = ({ image, chance }) => {
  const count = 1 + chance.below(chance.isOneIn(20) ? 3000 : 20)
  const bytes = chance.bytes(chance.below(200))
  for (let i = 0; i < count; i++) {
    const id = String(chance.below(2 ** 32)).padStart(10, '0')
    image.set(chance.pick([`${id}.data`, `${id}.hint`, `${id}.data.bak`]), file(bytes))
  }
  return `${count} more files of ${bytes.length} bytes`
}

const nastyNames: Mutation = ({ image, chance }) => {
  for (const each of NASTY) image.set(each.replaceAll('/', '').replaceAll('\0', ''), file(chance.bytes(3)))
  return 'files with nasty names'
}

const WEIGHTED: [number, Mutation][] = [
  [30, setExtreme],
  [8, flipBits],
  [8, overwrite],
  [6, truncate],
  [6, extend],
  [8, shuffleRecords],
  [4, moveBlock],
  [5, swapFiles],
  [3, remove],
  [6, oddThing],
  [8, oddEntries],
  [6, oddLock],
  [2, crowd],
  [1, nastyNames],
]
const ALL = WEIGHTED.flatMap(([weight, mutation]) => new Array<Mutation>(weight).fill(mutation))

/** The case of a seed: the same one each time. */
export function makeCase(bases: Bases, seed: number): Case {
  const chance = new Chance(seed)
  const names = Object.keys(bases)
  // The large one costs more than the others and shows little more.
  const base = chance.isOneIn(25) ? 'large' : chance.pick(names.filter((name) => name !== 'large'))
  const image = cloneOf(bases[base])
  const story = [`the store '${base}'`]
  for (let changes = 1 + chance.below(3); changes > 0; changes--) {
    story.push(chance.pick(ALL)({ image, chance, bases }))
  }
  return { image, story }
}
