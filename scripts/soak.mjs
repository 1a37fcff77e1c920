// npm run soak -- [--minutes N] [--workers N] [--seed N] [--json FILE]
// Bundles the soak's TypeScript and runs it.
import { dirname, join } from 'node:path'
import process from 'node:process'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { build } from 'esbuild'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const outfile = join(root, 'build/soak/main.mjs')

await build({
  entryPoints: [join(root, 'test/soak/main.ts')],
  bundle: true,
  platform: 'node',
  format: 'esm',
  packages: 'external',
  outfile,
  logLevel: 'error',
})
const { soak } = await import(pathToFileURL(outfile).href)
process.exitCode = await soak(process.argv.slice(2))
