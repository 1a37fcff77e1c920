// The built package, as a program would import it.
import { existsSync } from 'node:fs'
import process from 'node:process'

if (!existsSync(new URL('../dist/index.js', import.meta.url))) {
  console.error('dist/index.js is missing; `npm ci` builds it, and so does `npm run build`')
  process.exit(1)
}

export const { dump, isCaskyError, open } = await import('../dist/index.js')
