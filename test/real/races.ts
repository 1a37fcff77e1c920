// Writers of all runtimes race for one store, hundreds of times: never two inside, and no count lost.
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Runtime } from '../runtimes/runtime'
import type { RaceResult } from './agents/racer'
import { ask, begin, removeAll } from './ground'

export interface RaceCounts {
  attempts: number
  wins: number
  losses: number
}

export async function raceRound(
  workshop: string,
  runtimes: readonly Runtime[],
  attempts: number,
): Promise<RaceCounts> {
  const folder = fs.mkdtempSync(join(tmpdir(), 'casky-race-'))
  const store = join(folder, 'store')
  const racers = runtimes.map((runtime) => begin(runtime, workshop, 'racer', [store, folder]))
  const names = runtimes.map(({ name }) => name).join(', ')
  try {
    await Promise.all(racers.map((racer) => racer.next()))
    for (const racer of racers) racer.send(String(attempts))
    const results = (await Promise.all(racers.map((racer) => racer.next()))) as RaceResult[]
    const total = (pick: (result: RaceResult) => number): number =>
      results.reduce((sum, each) => sum + pick(each), 0)
    const wins = total((result) => result.wins)
    const errors = results.flatMap((result) => result.errors)
    if (errors.length > 0) throw new Error(errors.join('\n'))
    if (total((result) => result.meetings) > 0) throw new Error('two were inside at once')
    const { entries } = (await ask(runtimes[0], workshop, 'chores', ['look', store])) as {
      entries: [string, string][]
    }
    const counted = Number(new Map(entries).get('count') ?? 0)
    if (counted !== wins) throw new Error(`${wins} came in, and ${counted} were counted`)
    return { attempts: attempts * runtimes.length, wins, losses: total((result) => result.losses) }
  } catch (cause) {
    throw new Error(`race of ${names}: ${cause instanceof Error ? cause.message : cause}`, { cause })
  } finally {
    for (const racer of racers) await racer.kill()
    removeAll(folder)
  }
}
