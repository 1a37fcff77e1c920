// Repair under the simulator: on a store that rot has hit, with a crash or an error at each call, and again after it.
import type { Casky } from '../../src/index'
import { Kernels } from '../../src/kernels'
import { decodeSegmentHeader, SEGMENT_HEADER_BYTES, type SegmentHeader } from '../../src/segment'
import { openSyncOn } from '../../src/store'
import { checkSteps, repairSteps } from '../../src/upkeep'
import { type ReferenceRecord, referenceSegment } from '../support/reference'
import { choices, crashed, imageOf } from './crash'
import type { Node, SimDisk } from './disk'
import { faultsFrom } from './faults'
import { isLive } from './model'
import { type Tally, Violation } from './oracle'
import type { Random } from './random'
import { type Hurt, removed } from './rot'
import type { Victim } from './victim'
import { STORE, World } from './world'

const RULE = 'D10 repair'
const CRASHES_PER_CALL = 2
const FAULTS = 6
const KERNELS = new Kernels()

type Steps<T> = Generator<unknown, T, never>

/** Runs steps that wait for nothing but what a lonely beacon answers at once. */
function finished<T>(steps: Steps<T>): T {
  let step = steps.next()
  while (!step.done) step = steps.next('dead' as never)
  return step.value
}

type Contents = Map<string, string>

/** What a store holds, and what it says of itself; undefined where it does not open. */
interface Seen {
  contents: Contents
  /** Keys that can't be read. */
  damaged: Set<string>
  damage: string[]
}

interface Loss {
  keys: Uint8Array[]
  /** Of a record whose value is lost; a batch with a hole in it has none. */
  firstSequence?: number
}

/** A store after a repair. */
interface Repaired extends Seen {
  lost: Loss[]
  wasSound: boolean
  disk: SimDisk
}

export class Mending {
  constructor(
    private readonly victim: Victim,
    private readonly hurts: Hurt[],
    private readonly random: Random,
    private readonly tally: Tally,
  ) {}

  private get where(): string {
    return this.hurts.map(({ path, what }) => `${path} ${what}`).join(', ')
  }

  private fail(what: string): never {
    throw new Violation(RULE, `${what} (${this.where})`)
  }

  private worldOn(disk: SimDisk): World {
    const world = new World(disk, this.random)
    world.nowMs = this.victim.nowMs
    return world
  }

  private copyOf(disk: SimDisk): SimDisk {
    return crashed(disk, { files: new Map(), directories: new Map() }, this.random)
  }

  /** The victim, with these of the hurts. */
  private hurt(isWanted: (hurt: Hurt) => boolean): SimDisk {
    const disk = this.copyOf(this.victim.disk)
    const wanted = this.hurts.filter(isWanted)
    // What one of them takes away, another may still copy from.
    const removals = wanted.filter(({ what }) => what === 'missing')
    for (const hurt of [...wanted.filter((each) => !removals.includes(each)), ...removals]) hurt.apply(disk)
    return disk
  }

  run(): void {
    this.tally.flips++
    const damaged = this.hurt(() => true)
    const before = this.see(this.copyOf(damaged))
    const isOk = this.checked(this.copyOf(damaged))
    if (isOk !== (before !== undefined && before.damage.length === 0)) this.fail('check and open differ')
    const repaired = this.repairedFrom(damaged)
    if (repaired === undefined) return
    this.judge(before, repaired)
    this.loseManifest(repaired)
    this.crash(damaged, before, repaired.contents)
    this.err(damaged, before, repaired.contents)
  }

  private see(disk: SimDisk): Seen | undefined {
    const world = this.worldOn(disk)
    try {
      const db = openSyncOn<'utf8', 'utf8'>(world.ground, STORE, { readOnly: true, cacheBytes: 0 })
      return seen(db)
    } catch (error) {
      if ((error as { code?: string }).code?.startsWith('CASKY_') !== true) throw error
      return undefined
    } finally {
      world.kill()
    }
  }

