// A process that does as it is told, one word a line, and answers each with one line of JSON.
import process from 'node:process'
import { createInterface } from 'node:readline'
import { readFixture, writeFixture } from './fixture.mjs'

export async function serve(casky) {
  const path = process.argv[2]
  let held

  /** Whether the store can be had; it is given back at once. */
  const attempt = async () => {
    const outcome = { async: 'open', sync: 'open', readOnly: undefined }
    try {
      await (await casky.open(path)).close()
    } catch (error) {
      outcome.async = error.code
      outcome.holder = { pid: error.got?.pid, isAlive: error.got?.isAlive, claim: error.got?.claim }
    }
    try {
      casky.openSync(path).closeSync()
    } catch (error) {
      outcome.sync = error.code
    }
    outcome.readOnly = await readFixture(casky, path, { readOnly: true })
    return outcome
  }

  const commands = {
    hold: async () => {
      held = await writeFixture(casky, path)
      return { pid: process.pid }
    },
    close: async () => {
      await held.close()
      return {}
    },
    read: async () => ({
      writer: await readFixture(casky, path),
      readOnly: await readFixture(casky, path, { readOnly: true }),
    }),
    attempt,
  }

  for await (const line of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await commands[line.trim()]()))
  }
}
