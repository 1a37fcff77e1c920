// Going through entries: what a way through them offers, and the iterator that callers hold.
import type { KeyCodec, ValueEncoder } from './encoding'
import { CaskyError } from './errors'
import type { Unpin } from './pins'

/** A way through entries; it stands before the first of them. */
export interface Walk {
  /** Goes on to the next entry; false where there is none. */
  advance(): boolean
  /** The key of the entry it stands at. */
  key(codec: KeyCodec): unknown
  /** Its value; throws CASKY_CORRUPT where that is damaged. */
  value(codec: ValueEncoder): unknown
}

/** One that nobody goes on with must not keep segments for ever. */
const leftIterators = new FinalizationRegistry<Unpin>((unpin) => unpin())

const iteratorPrototype: object = Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]()))

/** As a generator would do it, at half the cost. */
export class Entries<T> implements IterableIterator<T, undefined> {
  private isDone = false

  static {
    // With all that the runtime's own iterators can do.
    Object.setPrototypeOf(Entries.prototype, iteratorPrototype)
  }

  /** `check` throws where nothing can be read any more; `take`: what an entry is told as. */
  constructor(
    private readonly walk: Walk,
    private readonly check: () => unknown,
    private readonly take: (walk: Walk) => T,
    private readonly skipsDamaged: boolean,
    private readonly unpin: Unpin,
  ) {
    leftIterators.register(this, unpin)
  }

  next(): IteratorResult<T, undefined> {
    if (this.isDone) return { value: undefined, done: true }
    try {
      this.check()
      const { walk } = this
      while (walk.advance()) {
        try {
          return { value: this.take(walk), done: false }
        } catch (error) {
          if (!this.skipsDamaged || !(error instanceof CaskyError) || error.code !== 'CASKY_CORRUPT')
            throw error
        }
      }
      return this.return()
    } catch (error) {
      this.return()
      throw error
    }
  }

  return(): IteratorReturnResult<undefined> {
    this.isDone = true
    this.unpin()
    return { value: undefined, done: true }
  }

  throw(error?: unknown): never {
    this.return()
    throw error
  }

  [Symbol.iterator](): this {
    return this
  }

  [Symbol.dispose](): void {
    this.return()
  }
}
