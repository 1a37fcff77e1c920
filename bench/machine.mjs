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

/** Throws where the disk has no room for the stores of a run. */
export function checkRoom(directory, neededBytes) {
  const { bavail, bsize } = statfsSync(directory)
  const freeBytes = bavail * bsize
  if (freeBytes >= neededBytes) return
  const gib = (bytes) => `${(bytes / GIB).toFixed(1)} GiB`
  throw new Error(
    `so many keys may need ${gib(neededBytes)} of disk, and ${gib(freeBytes)} are free in ${directory}: give fewer with --keys, or another place with --dir`,
  )
}

/** The most memory that this process has had so far, in bytes. */
export function peakMemoryBytes() {
  try {
    // The system's other figure, maxRSS, also counts what the process that started this one had.
    const [, kib] = /^VmHWM:\s*(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))
    return Number(kib) * 1024
  } catch {
    return process.resourceUsage().maxRSS * 1024
  }
}

const TICKS_A_SECOND = 100
const IDLE = 3
const IO_WAIT = 4
const STEAL = 7

/** Seconds that a core was busy, or that all of them were; what a hypervisor took counts too. */
function busySeconds(core) {
  const text = readFileSync('/proc/stat', 'utf8')
  const line = new RegExp(`^cpu${core ?? ''} +(.*)$`, 'm').exec(text)
  const ticks = line[1].split(' ').slice(0, STEAL + 1)
  return (
    ticks.reduce((sum, each, i) => (i === IDLE || i === IO_WAIT ? sum : sum + Number(each)), 0) /
    TICKS_A_SECOND
  )
}

/**
 * From now on: which share of the time others than this process had the core that it is pinned to, or, where it is not,
 * had cores. Undefined where the system doesn't tell.
 */
export function watchOthers(core) {
  const look = () => {
    const { user, system } = process.cpuUsage()
    return { busy: busySeconds(core), own: (user + system) / 1e6, at: performance.now() / 1000 }
  }
  try {
    const before = look()
    return () => {
      const after = look()
      const others = after.busy - before.busy - (after.own - before.own)
      return Math.max(0, others) / (after.at - before.at)
    }
  } catch {
    return () => undefined
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
