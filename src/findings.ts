// Turns what a scan of one segment meets into reports of damage.
import { RECORD_HEADER_BYTES } from '../assembly/layout'
import { type Damage, damageOf, type Health, kindOf, totalOf } from './health'

/** What a repair does about a finding. Those up to the empty line cost data, where a write was there. */
export const REMEDY_VALUE = 'its key is deleted, so that no older value passes for this one'
export const REMEDY_UNREADABLE = 'left out; where an older value of its key is there, that one comes back'
export const REMEDY_BATCH = 'none of the batch is kept, and the keys of it that can be read are deleted'
export const REMEDY_MISSING = 'left out: the store goes on without it'
export const REMEDY_UNKNOWN = 'moved to where the originals are kept; nothing of it is taken in'

export const REMEDY_FOREIGN = 'moved to where the originals are kept'
export const REMEDY_UNNAMED = 'taken in, in the place that its sequence numbers give it'
export const REMEDY_NAME = 'written anew under a name of its own'
export const REMEDY_HEADER = 'the segment is written anew, with every record that can be read'
export const REMEDY_MANIFEST = 'rebuilt from the segments'
export const REMEDY_COUNT = 'the records are counted anew'

/** Of findings about which files make the store, and not about what is in them. */
export const REMEDIES_OF_NAMES: ReadonlySet<string> = new Set([
  REMEDY_MISSING,
  REMEDY_UNKNOWN,
  REMEDY_FOREIGN,
  REMEDY_UNNAMED,
  REMEDY_NAME,
])

export class Findings {
  /** Damage that is reported once the next record has told its last sequence number. */
  private unbounded: Damage | undefined
  /** What is too much to be listed, by its kind. */
  private readonly totals = new Map<string, Damage>()
  private nextSequence: number

  constructor(
    private readonly health: Health,
    private readonly path: string,
    firstSequence: number,
    private readonly nowMs: number,
  ) {
    this.nextSequence = firstSequence
  }

  report(offset: number, bytes: number, reason: string, remedy: string): void {
    this.health.addDamage({ path: this.path, offset, bytes, reason, remedy, foundAtMs: this.nowMs })
  }

  private add(damage: Damage): void {
    if (this.health.list(damage)) return
    const kind = kindOf(damage)
    this.totals.set(kind, totalOf(damage, this.totals.get(kind)))
  }

  /** A valid record header; `isWrite` is false for a marker or seal, which repeats the last sequence number. */
  record(sequence: number, isWrite: boolean): void {
    if (this.unbounded !== undefined) this.bound(isWrite ? sequence - 1 : sequence)
    this.nextSequence = sequence + 1
  }

  damagedValue(sequence: number, key: Uint8Array, offset: number, bytes: number): void {
    this.add({
      path: this.path,
      offset,
      bytes,
      places: 1,
      reason: 'the value does not match its CRC',
      remedy: REMEDY_VALUE,
      firstSequence: sequence,
      lastSequence: sequence,
      keys: [key],
      moreKeys: 0,
      foundAtMs: this.nowMs,
    })
  }

  /** No write is in it. */
  damagedSeal(offset: number, valueBytes: number): void {
    const bytes = RECORD_HEADER_BYTES + valueBytes
    this.report(offset, bytes, "the segment's seal does not match its CRC", REMEDY_HEADER)
  }

  /** The readable members of a batch, from the first to the last. */
  brokenBatch(offset: number, bytes: number, keys: Uint8Array[], moreKeys: number): void {
    const reason = 'members of a batch with a hole in it: none of it is applied'
    const { path, nowMs: foundAtMs } = this
    this.add(damageOf({ path, offset, bytes, reason, remedy: REMEDY_BATCH, keys, moreKeys, foundAtMs }))
  }

  /** Acknowledged bytes that hold no readable record. */
  unreadable(offset: number, bytes: number): void {
    this.bound(undefined)
    const { path, nextSequence: firstSequence, nowMs: foundAtMs } = this
    const reason = 'no valid record can be read here'
    this.unbounded = damageOf({
      path,
      offset,
      bytes,
      reason,
      remedy: REMEDY_UNREADABLE,
      firstSequence,
      foundAtMs,
    })
  }

  private bound(lastSequence: number | undefined): void {
    const damage = this.unbounded
    this.unbounded = undefined
    if (damage === undefined) return
    const isNoWriteLost = lastSequence !== undefined && lastSequence < (damage.firstSequence ?? 0)
    damage.lastSequence = isNoWriteLost ? undefined : lastSequence
    if (isNoWriteLost) damage.firstSequence = undefined
    this.add(damage)
  }

  /**
   * No more records. Returns the highest sequence number that can have been used here: damage at the very end may
   * have taken writes that nothing behind it tells of, at most one in `recordBytesMin` bytes.
   */
  end(decidedLastSequence: number | undefined, recordBytesMin: number): number {
    const damage = this.unbounded
    this.bound(decidedLastSequence)
    for (const total of this.totals.values()) this.health.setTotal(total)
    if (decidedLastSequence !== undefined) return decidedLastSequence
    return this.nextSequence - 1 + (damage === undefined ? 0 : Math.ceil(damage.bytes / recordBytesMin))
  }
}
