// Many writes at full speed: none is waited for by itself, but never more than a few batches are under way, and what
// is counted is acknowledged.
import type { Casky } from '../index'

/** A batch is as many writes or bytes, whichever comes first. */
const BATCH_WRITES = 8192
const BATCH_BYTES = 2 ** 21

type Bytes = string | Uint8Array

/** A write that the store refused; `where` is what `put` or `delete` were told, of the first of its group. */
export class RefusedWrite extends Error {
  constructor(
    readonly where: number,
    override readonly cause: unknown,
  ) {
    super('a write was refused')
  }
}

/** Puts that are acknowledged together. */
interface Group {
  promise: Promise<void>
  puts: number
}

export class Loader {
  /** Acknowledged puts, and deletes of keys that were there. */
  puts = 0
  deletes = 0
  #refused: RefusedWrite | undefined
  #group: Group | undefined
  /** What is not acknowledged yet; none of these rejects. */
  readonly #underWay = new Set<Promise<void>>()
  /** The last of what was under way when `pace` was called last. */
  #before: Promise<void> | undefined
  #last: Promise<void> | undefined
  #writes = 0
  #bytes = 0

  constructor(private readonly store: Casky) {}

  put(key: Bytes, value: Bytes, expiresAtMs: number | undefined, where: number): void {
    const promise = this.store.put(key, value, expiresAtMs === undefined ? undefined : { expiresAtMs })
    this.#writes++
    this.#bytes += key.length + value.length
    // The puts of a commit group share one promise.
    if (this.#group?.promise === promise) {
      this.#group.puts++
      return
    }
    const group: Group = { promise, puts: 1 }
    this.#group = group
    const acknowledged = (): void => {
      this.puts += group.puts
    }
    this.#track(promise.then(acknowledged, (cause: unknown) => this.#refuse(where, cause)))
  }

  delete(key: Bytes, where: number): void {
    this.#writes++
    this.#bytes += key.length
    const acknowledged = (wasThere: boolean): void => {
      if (wasThere) this.deletes++
    }
    const promise = this.store.delete(key)
    this.#track(promise.then(acknowledged, (cause: unknown) => this.#refuse(where, cause)))
  }

  #track(outcome: Promise<void>): void {
    this.#last = outcome
    this.#underWay.add(outcome)
    outcome.then(() => this.#underWay.delete(outcome))
  }

  #refuse(where: number, cause: unknown): void {
    if (this.#refused === undefined || where < this.#refused.where)
      this.#refused = new RefusedWrite(where, cause)
  }

  /** Whether a batch is full: then `pace` comes next. */
  get isFull(): boolean {
    return this.#writes >= BATCH_WRITES || this.#bytes >= BATCH_BYTES
  }

  /** Waits for the batch before the one that is full now. Throws what was refused. */
  async pace(): Promise<void> {
    this.#writes = 0
    this.#bytes = 0
    const before = this.#before
    this.#before = this.#last
    await before
    if (this.#refused !== undefined) throw this.#refused
  }

  /** Waits for all that is under way. Throws what was refused. */
  async settle(): Promise<void> {
    await Promise.all(this.#underWay)
    if (this.#refused !== undefined) throw this.#refused
  }
}
