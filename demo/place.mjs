// Where the demo works: a folder of its own, which goes when the demo does, also on Ctrl-C.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'

const directory = mkdtempSync(join(tmpdir(), 'casky-demo-'))
const children = new Set()

export const place = (name) => join(directory, name)
export { directory }

/** A child that must not outlive the demo. */
export function mind(child) {
  children.add(child)
  child.once('close', () => children.delete(child))
  return child
}

function tidyUp() {
  for (const child of children) child.kill('SIGKILL')
  // A child may still be writing in the moment it is killed.
  rmSync(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 })
}

process.once('exit', tidyUp)
for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
]) {
  process.once(signal, () => process.exit(code))
}
