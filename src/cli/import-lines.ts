// Imports JSON lines.
import type { Buffer } from 'node:buffer'
import { isCaskyError } from '../index'
import { BadLine } from './bad-line'
import { parseEntry } from './entry'
import { DONE } from './exit'
import { type Input, unreadable } from './files'
import { finish, type ImportJob, interrupted, turn } from './import-job'
import { Lines, LineTooLong } from './lines'
import { RefusedWrite } from './loader'
import { LINE_BYTES_MAX } from './long-text'
import { sizeOf } from './units'

/** Keys that may be too long for the store are shown to it first. A character is three bytes at most. */
const KEY_CHARS_SAFE = 21_845

export async function importLines(job: ImportJob, input: Input): Promise<number> {
  const { cli, progress } = job
  const reading = new Reading(job)
  let bytes = 0
  let bad: { where: number; why: string } | undefined
  try {
    for (;;) {
      const chunk = await nextChunk(job, input)
      if (cli.interrupt.exitCode !== undefined) break
      if (chunk === undefined) {
        await reading.end()
        break
      }
      if (!(await reading.take(chunk))) break
      bytes += chunk.length
      progress.update(bytes)
    }
  } catch (error) {
    if (error instanceof BadLine) bad = { where: reading.line, why: error.message }
    else if (!(error instanceof RefusedWrite)) throw error
    // Where the writer of a pipe is stopped together with this process, its last line is often cut short.
    await turn()
  }
  const { exitCode } = cli.interrupt
  await finish(job, (line) => `line ${line}`, exitCode === undefined ? bad : undefined)
  return exitCode === undefined ? DONE : interrupted(job, exitCode)
}

/** The next chunk; `undefined` at the end, and as soon as a stop is asked for. */
function nextChunk({ cli }: ImportJob, input: Input): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) => {
    cli.interrupt.onStop(() => resolve(undefined))
    input.chunks.next().then(
      ({ done, value }) => resolve(done === true ? undefined : value),
      (error: unknown) => reject(unreadable(input.name, error)),
    )
  })
}

class Reading {
  /** The number of the line under way, from 1 on. */
  line = 0
  readonly #lines = new Lines(LINE_BYTES_MAX)

  constructor(private readonly job: ImportJob) {}

  /** False where a stop was asked for meanwhile. */
  async take(chunk: Buffer): Promise<boolean> {
    const { cli, loader } = this.job
    try {
      for (const line of this.#lines.push(chunk)) {
        this.#put(line)
        if (!loader.isFull) continue
        await loader.pace()
        if (cli.interrupt.exitCode !== undefined) return false
      }
      return true
    } catch (error) {
      if (!(error instanceof LineTooLong)) throw error
      this.line++
      throw new BadLine(`it has more than ${sizeOf(LINE_BYTES_MAX)}`)
    }
  }

  async end(): Promise<void> {
    const line = this.#lines.last()
    if (line !== undefined) this.#put(line)
  }

  #put(line: Buffer): void {
    const { store, loader } = this.job
    this.line++
    const entry = parseEntry(line)
    if (entry === undefined) return
    const { key, value, expiresAtMs } = entry
    if (key.length === 0 || key.length > KEY_CHARS_SAFE) checkKey(() => store.has(key))
    loader.put(key, value, expiresAtMs, this.line)
  }
}

/** What is wrong with a key has to be known before the lines behind it are read. */
function checkKey(ask: () => boolean): void {
  try {
    ask()
  } catch (error) {
    if (isCaskyError(error) && error.code === 'CASKY_INVALID_KEY') throw new BadLine(error.message)
    throw error
  }
}
