// The first rule that a trace breaks. What is noted inside a host call must not be thrown there: a store would take it
// for the system's error.
import { Violation } from './oracle'

export class Verdict {
  private violation: Violation | undefined
  private doubts: Violation[] = []

  get isReached(): boolean {
    return this.violation !== undefined
  }

  reach(violation: Violation): void {
    this.violation ??= violation
  }

  /** Of a crash; where writes `mayFail`, one may have been refused, and whoever waits for it not have heard of it yet. */
  note(error: unknown, where: string, mayFail: boolean): void {
    if (!(error instanceof Violation)) throw error
    error.where ||= where
    if (mayFail && error.isStill !== undefined) this.doubts.push(error)
    else this.reach(error)
  }

  /** Throws it. */
  pass(): void {
    if (this.violation !== undefined) throw this.violation
  }

  /** As `pass`, once those who wait for their writes have heard of them. */
  async passSettled(drain: () => Promise<void>): Promise<void> {
    if (this.doubts.length > 0) {
      await drain()
      this.violation ??= this.doubts.find(({ isStill }) => isStill?.() === true)
      this.doubts = []
    }
    this.pass()
  }
}
