// A progress bar on standard error, where that is a terminal. It shows only once the work takes a while.
import { SingleBar } from 'cli-progress'
import type { Messages } from './messages'
import { countOf, sizeOf } from './units'

const DELAY_MS = 200
/** The bar guesses the time left from its last updates, so they lie apart. */
const UPDATE_MS = 100
const BAR_COLUMNS_MAX = 40
const BAR_COLUMNS_MIN = 8
/** What stands beside the bar. */
const TEXT_COLUMNS = 62
const COLUMNS = 80
const MS_PER_SECOND = 1000

export interface ProgressOptions {
  label: string
  /** How much there is to do, where it is known. */
  total: number | undefined
  unit: 'bytes' | 'entries'
  isWanted?: boolean
}

export class Progress {
  readonly #messages: Messages
  readonly #options: ProgressOptions
  readonly #isShown: boolean
  #startedAtMs: number | undefined
  #nextAtMs = Date.now() + DELAY_MS
  #bar: SingleBar | undefined

  constructor(messages: Messages, options: ProgressOptions) {
    this.#messages = messages
    this.#options = options
    this.#isShown = process.stderr.isTTY === true && options.isWanted !== false
    if (this.#isShown) messages.draw(this)
  }

  update(done: number): void {
    if (!this.#isShown) return
    const nowMs = Date.now()
    this.#startedAtMs ??= nowMs
    if (nowMs < this.#nextAtMs) return
    this.#nextAtMs = nowMs + UPDATE_MS
    const payload = this.#payload(done, nowMs - this.#startedAtMs)
    if (this.#bar === undefined) {
      this.#bar = this.#make()
      this.#bar.start(Math.max(this.#options.total ?? 0, 1), done, payload)
    } else {
      this.#bar.update(done, payload)
    }
  }

  #make(): SingleBar {
    const { label, total } = this.#options
    const columns = process.stderr.columns ?? COLUMNS
    const picture = total === undefined ? '' : ' {bar} {percentage}%'
    return new SingleBar({
      format: `${label}${picture} · {done} · {rate}/s${total === undefined ? '' : ' · {eta_formatted} left'}`,
      barsize: Math.max(BAR_COLUMNS_MIN, Math.min(BAR_COLUMNS_MAX, columns - TEXT_COLUMNS)),
      barCompleteChar: '█',
      barIncompleteChar: '░',
      clearOnComplete: true,
      stream: process.stderr,
    })
  }

  #payload(done: number, tookMs: number): { done: string; rate: string } {
    const show =
      this.#options.unit === 'bytes' ? sizeOf : (count: number) => countOf(count, 'entry', 'entries')
    const perSecond = Math.round((done * MS_PER_SECOND) / Math.max(1, tookMs))
    return { done: show(done), rate: show(perSecond) }
  }

  /** Off the terminal; the next update but those of a short while brings it back. */
  hide(): void {
    this.#bar?.stop()
    this.#bar = undefined
    this.#nextAtMs = Date.now() + DELAY_MS
  }

  stop(): void {
    this.hide()
    if (this.#isShown) this.#messages.draw(undefined)
  }
}

export interface PhaseProgress<P extends string> {
  update: (at: { phase: P; bytesDone: number; bytesTotal: number }) => void
  stop: () => void
}

/** A bar for each phase of work that says itself how many bytes it will read. */
export function bytesProgress<P extends string>(
  messages: Messages,
  labels: Record<P, string>,
  isWanted: boolean,
): PhaseProgress<P> {
  let shown: { phase: P; progress: Progress } | undefined
  const stop = (): void => shown?.progress.stop()
  return {
    stop,
    update: ({ phase, bytesDone, bytesTotal }) => {
      if (shown?.phase !== phase) {
        stop()
        const options = { label: labels[phase], total: bytesTotal, unit: 'bytes', isWanted } as const
        shown = { phase, progress: new Progress(messages, options) }
      }
      shown.progress.update(bytesDone)
    },
  }
}
