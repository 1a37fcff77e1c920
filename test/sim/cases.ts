// One case of a simulation: a seed says what is done, and what befalls it.

import { SEGMENT_HEADER_BYTES } from '../../src/segment'
import { SECTOR_BYTES } from './disk'
import { faultsFrom } from './faults'
import type { FaultPlace, Kept } from './kept'
import { Mending } from './mending'
import { newTally, type Tally, Violation } from './oracle'
import { Random } from './random'
import {
  cutAt,
  filesOf,
  flip,
  type Hurt,
  overlaid,
  removed,
  sectors,
  suffer,
  swapped,
  type Victim,
} from './rot'
import type { Rule } from './rules'
import { type Plan, Simulation, simulate } from './simulation'
import { type Trace, traceOf } from './workload'
import type { CallKind } from './world'

export type CaseKind = 'crash' | 'fault' | 'rot' | 'repair'

export interface Failure {
  kind: CaseKind
  seed: number
  fault?: FaultPlace
  rule: Rule
  message: string
  where: string
  /** The shortest trace that was found to do it. */
  trace: Trace
}

const CRASHES_PER_CALL = 6
const FAULTS_PER_CASE = 25
const FLIPS_PER_CASE = 500
const CUTS_PER_CASE = 60
const SECTORS_PER_CASE = 40
const REPAIRS_PER_CASE = 6
const SHRINK_TRIES = 150

export function kindOf(seed: number): CaseKind {
  // Drawn, so that no stride of the seeds leaves a kind out.
  const draw = new Random(seed ^ 0x71d).below(20)
  if (draw < 4) return 'fault'
  if (draw < 6) return draw === 4 ? 'rot' : 'repair'
  return 'crash'
}

/** Runs a case that is kept. */
export async function runKept(kept: Kept, tally: Tally): Promise<Failure | undefined> {
  const { trace, crashesPerCall, fault } = kept
  const plan: Plan = {
    crashesPerCall,
    fault: fault === undefined ? undefined : faultsFrom(fault.call, new Random(fault.draws)),
  }
  const violation = await simulate(trace, plan, tally)
  if (violation === undefined) return undefined
  const { rule, message, where } = violation
  return {
    kind: fault === undefined ? 'crash' : 'fault',
    seed: trace.seed,
    fault,
    rule,
    message,
    where,
    trace,
  }
}

function traceFor(seed: number): Trace {
  const random = new Random(seed * 31 + 7)
  return traceOf(seed, { steps: 30 + random.below(50), hasLarge: random.chance(0.12) })
}

export async function runCase(
  seed: number,
  tally: Tally,
  kind = kindOf(seed),
  shrinks = true,
): Promise<Failure | undefined> {
  const trace = traceFor(seed)
  switch (kind) {
    case 'crash':
      return runCrashes(seed, trace, tally, shrinks)
    case 'fault':
      return runFaults(seed, trace, tally, shrinks)
    case 'rot':
      return runRot(seed, trace, tally)
    case 'repair':
      return runRepair(seed, trace, tally)
  }
}

async function runCrashes(
  seed: number,
  trace: Trace,
  tally: Tally,
  shrinks: boolean,
): Promise<Failure | undefined> {
  const plan = { crashesPerCall: CRASHES_PER_CALL }
  const violation = await simulate(trace, plan, tally)
  if (violation === undefined) return undefined
  return await failureOf('crash', seed, trace, violation, shrinks ? plan : undefined)
}

async function runFaults(
  seed: number,
  trace: Trace,
  tally: Tally,
  shrinks: boolean,
): Promise<Failure | undefined> {
  const random = new Random(seed ^ 0xfa)
  const calls = new Map<CallKind, number[]>()
  const count: Plan = {
    crashesPerCall: undefined,
    fault: (call, kind) => {
      calls.set(kind, [...(calls.get(kind) ?? []), call])
      return undefined
    },
  }
  const early = await simulate(trace, count, newTally())
  if (early !== undefined) return await failureOf('fault', seed, trace, early, shrinks ? count : undefined)
  for (let i = 0; i < FAULTS_PER_CASE; i++) {
    // Every kind of call as often as any other: most are reads, and few are the ones that matter.
    const kinds = [...calls.keys()].filter((kind) => kind === 'write' || kind === 'sync')
    const kind = random.pick(kinds.length > 0 && random.chance(0.3) ? kinds : [...calls.keys()])
    const call = random.pick(calls.get(kind) ?? [1])
    const draws = random.below(2 ** 31)
    const crashesPerCall = random.chance(0.4) ? 3 : undefined
    // Drawn anew for each run, so that the same faults come again.
    const planOf = (): Plan => ({
      crashesPerCall,
      crashesFrom: call,
      fault: faultsFrom(call, new Random(draws)),
    })
    const violation = await simulate(trace, planOf(), tally)
    if (violation !== undefined)
      return {
        ...(await failureOf('fault', seed, trace, violation, shrinks ? planOf : undefined)),
        fault: { call, draws },
      }
  }
  return undefined
}

