// Where the repository is, for what is built from its sources: also when this was bundled into another of its folders.
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'

export const ROOT = rootAbove(import.meta.dirname)

function rootAbove(folder: string): string {
  if (existsSync(join(folder, 'package.json')) && existsSync(join(folder, 'src/index.ts'))) return folder
  if (folder === dirname(folder)) throw new Error('the sources of casky are not above this file')
  return rootAbove(dirname(folder))
}
