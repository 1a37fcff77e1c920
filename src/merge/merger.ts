// Merges one after the other: those that are asked for, and those that the policy calls for.
import type { Segment } from '../catalog'
import { CaskyError, typed } from '../errors'
import { freeBytesAt, tryRemove } from '../io'
import type { Jobs } from '../jobs'
import type { Kernels } from '../kernels'
import type { Pace } from '../pace'
import type { Replaced } from '../replaced'
import {
  asEnded,
  deadBytesOf,
  isInWindow,
  isUseful,
  keptBytesOf,
  type MergePlan,
  type MergeSettings,
  planAll,
  planAutomatic,
} from './policy'
import { type MergeRooms, MergeRun, type RunOutcome } from './run'

/** After so long it is looked again whether something calls for a merge. */
const LOOK_AGAIN_MS = 60_000
/** Room beside what a merge copies: for the manifest, and for writes that go on. */
const SPARE_BYTES = 0x10_0000

const NOTHING_CHANGED = 'nothing was changed'

export interface MergeProgress {
  phase: 'merge'
  /** Which run of segments, from 1 on, and how many there are. */
  run: number
  runs: number
  bytesDone: number
  bytesTotal: number
}

export interface MergeReport {
  /** Why it ran. */
  reason: string
  /** Segments that were there for it, and what they became. */
  segmentsBefore: number
  segmentsAfter: number
  recordsRead: number
  recordsWritten: number
  /** Entries among those that were read that had expired. */
  recordsExpired: number
  bytesRead: number
  bytesWritten: number
  /** By so much the segments are smaller. Files that are still read from go once they aren't any more. */
  freedBytes: number
  durationMs: number
  /** For so long it held up the event loop at most. */
  longestSliceMs: number
  /** Segments that were left as they are, since they are damaged: `check` says how, and `repair` mends it. */
  damaged: string[]
}

export interface MergeStats {
  /** Since the store was opened. */
  count: number
  isRunning: boolean
  recordsWritten: number
  bytesRead: number
  bytesWritten: number
  freedBytes: number
  last: MergeReport | undefined
  /** Why the last one that ran by itself failed; it is tried again. */
  lastError: CaskyError | undefined
}

export interface MergerRooms extends MergeRooms {
  replaced: Replaced
  /** The pace of so many bytes a second; 0: as many as there are. */
  pace: (maxBytesPerSecond: number, isAwaited?: boolean) => Pace
  maxSegmentBytes: number
  /** Has all of the index come in: only then it is exact what is live where. */
  allIn: () => Promise<void>
  /** Used by one job at a time. */
  jobKernels: () => Kernels
  /** Ends the segment that is written to. */
  endSegment: () => Promise<void>
  /** Called when segments have been replaced. */
  onMerged: () => void
  /** Finds out what is wrong with a segment, for `health()`. */
  examine: (segment: Segment) => Promise<void>
}

export interface MergeCall {
  maxBytesPerSecond: number
  /** Whether somebody waits for its end. */
  isAwaited: boolean
  onProgress?: ((progress: MergeProgress) => void) | undefined
  signal?: AbortSignal | undefined
}

export const NO_MERGES: MergeStats = {
  count: 0,
  isRunning: false,
  recordsWritten: 0,
  bytesRead: 0,
  bytesWritten: 0,
  freedBytes: 0,
  last: undefined,
  lastError: undefined,
}

export class Merger {
  readonly stats: MergeStats = { ...NO_MERGES }
  private isConsidering = false
  private run: MergeRun | undefined
  private pace: Pace | undefined
  private cancelTimer: (() => void) | undefined
  /** Damage was met in them; they stay as they are. */
  private readonly spoiled = new Set<Segment>()
  /** Whose keys were not pointed to the copies yet, since that has failed. */
  private readonly unmoved: { run: MergeRun; merged: Segment; segments: readonly Segment[] }[] = []

  /** Files that are to be removed, one after the other, and when those that were begun are gone. */
  private readonly doomed = new Set<string>()
  removed: Promise<void> = Promise.resolve()

  /** `settings`: undefined where no merge runs by itself. */
  constructor(
    private readonly rooms: MergerRooms,
    private readonly settings: MergeSettings | undefined,
    private readonly jobs: Jobs,
  ) {}

  /** Merges all that makes the store smaller, or its files fewer. */
  merge(call: MergeCall): Promise<MergeReport> {
    return this.queue(async () => {
      const { catalog, maxSegmentBytes } = this.rooms
      // Before the segment that is written to ends for it: a refusal leaves everything as it was.
      const { runs } = planAll(asEnded(catalog.segments), maxSegmentBytes, this.mayMerge)
      await this.checkRoom(runs, NOTHING_CHANGED)
      this.check(call.signal)
      await this.rooms.endSegment()
      this.check(call.signal)
      const report = await this.carryOut(planAll(catalog.segments, maxSegmentBytes, this.mayMerge), call)
      await this.removed
      return report
    })
  }

