// Standard error: one line a message, each marked with the program's name, and the progress bar between them.
import { oneLine } from './escape'

/** What is on the terminal and has to get out of a message's way. */
export interface Drawn {
  hide(): void
}

export class Messages {
  #drawn: Drawn | undefined

  say(text: string): void {
    this.#drawn?.hide()
    process.stderr.write(`casky: ${oneLine(text)}\n`)
  }

  /** `undefined`: nothing is drawn any more. */
  draw(drawn: Drawn | undefined): void {
    this.#drawn = drawn
  }

  hide(): void {
    this.#drawn?.hide()
  }
}
