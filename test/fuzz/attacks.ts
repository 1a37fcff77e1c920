// Hostile stores that were thought up or once found something: each has a name and stays.
import {
  entriesIn,
  entryAt,
  MANIFEST_ENTRY_BYTES,
  type MadeRecord,
  makeSegment,
  mendManifest,
  recordExtent,
  recordOffsets,
  setField,
  withEntries,
} from '../support/hostile'
import type { Bases } from './bases'
import { file, type Image } from './image'
import { agree, bytesAt, cloneOf, segmentNames } from './mutate'

type Attack = (bases: Bases) => Image

const PUT = 1
const JOINED_TO_PREVIOUS = 0x20
const JOINED_TO_NEXT = 0x40

function manifestOf(image: Image): Buffer {
  const bytes = bytesAt(image, 'MANIFEST')
  if (bytes === undefined) throw new Error('the base has no manifest')
  return bytes
}

/** A base with numbers in its manifest changed, or with the manifest that is made of it. */
function withManifest(base: Image, change: (manifest: Buffer) => unknown): Image {
  const image = cloneOf(base)
  const manifest = manifestOf(image)
  const made = change(manifest)
  const changed = Buffer.isBuffer(made) ? made : manifest
  mendManifest(changed)
  image.set('MANIFEST', file(changed))
  agree(image)
  return image
}

/** `small` with these records as its one segment, which is active. */
export function withRecords(base: Image, records: Iterable<MadeRecord>): Image {
  const image = cloneOf(base)
  const [name] = segmentNames(image)
  const segment = makeSegment(bytesAt(image, name) ?? Buffer.alloc(96), records)
  image.set(name, file(segment))
  const [entry] = entriesIn(manifestOf(image))
  entry.fill(0, 96)
  image.set('MANIFEST', file(withEntries(manifestOf(image), [entry])))
  return image
}

const put = (sequence: number, more: Partial<MadeRecord> = {}): MadeRecord => ({
  kind: PUT,
  key: Buffer.from(`k${sequence}`),
  value: Buffer.from('v'),
  sequence,
  ...more,
})

const u32 = (at: number) => ({ name: '', at, bytes: 4 })
const u64 = (at: number) => ({ name: '', at, bytes: 8 })

function claim(base: Image, fields: object, suffix = 'claim'): Image {
  const image = cloneOf(base)
  const token = '0123456789abcdef0123456789abcdef'
  image.set('LOCK', { kind: 'directory' })
  image.set(`LOCK/${token}.${suffix}`, file(Buffer.from(JSON.stringify({ format: 1, token, ...fields }))))
  return image
}

function odd(base: Image, name: string, thing: 'fifo' | 'directory' | string): Image {
  const image = cloneOf(base)
  image.delete(name)
  if (thing === 'fifo' || thing === 'directory') image.set(name, { kind: thing })
  else image.set(name, { kind: 'link', to: thing })
  return image
}

/** Entries of a manifest for segments that are not there. */
function manyEntries(base: Image, count: number): Image {
  return withManifest(base, (manifest) => {
    const [first] = entriesIn(manifest)
    const entries = Array.from({ length: count }, (_, i) => {
      const entry = Buffer.from(first)
      entry.writeUInt32LE(i + 2, 32)
      return entry
    })
    const changed = withEntries(manifest, entries)
    changed.writeUInt32LE(count + 2, 48)
    return changed
  })
}

/** Behind a bad place, valid headers whose values are wrong and reach nearly to the end of the file. */
function falseHeaders(base: Image, bytes: number): Image {
  const recordBytes = 40
  const count = Math.floor(bytes / recordBytes)
  const tail = put(count + 1, { value: Buffer.alloc(100) })
  const records = Array.from({ length: count }, (_, i) => {
    const behind = (count - i - 1) * recordBytes
    return put(i + 1, { key: Buffer.alloc(11, 0x6b), value: Buffer.alloc(0), valueBytes: behind + 60 })
  })
  const image = withRecords(base, [...records, tail])
  const [name] = segmentNames(image)
  const segment = bytesAt(image, name)
  if (segment !== undefined) segment[100] ^= 1
  return image
}

const BIG = 2n ** 53n

/** It takes as long as all others together, and is the soak's. */
export const LARGEST = 'a manifest of 20,000 segments that are missing'

