// A commit group: what one write call takes to the segment, and the one promise that its writes share.

/** When a write is acknowledged. See docs/DURABILITY.md. */
export type SyncMode = 'always' | 'never' | { everyMs: number }

export class Group {
  private isSettled = false
  private isShared = false
  private readonly resolve: () => void
  private readonly reject: (error: unknown) => void
  private readonly outcome: Promise<void>

  constructor() {
    let resolve!: () => void
    let reject!: (error: unknown) => void
    this.outcome = new Promise<void>((yes, no) => {
      resolve = yes
      reject = no
    })
    this.resolve = resolve
    this.reject = reject
  }

  get promise(): Promise<void> {
    this.isShared = true
    return this.outcome
  }

  /** The first outcome counts. An error that nobody was promised is not left to the runtime as unhandled. */
  settle(error: unknown): void {
    if (this.isSettled) return
    this.isSettled = true
    if (error === undefined) {
      this.resolve()
    } else {
      if (!this.isShared) this.outcome.catch(() => {})
      this.reject(error)
    }
  }
}
