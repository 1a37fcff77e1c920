// The package as users get it: packed by npm, and installed from the tarball into a project elsewhere.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export const ROOT = join(import.meta.dirname, '../..')

export function requireBuilt(): void {
  for (const name of ['index.js', 'index.cjs', 'index.d.ts', 'index.d.cts']) {
    if (!existsSync(join(ROOT, 'dist', name))) {
      throw new Error(`dist/${name} is missing: run \`npm run build\` before this test`)
    }
  }
}

function npm(directory: string, ...args: string[]): string {
  const quiet = ['--offline', '--no-audit', '--no-fund', '--no-update-notifier', '--loglevel=error']
  return execFileSync('npm', [...args, ...quiet], { cwd: directory, encoding: 'utf8' })
}

export interface Project {
  directory: string
  tarball: string
  /** Where the package landed. */
  installed: string
  remove(): void
}

/** Packs what stands in dist, without building it again, and installs it into an empty project, off line. */
export function newProject(): Project {
  requireBuilt()
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'casky-package-')))
  const packed = npm(ROOT, 'pack', '--ignore-scripts', '--json', '--pack-destination', directory)
  const [{ filename }] = JSON.parse(packed) as [{ filename: string }]
  const tarball = join(directory, filename)
  writeFileSync(
    join(directory, 'package.json'),
    '{ "name": "consumer", "private": true, "type": "module" }\n',
  )
  npm(directory, 'install', '--ignore-scripts', '--save', tarball)
  const installed = join(directory, 'node_modules', 'casky')
  return { directory, tarball, installed, remove: () => rmSync(directory, { recursive: true, force: true }) }
}