export const ATTACKS: Record<string, Attack> = {
  'nothing is wrong': ({ closed }) => cloneOf(closed),
  'the next segment id is that of a live segment': ({ closed }) =>
    withManifest(closed, (manifest) => setField(manifest, u32(48), 1n)),
  'the next segment id is 0': ({ closed }) =>
    withManifest(closed, (manifest) => setField(manifest, u32(48), 0n)),
  'the next segment id is the last': ({ closed }) =>
    withManifest(closed, (manifest) => setField(manifest, u32(48), 0xffff_ffffn)),
  'the generation is 2^53': ({ closed }) =>
    withManifest(closed, (manifest) => setField(manifest, u64(32), BIG)),
  'the generation is 2^64-1': ({ closed }) =>
    withManifest(closed, (manifest) => setField(manifest, u64(32), 2n ** 64n - 1n)),
  'the manifest claims 2^24 segments': ({ small }) =>
    withManifest(small, (manifest) => setField(manifest, u32(52), 2n ** 24n)),
  'the manifest claims 2^32-1 segments': ({ small }) =>
    withManifest(small, (manifest) => setField(manifest, u32(52), 2n ** 32n - 1n)),
  'entries in the wrong order': ({ closed }) =>
    withManifest(closed, (manifest) => withEntries(manifest, entriesIn(manifest).reverse())),
  'one segment named twice': ({ closed }) =>
    withManifest(closed, (manifest) =>
      withEntries(
        manifest,
        entriesIn(manifest).flatMap((entry) => [entry, entry]),
      ),
    ),
  'all entries active': ({ closed }) =>
    withManifest(closed, (manifest) => {
      for (let i = 0; i < entriesIn(manifest).length; i++)
        manifest.fill(0, entryAt(i) + 96, entryAt(i) + MANIFEST_ENTRY_BYTES)
    }),
  'a sealed length of 2^53': ({ closed }) =>
    withManifest(closed, (manifest) => setField(manifest, u64(entryAt(0) + 104), BIG)),
  'a sealed length of 2^64-1': ({ closed }) =>
    withManifest(closed, (manifest) => setField(manifest, u64(entryAt(0) + 104), 2n ** 64n - 1n)),
  'a sealed length of 0': ({ closed }) =>
    withManifest(closed, (manifest) => setField(manifest, u64(entryAt(0) + 104), 0n)),
  'a last sequence of 2^53-1': ({ closed }) =>
    withManifest(closed, (manifest) => setField(manifest, u64(entryAt(0) + 112), BIG - 1n)),
  'a last sequence of 2^64-1': ({ closed }) =>
    withManifest(closed, (manifest) => setField(manifest, u64(entryAt(0) + 112), 2n ** 64n - 1n)),
  'the last segment begins with sequence 2^53-2': ({ closed }) =>
    withManifest(closed, (manifest) =>
      setField(manifest, u64(entryAt(entriesIn(manifest).length - 1) + 48), BIG - 2n),
    ),
  'the last segment begins far above every last sequence number': ({ closed }) =>
    withManifest(closed, (manifest) =>
      setField(manifest, u64(entryAt(entriesIn(manifest).length - 1) + 48), 65_535n),
    ),
  'the last segment begins with sequence 2^64-1': ({ killed }) =>
    withManifest(killed, (manifest) =>
      setField(manifest, u64(entryAt(entriesIn(manifest).length - 1) + 48), 2n ** 64n - 1n),
    ),
  'a manifest of 4,000 segments that are missing': ({ small }) => manyEntries(small, 4000),
  [LARGEST]: ({ small }) => manyEntries(small, 20_000),
  'a value of 1 GiB is claimed in a file of a few bytes': ({ small }) =>
    withRecords(small, [put(1), put(2, { valueBytes: 2 ** 30 })]),
  'a sequence number of 2^32-1': ({ small }) => withRecords(small, [put(0xffff_ffff), put(0), put(1)]),
  'a certified length past the file': ({ small }) =>
    withRecords(small, [put(1), put(2, { certifiedBytes: 2 ** 32 - 1 })]),
  'an expiry of 2^64-1': ({ small }) => withRecords(small, [put(1, { expiresAtMs: 2n ** 64n - 1n })]),
  'an expiry of 2^53': ({ small }) => withRecords(small, [put(1, { expiresAtMs: BIG })]),
  'a batch that never ends': ({ small }) =>
    withRecords(
      small,
      Array.from({ length: 5000 }, (_, i) =>
        put(i + 1, { flags: JOINED_TO_NEXT | (i > 0 ? JOINED_TO_PREVIOUS : 0) }),
      ),
    ),
  'members of a batch that never began': ({ small }) =>
    withRecords(
      small,
      Array.from({ length: 5000 }, (_, i) => put(i + 1, { flags: JOINED_TO_NEXT | JOINED_TO_PREVIOUS })),
    ),
  'keys of 65,535 bytes': ({ small }) =>
    withRecords(
      small,
      Array.from({ length: 20 }, (_, i) => put(i + 1, { key: Buffer.alloc(65_535, i + 1) })),
    ),
  'false headers to the end of the file': ({ small }) => falseHeaders(small, 800_000),
  'every value damaged': ({ small }) => {
    const image = withRecords(
      small,
      Array.from({ length: 20_000 }, (_, i) => put(i + 1, { certifiedBytes: 2 ** 31 })),
    )
    const [name] = segmentNames(image)
    const segment = bytesAt(image, name) ?? Buffer.alloc(0)
    for (const offset of recordOffsets(segment)) segment[(recordExtent(segment, offset)?.end ?? 1) - 1] ^= 1
    return image
  },
  'MANIFEST is a fifo': ({ closed }) => odd(closed, 'MANIFEST', 'fifo'),
  'MANIFEST is a directory': ({ closed }) => odd(closed, 'MANIFEST', 'directory'),
  'MANIFEST is a link out': ({ closed }) => odd(closed, 'MANIFEST', '@OUTSIDE/MANIFEST'),
  'MANIFEST.next is a fifo': ({ closed }) => odd(closed, 'MANIFEST.next', 'fifo'),
  'MANIFEST.next is a directory': ({ closed }) => odd(closed, 'MANIFEST.next', 'directory'),
  'MANIFEST.next is a link out': ({ closed }) => odd(closed, 'MANIFEST.next', '@OUTSIDE/MANIFEST'),
  'a segment is a fifo': ({ closed }) => odd(closed, '0000000001.data', 'fifo'),
  'a segment is a directory': ({ closed }) => odd(closed, '0000000001.data', 'directory'),
  'a segment is a link out': ({ closed }) => odd(closed, '0000000001.data', '@OUTSIDE/0000000001.data'),
  'a segment is a link to itself': ({ closed }) => odd(closed, '0000000001.data', '0000000001.data'),
  'LOCK is a fifo': ({ closed }) => odd(closed, 'LOCK', 'fifo'),
  'LOCK is a link out': ({ closed }) => odd(closed, 'LOCK', '@OUTSIDE'),
  'LOCK is a file': ({ closed }) => {
    const image = odd(closed, 'LOCK', 'fifo')
    return image.set('LOCK', file(Buffer.from('locked')))
  },
  'the next segment is a link out': ({ small }) => odd(small, '0000000002.data', '@OUTSIDE/new.data'),
  'the next segment is a fifo': ({ small }) => odd(small, '0000000002.data', 'fifo'),
  'the next segment is a directory': ({ small }) => odd(small, '0000000002.data', 'directory'),
  'a claim since the end of time': ({ small }) => claim(small, { pid: 1, sinceMs: 2 ** 53 - 1 }),
  'a claim of nobody': ({ small }) => claim(small, { pid: -1, sinceMs: -1 }),
  'a claim of pid 0': ({ small }) => claim(small, { pid: 0, pidNamespace: '', startTicks: '' }),
  'a claim in colours': ({ small }) =>
    claim(small, { pid: 1, runtime: '\x1b[31mred\n', hostName: '\u202Eevil' }),
  'a claim that is a fifo': ({ small }) => {
    const image = claim(small, {})
    for (const name of [...image.keys()]) if (name.endsWith('.claim')) image.set(name, { kind: 'fifo' })
    return image
  },
  'a claim that is a link out': ({ small }) => {
    const image = claim(small, {})
    for (const name of [...image.keys()]) {
      if (name.endsWith('.claim')) image.set(name, { kind: 'link', to: '@OUTSIDE/secret.data' })
    }
    return image
  },
}
