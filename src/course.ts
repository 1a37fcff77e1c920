// Stages one after the other, off the event loop's thread. Whoever can't wait has the rest of them done on it.
import type { CaskyError } from './errors'
import type { Health } from './health'

/** What a segment's end or begin is made of. Each part may throw: then the course is over. */
export interface Stage {
  /** Done on the thread, once, before the stage is waited for. */
  begin?(): void
  /** Calls `done` some turns of the event loop later. */
  later(done: (error: unknown) => void): void
  /** The same, done on return; also where `later` is under way. */
  now(): void
  /** Done on the thread, once, when the stage is done. */
  end?(): void
}

export class Course {
  private at = -1
  private isOver = false
  private isWaiting = false
  private error: CaskyError | undefined

  /**
   * `onOver` is called once, with an error where a stage has failed; `onIdle` behind it, once, when nothing of it is
   * under way any more.
   */
  constructor(
    private readonly stages: readonly Stage[],
    private readonly health: Health,
    private readonly onOver: (error: CaskyError | undefined) => void,
    private readonly onIdle: (error: CaskyError | undefined) => void,
  ) {}

  /** Begins with the first stage, or goes on with the next. */
  go(): void {
    this.attempt(() => {
      if (this.enter()) this.wait(this.stages[this.at])
      else this.over(undefined)
    })
  }

  private enter(): boolean {
    this.at++
    if (this.at === this.stages.length) return false
    this.stages[this.at].begin?.()
    return true
  }

  private wait(stage: Stage): void {
    this.isWaiting = true
    try {
      stage.later((error) => this.waited(stage, error))
    } catch (error) {
      this.isWaiting = false
      throw error
    }
  }

  private waited(stage: Stage, error: unknown): void {
    this.isWaiting = false
    if (this.isOver) this.onIdle(this.error)
    else if (error !== null && error !== undefined) this.over(error as CaskyError)
    else {
      this.attempt(() => {
        stage.end?.()
        this.go()
      })
    }
  }

  /** On return it is over, one way or the other; returns why it failed. */
  finish(): CaskyError | undefined {
    if (this.isOver) return this.error
    if (this.health.poisoned !== undefined) this.over(this.health.poisoned)
    else {
      this.attempt(() => {
        for (let isThere = this.at >= 0 || this.enter(); isThere; isThere = this.enter()) {
          const stage = this.stages[this.at]
          stage.now()
          stage.end?.()
        }
        this.over(undefined)
      })
    }
    return this.error
  }

  private attempt(step: () => void): void {
    try {
      step()
    } catch (error) {
      this.over(error as CaskyError)
    }
  }

  private over(error: CaskyError | undefined): void {
    if (this.isOver) return
    this.isOver = true
    this.error = error
    this.onOver(error)
    if (!this.isWaiting) this.onIdle(error)
  }
}
