// One case of a simulation: a seed says what is done, and what befalls it.

import { SEGMENT_HEADER_BYTES } from '../../src/segment'
import { runBits } from './bits'
import { cacheHurts } from './caches'
import { SECTOR_BYTES } from './disk'
import { faultsFrom } from './faults'
import type { FaultPlace, Kept } from './kept'
import { Mending } from './mending'
import { newTally, type Tally, Violation } from './oracle'
import { Random } from './random'
import { cutAt, fileOf, flip, type Hurt, overlaid, removed, sectors, swapped } from './rot'
import type { Rule } from './rules'
import { type Plan, Simulation, simulate } from './simulation'
import { type Role, suffer } from './suffering'
import { filesOf, type Victim } from './victim'
import { type Step, type Trace, traceOf } from './workload'
import type { CallKind } from './world'

/** `bits` is never drawn. */
export type CaseKind = 'crash' | 'merge' | 'backup' | 'fault' | 'rot' | 'repair' | 'bits'

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
/** How many of the stores that are repaired a crash has left between two changes of names, and then lose their manifest. */
const MIDWAY = 0.25
const MERGING_TRACES = 15
const BACKUP_TRACES = 6
const FAULTS_PER_CASE = 25
/** How many of the traces with errors are short, and have one at each of their calls in turn. */
const SWEEPS = 0.3
const SWEEP_STEPS = 14
/** How many of them have errors at the calls from when a merge or a backup begins, and how many calls that are, by chance. */
const MERGE_SWEEPS = 0.25
const BACKUP_SWEEPS = 0.15
const MERGED_STEPS = 20
const MERGE_CALLS = 50
const FLIPS_PER_CASE = 500
const CUTS_PER_CASE = 60
const SECTORS_PER_CASE = 40
const REPAIRS_PER_CASE = 6
/** How many of the stores with rot keep their caches, where they have any. */
const CACHED = 0.5
/** How many of the stores with rot are opened to be written to. */
const WRITERS = 0.15
const SHRINK_TRIES = 150

export function kindOf(seed: number): CaseKind {
  // Drawn, so that no stride of the seeds leaves a kind out.
  const draw = new Random(seed ^ 0x71d).below(20)
  if (draw < 4) return 'fault'
  if (draw < 6) return draw === 4 ? 'rot' : 'repair'
  if (draw < 7) return 'merge'
  if (draw < 8) return 'backup'
  return 'crash'
}

