// As long as it is told: the simulator on new seeds, then kills, deaths, races and full disks on the real system, then
// hostile files. What the simulator finds is told at once, with all that it takes to see it again, and it goes on: a
// later seed may tell more of it, or find something else. Whatever else fails ends the soak.
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { fuzzRounds } from '../fuzz/fuzz'
import { realRounds } from '../real/soak'
import { bundleWorker, type Rooms } from '../sim/bundle'
import { describeFailure, drive, type Outcome } from '../sim/drive'

const HELP = 'usage: npm run soak -- [--minutes N] [--workers N] [--seed N] [--json FILE]'
const MS_PER_MINUTE = 60_000
/** Shares of the time; the simulator has the rest. */
const REAL_SHARE = 0.1
const FUZZ_SHARE = 0.05
const PROGRESS_MS = 10_000
/** Where failures and bundles go. */
const FOLDER = 'build/soak'

interface Settings {
  minutes: number
  workers: number
  seed: number
  json: string | undefined
}

function settingsOf(given: string[]): Settings {
  const { values } = parseArgs({
    args: given,
    options: {
      minutes: { type: 'string', default: '60' },
      workers: { type: 'string', default: String(availableParallelism()) },
      seed: { type: 'string', default: String(1 + Math.floor(Math.random() * 1e9)) },
      json: { type: 'string' },
    },
  })
  const [minutes, workers, seed] = [values.minutes, values.workers, values.seed].map(Number)
  const isRight = minutes > 0 && Number.isInteger(workers) && workers > 0 && Number.isSafeInteger(seed)
  if (!isRight) throw new Error(HELP)
  return { minutes, workers, seed, json: values.json }
}

const show = (count: number): string => count.toLocaleString('en-US')

function progressOf(what: string, startedAtMs: number, untilMs: number): (text: string) => void {
  let nextAtMs = 0
  return (text) => {
    const nowMs = Date.now()
    if (nowMs < nextAtMs) return
    nextAtMs = nowMs + PROGRESS_MS
    const percent = Math.min(100, Math.round(((nowMs - startedAtMs) / (untilMs - startedAtMs)) * 100))
    console.log(`${what} ${percent}%: ${text}`)
  }
}

function keep(settings: Settings, text: string): void {
  mkdirSync(FOLDER, { recursive: true })
  const file = join(FOLDER, `failure-${settings.seed}.txt`)
  appendFileSync(file, `${text}\n\n`)
  console.error(`FAILED; kept in ${file}\n${text}`)
}

async function simulated(settings: Settings, untilMs: number): Promise<Outcome> {
  const home = mkdtempSync(join(tmpdir(), 'casky-soak-'))
  try {
    const bundles: string[] = []
    for (const rooms of ['small', 'real'] satisfies Rooms[]) {
      const bundle = join(home, `${rooms}.mjs`)
      await bundleWorker(bundle, rooms)
      bundles.push(bundle)
    }
    const startedAtMs = Date.now()
    const tell = progressOf('simulator', startedAtMs, untilMs)
    return await drive(
      Array.from({ length: settings.workers }, (_, i) => {
        const stride = settings.workers
        const job = { firstSeed: settings.seed + i, stride, seeds: Infinity, untilMs, goesOn: true }
        return { bundle: bundles[i % bundles.length], job }
      }),
      ({ states, nested, faults, flips, traces }) => {
        const rate = Math.round(((states + nested) * 1000) / (Date.now() - startedAtMs))
        tell(
          `${show(states + nested)} crash states (${show(rate)}/s), ${show(faults)} errors, ${show(flips)} rotted stores, ${show(traces)} traces`,
        )
      },
      (failure) => keep(settings, describeFailure(failure)),
    )
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
}

export async function soak(given: string[]): Promise<number> {
  const settings = settingsOf(given)
  const { minutes, seed, workers } = settings
  const totalMs = minutes * MS_PER_MINUTE
  const startedAtMs = Date.now()
  console.log(
    `soak of ${minutes} minutes, seed ${seed}, ${workers} workers, ${cpus()[0]?.model}, Node ${process.version}`,
  )
  const figures: Record<string, unknown> = { minutes, seed, workers, node: process.version }
  try {
    const simulatedUntilMs = startedAtMs + totalMs * (1 - REAL_SHARE - FUZZ_SHARE)
    const { tally, failures } = await simulated(settings, simulatedUntilMs)
    figures.simulator = tally
    if (failures.length > 0)
      throw new Error(
        `${failures.length} seeds have broken a rule: ${failures.map(({ seed }) => seed).join(', ')}`,
      )
    const realUntilMs = simulatedUntilMs + totalMs * REAL_SHARE
    const tellReal = progressOf('real system', simulatedUntilMs, realUntilMs)
    await realRounds(realUntilMs, seed, (counts) => {
      figures['real system'] = counts
      tellReal(JSON.stringify(counts))
    })
    const fuzzUntilMs = realUntilMs + totalMs * FUZZ_SHARE
    const tellFuzz = progressOf('hostile files', realUntilMs, fuzzUntilMs)
    await fuzzRounds(fuzzUntilMs, seed, (counts) => {
      figures['hostile files'] = counts
      tellFuzz(JSON.stringify(counts))
    })
  } catch (error) {
    keep(settings, error instanceof Error ? (error.stack ?? error.message) : String(error))
    console.error(`until then: ${JSON.stringify(figures, undefined, 2)}`)
    return 1
  }
  figures.tookMinutes = Math.round((Date.now() - startedAtMs) / 600) / 100
  console.log(`clean: ${JSON.stringify(figures, undefined, 2)}`)
  if (settings.json !== undefined) writeFileSync(settings.json, JSON.stringify(figures, undefined, 2))
  return 0
}
