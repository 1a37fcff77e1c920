// The only file of the command line that imports node:fs: what imports read, and standard output.
import type { Buffer } from 'node:buffer'
import * as fs from 'node:fs'
import * as net from 'node:net'
import { FAILED, Failure, OutputClosed, USAGE } from './exit'

const STDIN = 0
const STDOUT = 1
const READ_BYTES = 2 ** 20
const RETRY_MS = 5

/** A stream of bytes that comes in. */
export interface Input {
  /** As messages name it. */
  name: string
  /** Its length, where it has one. */
  bytesTotal: number | undefined
  chunks: AsyncIterator<Buffer>
  close(): void
}

/** A file that is read here and there. */
export interface RandomFile {
  bytes: number
  /** Fills `into` from its start with what stands at `position`; returns how many bytes there were. */
  read(into: Buffer, position: number): number
  close(): void
}

function codeOf(error: unknown): string {
  const { code } = error as { code?: unknown }
  return typeof code === 'string' ? code : String(error)
}

const REASONS: Record<string, string> = {
  ENOENT: 'there is no such file',
  EACCES: 'no permission',
  EISDIR: 'it is a directory',
}

/** What could not be read, as a message. */
export function unreadable(name: string, error: unknown): Failure {
  const code = codeOf(error)
  return new Failure(FAILED, `can't read ${name}: ${REASONS[code] ?? code}`, { cause: error })
}

/** `-` is standard input. */
export async function openInput(path: string): Promise<Input> {
  if (path === '-') {
    const stat = statOf(STDIN)
    return inputOf('standard input', process.stdin, stat?.isFile() === true ? stat.size : undefined)
  }
  try {
    const file = await new Promise<number>((resolve, reject) => {
      fs.open(path, 'r', (error, opened) => (error === null ? resolve(opened) : reject(error)))
    })
    const stat = fs.fstatSync(file)
    if (stat.isDirectory()) throw Object.assign(new Error('is a directory'), { code: 'EISDIR' })
    const stream = stat.isFIFO() ? pipeOf(file) : undefined
    const chunks = stream ?? fs.createReadStream('', { fd: file, highWaterMark: READ_BYTES })
    return inputOf(path, chunks, stat.isFile() ? stat.size : undefined)
  } catch (error) {
    throw unreadable(path, error)
  }
}

/** Whether a path is to be read, and is no directory; `-` is standard input. */
export function isInput(path: string): boolean {
  if (path === '-') return true
  const stat = statOf(path)
  return stat !== undefined && !stat.isDirectory()
}

/** A read of a pipe that has nothing to say can't be called off, a socket over it can. Bun and Deno can't make one. */
function pipeOf(file: number): net.Socket | undefined {
  const { versions } = process
  if ('bun' in versions || 'deno' in versions) return undefined
  return new net.Socket({ fd: file, readable: true, writable: false })
}

function inputOf(name: string, stream: NodeJS.ReadableStream, bytesTotal?: number): Input {
  const chunks = stream[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  const close = (): void => {
    const { destroy } = stream as { destroy?: () => void }
    destroy?.call(stream)
  }
  return { name, bytesTotal, chunks, close }
}

function statOf(file: number | string): fs.Stats | undefined {
  try {
    return typeof file === 'number' ? fs.fstatSync(file) : fs.statSync(file)
  } catch {
    return undefined
  }
}

/** A regular file, read at any place; `-` is standard input where that is one. */
export function openRandom(path: string): RandomFile {
  const name = path === '-' ? 'standard input' : path
  try {
    const file = path === '-' ? STDIN : fs.openSync(path, 'r')
    const stat = fs.fstatSync(file)
    if (stat.isDirectory()) throw Object.assign(new Error('is a directory'), { code: 'EISDIR' })
    if (!stat.isFile()) throw new Failure(USAGE, `this format is read from a file, and ${name} is none`)
    return {
      bytes: stat.size,
      read: (into, position) => readFully(name, file, into, position),
      close: () => fs.closeSync(file),
    }
  } catch (error) {
    throw error instanceof Failure ? error : unreadable(name, error)
  }
}

function readFully(name: string, file: number, into: Buffer, position: number): number {
  let done = 0
  try {
    while (done < into.length) {
      const read = fs.readSync(file, into, done, into.length - done, position + done)
      if (read === 0) break
      done += read
    }
  } catch (error) {
    throw unreadable(name, error)
  }
  return done
}

/**
 * Writes all of `bytes` to standard output. Not `process.stdout`: on a file that may write a part only and not say so,
 * and on a pipe it buffers without bound.
 */
export async function writeOut(bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    try {
      done += await writeSome(bytes, done)
    } catch (error) {
      const code = codeOf(error)
      if (code === 'EPIPE') throw new OutputClosed()
      if (code !== 'EAGAIN') {
        const reason = code === 'ENOSPC' || code === 'EDQUOT' ? `no space left (${code})` : code
        throw new Failure(FAILED, `could not write to standard output: ${reason}`, { cause: error })
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
    }
  }
}

function writeSome(bytes: Uint8Array, at: number): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.write(STDOUT, bytes, at, bytes.length - at, null, (error, written) => {
      if (error !== null && error !== undefined) reject(error)
      else resolve(written)
    })
  })
}
