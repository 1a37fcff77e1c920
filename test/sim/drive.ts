// Drives the simulator's workers, and adds up what they explored.
import { Worker } from 'node:worker_threads'
import type { Failure } from './cases'
import { newTally, type Tally } from './oracle'
import type { Job, Report } from './worker'

export interface Outcome {
  tally: Tally
  failures: Failure[]
}

function add(tallies: Iterable<Tally>): Tally {
  const sum = newTally()
  for (const tally of tallies) for (const key of Object.keys(sum) as (keyof Tally)[]) sum[key] += tally[key]
  return sum
}

/** Runs each job in a worker of its own; the first failure stops them all, unless they are to go on: then each is told. */
export async function drive(
  jobs: { bundle: string; job: Job }[],
  onProgress?: (tally: Tally) => void,
  onFailure?: (failure: Failure) => void,
): Promise<Outcome> {
  const tallies = new Map<number, Tally>()
  const failures: Failure[] = []
  const workers = jobs.map(({ bundle, job }) => new Worker(bundle, { workerData: job }))
  const stop = (): void => {
    for (const worker of workers) void worker.terminate()
  }
  await Promise.all(
    workers.map(
      (worker, i) =>
        new Promise<void>((resolve, reject) => {
          const { job } = jobs[i]
          let isOver = false
          worker.on('message', ({ tally, failure, isDone }: Report) => {
            isOver ||= isDone
            tallies.set(i, tally)
            onProgress?.(add(tallies.values()))
            if (failure === undefined) return
            failures.push(failure)
            onFailure?.(failure)
            if (job.goesOn !== true) stop()
          })
          worker.on('error', (error) => {
            stop()
            reject(error)
          })
          worker.on('exit', () => {
            // It waited for what never came; unless it was stopped.
            if (isOver || (failures.length > 0 && job.goesOn !== true)) resolve()
            else reject(new Error('a worker has ended before its work was done'))
          })
        }),
    ),
  )
  return { tally: add(tallies.values()), failures }
}

/** What is to be read where a simulation failed: what broke, and how to see it again. */
export function describeFailure(failure: Failure): string {
  const { kind, seed, fault, message, where, trace } = failure
  const steps = trace.steps.map((step, i) => `  ${i + 1}. ${JSON.stringify(step)}`).join('\n')
  return [
    message,
    where,
    `seed ${seed}, a case of ${kind}${fault === undefined ? '' : `, the first fault at call ${fault.call} (draws ${fault.draws})`}; again: CASKY_SIM_SEED=${seed} npx vitest run test/sim`,
    `settings ${JSON.stringify(trace.settings)}`,
    `to keep: ${JSON.stringify({ kind: kind === 'rot' || kind === 'repair' ? kind : undefined, trace, fault })}`,
    `the shortest trace found, ${trace.steps.length} steps:`,
    steps,
  ].join('\n')
}
