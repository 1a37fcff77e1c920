// A process that writes is killed at random moments, again and again, in one runtime after the other: each opens what
// the one before it left. Nothing acknowledged is ever lost.
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Runtime, Started } from '../runtimes/runtime'
import { randomFrom } from '../support/ground'
import { begin, removeAll } from './ground'

export interface KillOptions {
  workshop: string
  /** Taken by turns. */
  runtimes: readonly Runtime[]
  seed: number
  kills: number
  /** In milliseconds of `Date.now()`; no kill begins after it. */
  deadlineMs?: number
}

export interface KillCounts {
  kills: number
  acknowledged: number
}

interface Acknowledged {
  i: number
  name: string
}

interface Found {
  health: { ok: boolean; damage: unknown[] }
  entries: [string, string][]
}

/** So many numbers may have been begun, and not been told of, when a process is killed. */
const UNSEEN_MAX = 500
const GAP = 2 * UNSEEN_MAX
const LIFE_MS_MAX = 100
const LARGE_CHARS = 100_000

/** What write number `i` leaves under a key; undefined where it deletes it. */
function written(i: number, key: string): string | undefined {
  const isDelete = key !== 'sync' && i % 7 !== 0 && i % 11 === 0
  const isLarge = key !== 'sync' && i % 7 !== 0 && i % 97 === 0
  return isDelete ? undefined : `${i} ${'x'.repeat((isLarge ? LARGE_CHARS : 0) + (i % 700))}`
}

function touches(i: number, key: string): boolean {
  if (key === 'sync') return i % 5 === 0
  if (key === 'left' || key === 'right') return i % 7 === 0
  return i % 7 !== 0 && key.slice(1) === String(i % 50)
}

/** What may be in the store after the life of one process: what it found, with what it wrote on top. */
class Life {
  readonly #newest = new Map<string, number>()
  readonly #acknowledged = new Set<number>()
  #next: number

  constructor(
    private readonly before: ReadonlyMap<string, string>,
    private readonly from: number,
  ) {
    this.#next = from
  }

  /** Where the next process may begin to count. */
  get next(): number {
    return this.#next + GAP
  }

  take({ i, name }: Acknowledged): void {
    this.#next = Math.max(this.#next, i + 1)
    this.#acknowledged.add(i)
    for (const key of [`${name}${i % 50}`, 'left', 'right', 'sync']) {
      if (touches(i, key)) this.#newest.set(key, Math.max(this.#newest.get(key) ?? -1, i))
    }
  }

  /** What is wrong with what was found; nothing if it is what may be there. */
  faultsOf({ health, entries }: Found): string[] {
    const faults = health.ok ? [] : [`damage after a mere kill: ${JSON.stringify(health.damage)}`]
    const found = new Map(entries)
    for (const key of new Set([...this.before.keys(), ...this.#newest.keys(), ...found.keys()])) {
      const value = found.get(key)
      if (this.#isPossible(key, value)) continue
      const newest = this.#newest.get(key)
      const expected = newest === undefined ? this.before.get(key) : written(newest, key)
      faults.push(
        `${key}: expected ${expected?.slice(0, 20)} (${newest ?? 'before'}), found ${value?.slice(0, 20)}`,
      )
    }
    if (found.get('left') !== found.get('right')) faults.push('half of a batch is there')
    return faults
  }

  #isPossible(key: string, value: string | undefined): boolean {
    const newest = this.#newest.get(key)
    if (value === (newest === undefined ? this.before.get(key) : written(newest, key))) return true
    // Or what was begun later, and never acknowledged.
    for (let i = Math.max(this.from, (newest ?? -1) + 1); i < this.#next + UNSEEN_MAX; i++) {
      if (!this.#acknowledged.has(i) && touches(i, key) && written(i, key) === value) return true
    }
    return false
  }
}

async function runAndKill(writer: Started, delayMs: number): Promise<Acknowledged[]> {
  const timer = setTimeout(() => void writer.child.kill('SIGKILL'), delayMs)
  const lines: Acknowledged[] = []
  try {
    for (;;) lines.push((await writer.next()) as Acknowledged)
  } catch (error) {
    clearTimeout(timer)
    // Its last line may be cut short; anything that it has to say itself is a fault.
    const isCut = error instanceof SyntaxError
    const isQuiet = error instanceof Error && error.message.endsWith('(SIGKILL): ')
    if (!isCut && !isQuiet) throw error
    await writer.kill()
    return lines
  }
}

export async function killRounds(options: KillOptions): Promise<KillCounts> {
  const { workshop, runtimes, seed, kills, deadlineMs = Number.POSITIVE_INFINITY } = options
  const folder = fs.mkdtempSync(join(tmpdir(), 'casky-kills-'))
  const store = join(folder, 'store')
  const random = randomFrom(seed)
  const counts: KillCounts = { kills: 0, acknowledged: 0 }
  let life = new Life(new Map(), 0)
  for (let round = 0; ; round++) {
    const runtime = runtimes[round % runtimes.length]
    const from = life.next
    const writer = begin(runtime, workshop, 'writer', [store, String(from)])
    try {
      const found = (await writer.next()) as Found
      const faults = life.faultsOf(found)
      if (faults.length > 0) throw new Error(faults.join('\n'))
      // The last one only looks.
      if (round === kills || Date.now() > deadlineMs) break
      life = new Life(new Map(found.entries), from)
      const lines = await runAndKill(writer, random() * LIFE_MS_MAX)
      for (const line of lines) life.take(line)
      counts.acknowledged += lines.length
      counts.kills++
    } catch (cause) {
      const how = `kills with seed ${seed}, round ${round}, opened by ${runtime.name}; the store is kept in ${store}`
      throw new Error(`${how}\n${cause instanceof Error ? cause.message : cause}`, { cause })
    } finally {
      await writer.kill()
    }
  }
  removeAll(folder)
  return counts
}