  private checked(disk: SimDisk): boolean {
    const world = this.worldOn(disk)
    try {
      return finished(checkSteps(world.ground.host, STORE) as Steps<{ ok: boolean }>).ok
    } catch (error) {
      if ((error as { code?: string }).code?.startsWith('CASKY_') !== true) throw error
      return false
    } finally {
      world.kill()
    }
  }

  /** Every file that held something is where it was, or in a directory of originals. */
  private expectOriginals(before: SimDisk, after: SimDisk): void {
    const is = hashesIn(after)
    for (const [path, hash] of hashesIn(before)) {
      const name = path.slice(path.lastIndexOf('/') + 1)
      // What a merge has replaced, and a crash left, holds nothing of its own.
      if (name !== 'MANIFEST' && !this.victim.segments.some((segment) => segment.name === name)) continue
      const isKept = [...is].some(([other, its]) => its === hash && other.endsWith(`/${name}`))
      if (!isKept) this.fail(`${path} is not kept`)
    }
  }

  /** The store after a repair that nothing disturbs; undefined where nothing of it can be read. */
  private repairedFrom(disk: SimDisk, when = ''): Repaired | undefined {
    const world = this.worldOn(this.copyOf(disk))
    let report: Pick<Repaired, 'lost' | 'wasSound'>
    try {
      const { host, beacon } = world.ground
      report = finished(repairSteps(host, beacon, STORE) as Steps<typeof report>)
    } catch (error) {
      const { code } = error as { code?: string }
      // With no header left and a manifest that doesn't begin as one, nothing says that this is a store.
      if (code === 'CASKY_CORRUPT' || code === 'CASKY_NOT_FOUND' || code === 'CASKY_NOT_A_STORE')
        return undefined
      this.fail(`${when}repair fails: ${(error as Error).message}`)
    }
    if (world.openHandles.length > 0) this.fail(`${when}repair leaves open: ${world.openHandles.join(', ')}`)
    world.kill()
    // What a crash left of an earlier repair's copies may go.
    if (when === '') this.expectOriginals(disk, world.disk)
    const after = this.see(this.copyOf(world.disk))
    if (after === undefined) this.fail(`${when}the repaired store does not open`)
    if (after.damage.length > 0) this.fail(`${when}the repaired store is damaged: ${after.damage.join('; ')}`)
    if (!this.checked(this.copyOf(world.disk))) this.fail(`${when}check finds damage in the repaired store`)
    const { lost, wasSound } = report
    return { ...after, lost, wasSound, disk: this.copyOf(world.disk) }
  }

  /**
   * The segments of a repaired store tell all that its manifest does, once what was replaced is gone. Not after a crash
   * that kept it: of an original of which nothing could be read with its manifest, more may be read without. Where
   * nothing was wrong, nothing was removed, and of the end of a log that nobody had ended, what an earlier crash left may
   * tell: it holds that end, or says how long it was, so that what passed for torn is lost.
   */
  private loseManifest({ disk, contents, wasSound }: Repaired): void {
    const hasData = [...hashesIn(disk).keys()].some((path) => path.endsWith('.data'))
    removed('MANIFEST').apply(disk)
    const world = this.worldOn(disk)
    let lost: Loss[]
    try {
      const { host, beacon } = world.ground
      lost = finished(repairSteps(host, beacon, STORE) as Steps<{ lost: Loss[] }>).lost
    } catch (error) {
      const { code } = error as { code?: string }
      // Of a store without a record there may be no segment, or the beginning of a header.
      const isNone = code === 'CASKY_NOT_FOUND' || (code === 'CASKY_CORRUPT' && !hasData)
      if (isNone && contents.size === 0) return
      this.fail(`without its manifest, a second repair fails: ${(error as Error).message}`)
    }
    world.kill()
    const after = this.see(this.copyOf(world.disk))
    if (after === undefined || after.damage.length > 0)
      this.fail('repaired without its manifest, it is damaged')
    const differing = keysThatDiffer(after.contents, contents).filter(
      (key) => !wasSound || !this.isOfTornEnd(disk, key, after.contents.get(key), lost),
    )
    if (differing.length > 0) this.fail(`without its manifest, ${differing.join(', ')} come to another end`)
  }