  /** Looks whether something calls for a merge, soon and from time to time. */
  consider(): void {
    const { settings } = this
    if (settings === undefined || this.isConsidering || this.jobs.isStopped) return
    this.isConsidering = true
    this.rooms.host.soon(() => {
      this.isConsidering = false
      if (this.jobs.isStopped) return
      this.armTimer()
      if (!this.stats.isRunning) this.mergeIfDue(settings)
    })
  }

  private armTimer(): void {
    this.cancelTimer?.()
    this.cancelTimer = this.rooms.host.later(LOOK_AGAIN_MS, () => {
      this.cancelTimer = undefined
      this.consider()
    })
  }

  private mergeIfDue(settings: MergeSettings): void {
    if (this.planDue(settings) === undefined) return
    const { maxBytesPerSecond } = settings
    // Another one may come before it: what is due is only known once its turn has come.
    this.queue(async () => {
      const plan = this.planDue(settings)
      if (plan === undefined) return undefined
      await this.checkRoom(plan.runs, NOTHING_CHANGED)
      this.check(undefined)
      return this.carryOut(plan, { maxBytesPerSecond, isAwaited: false })
    }).then(
      (report) => {
        this.stats.lastError = undefined
        if (report === undefined) return
        // What gained nothing would be called for again, for ever.
        if (report.freedBytes > 0 || report.segmentsAfter < report.segmentsBefore) this.consider()
      },
      (error) => {
        // Tried again when the timer says so.
        if ((error as CaskyError).code !== 'CASKY_CLOSED') this.stats.lastError = error
      },
    )
  }

  private planDue(settings: MergeSettings): MergePlan | undefined {
    const { catalog, health, host, maxSegmentBytes } = this.rooms
    if (health.poisoned !== undefined || !isInWindow(settings, host.nowMs())) return undefined
    return planAutomatic(catalog.segments, settings, maxSegmentBytes, this.mayMerge)
  }

  private readonly mayMerge = (segment: Segment): boolean => {
    return !this.spoiled.has(segment) && !this.rooms.health.isDamaged(segment.path)
  }

  private queue<T>(work: () => Promise<T>): Promise<T> {
    return this.jobs.add(async () => {
      this.check(undefined)
      this.stats.isRunning = true
      try {
        await this.rooms.allIn()
        this.check(undefined)
        await this.moveAll()
        return await work()
      } catch (error) {
        throw typed('merge', this.rooms.catalog.directory, error)
      } finally {
        this.stats.isRunning = false
      }
    })
  }

  private check(signal: AbortSignal | undefined): void {
    const { catalog, health } = this.rooms
    if (this.jobs.isStopped) {
      throw new CaskyError(
        'CASKY_CLOSED',
        `the store was closed before its merge was done: ${catalog.directory}`,
        {
          path: catalog.directory,
        },
      )
    }
    if (health.poisoned !== undefined) throw health.poisoned
    if (signal?.aborted !== true) return
    throw new CaskyError('CASKY_ABORTED', 'the merge was aborted; what it had finished stays', {
      path: catalog.directory,
      cause: signal.reason,
    })
  }

  private async carryOut(plan: MergePlan, call: MergeCall): Promise<MergeReport> {
    const { catalog, host } = this.rooms
    const pace = this.rooms.pace(call.maxBytesPerSecond, call.isAwaited)
    this.pace = pace
    const startedMs = host.clockMs()
    const total = (of: (segment: Segment) => number): number =>
      catalog.segments.reduce((sum, segment) => sum + of(segment), 0)
    const report: MergeReport = {
      reason: plan.reason,
      segmentsBefore: catalog.segments.length,
      segmentsAfter: 0,
      recordsRead: 0,
      recordsWritten: 0,
      recordsExpired: 0,
      bytesRead: 0,
      bytesWritten: 0,
      freedBytes: 0,
      durationMs: 0,
      longestSliceMs: 0,
      damaged: catalog.segments
        .filter((segment) => segment.state !== 'active' && !this.mayMerge(segment))
        .map(({ path }) => path),
    }
    try {
      await this.eachRun(plan, call, pace, report)
    } finally {
      this.pace = undefined
      pace.endSlice()
      report.segmentsAfter = total(() => 1)
      report.durationMs = host.clockMs() - startedMs
      report.longestSliceMs = pace.longestSliceMs
      this.count(report)
    }
    return report
  }

  private count(report: MergeReport): void {
    const { stats } = this
    stats.count++
    stats.recordsWritten += report.recordsWritten
    stats.bytesRead += report.bytesRead
    stats.bytesWritten += report.bytesWritten
    stats.freedBytes += report.freedBytes
    stats.last = report
  }

