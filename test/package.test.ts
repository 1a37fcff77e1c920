// What lands in a user's project: well-formed, typed for every way of resolving it, alone, and fit for a bundler.
import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { buildSync } from 'esbuild'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'
import ts from 'typescript'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { newProject, type Project, ROOT } from './runtimes/package'

let project: Project
let manifest: Record<string, unknown>

beforeAll(() => {
  project = newProject()
  manifest = JSON.parse(readFileSync(join(project.installed, 'package.json'), 'utf8'))
})
afterAll(() => project?.remove())

const bin = (name: string): string => join(ROOT, 'node_modules', '.bin', name)

function filesBelow(directory: string): string[] {
  const names = readdirSync(directory, { recursive: true, withFileTypes: true })
  return names.filter((entry) => entry.isFile()).map((entry) => entry.name)
}

describe('the tarball', () => {
  test('publint has nothing to say, not even a suggestion', async () => {
    const { buffer, byteOffset, length } = readFileSync(project.tarball)
    const tarball = buffer.slice(byteOffset, byteOffset + length) as ArrayBuffer
    const { messages, pkg } = await publint({ pack: { tarball }, level: 'suggestion', strict: true })
    expect(pkg.name).toBe('casky')
    expect(messages.map((message) => formatMessage(message, pkg, { color: false }))).toEqual([])
  })

  test('its types are right, from ESM, from CJS and through a bundler', () => {
    const args = [project.tarball, '--profile', 'node16', '--format', 'json']
    const { stdout, status } = spawnSync(bin('attw'), args, { encoding: 'utf8' })
    const { analysis, problems } = JSON.parse(stdout)
    expect(problems).toEqual({})
    expect(status).toBe(0)
    expect(analysis.types.kind).toBe('included')
    const { resolutions } = analysis.entrypoints['.']
    for (const kind of ['node16-esm', 'node16-cjs', 'bundler']) {
      expect(resolutions[kind].resolution.isTypeScript, kind).toBe(true)
    }
  })

  test('it brings nothing along', () => {
    const { dependencies, optionalDependencies, bundleDependencies, bundledDependencies } = manifest
    expect({ ...(dependencies ?? {}), ...(optionalDependencies ?? {}) }).toEqual({})
    expect([bundleDependencies, bundledDependencies]).toEqual([undefined, undefined])
    const meta = (manifest.peerDependenciesMeta ?? {}) as Record<string, { optional?: boolean }>
    for (const name of Object.keys((manifest.peerDependencies as object) ?? {})) {
      expect(meta[name]?.optional, `${name} is asked of nobody who does not use it`).toBe(true)
    }
    // What npm installed beside it, from a folder with no network: nothing.
    expect(
      readdirSync(join(project.directory, 'node_modules')).filter((name) => !name.startsWith('.')),
    ).toEqual(['casky'])
  })

  test('nothing of it runs while it is installed', () => {
    const scripts = (manifest.scripts ?? {}) as Record<string, string>
    for (const name of ['preinstall', 'install', 'postinstall']) expect(scripts[name], name).toBeUndefined()
    // npm would run node-gyp for this one, without a script.
    expect(filesBelow(project.installed)).not.toContain('binding.gyp')
  })

  test('the Wasm module travels inside', () => {
    const names = filesBelow(project.installed)
    expect(names.filter((name) => /\.(wasm|node)$/.test(name))).toEqual([])
    for (const name of ['index.js', 'index.cjs']) {
      const text = readFileSync(join(project.installed, 'dist', name), 'utf8')
      expect(text, name).not.toMatch(/\.wasm['"`]/)
      // Every module begins with these eight bytes.
      expect(text, name).toContain(Buffer.from([0, 97, 115, 109, 1, 0]).toString('base64'))
    }
  })
})

/** What the language itself and Node declare is the same for every consumer: read once, and not checked. */
const declared = new Map<string, ts.SourceFile | undefined>()
const isOfOthers = (path: string): boolean => path.startsWith(join(ROOT, 'node_modules'))

/** Compiles a project as `tsc` does; returns what was checked, and what is wrong with it. */
function compile(configFile: string): { checked: string[]; complaints: string[] } {
  const { options, fileNames } = ts.getParsedCommandLineOfConfigFile(
    configFile,
    {},
    {
      ...ts.sys,
      onUnRecoverableConfigFileDiagnostic: ({ messageText }) => {
        throw new Error(ts.flattenDiagnosticMessageText(messageText, '\n'))
      },
    },
  ) as ts.ParsedCommandLine
  const host = ts.createCompilerHost(options)
  const read = host.getSourceFile
  host.getSourceFile = (path, how, ...more) => {
    if (!isOfOthers(path)) return read(path, how, ...more)
    const name = `${path} ${JSON.stringify(how, ['languageVersion', 'impliedNodeFormat'])}`
    if (!declared.has(name)) declared.set(name, read(path, how, ...more))
    return declared.get(name)
  }
  const program = ts.createProgram(fileNames, options, host)
  const checked = program.getSourceFiles().filter(({ fileName }) => !isOfOthers(fileName))
  const diagnostics = [
    ...program.getConfigFileParsingDiagnostics(),
    ...program.getOptionsDiagnostics(),
    ...program.getGlobalDiagnostics(),
    ...program.getSyntacticDiagnostics(),
    ...checked.flatMap((file) => program.getSemanticDiagnostics(file)),
  ]
  return {
    checked: checked.map(({ fileName }) => fileName),
    complaints: diagnostics.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n')),
  }
}

describe('a consumer compiles', () => {
  const settings = [
    { module: 'node16', moduleResolution: 'node16', file: 'consumer.mts' },
    { module: 'node16', moduleResolution: 'node16', file: 'consumer.cts' },
    { module: 'esnext', moduleResolution: 'bundler', file: 'consumer.ts' },
    { module: 'preserve', moduleResolution: 'bundler', file: 'consumer.ts' },
  ].flatMap((each) => [
    { ...each, types: ['node'] },
    { ...each, types: [] as string[] },
  ])

  test.each(settings)(
    '$file under $moduleResolution, module $module, types $types',
    ({ file, types, ...options }) => {
      const directory = join(project.directory, `${options.module}-${file}-${types.length}`)
      mkdirSync(directory)
      copyFileSync(join(import.meta.dirname, 'runtimes/consumer/consumer.ts.txt'), join(directory, file))
      const lib = ['es2022', 'esnext.disposable', 'dom']
      const typeRoots = [join(ROOT, 'node_modules/@types')]
      const strictest = { strict: true, exactOptionalPropertyTypes: true, skipLibCheck: false, noEmit: true }
      const compilerOptions = { ...options, ...strictest, target: 'es2022', lib, types, typeRoots }
      writeFileSync(join(directory, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: [file] }))
      const { checked, complaints } = compile(join(directory, 'tsconfig.json'))
      expect(complaints).toEqual([])
      expect(checked).toContain(join(directory, file))
      expect(checked.filter((path) => path.startsWith(project.installed))).not.toEqual([])
    },
  )

  test('a mistake in it is noticed, and one in the types of the package', () => {
    const directory = join(project.directory, 'mistaken')
    mkdirSync(join(directory, 'node_modules/casky'), { recursive: true })
    const types = 'export declare function open(path: string): Promise<Missing>\n'
    writeFileSync(join(directory, 'node_modules/casky/index.d.ts'), types)
    writeFileSync(join(directory, 'main.ts'), "import { open } from 'casky'\nvoid open(1)\n")
    const compilerOptions = { module: 'esnext', moduleResolution: 'bundler', noEmit: true, types: [] }
    const config = { compilerOptions, files: ['main.ts'] }
    writeFileSync(join(directory, 'tsconfig.json'), JSON.stringify(config))
    const { complaints } = compile(join(directory, 'tsconfig.json'))
    expect(complaints.join('\n')).toMatch(/Cannot find name 'Missing'/)
    expect(complaints.join('\n')).toMatch(/'number' is not assignable to parameter of type 'string'/)
  })
})

describe('a bundle', () => {
  const SOURCE = `
    import { open } from 'casky'
    const db = await open(process.argv[2])
    await db.put('a', 'bundled')
    console.log(db.get('a'))
    await db.close()
  `
  test.each([
    { format: 'esm', minify: false },
    { format: 'esm', minify: true },
    { format: 'cjs', minify: true },
  ] as const)('by esbuild as $format, minified: $minify, runs alone', ({ format, minify }) => {
    const out = join(project.directory, `bundle-${format}-${minify}`)
    mkdirSync(out)
    const source = join(out, 'main.ts')
    writeFileSync(source, format === 'esm' ? SOURCE : `(async () => {${SOURCE.replace(/import.*\n/, '')}})()`)
    if (format === 'cjs')
      writeFileSync(source, `import { open } from 'casky'\n${readFileSync(source, 'utf8')}`)
    const outfile = join(out, `bundle.${format === 'esm' ? 'mjs' : 'cjs'}`)
    const result = buildSync({
      entryPoints: [source],
      outfile,
      format,
      minify,
      bundle: true,
      platform: 'node',
      logLevel: 'silent',
    })
    expect([result.errors, result.warnings]).toEqual([[], []])
    // Nothing of the package may be needed any more.
    const away = join(project.directory, 'node_modules.away')
    renameSync(join(project.directory, 'node_modules'), away)
    try {
      const printed = execFileSync(process.execPath, [outfile, join(out, 'store')], { encoding: 'utf8' })
      expect(printed).toBe('bundled\n')
    } finally {
      renameSync(away, join(project.directory, 'node_modules'))
    }
  })
})
