// Runs cases in a thread of its own: one seed after the other, until it is told to stop or finds a failure.
import { parentPort, workerData } from 'node:worker_threads'
import { type CaseKind, type Failure, runCase, runKept } from './cases'
import type { Kept } from './kept'
import { newTally, type Tally } from './oracle'

export interface Job {
  firstSeed: number
  stride: number
  /** Seeds to run at most. */
  seeds: number
  untilMs: number
  /** Only cases of this kind. */
  kind?: CaseKind
  /** Whether a failing trace is shortened; it is where undefined. */
  shrinks?: boolean
  /** Whether the next seed follows a failure too. */
  goesOn?: boolean
  /** This instead. */
  kept?: Kept
}

export type Report = { tally: Tally; seed: number; failure?: Failure; isDone: boolean }

/** The clock may be told of so often. */
const REPORT_MS = 500

// A stack is made for every error that a store throws, and nobody reads it.
Error.stackTraceLimit = 4

async function work(job: Job): Promise<void> {
  const tally = newTally()
  let reportedAtMs = Date.now()
  const report = (seed: number, isDone: boolean, failure?: Failure): void => {
    const message: Report = { tally: { ...tally }, seed, failure, isDone }
    parentPort?.postMessage(message)
    reportedAtMs = Date.now()
  }
  let seed = job.firstSeed
  for (let i = 0; i < job.seeds && Date.now() < job.untilMs; i++, seed += job.stride) {
    const { kept, kind, shrinks } = job
    const failure =
      kept === undefined ? await runCase(seed, tally, kind, shrinks) : await runKept(kept, tally)
    if (failure !== undefined && job.goesOn !== true) return report(seed, true, failure)
    if (failure !== undefined || Date.now() - reportedAtMs > REPORT_MS) report(seed, false, failure)
  }
  report(seed, true)
}

await work(workerData as Job)
