// Who still reads by places that were true once: iterators, snapshots, backups, checks. A segment that a merge has
// replaced lives until the last of them is done.

/** Lets go; a second time is fine. */
export type Unpin = () => void

export class Pins {
  /** Counts what was put off, so that each pin knows what it came before. */
  private epoch = 0
  /** How many pins of each epoch are held. */
  private readonly held = new Map<number, number>()
  private waiting: { epoch: number; run: () => void }[] = []

  /** From now on nothing is run that is put off later, until the pin is let go. */
  pin(): Unpin {
    const { epoch } = this
    this.held.set(epoch, (this.held.get(epoch) ?? 0) + 1)
    let isHeld = true
    return () => {
      if (!isHeld) return
      isHeld = false
      const left = (this.held.get(epoch) ?? 1) - 1
      if (left > 0) this.held.set(epoch, left)
      else this.held.delete(epoch)
      this.runDue()
    }
  }

  get count(): number {
    let count = 0
    for (const each of this.held.values()) count += each
    return count
  }

  /** Runs it once nobody who holds a pin by now is left: at once, where there is nobody. */
  whenFree(run: () => void): void {
    this.waiting.push({ epoch: this.epoch++, run })
    this.runDue()
  }

  private runDue(): void {
    const oldest = Math.min(Number.POSITIVE_INFINITY, ...this.held.keys())
    const due = this.waiting.filter(({ epoch }) => epoch < oldest)
    this.waiting = this.waiting.filter(({ epoch }) => epoch >= oldest)
    for (const { run } of due) run()
  }
}
