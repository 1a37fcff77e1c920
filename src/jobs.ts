// What a store does beside its reads and writes: one thing after the other.

export class Jobs {
  private last: Promise<unknown> = Promise.resolve()
  /** Nothing is begun any more, and what is under way ends at its next step. */
  isStopped = false

  /** Does this once everything before it is done. What is added after the end must find that out for itself. */
  add<T>(work: () => Promise<T>): Promise<T> {
    const next = this.last.then(work)
    this.last = next.catch(() => {})
    return next
  }

  /** Resolves once nothing is under way. */
  async ended(): Promise<void> {
    await this.last
  }
}
