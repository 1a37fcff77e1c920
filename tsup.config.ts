import { defineConfig, type Options } from 'tsup'

// Constants of other files become literals: V8 would load each from its module, and check it, every time.
const esbuildOptions: Options['esbuildOptions'] = (options) => {
  options.minifySyntax = true
}

export default defineConfig([
  {
    entry: { index: 'src/index.ts' },
    format: ['esm', 'cjs'],
    dts: true,
    clean: true,
    target: 'es2022',
    platform: 'node',
    removeNodeProtocol: false,
    esbuildOptions,
  },
  {
    // The command line carries its own dependencies inside, so that they weigh on nobody who embeds the core.
    entry: { cli: 'src/cli/main.ts' },
    format: ['esm'],
    target: 'es2022',
    platform: 'node',
    removeNodeProtocol: false,
    esbuildOptions,
    noExternal: [/.*/],
    banner: {
      js: "#!/usr/bin/env node\nimport { createRequire as casky_require } from 'node:module'; const require = casky_require(import.meta.url);",
    },
  },
])
