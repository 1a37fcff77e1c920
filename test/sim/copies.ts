// Backups that a trace makes, and what has to come out of each of them after any crash.

import { backupSequenceOf } from '../../src/files'
import type { BackupReport, Casky } from '../../src/index'
import type { Books } from './books'
import { choices, crashed } from './crash'
import type { SimDisk } from './disk'
import { type History, show } from './model'
import { type Tally, Violation } from './oracle'
import type { Random } from './random'
import { type BackupPlace, type Contents, crashRestores, errRestores, restored } from './restoring'
import type { Verdict } from './verdict'
import type { Step } from './workload'
import type { World } from './world'

const RULE = 'D12 a backup is whole'
const BACKUPS = '/backups'
/** How often what a crash leaves is looked at: one in so many, at calls of backups and at others. */
const OWN_CALLS = 4
const OTHER_CALLS = 60
/** Of those that are restored, one in so many is restored with crashes and errors. */
const DEEPER = 20

interface Attempt {
  directory: string
  history: History
  /** It holds the state after so many operations, at least and at most; undefined while it is under way. */
  from: number
  to: number | undefined
  /** Known once it is told that it is there. */
  sequence: number | undefined
  /** Begun while another one went to the same directory. */
  isQueued: boolean
  /** Whether errors were to be expected when it began: taking back what it made takes its time. */
  couldFail: boolean
}

/** What a crash left at some call. */
interface Left {
  disk: SimDisk
  nowMs: number
  where: string
  made: Attempt[]
}

export class Copies {
  private readonly attempts: Attempt[] = []
  private left: Left[] = []

  constructor(
    private readonly books: Books,
    private readonly verdict: Verdict,
    private readonly tally: Tally,
    private readonly random: Random,
    /** What else the trace does may have one refused. */
    private readonly steps: readonly Step[],
  ) {}

  get isUnderWay(): boolean {
    return this.attempts.some(({ to }) => to === undefined)
  }

  /** Begins one, which goes on while the next steps do. */
  begin(
    db: Casky,
    disk: SimDisk,
    { since, abortsAfter }: Step & { do: 'backup' },
    signal: AbortSignal,
  ): void {
    const place = this.placeFor(disk, since)
    if (place === undefined) return
    const { history } = this.books
    const { directory } = place
    const isQueued = this.attempts.some((each) => each.directory === directory && each.to === undefined)
    const attempt: Attempt = {
      directory,
      history,
      from: history.issued,
      to: undefined,
      sequence: undefined,
      isQueued,
      couldFail: this.books.mayFail(),
    }
    this.attempts.push(attempt)
    db.backup(directory, { since: place.since, signal }).then(
      (report) => this.made(attempt, report),
      (error) => this.failed(attempt, error, abortsAfter !== undefined),
    )
  }

  /** A directory for it; what there is to be added to, too, where it is to be added. */
  private placeFor(
    disk: SimDisk,
    since: 'latest' | 'first' | undefined,
  ): { directory: string; since: number | 'latest' | undefined } | undefined {
    const underWay = this.attempts.filter(({ to }) => to === undefined).map((each) => each.directory)
    const count = new Set([...directoriesIn(disk), ...underWay]).size
    const directory = `${BACKUPS}/${Math.max(1, count)}`
    const sequences = sequencesIn(disk, directory)
    const isTaken = underWay.includes(directory)
    if (sequences.length === 0) {
      // What another one is about to make can't be told.
      return isTaken ? undefined : { directory, since: undefined }
    }
    if (since !== undefined) return { directory, since: since === 'latest' ? since : sequences[0] }
    return isTaken ? undefined : { directory: `${BACKUPS}/${count + 1}`, since: undefined }
  }

  private made(attempt: Attempt, { sequence }: BackupReport): void {
    const { history, from } = attempt
    if (attempt.to !== undefined) return
    attempt.to = history.issued
    attempt.sequence = sequence
    // It had all that came before it on disk.
    history.durable = Math.max(history.durable, from)
    history.kept = Math.max(history.kept, from)
  }

