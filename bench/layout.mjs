// The addresses and sizes that the kernels were compiled with, read from the one file that holds them.
import { readFileSync } from 'node:fs'

/** Every `export const NAME = number` of assembly/layout.ts; asking for one that isn't there throws. */
export function readLayout() {
  const text = readFileSync(new URL('../assembly/layout.ts', import.meta.url), 'utf8')
  const found = {}
  for (const [, name, value] of text.matchAll(/^export const (\w+) = (0x[\da-f_]+|[\d_]+)/gim)) {
    found[name] = Number(value.replaceAll('_', ''))
  }
  return new Proxy(found, {
    get: (layout, name) => {
      if (layout[name] === undefined) throw new Error(`assembly/layout.ts has no ${String(name)}`)
      return layout[name]
    },
  })
}
