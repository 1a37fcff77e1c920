// Through keys in no order, part by part of the keydir: it reads no disk, and begins at once.
import { Buffer } from 'node:buffer'
import { GrowableBytes, GrowableWords } from './bytes'
import type { KeyCodec, ValueEncoder } from './encoding'
import type { FrozenLookup } from './frozen'
import type { Memory } from './kernels'
import { TABLES } from './keydir/keydir'
import { isInRange, type Range } from './range'
import type { Walk } from './walk'

class Keys implements Memory {
  private readonly list = new GrowableBytes()
  private readonly lengths = new GrowableWords()
  text: Buffer = Buffer.alloc(0)

  get bytes(): Uint8Array {
    return this.list.bytes
  }

  get count(): number {
    return this.lengths.length
  }

  lengthOf(index: number): number {
    return this.lengths.at(index)
  }

  add(keys: Uint8Array, at: number, keyBytes: number): void {
    this.list.append(keys, at, keyBytes)
    this.lengths.push(keyBytes)
    if (this.text.buffer !== this.list.bytes.buffer) this.text = Buffer.from(this.list.bytes.buffer)
  }

  clear(): void {
    this.list.used = 0
    this.lengths.clear()
  }

  copyOut(at: number, bytes: number): Uint8Array {
    return this.bytes.slice(at, at + bytes)
  }
}

export class KeyWalk implements Walk {
  private readonly keys = new Keys()
  private part = 0
  private index = -1
  private at = 0
  private left: number

  /** `entries`: of one moment, whenever they are asked for. What has expired by `nowMs` is not among them. */
  constructor(
    private readonly entries: Pick<FrozenLookup, 'forEachOf'>,
    private readonly range: Range,
    private readonly nowMs: number,
  ) {
    this.left = range.limit
  }

  advance(): boolean {
    const { keys } = this
    if (this.left === 0) return false
    this.left--
    if (this.index >= 0) this.at += keys.lengthOf(this.index)
    this.index++
    while (this.index === keys.count) {
      if (this.part === TABLES) return false
      this.collect(this.part++)
      this.index = 0
      this.at = 0
    }
    return true
  }

  private collect(part: number): void {
    const { keys, range, nowMs } = this
    keys.clear()
    this.entries.forEachOf(part, (place, source, at, keyBytes) => {
      if (place.expiresAtMs !== undefined && place.expiresAtMs <= nowMs) return
      if (isInRange(range, source, at, keyBytes)) keys.add(source, at, keyBytes)
    })
  }

  key(codec: KeyCodec): unknown {
    return codec.read(this.keys, this.at, this.keys.lengthOf(this.index))
  }

  value(_codec: ValueEncoder): unknown {
    throw new Error('keys are all that it goes through')
  }
}
