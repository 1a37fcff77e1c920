// The stores that are mutated: real ones, written by casky on a clock and with random numbers of the test's own, so
// that a seed gives the same bytes each time.
import * as fs from 'node:fs'
import { join } from 'node:path'
import type { Casky } from '../../src/index'
import { groundWithClock, openSyncWith, randomFrom } from '../support/ground'
import { type Image, readImage } from './image'

const HOUR_MS = 3_600_000
const NOW_MS = 1_700_000_000_000
/** Far in the future of whoever opens it. */
const LATE_MS = 4_102_444_800_000

/** What a terminal would obey, or be misled by. */
export const NASTY = [
  '\x1b[2J\x1b[31mred\x07',
  'line\nbreak\r\t\x00nul',
  '\u009b31m csi \u0085',
  '\u202Eevil\u2066 \u200f',
  '\x7f\x08\x08back',
  '</script>"\'\\ %s',
]

function fill(store: Casky<'utf8', 'utf8'>, rounds: number): void {
  for (let i = 0; i < rounds; i++) {
    store.putSync(`key ${i % 20}`, `${i} ${'v'.repeat((i * 37) % 400)}`)
    if (i % 4 === 0) store.putSync(NASTY[i % NASTY.length], `${NASTY[(i + 1) % NASTY.length]} ${i}`)
    if (i % 5 === 0) store.putSync(`late ${i}`, 'x', { expiresAtMs: LATE_MS + i })
    if (i % 6 === 0) store.putSync(`early ${i}`, 'x', { expiresAtMs: NOW_MS + HOUR_MS })
    if (i % 7 === 0) store.deleteSync(`key ${(i + 3) % 20}`)
    if (i % 9 === 0) {
      store.batchSync([
        { type: 'put', key: `left ${i}`, value: 'l'.repeat(i) },
        { type: 'del', key: `late ${i - 4}` },
        { type: 'put', key: `right ${i}`, value: 'r'.repeat(i) },
      ])
    }
  }
}

/** A store as a kill at this moment would leave it. */
function copyOf(directory: string): Image {
  const image = readImage(directory)
  image.delete('LOCK')
  return image
}

type Make = (directory: string, open: (name: string) => Casky<'utf8', 'utf8'>) => Image

const MAKES: Record<string, Make> = {
  closed: (directory, open) => {
    const store = open('a')
    fill(store, 60)
    store.closeSync()
    return readImage(directory)
  },
  killed: (directory, open) => {
    const store = open('a')
    fill(store, 45)
    const image = copyOf(directory)
    store.closeSync()
    return image
  },
  small: (directory, open) => {
    const store = open('a')
    fill(store, 2)
    store.closeSync()
    return readImage(directory)
  },
  empty: (directory, open) => {
    open('a').closeSync()
    return readImage(directory)
  },
  // The first segment was cut by a recovery, the second one is active.
  reopened: (directory, open) => {
    const store = open('a')
    fill(store, 8)
    const image = copyOf(directory)
    store.closeSync()
    for (const name of fs.readdirSync(directory)) fs.rmSync(join(directory, name), { recursive: true })
    for (const [name, thing] of image) {
      if (thing.kind === 'file') fs.writeFileSync(join(directory, name), thing.bytes)
    }
    const again = open('b')
    fill(again, 8)
    const killed = copyOf(directory)
    again.closeSync()
    return killed
  },
  large: (directory, open) => {
    const store = open('a')
    store.putSync('before', '1')
    store.putSync('large', 'L'.repeat(600_000))
    store.putSync('after', '2')
    store.closeSync()
    return readImage(directory)
  },
}

export type Bases = Record<string, Image>

export function makeBases(scratch: string): Bases {
  const bases: Bases = {}
  Object.entries(MAKES).forEach(([name, make], i) => {
    const directory = join(scratch, `base-${name}`)
    const clock = { nowMs: NOW_MS }
    const open = (salt: string): Casky<'utf8', 'utf8'> => {
      const random = randomFrom(1000 + i * 10 + salt.charCodeAt(0))
      const bytes = (count: number): Uint8Array => Uint8Array.from({ length: count }, () => random() * 256)
      return openSyncWith(groundWithClock(clock, { random: bytes }), directory, {
        maxSegmentBytes: 4096,
        cacheBytes: 0,
      })
    }
    bases[name] = make(directory, open)
    fs.rmSync(directory, { recursive: true })
  })
  return bases
}
