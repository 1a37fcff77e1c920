// The machine that a trace runs on: one process after another, the errors that befall them, and the turns of their event
// loop.
import type { SimDisk } from './disk'
import { type Tally, Violation } from './oracle'
import type { Random } from './random'
import { type CallKind, type Fault, World } from './world'

export interface Plan {
  /** Crashes by chance at each call, beside the plain ones; none at all where undefined. */
  crashesPerCall: number | undefined
  /** The first call at which there are crashes; from the first on where undefined. */
  crashesFrom?: number
  /** What befalls a call, counted from 1. */
  fault?: (call: number, kind: CallKind) => Fault | undefined
  /** Looks at the backups in what crashes would leave, also where there are none. */
  looksAtBackups?: boolean
  /** Keeps what a crash at some call that changes names would leave, for a victim. */
  keepsMidway?: boolean
  /** Leaves a victim its caches. */
  keepsCaches?: boolean
  /** Before each step: how many calls were made. */
  onStep?: (step: number, calls: number) => void
}

const TURNS_MAX = 10_000
const TURNS_PER_BEAT = 50
const BEAT_MS = 20
/** After an error in one of these it may be unknown what is on disk. */
const POISONING: CallKind[] = ['sync', 'truncate', 'syncDirectory', 'status', 'rename']

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

export class Machine {
  world: World
  /** No more faults; but those that there were may still be heard of. */
  isQuiet = false
  /** No more faults, and none to be heard of. */
  isHealed = false
  /** Who only reads syncs too. Of a failed sync the system tells each who has the file open: here it would tell one. */
  isReading = false
  /** What the disk was asked for before this process. */
  private callsBefore = 0
  /** How files come from one directory to another. */
  private readonly ways: Pick<World, 'canLink' | 'canClone'>
  /** The kinds of calls that faults have befallen since the process began. */
  private befallen = new Set<CallKind>()

  constructor(
    disk: SimDisk,
    nowMs: number,
    private readonly random: Random,
    private readonly plan: Plan,
    private readonly tally: Tally,
    /** After each call that changed the disk. */
    private readonly after: (kind: CallKind, path: string) => void,
  ) {
    const way = random.pick(['link', 'clone', 'copy'] as const)
    this.ways = { canLink: way === 'link', canClone: way === 'clone' || random.chance(0.3) }
    this.world = this.boot(disk, nowMs)
  }

  get calls(): number {
    return this.callsBefore + this.world.calls
  }

  get mayFail(): boolean {
    return this.plan.fault !== undefined && !this.isHealed
  }

  /** Whether an error can have left it unknown what is on disk. */
  get mayBePoisoned(): boolean {
    return POISONING.some((kind) => this.befallen.has(kind))
  }

  private boot(disk: SimDisk, nowMs: number): World {
    const world = new World(disk, this.random)
    world.nowMs = nowMs
    Object.assign(world, this.ways)
    world.watcher = { before: (kind) => this.befall(kind), after: this.after }
    return world
  }

  private befall(kind: CallKind): Fault | undefined {
    if (this.isReading && kind === 'sync') return undefined
    const fault = this.isQuiet || this.isHealed ? undefined : this.plan.fault?.(this.calls, kind)
    if (fault === undefined) return undefined
    this.tally.faults++
    this.befallen.add(kind)
    return fault
  }

  /** A new process on what is left of the disk. */
  reboot(disk: SimDisk): void {
    const { nowMs } = this.world
    this.callsBefore += this.world.calls
    this.befallen = new Set()
    this.world.kill()
    this.world = this.boot(disk, nowMs)
  }

  async drain(): Promise<void> {
    await nextTurn()
    this.world.turn()
    await nextTurn()
  }

  /** Lets the machine run until the promise settles. */
  async until(promise: Promise<unknown>, where: string): Promise<void> {
    let isDone = false
    const end = (): void => {
      isDone = true
    }
    promise.then(end, end)
    for (let turns = 0; !isDone; turns++) {
      if (turns > TURNS_MAX) throw new Violation('D7 errors are typed', `${where}: a promise hangs`)
      await this.drain()
      this.world.endSync()
      // What keeps to a rate waits for the clock.
      if (turns % TURNS_PER_BEAT === TURNS_PER_BEAT - 1) this.world.advance(BEAT_MS)
    }
  }

  async settle(): Promise<void> {
    do {
      await this.drain()
      while (this.world.syncsInFlight > 0) {
        this.world.endSync()
        await this.drain()
      }
      // One that could not begin says so a turn later, when another may begin.
      await this.drain()
    } while (this.world.syncsInFlight > 0)
  }
}