  private async eachRun(plan: MergePlan, call: MergeCall, pace: Pace, report: MergeReport): Promise<void> {
    const { catalog } = this.rooms
    const sizeOf = (segments: readonly Segment[]): number =>
      segments.reduce((sum, { bytes }) => sum + bytes, 0)
    const bytesTotal = sizeOf(plan.runs.flat())
    const check = (): void => this.check(call.signal)
    /** What this merge wrote: it holds nothing that a delete in a later one of its runs hides. */
    const fresh = new Set<Segment>()
    let bytesDone = 0
    const kernels = this.rooms.jobKernels()
    const runs = [...plan.runs]
    for (let i = 0; i < runs.length; i++) {
      const segments = runs[i]
      const older = catalog.segments.slice(0, catalog.segments.indexOf(segments[0]))
      const dropsTombstones = older.every((segment) => fresh.has(segment) || this.holdsLiveOnly(segment))
      await this.checkRoom([segments], i === 0 ? 'nothing was merged' : 'what it had finished stays')
      check()
      const onProgress = (bytes: number): void =>
        call.onProgress?.({
          phase: 'merge',
          run: i + 1,
          runs: runs.length,
          bytesDone: bytesDone + bytes,
          bytesTotal,
        })
      onProgress(0)
      pace.beginSlice()
      const run = new MergeRun(this.rooms, kernels, pace, { segments, dropsTombstones }, check, onProgress)
      this.run = run
      let outcome: RunOutcome
      try {
        outcome = await run.execute()
      } finally {
        this.run = undefined
      }
      report.recordsRead += outcome.recordsRead
      report.bytesRead += outcome.bytesRead
      const { damaged, merged } = outcome
      if (damaged !== undefined) {
        await this.spoil(damaged, report)
        // What stands before and behind it is merged without it.
        const at = segments.indexOf(damaged)
        const parts = [segments.slice(0, at), segments.slice(at + 1)]
        runs.splice(i + 1, 0, ...parts.filter((part) => isUseful(part, catalog.segments)))
      }
      if (merged !== undefined) {
        this.unmoved.push({ run, merged, segments })
        report.recordsWritten += outcome.recordsWritten
        report.recordsExpired += outcome.recordsExpired
        report.bytesWritten += outcome.bytesWritten
        report.freedBytes += sizeOf(segments) - outcome.bytesWritten
        fresh.add(merged)
        await this.moveAll()
      }
      if (damaged === undefined) bytesDone += sizeOf(segments)
    }
  }

  /** Whatever ends a merge early, what its manifest names is not merged again before the keys point to it. */
  private async moveAll(): Promise<void> {
    for (let next = this.unmoved[0]; next !== undefined; next = this.unmoved[0]) {
      this.run = next.run
      try {
        await next.run.move(next.merged, () => this.check(undefined))
      } finally {
        this.run = undefined
      }
      this.unmoved.shift()
      this.retire(next.segments)
    }
  }

  private holdsLiveOnly(segment: Segment): boolean {
    return segment.state !== 'active' && deadBytesOf(segment) === 0 && this.mayMerge(segment)
  }

  private async spoil(segment: Segment, report: MergeReport): Promise<void> {
    this.spoiled.add(segment)
    report.damaged.push(segment.path)
    await this.rooms.examine(segment)
  }

  /** Says so before anything is written, where there is no room for what will be. Each run gives back what it took. */
  private async checkRoom(runs: readonly (readonly Segment[])[], outcome: string): Promise<void> {
    if (runs.length === 0) return
    const { catalog, host } = this.rooms
    const { directory } = catalog
    const needed = SPARE_BYTES + runs.reduce((most, run) => Math.max(most, keptBytesOf(run)), 0)
    let free = freeBytesAt(host, directory)
    if (free < needed) {
      // What was replaced may be on its way out.
      await this.removed
      free = freeBytesAt(host, directory)
    }
    if (free >= needed) return
    throw new CaskyError(
      'CASKY_NO_SPACE',
      `a merge copies before it frees: it needs ${needed} bytes, and ${free} are free; ${outcome}: ${directory}`,
      { path: directory, expected: needed, got: free },
    )
  }

  /** Their files go once nobody reads from them. */
  private retire(segments: readonly Segment[]): void {
    this.rooms.onMerged()
    this.rooms.replaced.add(segments, ({ path }) => {
      this.doomed.add(path)
      this.removed = this.removed.then(() => this.remove(path))
    })
  }

  /** What can't be removed is found, and removed, by the next open. */
  private remove(path: string): Promise<void> {
    return new Promise((resolve) => {
      if (!this.doomed.delete(path)) resolve()
      else this.rooms.host.removeLater(path, () => resolve())
    })
  }

  /**
   * Ends what is under way, at once: what no manifest names is taken back, and what none names any more removed. A merge
   * that waits for the last sync leaves its inputs to the next open.
   */
  stop(): void {
    if (this.jobs.isStopped) return
    this.jobs.isStopped = true
    this.cancelTimer?.()
    this.rooms.publisher.stop()
    this.run?.discard()
    this.pace?.stop()
    const { host, health, replaced } = this.rooms
    const paths = [...this.doomed, ...[...replaced.segments].map(({ path }) => path)]
    if (health.poisoned === undefined) for (const path of paths) tryRemove(host, path)
    this.doomed.clear()
    replaced.clear()
  }
}
