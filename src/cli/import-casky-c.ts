// Imports the log of a C Casky.
import { CaskyCLog, type LogEvent } from './casky-c'
import { DONE, FAILED, Failure, NOT_FOUND } from './exit'
import type { RandomFile } from './files'
import { finish, type ImportJob, interrupted, turn } from './import-job'
import { RefusedWrite } from './loader'
import { countOf } from './units'

const TURN_MS = 50

/** The events of a log that has a record at least, or is empty. Nothing is written for one that is something else. */
export function caskyCEvents(file: RandomFile, name: string): Iterable<LogEvent> {
  const events = new CaskyCLog(file).events()
  let first = events.next()
  while (first.done !== true && first.value.kind === 'searching') first = events.next()
  if (first.done !== true && first.value.kind === 'torn') {
    throw new Failure(FAILED, `there is no record of a C Casky in ${name}`)
  }
  return resumed(first, events)
}

function* resumed(
  first: IteratorResult<LogEvent, void>,
  events: Generator<LogEvent, void>,
): Generator<LogEvent, void> {
  if (first.done === true) return
  yield first.value
  yield* events
}

export async function importCaskyC(job: ImportJob, events: Iterable<LogEvent>): Promise<number> {
  const { cli, loader, progress } = job
  cli.interrupt.onStop(() => {})
  let isWhole = true
  let turnedAtMs = Date.now()
  try {
    for (const event of events) {
      isWhole = take(job, event) && isWhole
      if (loader.isFull) await loader.pace()
      const nowMs = Date.now()
      if (nowMs - turnedAtMs < TURN_MS) continue
      turnedAtMs = nowMs
      progress.update(event.offset)
      await turn()
      if (cli.interrupt.exitCode !== undefined) break
    }
  } catch (error) {
    if (!(error instanceof RefusedWrite)) throw error
  }
  await finish(job, (offset) => `the record at byte ${offset}`, undefined)
  const { exitCode } = cli.interrupt
  if (exitCode !== undefined) return interrupted(job, exitCode)
  return isWhole ? DONE : NOT_FOUND
}

/** False where something of the log is lost. */
function take({ cli, loader }: ImportJob, event: LogEvent): boolean {
  const { offset } = event
  switch (event.kind) {
    case 'record':
      if (event.value.length === 0) loader.delete(event.key, offset)
      else loader.put(event.key, event.value, event.expiresAtMs, offset)
      return true
    case 'unfit':
      cli.messages.say(`the record at byte ${offset} can't be kept, ${event.why}; it is left out`)
      return false
    case 'damage': {
      const bytes = countOf(event.bytes, 'damaged byte')
      cli.messages.say(`${bytes} at byte ${offset} (CRC mismatch); left out`)
      return false
    }
    case 'torn': {
      const bytes = countOf(event.bytes, 'byte')
      cli.messages.say(`notice: the last ${bytes}, from byte ${offset} on, are no whole record; left out`)
      return true
    }
    default:
      return true
  }
}
