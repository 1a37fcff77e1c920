// The host on Node, Deno and Bun: the only file that imports node:fs.
import { randomFillSync } from 'node:crypto'
import * as fs from 'node:fs'
import { performance } from 'node:perf_hooks'
import { setImmediate, setTimeout } from 'node:timers'
import type { Host } from './host'

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_RDWR } = fs.constants
const { COPYFILE_EXCL, COPYFILE_FICLONE_FORCE } = fs.constants
const CLONE_ONLY = COPYFILE_EXCL | COPYFILE_FICLONE_FORCE
// Deno copies where it is asked to clone or to fail.
const CLONES_ARE_COPIES = 'Deno' in globalThis
const NO_LINK = O_NOFOLLOW ?? 0
// Opening a fifo would wait for another process; with this it returns, and turns out to be no regular file.
const NO_WAIT = O_NONBLOCK ?? 0
const FLAGS = {
  read: O_RDONLY | NO_LINK | NO_WAIT,
  write: O_RDWR | NO_LINK | NO_WAIT,
  create: O_RDWR | O_CREAT | O_EXCL | NO_LINK,
}
// macOS's fdatasync does not reach the disk, its fsync (F_FULLFSYNC in libuv) does.
const DATA_SYNC_IS_ENOUGH = process.platform === 'linux'
// Some systems refuse to sync a directory; there its names are as lasting as the system makes them.
const NO_DIRECTORY_SYNC = new Set(['EISDIR', 'EPERM', 'EINVAL', 'EACCES', 'ENOTSUP'])

export const nodeHost: Host = {
  open: (path, mode) => {
    const file = fs.openSync(path, FLAGS[mode], 0o644)
    if (mode !== 'create' && !fs.fstatSync(file).isFile()) {
      fs.closeSync(file)
      throw Object.assign(new Error(`not a regular file: ${path}`), { code: 'EINVAL' })
    }
    return file
  },
  close: (file) => {
    try {
      fs.closeSync(file)
    } catch (error) {
      if ((error as { code?: string }).code === 'EBADF') throw error
    }
  },
  closeLater: (file) => fs.close(file, () => {}),
  read: (file, into, at, bytes, position) => fs.readSync(file, into, at, bytes, position),
  write: (file, from, at, bytes, position) => fs.writeSync(file, from, at, bytes, position),
  truncate: (file, bytes) => fs.ftruncateSync(file, bytes),
  sync: (file) => (DATA_SYNC_IS_ENOUGH ? fs.fdatasyncSync(file) : fs.fsyncSync(file)),
  syncLater: (file, done) => (DATA_SYNC_IS_ENOUGH ? fs.fdatasync(file, done) : fs.fsync(file, done)),
  status: (file) => {
    const stat = fs.fstatSync(file)
    return { bytes: stat.size, links: stat.nlink }
  },

  inspect: (path) => {
    const stat = fs.lstatSync(path, { throwIfNoEntry: false, bigint: true })
    if (stat === undefined) return undefined
    const kind = stat.isFile() ? 'file' : stat.isDirectory() ? 'directory' : 'other'
    return { kind, bytes: Number(stat.size), identity: `${stat.dev}:${stat.ino}` }
  },
  list: (directory) => fs.readdirSync(directory),
  readLink: (path) => fs.readlinkSync(path),
  openDirectory: (path) => fs.openSync(path, O_RDONLY | (O_DIRECTORY ?? 0) | NO_LINK),
  fileSystemType: (path) => fs.statfsSync(path).type,
  // Not `recursive`: Node never returns from that where a parent takes no directories, as /proc does.
  makeDirectory: (path) => {
    try {
      fs.mkdirSync(path)
    } catch (error) {
      const isThere = (error as { code?: string }).code === 'EEXIST' && fs.lstatSync(path).isDirectory()
      if (!isThere) throw error
    }
  },
  rename: (from, to) => fs.renameSync(from, to),
  link: (from, to) => fs.linkSync(from, to),
  cloneLater: (from, to, done) => {
    if (CLONES_ARE_COPIES) setImmediate(done, Object.assign(new Error('no clones'), { code: 'ENOTSUP' }))
    else fs.copyFile(from, to, CLONE_ONLY, done)
  },
  remove: (path) => fs.unlinkSync(path),
  removeLater: (path, done) => fs.unlink(path, done),
  syncDirectory: (path) => {
    if (process.platform === 'win32') return
    const file = fs.openSync(path, O_RDONLY)
    try {
      fs.fsyncSync(file)
    } catch (error) {
      if (!NO_DIRECTORY_SYNC.has((error as { code?: string }).code ?? '')) throw error
    } finally {
      fs.closeSync(file)
    }
  },

  nowMs: () => Math.trunc(Date.now()),
  syncDirectoryLater: (path, done) => {
    const end = (error: unknown): void => {
      const { code } = (error ?? {}) as { code?: string }
      done(code !== undefined && NO_DIRECTORY_SYNC.has(code) ? null : error)
    }
    if (process.platform === 'win32') {
      setImmediate(end, null)
      return
    }
    fs.open(path, O_RDONLY, (failure, file) => {
      if (failure !== null) end(failure)
      else fs.fsync(file, (error) => fs.close(file, () => end(error)))
    })
  },
  freeBytes: (path) => {
    const { bavail, bsize } = fs.statfsSync(path)
    return bavail * bsize
  },

  clockMs: () => performance.now(),
  random: (bytes) => randomFillSync(new Uint8Array(bytes)),
  later: (delayMs, run, keepsAlive = false) => {
    const timer = setTimeout(run, delayMs)
    if (!keepsAlive) timer.unref()
    return () => clearTimeout(timer)
  },
  watch: (directory, onChange) => {
    const watcher = fs.watch(directory, onChange)
    watcher.on('error', () => watcher.close())
    return () => watcher.close()
  },
  warn: (message) => process.emitWarning(message, 'CaskyWarning'),
  soon: (run) => {
    setImmediate(run)
  },
}