function hurtsOf(victim: Victim, random: Random): Hurt[] {
  const files = filesOf(victim, random)
  const drawn = (count: number, make: (name: string, bytes: number) => Hurt): Hurt[] =>
    Array.from({ length: count }, () => {
      const { name, bytes } = random.pick(files)
      return make(name, bytes)
    })
  const segments = files.filter(({ name }) => name.endsWith('.data')).map(({ name }) => name)
  return [
    ...drawn(FLIPS_PER_CASE, (name, bytes) => flip(name, random.below(bytes * 8))),
    ...drawn(CUTS_PER_CASE, (name, bytes) => cutAt(name, random.below(bytes))),
    ...drawn(SECTORS_PER_CASE, (name, bytes) => sectors(name, bytes, random)),
    ...files.map(({ name }) => removed(name)),
    ...segments.slice(1).map((name) => swapped(name, segments[0])),
    ...segments.flatMap((name, i) => {
      const other = segments[(i + 1) % segments.length]
      const sector = SECTOR_BYTES * random.below(8)
      return [
        overlaid(name, other, SEGMENT_HEADER_BYTES, Number.POSITIVE_INFINITY),
        overlaid(name, other, sector, SECTOR_BYTES * (1 + random.below(4))),
      ]
    }),
  ]
}

async function runRot(seed: number, trace: Trace, tally: Tally): Promise<Failure | undefined> {
  const random = new Random(seed ^ 0xb17)
  const plan: Plan = { crashesPerCall: undefined }
  try {
    const victim = await new Simulation(trace, plan, tally).victim(random.chance(0.6))
    for (const hurt of hurtsOf(victim, random)) suffer(victim, hurt, random, tally)
    return undefined
  } catch (error) {
    if (!(error instanceof Violation)) throw error
    return { kind: 'rot', seed, rule: error.rule, message: error.message, where: error.where, trace }
  }
}

async function runRepair(seed: number, trace: Trace, tally: Tally): Promise<Failure | undefined> {
  const random = new Random(seed ^ 0x4e9a)
  try {
    const victim = await new Simulation(trace, { crashesPerCall: undefined }, tally).victim(
      random.chance(0.6),
    )
    const hurts = hurtsOf(victim, random)
    for (let i = 0; i < REPAIRS_PER_CASE; i++) {
      const some = Array.from({ length: 1 + random.below(3) }, () => random.pick(hurts))
      // A file that one of them takes away can't be hurt by another.
      const files = some.flatMap(({ path, other }) => (other === undefined ? [path] : [path, other]))
      const isApart = new Set(files).size === files.length
      new Mending(victim, isApart ? some : some.slice(0, 1), random, tally).run()
    }
    return undefined
  } catch (error) {
    if (!(error instanceof Violation)) throw error
    return { kind: 'repair', seed, rule: error.rule, message: error.message, where: error.where, trace }
  }
}

async function failureOf(
  kind: CaseKind,
  seed: number,
  trace: Trace,
  violation: Violation,
  /** How it is run again to shorten it; undefined: as it is. */
  plan: Plan | (() => Plan) | undefined,
): Promise<Failure> {
  const shortest =
    plan === undefined
      ? { trace, violation }
      : await shrunk(trace, violation, typeof plan === 'function' ? plan : () => plan)
  const { rule, message, where } = shortest.violation
  return { kind, seed, rule, message, where, trace: shortest.trace }
}

/** Leaves out steps, many at first, as long as the same rule is broken. */
async function shrunk(
  trace: Trace,
  violation: Violation,
  planOf: () => Plan,
): Promise<{ trace: Trace; violation: Violation }> {
  let best = { trace, violation }
  let tries = 0
  for (let length = Math.ceil(trace.steps.length / 2); length >= 1; length = Math.floor(length / 2)) {
    for (let at = 0; at < best.trace.steps.length && tries < SHRINK_TRIES; tries++) {
      const steps = best.trace.steps.toSpliced(at, length)
      const candidate = { ...best.trace, steps }
      const found = await simulate(candidate, planOf(), newTally())
      if (found?.rule === violation.rule) best = { trace: candidate, violation: found }
      else at += length
    }
  }
  return best
}
