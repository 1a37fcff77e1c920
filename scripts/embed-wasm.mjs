// Turns build/kernels.wasm into src/kernels.wasm.ts, so that the module travels inside the bundle.
// `--check FILE` compares instead of writing: the committed module must be what the source compiles to.
import { readFileSync, writeFileSync } from 'node:fs'

const [flag, file] = process.argv.slice(2)
const wasm = readFileSync(file ?? new URL('../build/kernels.wasm', import.meta.url))
const target = new URL('../src/kernels.wasm.ts', import.meta.url)
const lines = wasm.toString('base64').match(/.{1,120}/g) ?? []
const text = [
  '// Compiled from assembly/ by `npm run build:wasm`; do not edit. A test compiles it again and compares.',
  `export const KERNELS_BYTES = ${wasm.length}`,
  'export const KERNELS_BASE64 =',
  lines.map((line) => `  '${line}'`).join(' +\n'),
  '',
].join('\n')

if (flag === '--check') {
  if (readFileSync(target, 'utf8') !== text) {
    console.error(
      'src/kernels.wasm.ts is not what assembly/ compiles to; run `npm run build:wasm` and commit it',
    )
    process.exit(1)
  }
} else {
  writeFileSync(target, text)
}
