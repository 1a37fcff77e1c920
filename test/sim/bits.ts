// Every harm of a kind, and not one drawn by chance, over two small stores: each bit flipped, each cut, each piece
// zeroed, doubled or swapped, each file missing, swapped or another store's, each length set to an extreme with the CRC
// of its header or manifest mended. And over a third one that to its hints and its checkpoint.
import { CHECKPOINT } from '../../src/files'
import { cacheExchanges, type PastCache } from './caches'
import type { Failure } from './cases'
import { cacheLengths, lengths } from './forging'
import { newTally, type Tally, Violation } from './oracle'
import { Random } from './random'
import { cutAt, fileOf, flip, type Hurt, placed, removed, rewrite, swapped } from './rot'
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

/** A store with segments that have hints, and a checkpoint that ends in the midst of one. */
const CACHED_STEPS: Step[] = [
  { do: 'put', key: 'a', bytes: 3 },
  { do: 'batch', changes: [{ key: 'b', bytes: 3 }, { key: 'c', bytes: 1 }, { key: 'd' }] },
  { do: 'put', key: 'e', bytes: 2300, ttlMs: 5000 },
  { do: 'settle' },
  // Another segment begins with it, and a checkpoint is due.
  { do: 'put', key: 'e', bytes: 2200 },
  { do: 'put', key: 'd', bytes: 5 },
  { do: 'put', key: 'd', bytes: 9 },
  { do: 'delete', key: 'c' },
  { do: 'settle' },
  { do: 'turn' },
  { do: 'turn' },
  { do: 'put', key: 'a', bytes: 2 },
  { do: 'settle' },
  { do: 'kill' },
  { do: 'put', key: 'f', bytes: 2 },
  { do: 'settle' },
  { do: 'reopen' },
  ...Array.from({ length: 12 }, (): Step => ({ do: 'turn' })),
]

function traceOf(seed: number, steps = STEPS, merge?: false): Trace {
  return { seed, settings: { sync: 'always', maxSegmentBytes: 4096, cacheBytes: 0, merge }, steps }
}

function leave(seed: number, isClosed: boolean): Promise<Victim> {
  return new Simulation(traceOf(seed), { crashesPerCall: undefined }, newTally()).victim({
    isClosed,
    isMerged: false,
  })
}

function leaveCached(seed: number, steps = CACHED_STEPS): Promise<Victim> {
  const plan = { crashesPerCall: undefined, keepsCaches: true }
  return new Simulation(traceOf(seed, steps, false), plan, newTally()).victim({
    isClosed: false,
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

/** One byte of so many. */
const WRITTEN_OF_CHECKPOINT = 24

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
    placed(name, fileOf(other.disk, name).live.bytes, "another store's"),
    ...lengths(name, fileOf(victim.disk, name).live.bytes.slice(0, bytes)),
  ]
}

/** Hints and a checkpoint: a writer for one bit of each byte of a hint, and for what befalls a cache as a whole. */
function harmsOfCaches(victim: Victim, foreign: PastCache[]): Harm[] {
  const readers: Role[] = ['reader']
  const alone = victim.caches.flatMap((name): Harm[] => {
    const { bytes } = fileOf(victim.disk, name).live
    const cuts = upTo(bytes.length).map((at) => cutAt(name, at))
    return [
      ...flips(name, bytes.length).map(({ hurt, roles }, bit) => ({
        hurt,
        // A writer's index comes in later than a reader's; of some bytes it is enough to see that.
        roles: name === CHECKPOINT && (bit >>> 3) % WRITTEN_OF_CHECKPOINT !== 0 ? readers : roles,
      })),
      ...[...cuts, ...cacheLengths(name, bytes)].map((hurt) => ({ hurt, roles: readers })),
    ]
  })
  const exchanges = cacheExchanges(victim.disk, { past: victim.past, foreign })
  return [...alone, ...exchanges.map((hurt): Harm => ({ hurt, roles: ['reader', 'writer'] }))]
}

/** Those of another store. */
async function foreignCaches(): Promise<PastCache[]> {
  const other = await leaveCached(2, CACHED_STEPS.slice(1))
  return other.caches.map((name) => ({ name, bytes: fileOf(other.disk, name).live.bytes.slice() }))
}

/** What is run at a time, in a thread of its own. */
export const BIT_SHARES = 2

/** One share of all of it, to a reader and to a writer. */
export async function runBits(seed: number, tally: Tally): Promise<Failure | undefined> {
  const share = seed % BIT_SHARES
  const random = new Random(share)
  const run = async (victim: Victim, harms: Harm[]): Promise<void> => {
    for (const [i, { hurt, roles }] of harms.entries()) {
      if (i % BIT_SHARES !== share) continue
      for (const role of roles) await suffer(victim, hurt, random, tally, role)
    }
  }
  try {
    const cached = await leaveCached(1)
    await run(cached, harmsOfCaches(cached, await foreignCaches()))
    for (const isClosed of [true, false]) {
      const ours = await leave(1, isClosed)
      await run(ours, harmsOf(ours, await leave(2, isClosed)))
    }
    return undefined
  } catch (error) {
    if (!(error instanceof Violation)) throw error
    const { rule, message, where } = error
    return { kind: 'bits', seed, rule, message, where, trace: traceOf(1) }
  }
}
