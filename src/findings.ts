// Turns what a scan of one segment meets into reports of damage.
import type { Damage, Health } from './health'

export class Findings {
  /** Damage whose last sequence number the next record will tell. */
  private unbounded: Damage | undefined
  private nextSequence: number

  constructor(
    private readonly health: Health,
    private readonly path: string,
    firstSequence: number,
    private readonly nowMs: number,
  ) {
    this.nextSequence = firstSequence
  }

  report(offset: number, bytes: number, reason: string): Damage {
    return this.health.addDamage({ path: this.path, offset, bytes, reason, foundAtMs: this.nowMs })
  }

  /** A valid record header; `isWrite` is false for a marker or seal, which repeats the last sequence number. */
  record(sequence: number, isWrite: boolean): void {
    if (this.unbounded !== undefined) this.bound(isWrite ? sequence - 1 : sequence)
    this.nextSequence = sequence + 1
  }

  damagedValue(sequence: number, key: Uint8Array, offset: number, bytes: number): void {
    this.health.addDamage({
      path: this.path,
      offset,
      bytes,
      reason: 'the value does not match its CRC',
      firstSequence: sequence,
      lastSequence: sequence,
      keys: [key],
      foundAtMs: this.nowMs,
    })
  }

  /** Acknowledged bytes that hold no readable record. */
  unreadable(offset: number, bytes: number): void {
    this.bound(undefined)
    this.unbounded = this.report(offset, bytes, 'no valid record can be read here')
    this.unbounded.firstSequence = this.nextSequence
  }

  private bound(lastSequence: number | undefined): void {
    const damage = this.unbounded
    this.unbounded = undefined
    if (damage === undefined || lastSequence === undefined) return
    const isNoWriteLost = damage.firstSequence === undefined || lastSequence < damage.firstSequence
    damage.lastSequence = isNoWriteLost ? undefined : lastSequence
    if (isNoWriteLost) damage.firstSequence = undefined
  }

  /**
   * No more records. Returns the highest sequence number that can have been used here: damage at the very end may
   * have taken writes that nothing behind it tells of, at most one in `recordBytesMin` bytes.
   */
  end(decidedLastSequence: number | undefined, recordBytesMin: number): number {
    const damage = this.unbounded
    this.bound(decidedLastSequence)
    if (decidedLastSequence !== undefined) return decidedLastSequence
    return this.nextSequence - 1 + (damage === undefined ? 0 : Math.ceil(damage.bytes / recordBytesMin))
  }
}
