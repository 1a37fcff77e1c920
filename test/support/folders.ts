import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach } from 'vitest'

const made: string[] = []

afterEach(() => {
  for (const folder of made.splice(0)) rmSync(folder, { recursive: true, force: true })
})

const MEMORY = '/dev/shm'
let base = tmpdir()

/** From here on the folders of this test file lie in memory, where there is such a place: syncs cost nothing there. */
export function useMemory(): void {
  if (existsSync(MEMORY)) base = MEMORY
}

/** A folder of its own for the test that asks; gone after it. */
export function freshFolder(): string {
  const folder = mkdtempSync(join(base, 'casky-test-'))
  made.push(folder)
  return folder
}

/** A path for a store that does not exist yet. */
export function freshStore(): string {
  return join(freshFolder(), 'store')
}
