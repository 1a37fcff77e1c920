// The end of a segment: synced, sealed, and synced again, off the event loop's thread. Whoever can't wait finishes it.
import type { ActiveSegment } from './active'
import type { CaskyError } from './errors'
import type { Health } from './health'

export class Ending {
  private isSealWritten = false
  private isOver = false
  private isSyncing = false
  private error: CaskyError | undefined

  /**
   * `onOver` is called once, with an error where the segment stays active; `done` behind it, when no sync of it is under
   * way any more.
   */
  constructor(
    private readonly active: ActiveSegment,
    private readonly health: Health,
    private readonly onOver: (error: CaskyError | undefined) => void,
    private readonly done: (error: CaskyError | undefined) => void,
  ) {
    this.syncLater()
  }

  private syncLater(): void {
    this.isSyncing = true
    this.active.syncLater((error) => {
      this.isSyncing = false
      if (this.isOver) this.done(this.error)
      else if (error !== undefined) this.over(error)
      else if (this.isSealWritten) this.sealed()
      else this.attempt(() => this.writeSeal(() => this.syncLater()))
    })
  }

  /** On return it is over, one way or the other. */
  finish(): void {
    if (this.health.poisoned !== undefined) this.over(this.health.poisoned)
    else {
      this.attempt(() => {
        this.active.sync()
        if (!this.isSealWritten) this.writeSeal(() => this.active.sync())
        this.sealed()
      })
    }
  }

  private writeSeal(sync: () => void): void {
    this.active.writeSeal()
    this.isSealWritten = true
    sync()
  }

  private attempt(step: () => void): void {
    try {
      step()
    } catch (error) {
      this.over(error as CaskyError)
    }
  }

  private sealed(): void {
    this.active.segment.state = 'sealed'
    this.over(undefined)
  }

  private over(error: CaskyError | undefined): void {
    this.isOver = true
    this.error = error
    this.onOver(error)
    if (!this.isSyncing) this.done(error)
  }
}
