// Standard output: gathered into large writes, each waited for.
import { Buffer } from 'node:buffer'
import { OutputClosed } from './exit'
import { writeOut } from './files'

const BUFFER_CHARS = 65_536

export class Output {
  #text = ''

  /** Where it returns a promise, wait for it: the buffer is full. */
  text(piece: string): Promise<void> | undefined {
    this.#text += piece
    return this.#text.length < BUFFER_CHARS ? undefined : this.flush()
  }

  async bytes(piece: Uint8Array): Promise<void> {
    await this.flush()
    await writeOut(piece)
  }

  async flush(): Promise<void> {
    if (this.#text === '') return
    const text = this.#text
    this.#text = ''
    await writeOut(Buffer.from(text))
  }

  /** Brings out what is left before an error is told of; nothing more can be done where that fails. */
  async flushQuietly(): Promise<void> {
    try {
      await this.flush()
    } catch (error) {
      if (!(error instanceof OutputClosed)) this.#text = ''
    }
  }
}