  /** Told by a copy of an end that no manifest came to name; or gone, and reported. */
  private isOfTornEnd(disk: SimDisk, key: string, value: string | undefined, lost: Loss[]): boolean {
    const isCopied = segmentsIn(disk).some(
      ({ name, header, records }) =>
        header?.copies !== undefined &&
        header.previous.id === header.copies.segmentId &&
        !this.isNamed(name) &&
        records.some((each) => each.key.toString() === key),
    )
    return isCopied || (value === undefined && isReported(key, lost))
  }

  private isNamed(name: string): boolean {
    return this.victim.segments.some((segment) => segment.name === name)
  }

  /** What could be read before can be read now; what could not is gone, never older. */
  private judge(before: Seen | undefined, repaired: Repaired): void {
    const { expected, nowMs, written } = this.victim
    // The end of a log that nobody ended may pass for a write that was never acknowledged. Without the manifest that
    // holds for one that was ended, too: once the last seal is hit as well, nothing that is read tells of the end.
    const isHurt = (name: string | undefined) => this.hurts.some(({ path }) => path === name)
    const mayEndEarly =
      !this.victim.isEnded || (isHurt('MANIFEST') && isHurt(this.victim.segments.at(-1)?.name))
    const readable = before ?? this.see(this.hurt(({ path }) => path !== 'MANIFEST'))
    for (const [key, value] of repaired.contents) {
      const right = expected.get(key)
      if (right?.value === value) continue
      if (written.get(key)?.has(value) !== true) this.fail(`${key} has a value that nobody wrote`)
      if (repaired.lost.length === 0 && !mayEndEarly)
        this.fail(`${key} has an older value, and nothing is reported lost`)
      // A record that is newer than the one that is reported lost may be read, and where one that is newer still can't
      // be, not even its key, it is what the key has: as in a store that has its manifest.
      for (const each of repaired.lost) {
        if (!isReported(key, [each])) continue
        const { firstSequence } = each
        const isNewer =
          firstSequence === undefined
            ? readable?.contents.get(key) === value
            : sequenceOf(repaired.disk, key, value) > firstSequence
        if (!isNewer) this.fail(`${key} is reported lost, and has an older value`)
      }
    }
    for (const [key, entry] of expected) {
      if (!isLive(entry, nowMs) || repaired.contents.has(key)) continue
      if (before?.contents.get(key) === entry.value) this.fail(`${key} could be read before the repair`)
      if (repaired.lost.length === 0 && !mayEndEarly) this.fail(`${key} is gone, and nothing is reported`)
    }
  }

  /** A crash at each call leaves the old state or the new one, and a second repair comes to the same. */
  private crash(damaged: SimDisk, before: Seen | undefined, repaired: Contents): void {
    const world = this.worldOn(this.copyOf(damaged))
    const seenImages = new Set<string>()
    let found: unknown
    world.watcher = {
      after: (kind, path) => {
        if (path.includes('/LOCK') || found !== undefined) return
        try {
          for (const choice of choices(world.disk, CRASHES_PER_CALL, this.random)) {
            const image = crashed(world.disk, choice, this.random)
            const name = imageOf(image)
            if (seenImages.has(name)) continue
            seenImages.add(name)
            this.tally.nested++
            this.goesOnFrom(image, before, repaired, `a crash after ${kind} ${path}`)
          }
        } catch (error) {
          found = error
        }
      },
    }
    const { host, beacon } = world.ground
    finished(repairSteps(host, beacon, STORE) as Steps<unknown>)
    world.kill()
    if (found !== undefined) throw found
  }

  /** As `crash`, with errors of the system. */
  private err(damaged: SimDisk, before: Seen | undefined, repaired: Contents): void {
    for (let i = 0; i < FAULTS; i++) {
      const world = this.worldOn(this.copyOf(damaged))
      const fault = faultsFrom(1 + this.random.below(120), this.random.fork())
      world.watcher = {
        before: (kind) => {
          const befalls = fault(world.calls, kind)
          if (befalls === undefined) return undefined
          this.tally.faults++
          return befalls
        },
      }
      try {
        finished(repairSteps(world.ground.host, world.ground.beacon, STORE) as Steps<unknown>)
      } catch (error) {
        // What the system throws gets its type at the door (src/store).
        if (!/^(CASKY_|E[A-Z])/.test((error as { code?: string }).code ?? '')) {
          this.fail(`an error that is not typed: ${(error as Error).stack}`)
        }
      }
      if (world.openHandles.length > 0) this.fail(`an error leaves open: ${world.openHandles.join(', ')}`)
      world.kill()
      world.watcher = {}
      this.goesOnFrom(this.copyOf(world.disk.clone()), before, repaired, 'an error')
    }
  }

