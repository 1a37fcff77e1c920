// The Wasm kernels alone, beside zlib's CRC-32 where the runtime has it: npm run bench:kernels -- [--quick]
import { readFileSync } from 'node:fs'
import { cpus, loadavg } from 'node:os'
import process from 'node:process'
import * as zlib from 'node:zlib'
import Benchmark from 'benchmark'
import { readLayout } from './layout.mjs'
import { runtimeName } from './machine.mjs'

const QUICK = process.argv.includes('--quick')
const layout = readLayout()
const { SCAN_AT, SCAN_BYTES, RECORD_HEADER_BYTES, KEY_AT, KIND_PUT, MEMORY_PAGES_MIN, VERIFY_OK } = layout
const KEY_BYTES = 16

function load() {
  let wasm
  try {
    wasm = readFileSync(new URL('../build/kernels.wasm', import.meta.url))
  } catch {
    throw new Error('build/kernels.wasm is missing: run `npm run build` first')
  }
  const memory = new WebAssembly.Memory({ initial: MEMORY_PAGES_MIN })
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(wasm), { env: { memory } })
  return { call: exports, memory: new Uint8Array(memory.buffer) }
}

const { call, memory } = load()
for (let i = 0; i < SCAN_BYTES; i++) memory[SCAN_AT + i] = (i * 31 + (i >> 7)) & 0xff

/** Nanoseconds that one call takes, from benchmark.js's mean over its samples. */
function nanoseconds(name, run) {
  const bench = new Benchmark(name, run, QUICK ? { maxTime: 0.2, minSamples: 3 } : { maxTime: 1 })
  bench.run()
  if (bench.error !== undefined) throw bench.error
  return { ns: bench.stats.mean * 1e9, rme: bench.stats.rme }
}

function sizeOf(bytes) {
  if (bytes < 1024) return `${bytes} B`
  return bytes < 2 ** 20 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`
}

function row(name, bytes, run, native) {
  const { ns, rme } = nanoseconds(name, run)
  const speed = (each) => `${(bytes / each).toFixed(2)} GB/s`.padStart(11)
  const cells = [
    name.padEnd(18),
    sizeOf(bytes).padStart(8),
    `${ns < 1000 ? ns.toFixed(1) : Math.round(ns)} ns`.padStart(12),
  ]
  cells.push(speed(ns), `± ${rme.toFixed(1)} %`.padStart(9))
  if (native !== undefined) {
    const other = nanoseconds(`zlib ${name}`, native).ns
    cells.push(`  zlib.crc32 ${speed(other)}, ours is ${(other / ns).toFixed(1)}× that`)
  }
  console.log(cells.join(''))
}

function crc() {
  for (const bytes of [16, 64, 128, 256, 1024, 16_384, 2 ** 20]) {
    const view = memory.subarray(SCAN_AT, SCAN_AT + bytes)
    const ours = call.crc32(0, SCAN_AT, bytes) >>> 0
    if (zlib.crc32 !== undefined && ours !== zlib.crc32(view))
      throw new Error(`another CRC than zlib's: ${ours}`)
    const native = zlib.crc32 === undefined ? undefined : () => zlib.crc32(view)
    row('crc32', bytes, () => call.crc32(0, SCAN_AT, bytes), native)
  }
}

function hash() {
  for (const bytes of [8, 16, 32, 64, 256, 1024]) row('hashKey', bytes, () => call.hashKey(SCAN_AT, bytes))
}

/** A record with a key of 16 bytes, by the length of its value. */
function records() {
  for (const valueBytes of [0, 100, 1024, 16_384, 2 ** 18]) {
    const bytes = RECORD_HEADER_BYTES + KEY_BYTES + valueBytes
    const encode = () => call.encodeRecord(SCAN_AT, KIND_PUT, KEY_BYTES, valueBytes, 1, 1.7e12, 0, 0, 7)
    row('encodeRecord', bytes, encode)
    encode()
    memory.copyWithin(KEY_AT, SCAN_AT + RECORD_HEADER_BYTES, SCAN_AT + RECORD_HEADER_BYTES + KEY_BYTES)
    const verify = () => call.verifyRecord(SCAN_AT, bytes, 7, KEY_AT, KEY_BYTES)
    if (verify() !== VERIFY_OK) throw new Error('what was encoded does not verify')
    row('verifyRecord', bytes, verify)
  }
}

/** A full commit group, by the length of its values. */
function groups() {
  const { GROUP_TABLE_AT, ROW_WORDS, ROW_AT, ROW_KIND, ROW_VALUE_BYTES, WRITE_BYTES } = layout
  const words = new Uint32Array(memory.buffer)
  for (const valueBytes of [0, 100, 1024]) {
    const bytes = RECORD_HEADER_BYTES + KEY_BYTES + valueBytes
    const rows = Math.floor(WRITE_BYTES / bytes)
    for (let i = 0; i < rows; i++) {
      const word = GROUP_TABLE_AT / 4 + i * ROW_WORDS
      words[word + ROW_AT] = i * bytes
      words[word + ROW_KIND] = KIND_PUT | (KEY_BYTES << 16)
      words[word + ROW_VALUE_BYTES] = valueBytes
    }
    row(`hashGroup ${valueBytes}`, rows * bytes, () => call.hashGroup(0, rows))
    row(`encodeGroup ${valueBytes}`, rows * bytes, () => call.encodeGroup(rows, 96, 7, 1, 1.7e12, 0))
  }
}

const processors = cpus()
console.log(
  `${runtimeName()}; ${processors[0]?.model.trim()}, ${processors.length} cores; load before: ${loadavg()[0].toFixed(1)}`,
)
console.log('kernel                bytes        a call      speed    error')
crc()
hash()
records()
groups()