  private failed(attempt: Attempt, error: unknown, mayBeAborted: boolean): void {
    if (attempt.to !== undefined) return
    attempt.to = attempt.history.issued
    const { code } = error as { code?: string }
    if (code === 'CASKY_CLOSED' || (code === 'CASKY_ABORTED' && mayBeAborted)) return
    if (code === 'CASKY_NO_SPACE' && this.isDone('mergeInNoRoom')) return
    // The one before it, to which it was to add, was aborted.
    if (code === 'CASKY_NOT_FOUND' && attempt.isQueued) return
    // A check takes a manifest that it can't read for a damaged one.
    if (code === 'CASKY_CORRUPT' && !this.isDone('check'))
      this.verdict.reach(new Violation(RULE, `a backup: ${(error as Error).stack}`))
    else this.books.expectTyped('backup', error, attempt.couldFail)
  }

  private isDone(what: Step['do']): boolean {
    return this.steps.some((step) => step.do === what)
  }

  /** The process is dead, and those under way with it. */
  forget(): void {
    for (const attempt of this.attempts) attempt.to ??= attempt.history.issued
  }

  /** After a call that changed the disk: keeps what a crash would leave, to be looked at later. */
  note({ disk, nowMs }: World, path: string, where: string): void {
    const { random, attempts } = this
    if (attempts.length === 0) return
    if (random.below(path.startsWith(BACKUPS) ? OWN_CALLS : OTHER_CALLS) > 0) return
    const made = attempts.filter(({ sequence }) => sequence !== undefined)
    const cut = random.pick([...choices(disk, 3, random)])
    this.left.push({ disk: crashed(disk, cut, random), nowMs, where, made })
  }

  /** Looks at what crashes have left since. */
  async look(): Promise<void> {
    for (const left of this.left.splice(0)) await this.judge(left, 2)
  }

  /** At the end of a trace, all there is, where the power fails. */
  async end({ disk, nowMs }: World): Promise<void> {
    const made = this.attempts.filter(({ sequence }) => sequence !== undefined)
    const [worst] = choices(disk, 0, this.random)
    const left = { disk: crashed(disk, worst, this.random), nowMs, where: 'a power cut at the end', made }
    await this.judge(left, Number.POSITIVE_INFINITY)
  }

  /** Each that was told of is there, and all that are there can be restored: so many of them are, at most. */
  private async judge({ disk, nowMs, where, made }: Left, most: number): Promise<void> {
    try {
      for (const { directory, sequence } of made) {
        if (!sequencesIn(disk, directory).includes(sequence ?? 0))
          throw new Violation(RULE, `the backup at ${sequence} is not in ${directory}`)
      }
      const places = directoriesIn(disk).flatMap((directory) =>
        sequencesIn(disk, directory).map((sequence) => ({ disk, nowMs, directory, sequence })),
      )
      while (places.length > most) places.splice(this.random.below(places.length), 1)
      for (const place of places) await this.restore(place)
    } catch (error) {
      if (error instanceof Violation) error.where ||= where
      throw error
    }
  }

  private async restore(place: BackupPlace): Promise<void> {
    const { random } = this
    this.tally.restores++
    const contents = await restored(place, random)
    this.expectKnown(place, contents)
    if (random.below(DEEPER) > 0) return
    await crashRestores(place, contents, random)
    await errRestores(place, contents, random)
  }

  /** It is the state at its sequence number, as one of those who made it saw it. */
  private expectKnown({ directory, sequence, nowMs }: BackupPlace, contents: Contents): void {
    const makers = this.attempts.filter(
      (each) => each.directory === directory && (each.sequence ?? sequence) === sequence,
    )
    if (makers.some((maker) => isOf(maker, contents, sequence, nowMs))) return
    throw new Violation(RULE, `${directory} at ${sequence} holds ${show(contents)}, which nobody backed up`)
  }
}

function isOf({ history, from, to }: Attempt, contents: Contents, sequence: number, nowMs: number): boolean {
  for (let count = to ?? history.issued; count >= from; count--) {
    if (!history.mayEndAt(count, sequence)) continue
    if (history.placeOf(contents, count, count, nowMs) !== undefined) return true
  }
  return false
}

function namesIn(disk: SimDisk, path: string): string[] {
  const node = disk.find(path)
  return node?.kind === 'directory' ? [...node.live.keys()] : []
}

function directoriesIn(disk: SimDisk): string[] {
  return namesIn(disk, BACKUPS)
    .sort((a, b) => Number(a) - Number(b))
    .map((name) => `${BACKUPS}/${name}`)
}

function sequencesIn(disk: SimDisk, directory: string): number[] {
  return namesIn(disk, directory)
    .flatMap((name) => backupSequenceOf(name) ?? [])
    .sort((a, b) => a - b)
}
