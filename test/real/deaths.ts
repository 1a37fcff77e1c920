// The same work again and again, each time killed at another of its calls to the system: before it, after it, and
// where it is a write, half-way through it. What is there afterwards is the state after some step, and no step that
// was acknowledged is missing.
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Runtime } from '../runtimes/runtime'
import { randomFrom } from '../support/ground'
import type { Death } from './agents/gate'
import { ask, begin, removeAll } from './ground'
import { contentsAfter, PLAN } from './plan'

interface Life {
  /** Steps that were acknowledged. */
  done: number
  /** Calls of each kind; undefined where it was killed. */
  counts: Record<string, number> | undefined
}

async function live(runtime: Runtime, workshop: string, store: string, death?: Death): Promise<Life> {
  const agent = begin(runtime, workshop, 'steps', [store, JSON.stringify({ death })])
  let done = 0
  try {
    for (;;) {
      const line = (await agent.next()) as { done: number } | { counts: Record<string, number> }
      if ('counts' in line) return { done, counts: line.counts }
      done = line.done
    }
  } catch (error) {
    if (!(error instanceof Error) || !error.message.endsWith('(SIGKILL): ')) throw error
    return { done, counts: undefined }
  } finally {
    await agent.kill()
  }
}

function isSame(a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): boolean {
  return a.size === b.size && [...a].every(([key, value]) => b.get(key) === value)
}

/** Opened for writing, and once more: with what it holds, and the same both times. */
async function look(runtime: Runtime, workshop: string, store: string): Promise<Map<string, string>> {
  const { entries, again, health } = (await ask(runtime, workshop, 'chores', ['look', store])) as {
    entries: [string, string][]
    again: [string, string][]
    health: { ok: boolean }
  }
  if (!health.ok) throw new Error(`damage after a mere kill: ${JSON.stringify(health)}`)
  const contents = new Map(entries)
  if (!isSame(contents, new Map(again))) throw new Error('a second opening finds something else')
  return contents
}

/** Every death there is in this work, by the calls that it makes when nobody is killed. */
export async function deathsOf(runtime: Runtime, workshop: string): Promise<Death[]> {
  const folder = fs.mkdtempSync(join(tmpdir(), 'casky-deaths-'))
  try {
    const { counts, done } = await live(runtime, workshop, join(folder, 'store'))
    if (counts === undefined || done !== PLAN.length) throw new Error(`the work ended after step ${done}`)
    if (!isSame(await look(runtime, workshop, join(folder, 'store')), contentsAfter(PLAN.length))) {
      throw new Error('the work did not come to what it should')
    }
    return Object.entries(counts).flatMap(([call, count]) =>
      Array.from({ length: count }, (_, i) => i + 1).flatMap((n) =>
        (call === 'write' ? (['before', 'half', 'after'] as const) : (['before', 'after'] as const)).map(
          (when) => ({
            call,
            n,
            when,
          }),
        ),
      ),
    )
  } finally {
    removeAll(folder)
  }
}

async function die(writer: Runtime, reader: Runtime, workshop: string, death: Death): Promise<void> {
  const folder = fs.mkdtempSync(join(tmpdir(), 'casky-deaths-'))
  const store = join(folder, 'store')
  try {
    const { done } = await live(writer, workshop, store, death)
    const found = await look(reader, workshop, store)
    // The step under way may be there, or not.
    if (![done, done + 1].some((steps) => isSame(found, contentsAfter(steps)))) {
      throw new Error(`${done} steps were acknowledged; found ${[...found.keys()]}`)
    }
  } catch (cause) {
    const how = `${writer.name} killed at ${JSON.stringify(death)}, opened by ${reader.name}; the store is kept in ${store}`
    throw new Error(`${how}\n${cause instanceof Error ? cause.message : cause}`, { cause })
  }
  removeAll(folder)
}

export interface DeathOptions {
  workshop: string
  runtimes: readonly Runtime[]
  seed: number
  /** At most so many deaths, taken by chance; all of them where there are fewer. */
  deaths: number
  deadlineMs?: number
}

/** Returns how many deaths were died, and how many there are. */
export async function deathRounds(
  options: DeathOptions,
): Promise<{ deaths: number; all: number; calls: string[] }> {
  const { workshop, runtimes, seed, deadlineMs = Number.POSITIVE_INFINITY } = options
  const random = randomFrom(seed)
  const all: { writer: Runtime; death: Death }[] = []
  for (const writer of runtimes) {
    for (const death of await deathsOf(writer, workshop)) all.push({ writer, death })
  }
  const chosen = all
    .map((each) => ({ ...each, at: random() }))
    .sort((a, b) => a.at - b.at)
    .slice(0, options.deaths)
  const calls = new Set<string>()
  let deaths = 0
  let next = 0
  const work = async (): Promise<void> => {
    while (next < chosen.length && Date.now() < deadlineMs) {
      const { writer, death } = chosen[next++]
      // Opened by another runtime than it was written by, where there is more than one.
      await die(writer, runtimes[(runtimes.indexOf(writer) + next) % runtimes.length], workshop, death)
      calls.add(`${death.call} ${death.when}`)
      deaths++
    }
  }
  // Both to their end: what one of them has started must not outlive this.
  for (const ended of await Promise.allSettled([work(), work()])) {
    if (ended.status === 'rejected') throw ended.reason
  }
  return { deaths, all: all.length, calls: [...calls].sort() }
}
