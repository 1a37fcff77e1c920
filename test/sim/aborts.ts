// What a trace has begun and will abort, at some later step.

export class Aborts {
  private waiting: { step: number; controller: AbortController }[] = []

  /** Aborted at this step; never where undefined. */
  signalFor(step: number | undefined): AbortSignal {
    const controller = new AbortController()
    if (step !== undefined) this.waiting.push({ step, controller })
    return controller.signal
  }

  reach(step: number): void {
    for (const { step: at, controller } of this.waiting) if (at === step) controller.abort()
  }

  /** The process is dead. */
  forget(): void {
    this.waiting = []
  }
}