/** Runs a case that is kept. */
export async function runKept(kept: Kept, tally: Tally): Promise<Failure | undefined> {
  const { kind, trace, crashesPerCall, fault } = kept
  if (kind === 'rot') return runRot(trace.seed, trace, tally)
  if (kind === 'repair') return runRepair(trace.seed, trace, tally)
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
    case 'merge':
      return runMerges(seed, tally, shrinks)
    case 'backup':
      return runBackups(seed, tally, shrinks)
    case 'fault':
      return runFaults(seed, trace, tally, shrinks)
    case 'rot':
      return runRot(seed, trace, tally)
    case 'repair':
      return runRepair(seed, isMidway(seed) ? mergingTrace(seed) : trace, tally)
    case 'bits':
      return runBits(seed, tally)
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

/** Many traces that are about merges, with only those crashes that are steps of theirs; and one with some at each call. */
async function runMerges(seed: number, tally: Tally, shrinks: boolean): Promise<Failure | undefined> {
  const random = new Random(seed ^ 0x3e)
  for (let i = 0; i < MERGING_TRACES; i++) {
    const mix = { steps: 30 + random.below(60), hasLarge: random.chance(0.12), isMerging: true }
    const trace = traceOf(random.below(2 ** 31), mix)
    const plan = { crashesPerCall: i < MERGING_TRACES - 1 ? undefined : 2 }
    const violation = await simulate(trace, plan, tally)
    if (violation !== undefined)
      return await failureOf('merge', seed, trace, violation, shrinks ? plan : undefined)
  }
  return undefined
}

/** Traces that are about backups, in which only those are looked at. */
async function runBackups(seed: number, tally: Tally, shrinks: boolean): Promise<Failure | undefined> {
  const random = new Random(seed ^ 0xbac)
  const plan = { crashesPerCall: undefined, looksAtBackups: true }
  for (let i = 0; i < BACKUP_TRACES; i++) {
    const mix = { steps: 20 + random.below(40), hasLarge: random.chance(0.12), isBackingUp: true }
    const trace = traceOf(random.below(2 ** 31), mix)
    const violation = await simulate(trace, plan, tally)
    if (violation !== undefined)
      return await failureOf('backup', seed, trace, violation, shrinks ? plan : undefined)
  }
  return undefined
}

interface Calls {
  /** By their kind. */
  calls: Map<CallKind, number[]>
  /** How many there were before each step. */
  before: number[]
  violation?: Violation
}

/** The calls that a trace makes where nothing fails. */
async function callsOf(trace: Trace): Promise<Calls> {
  const calls = new Map<CallKind, number[]>()
  const before: number[] = []
  const plan: Plan = {
    crashesPerCall: undefined,
    fault: (call, kind) => {
      calls.set(kind, [...(calls.get(kind) ?? []), call])
      return undefined
    },
    onStep: (step, count) => {
      before[step] = count
    },
  }
  return { violation: await simulate(trace, plan, newTally()), calls, before }
}

/** Traces with errors: at calls drawn by chance, or at each call of a short one, or from when a merge or a backup begins. */
type Errors = 'some' | 'sweep' | 'merge' | 'backup'

function errorsOf(random: Random): Errors {
  const draw = random.next()
  if (draw < SWEEPS) return 'sweep'
  if (draw < SWEEPS + MERGE_SWEEPS) return 'merge'
  return draw < SWEEPS + MERGE_SWEEPS + BACKUP_SWEEPS ? 'backup' : 'some'
}

function sweptTrace(trace: Trace, errors: Errors): Trace {
  if (errors === 'some') return trace
  const { settings, steps } = trace
  if (errors === 'sweep') return { ...trace, steps: steps.slice(0, SWEEP_STEPS) }
  const apart = steps.filter(({ do: what }) => what !== errors)
  const [before, behind] = [apart.slice(0, MERGED_STEPS), apart.slice(MERGED_STEPS, 2 * MERGED_STEPS)]
  const begun: Step[] = [
    { do: 'settle' },
    errors === 'merge' ? { do: 'merge' } : { do: 'backup', since: 'latest' },
  ]
  // There is one already, and it must not suffer.
  const earlier: Step[] = errors === 'backup' ? [{ do: 'backup' }, { do: 'settle' }, { do: 'settle' }] : []
  return {
    ...trace,
    settings: { ...settings, merge: false },
    steps: [...earlier, ...before, ...begun, ...behind, ...earlier],
  }
}

function placesOf(
  { calls, before }: Calls,
  { steps }: Trace,
  errors: Errors,
  random: Random,
): Iterable<number> {
  if (errors === 'some') return someCalls(calls, random)
  const all = everyCall(calls)
  if (errors === 'sweep') return all
  const from = before[steps.findIndex(({ do: what }, i) => what === errors && i > 0)] ?? 0
  const behind = all.filter((call) => call >= from)
  const odds = MERGE_CALLS / behind.length
  return behind.filter(() => random.chance(odds))
}

async function runFaults(
  seed: number,
  trace: Trace,
  tally: Tally,
  shrinks: boolean,
): Promise<Failure | undefined> {
  const random = new Random(seed ^ 0xfa)
  const errors = errorsOf(random)
  const swept = sweptTrace(trace, errors)
  const calls = await callsOf(swept)
  const planOf = (place: FaultPlace, crashesPerCall: number | undefined) => (): Plan => ({
    crashesPerCall,
    crashesFrom: place.call,
    // Drawn anew for each run, so that the same faults come again.
    fault: faultsFrom(place.call, new Random(place.draws)),
  })
  if (calls.violation !== undefined) {
    const count = planOf({ call: Number.POSITIVE_INFINITY, draws: 0 }, undefined)
    return await failureOf('fault', seed, swept, calls.violation, shrinks ? count : undefined)
  }
  for (const call of placesOf(calls, swept, errors, random)) {
    const place = { call, draws: random.below(2 ** 31) }
    const plan = planOf(place, random.chance(errors === 'some' ? 0.4 : 0.04) ? 3 : undefined)
    const violation = await simulate(swept, plan(), tally)
    if (violation === undefined) continue
    const failure = await failureOf('fault', seed, swept, violation, shrinks ? plan : undefined)
    return { ...failure, fault: place }
  }
  return undefined
}

function everyCall(calls: Map<CallKind, number[]>): number[] {
  return [...calls.values()].flat().sort((a, b) => a - b)
}

/** Every kind of call as often as any other: most are reads, and few are the ones that matter. */
function* someCalls(calls: Map<CallKind, number[]>, random: Random): Generator<number> {
  const kinds = [...calls.keys()]
  const heavy = kinds.filter((kind) => ['write', 'sync', 'syncDirectory'].includes(kind))
  for (let i = 0; i < FAULTS_PER_CASE; i++) {
    const kind = random.pick(heavy.length > 0 && random.chance(0.3) ? heavy : kinds)
    yield random.pick(calls.get(kind) ?? [1])
  }
}

function hurtsOf(victim: Victim, random: Random): Hurt[] {
  const files = filesOf(victim)
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
  try {
    const victim = await leave(trace, random, tally, false, random.chance(CACHED))
    for (const hurt of [...hurtsOf(victim, random), ...(await hurtsOfCaches(victim, trace, random))]) {
      await suffer(victim, hurt, random, tally, roleFor(victim, hurt, random))
    }
    return undefined
  } catch (error) {
    if (!(error instanceof Violation)) throw error
    return { kind: 'rot', seed, rule: error.rule, message: error.message, where: error.where, trace }
  }
}

function leave(
  trace: Trace,
  random: Random,
  tally: Tally,
  keepsMidway = false,
  keepsCaches = false,
): Promise<Victim> {
  const end = { isClosed: random.chance(0.6), isMerged: random.chance(0.4) }
  return new Simulation(trace, { crashesPerCall: undefined, keepsMidway, keepsCaches }, tally).victim(end)
}

/** Those of caches, where the victim has any. */
async function hurtsOfCaches(victim: Victim, trace: Trace, random: Random): Promise<Hurt[]> {
  if (victim.caches.length === 0) return []
  // What is written to it is not the same.
  const others = trace.steps.filter((_, i) => i % 5 > 0)
  const other = await leave(
    { ...trace, seed: trace.seed ^ 1, steps: others },
    random,
    newTally(),
    false,
    true,
  )
  const foreign = other.caches.map((name) => ({ name, bytes: fileOf(other.disk, name).live.bytes.slice() }))
  return cacheHurts(victim.disk, { past: victim.past, foreign }, random)
}

function roleFor({ isEnded }: Victim, { path, other }: Hurt, random: Random): Role {
  if (!random.chance(WRITERS)) return 'reader'
  const isOfSegments = path !== 'MANIFEST' && other !== 'MANIFEST'
  const roles: Role[] = ['writer', 'merger']
  return random.pick(isEnded && isOfSegments ? [...roles, 'owner'] : roles)
}

/** Whether the store of this seed is one that a crash has left between two changes of names. */
function isMidway(seed: number): boolean {
  return new Random(seed ^ 0x31d).chance(MIDWAY)
}

function mergingTrace(seed: number): Trace {
  const random = new Random(seed * 31 + 8)
  return traceOf(seed, { steps: 30 + random.below(50), hasLarge: false, isMerging: true })
}

async function runRepair(seed: number, trace: Trace, tally: Tally): Promise<Failure | undefined> {
  const random = new Random(seed ^ 0x4e9a)
  try {
    const isLeftMidway = isMidway(seed)
    const victim = await leave(trace, random, tally, isLeftMidway)
    const hurts = hurtsOf(victim, random)
    for (let i = 0; i < REPAIRS_PER_CASE; i++) {
      const some = Array.from({ length: 1 + random.below(3) }, () => random.pick(hurts))
      if (isLeftMidway && random.chance(0.7)) some[0] = removed('MANIFEST')
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
