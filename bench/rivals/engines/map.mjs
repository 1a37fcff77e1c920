// What many write for themselves: a Map, and a file that each change is appended to. Read from its begin when opened.
import {
  closeSync,
  existsSync,
  fdatasyncSync,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'

const HEADER_BYTES = 8
const PIECE_BYTES = 2 ** 20

/** Length of the key, length of the value, key, value. */
function encode(key, value) {
  const record = Buffer.allocUnsafe(HEADER_BYTES + key.length + value.length)
  record.writeUInt32LE(key.length, 0)
  record.writeUInt32LE(value.length, 4)
  record.latin1Write(key, HEADER_BYTES)
  record.set(value, HEADER_BYTES + key.length)
  return record
}

function writeAll(file, bytes) {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done)
}

function replay(path, entries) {
  const file = openSync(path, 'r')
  const bytes = Buffer.allocUnsafe(fstatSync(file).size)
  for (let done = 0; done < bytes.length; ) {
    const read = readSync(file, bytes, done, Math.min(PIECE_BYTES, bytes.length - done))
    if (read === 0) throw new Error(`${path} ends early`)
    done += read
  }
  closeSync(file)
  for (let at = 0; at + HEADER_BYTES <= bytes.length; ) {
    const keyEnd = at + HEADER_BYTES + bytes.readUInt32LE(at)
    const end = keyEnd + bytes.readUInt32LE(at + 4)
    if (end > bytes.length) break
    // A copy of its own: a view would hold on to the whole file.
    entries.set(bytes.latin1Slice(at + HEADER_BYTES, keyEnd), Buffer.from(bytes.subarray(keyEnd, end)))
    at = end
  }
}

export async function openStore(path, { mode }) {
  mkdirSync(path, { recursive: true })
  const log = join(path, 'log')
  const entries = new Map()
  if (existsSync(log)) replay(log, entries)
  let file = openSync(log, 'a')
  const append = (bytes) => {
    writeAll(file, bytes)
    if (mode === 'durable') fdatasyncSync(file)
  }
  return {
    put(key, value) {
      append(encode(key, value))
      entries.set(key, value)
    },
    writeBatch(keys, values) {
      append(Buffer.concat(keys.map((key, i) => encode(key, values[i]))))
      for (let i = 0; i < keys.length; i++) entries.set(keys[i], values[i])
    },
    flush: () => fdatasyncSync(file),
    get: (key) => entries.get(key),
    getMany: (keys) => keys.map((key) => entries.get(key)),
    async each(visit) {
      for (const [key, value] of entries) visit(key, value)
    },
    compact() {
      const next = openSync(`${log}.next`, 'w')
      let piece = []
      let bytes = 0
      for (const [key, value] of entries) {
        const record = encode(key, value)
        piece.push(record)
        bytes += record.length
        if (bytes < PIECE_BYTES) continue
        writeAll(next, Buffer.concat(piece))
        piece = []
        bytes = 0
      }
      writeAll(next, Buffer.concat(piece))
      fdatasyncSync(next)
      renameSync(`${log}.next`, log)
      closeSync(file)
      file = next
    },
    close: () => closeSync(file),
  }
}
