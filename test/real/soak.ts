// For the soak: the real thing on new seeds until a deadline.
import { deathRounds } from './deaths'
import { fillDisk } from './disks'
import { makeWorkshop, RUNTIMES, removeAll, whyNoDisk } from './ground'
import { killRounds } from './kills'
import { raceRound } from './races'

const KILLS_AT_ONCE = 12
const DEATHS_AT_ONCE = 60
const ATTEMPTS_AT_ONCE = 40

/**
 * Kills at random moments and at single calls, races for the lock, and full disks where this user may make them.
 * Throws at the first violation, with the seed and all that it takes to see it again.
 */
export async function realRounds(
  deadlineMs: number,
  seed: number,
  report: (counts: Record<string, number>) => void,
): Promise<void> {
  const workshop = await makeWorkshop()
  const hasDisk = whyNoDisk() === undefined
  const counts = { kills: 0, 'acknowledged writes': 0, 'deaths at a call': 0, races: 0, 'full disks': 0 }
  let round = seed
  try {
    while (Date.now() < deadlineMs) {
      const killed = await killRounds({
        workshop,
        runtimes: RUNTIMES,
        seed: round,
        kills: KILLS_AT_ONCE,
        deadlineMs,
      })
      counts.kills += killed.kills
      counts['acknowledged writes'] += killed.acknowledged
      const died = await deathRounds({
        workshop,
        runtimes: RUNTIMES,
        seed: round,
        deaths: DEATHS_AT_ONCE,
        deadlineMs,
      })
      counts['deaths at a call'] += died.deaths
      const raced = await raceRound(workshop, RUNTIMES, ATTEMPTS_AT_ONCE)
      counts.races += raced.attempts
      if (hasDisk) {
        await fillDisk(workshop, RUNTIMES[round % RUNTIMES.length], round)
        counts['full disks']++
      }
      report({ ...counts })
      round++
    }
  } catch (cause) {
    const how = `the real thing, seed ${round} (realRounds(deadlineMs, ${round}, …) begins with it)`
    throw new Error(`${how}\n${cause instanceof Error ? cause.message : cause}`, { cause })
  } finally {
    removeAll(workshop)
  }
}