  private goesOnFrom(image: SimDisk, before: Seen | undefined, repaired: Contents, when: string): void {
    const now = this.see(this.copyOf(image))
    const isOld =
      now === undefined ? before === undefined : before !== undefined && isSame(now.contents, before.contents)
    const isNew = now !== undefined && isSame(now.contents, repaired)
    if (!isOld && !isNew) this.fail(`${when}: neither the old state nor the new one`)
    const again = this.repairedFrom(image, `${when}, and a second repair: `)
    if (again === undefined) this.fail(`${when}: a second repair finds nothing to repair`)
    const differing = keysThatDiffer(again.contents, repaired)
    if (differing.length > 0)
      this.fail(`${when}: a second repair comes to another end, for ${differing.join(', ')}`)
  }
}

function isReported(key: string, lost: Loss[]): boolean {
  return lost.some(({ keys }) => keys.some((each) => new TextDecoder().decode(each) === key))
}

function seen(db: Casky): Seen {
  const contents: Contents = new Map()
  const damaged = new Set<string>()
  for (const key of db.keys()) {
    try {
      const value = db.get(key)
      if (value !== undefined) contents.set(key, value)
    } catch (error) {
      if ((error as { code?: string }).code !== 'CASKY_CORRUPT') throw error
      damaged.add(key)
    }
  }
  const damage = db
    .health()
    .damage.map(({ path, offset, bytes, reason }) => `${path} ${offset}+${bytes}: ${reason}`)
  return { contents, damaged, damage }
}

interface FoundSegment {
  name: string
  /** undefined where it is damaged; then nothing of it is read. */
  header: SegmentHeader | undefined
  records: ReferenceRecord[]
}

function segmentsIn(disk: SimDisk): FoundSegment[] {
  const node = disk.find(STORE)
  return [...(node?.kind === 'directory' ? node.live : [])].flatMap(([name, file]): FoundSegment[] => {
    if (file.kind !== 'file' || !name.endsWith('.data')) return []
    const bytes = Buffer.from(file.live.bytes.slice(0, file.live.length))
    const { header } = decodeSegmentHeader(KERNELS, bytes)
    return [{ name, header, records: header === undefined ? [] : referenceSegment(bytes).records }]
  })
}

function holds(records: ReferenceRecord[], key: string, value: string): boolean {
  return records.some((each) => each.key.toString() === key && each.value.toString() === value)
}

/** The number of the write that a value came with; no two writes have the same value. */
function sequenceOf(disk: SimDisk, key: string, value: string): number {
  for (const { records } of segmentsIn(disk)) {
    const found = records.find((each) => holds([each], key, value))
    if (found !== undefined) return Number(found.sequence)
  }
  throw new Error(`no record has the value that ${key} has`)
}

function keysThatDiffer(a: Contents, b: Contents): string[] {
  return [...new Set([...a.keys(), ...b.keys()])].filter((key) => a.get(key) !== b.get(key))
}

function isSame(a: Contents, b: Contents): boolean {
  return keysThatDiffer(a, b).length === 0
}

/** What stands in each segment and manifest, by its path; headers alone hold nothing. */
function hashesIn(disk: SimDisk): Map<string, string> {
  const found = new Map<string, string>()
  const visit = (node: Node, path: string): void => {
    if (node.kind === 'directory') {
      for (const [name, child] of node.live) visit(child, `${path}/${name}`)
    } else if (/(\.data|MANIFEST)$/.test(path) && node.live.length > SEGMENT_HEADER_BYTES) {
      found.set(path, node.live.hash.join('.'))
    }
  }
  visit(disk.root, '')
  return found
}
