// What the figures were measured on, and where.
import { mkdtempSync, readFileSync, realpathSync, statfsSync } from 'node:fs'
import { arch, cpus, loadavg, platform, release, tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'

const TMPFS = 0x01021994
const GIB = 2 ** 30

/** A folder on a real file system: `wanted`, or the system's temporary one, or the current one where that is memory. */
export function benchPlace(wanted) {
  const isMemory = (directory) => statfsSync(directory).type === TMPFS
  const above = wanted ?? (isMemory(tmpdir()) ? process.cwd() : tmpdir())
  const directory = realpathSync(mkdtempSync(join(above, 'casky-bench-')))
  return { directory, fileSystem: fileSystemOf(directory), isMemory: isMemory(directory) }
}

/** The name of the file system and its device, from the mount that is the longest prefix of the path. */
function fileSystemOf(directory) {
  try {
    const mounts = readFileSync('/proc/mounts', 'utf8').trim().split('\n')
    const [found] = mounts
      .map((line) => line.split(' '))
      .filter(([, at]) => at === '/' || directory === at || directory.startsWith(`${at}/`))
      .sort((a, b) => b[1].length - a[1].length)
    const [device, , type] = found
    return `${type} on ${device}`
  } catch {
    return `type 0x${statfsSync(directory).type.toString(16)}`
  }
}

export function runtimeName() {
  if ('Deno' in globalThis) return `deno ${globalThis.Deno.version.deno}`
  return process.versions.bun === undefined ? `node ${process.versions.node}` : `bun ${process.versions.bun}`
}

export function describeMachine(place) {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
  const processors = cpus()
  return {
    casky: version,
    cpu: processors[0]?.model.trim() ?? 'unknown',
    cores: processors.length,
    memoryBytes: totalmem(),
    memory: `${(totalmem() / GIB).toFixed(1)} GiB`,
    kernel: `${platform()} ${release()} ${arch()}`,
    fileSystem: place.fileSystem + (place.isMemory ? ' (memory: durable figures mean nothing here)' : ''),
    directory: place.directory,
    loadBefore: loadavg()[0],
    at: new Date().toISOString(),
  }
}
