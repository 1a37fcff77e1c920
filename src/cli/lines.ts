// Cuts a stream of chunks into lines. A chunk is kept no longer than its last line.
import { Buffer } from 'node:buffer'

const NEWLINE = 0x0a
const BOM = [0xef, 0xbb, 0xbf]

export class LineTooLong extends Error {}

export class Lines {
  #parts: Buffer[] = []
  #partBytes = 0
  #isFirst = true

  constructor(private readonly lineBytesMax: number) {}

  /** The lines that end in `chunk`, without their ends. They are views on it, good until the next call. */
  *push(chunk: Buffer): Generator<Buffer, void> {
    let at = 0
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, at)) {
      yield this.#whole(chunk.subarray(at, end))
      at = end + 1
    }
    if (at === chunk.length) return
    // A copy: the runtime may use the chunk's memory again.
    const rest = Buffer.from(chunk.subarray(at))
    this.#parts.push(rest)
    this.#partBytes += rest.length
    if (this.#partBytes > this.lineBytesMax) throw new LineTooLong()
  }

  /** The last line, where the input does not end with a line's end. */
  last(): Buffer | undefined {
    return this.#parts.length === 0 ? undefined : this.#whole(Buffer.alloc(0))
  }

  #whole(end: Buffer): Buffer {
    let line = end
    if (this.#parts.length > 0) {
      const parts = end.length === 0 ? this.#parts : [...this.#parts, end]
      line = parts.length === 1 ? parts[0] : Buffer.concat(parts)
      this.#parts = []
      this.#partBytes = 0
    }
    if (!this.#isFirst) return line
    this.#isFirst = false
    return BOM.every((byte, i) => line[i] === byte) ? line.subarray(BOM.length) : line
  }
}
