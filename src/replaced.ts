// Segments in whose place others stand, and that somebody may still read: each lives until the last who does is done.
import type { BlockCache } from './cache'
import type { Catalog, Segment } from './catalog'
import { invariant } from './errors'
import type { Pins } from './pins'

export interface ReplacedRooms {
  catalog: Catalog
  cache: BlockCache
  pins: Pins
}

export class Replaced {
  private readonly waiting = new Set<Segment>()

  constructor(private readonly rooms: ReplacedRooms) {}

  /** Those that are still read from. */
  get segments(): ReadonlySet<Segment> {
    return this.waiting
  }

  /** No key leads to them any more; `onFree` is told of each that nobody reads from. */
  add(segments: readonly Segment[], onFree: (segment: Segment) => void): void {
    const { catalog, cache, pins } = this.rooms
    invariant(
      segments.every(({ liveBytes }) => liveBytes === 0),
      'nothing points to what was replaced',
    )
    for (const segment of segments) this.waiting.add(segment)
    pins.whenFree(() => {
      const free = segments.filter((segment) => this.waiting.delete(segment))
      cache.forgetSegments(new Set(free.map(({ slot }) => slot)))
      for (const segment of free) {
        catalog.forget(segment)
        onFree(segment)
      }
    })
  }

  /** Nobody is told of those that are left. */
  clear(): void {
    this.waiting.clear()
  }
}
