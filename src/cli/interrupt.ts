// Ctrl-C and its like. The first asks the work under way to stop where it is safe, if it can be asked; the second,
// or the first where nothing can be asked, ends the process at once: the store is safe from that by design.
const CODES = { SIGINT: 130, SIGTERM: 143 } as const
type StopSignal = keyof typeof CODES

export class Interrupt {
  #signal: StopSignal | undefined
  #ask: (() => void) | undefined

  constructor(private readonly beforeExit: () => void) {
    for (const signal of Object.keys(CODES) as StopSignal[]) process.on(signal, () => this.#take(signal))
  }

  /** The exit code to end with, once a stop was asked for. */
  get exitCode(): number | undefined {
    return this.#signal === undefined ? undefined : CODES[this.#signal]
  }

  /** From now on the first signal runs `ask`. */
  onStop(ask: () => void): void {
    this.#ask = ask
  }

  #take(signal: StopSignal): void {
    if (this.#ask === undefined || this.#signal !== undefined) {
      this.beforeExit()
      process.exit(CODES[signal])
    }
    this.#signal = signal
    this.#ask()
  }
}
