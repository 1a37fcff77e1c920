// Merges that a trace asks for.
import type { Casky } from '../../src/index'
import type { Books } from './books'
import type { Machine } from './machine'
import { Violation } from './oracle'

export class Merging {
  /** Those that were asked for, and are not over. */
  private asked = 0

  constructor(
    private readonly machine: Machine,
    private readonly books: Books,
  ) {}

  /** Begins one, which goes on while the next steps do. */
  begin(db: Casky, signal: AbortSignal, mayBeAborted: boolean): void {
    this.asked++
    const couldFail = this.books.mayFail()
    db.merge({ signal })
      .catch((error) => {
        if (error.code === 'CASKY_CLOSED') return
        if (error.code === 'CASKY_ABORTED' && mayBeAborted) return
        this.books.expectTyped('merge', error, couldFail)
      })
      .finally(() => this.asked--)
  }

  /** Refused before anything is written, where there is anything to be merged at all. */
  async inNoRoom(db: Casky, where: string): Promise<void> {
    const { machine, books } = this
    const { world } = machine
    // One that is under way asked before.
    const isMerging = () => db.stats().merges.isRunning || this.asked > 0
    for (let i = 0; i < 100 && isMerging(); i++) await machine.settle()
    if (isMerging()) return
    world.freeBytes = 10
    const idsOf = (): string =>
      db
        .stats()
        .segments.map(({ id }) => id)
        .join()
    const before = idsOf()
    const merging = db.merge()
    await machine.until(
      merging.catch(() => {}),
      where,
    )
    world.freeBytes = Number.MAX_SAFE_INTEGER
    const [outcome] = await Promise.allSettled([merging])
    if (outcome.status === 'rejected') {
      if (outcome.reason.code !== 'CASKY_NO_SPACE') books.expectTyped('a merge in no room', outcome.reason)
    } else if (outcome.value.recordsRead > 0) {
      throw new Violation('D7 errors are typed', 'a merge goes on where there is no room for it')
    }
    if (!idsOf().startsWith(before)) {
      throw new Violation(
        'D7 errors are typed',
        'a merge that was refused for want of room has changed something',
      )
    }
  }
}
