// Opening, checking and repairing take memory by the size of the files, and not many times as much for what is wrong
// with them.
import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type MadeRecord, recordExtent, recordOffsets } from '../support/hostile'
import { withRecords } from './attacks'
import { type Bases, makeBases } from './bases'
import { buildBundles, makeHome } from './fuzz'
import { bytesOf, type Image, writeImage } from './image'
import { bytesAt, segmentNames } from './mutate'

const RECORDS = Number(process.env.CASKY_FUZZ_RECORDS ?? 60_000)
/** What a process takes besides, garbage included. */
const FIXED_BYTES = 64 * 2 ** 20
const MULTIPLE = 12
const JOINED = 0x60

let home: string
let casky: string
let bases: Bases
beforeAll(async () => {
  home = makeHome()
  casky = (await buildBundles(home)).casky
  bases = makeBases(home)
})
afterAll(() => fs.rmSync(home, { recursive: true, force: true }))

function manyRecords(flags: number, change: (segment: Buffer, offset: number, i: number) => void): Image {
  const records = Array.from(
    { length: RECORDS },
    (_, i): MadeRecord => ({
      kind: 1,
      flags,
      key: Buffer.from(i.toString(36)),
      value: Buffer.from('v'),
      sequence: i + 1,
      // So that all of it is known to have been on disk.
      certifiedBytes: 2 ** 31,
    }),
  )
  const image = withRecords(bases.small, records)
  const segment = bytesAt(image, segmentNames(image)[0]) ?? Buffer.alloc(0)
  for (const [i, offset] of recordOffsets(segment).entries()) change(segment, offset, i)
  return image
}

const STORES: Record<string, () => Image> = {
  'nothing wrong': () => manyRecords(0, () => {}),
  'every value damaged': () =>
    manyRecords(0, (segment, offset) => {
      segment[(recordExtent(segment, offset)?.end ?? 1) - 1] ^= 1
    }),
  'every second key damaged': () =>
    manyRecords(0, (segment, offset, i) => {
      if (i % 2 === 1) segment[offset + 29] ^= 1
    }),
  'a batch without a beginning': () => manyRecords(JOINED, () => {}),
}

const CALLS: Record<string, string> = {
  open: 'const db = casky.openSync(path, { readOnly: true, cacheBytes: 0 }); db.health(); db.closeSync()',
  check: 'await casky.check(path)',
  repair: 'await casky.repair(path)',
}

/** How much the process has taken at most, besides what it began with. */
function measure(path: string, call: string): number {
  const source = `
    import * as casky from ${JSON.stringify(casky)}
    const path = ${JSON.stringify(path)}
    const before = process.resourceUsage().maxRSS
    try { ${call} } catch (error) { if (error.name !== 'CaskyError') throw error }
    console.log((process.resourceUsage().maxRSS - before) * 1024)`
  const options = ['--input-type=module', '--eval', source]
  const { stdout, stderr, status } = spawnSync(process.execPath, options, {
    encoding: 'utf8',
    timeout: 60_000,
  })
  if (status !== 0) throw new Error(`exit code ${status}: ${stderr}`)
  return Number(stdout)
}

describe(`${RECORDS} records`, () => {
  test.each(Object.keys(STORES))('%s', (name) => {
    const image = STORES[name]()
    const limitBytes = FIXED_BYTES + MULTIPLE * bytesOf(image)
    for (const [call, source] of Object.entries(CALLS)) {
      const path = join(home, name, call)
      writeImage(image, path, '')
      expect(measure(path, source), `${call} with ${name}`).toBeLessThan(limitBytes)
    }
  })

  test('what takes more is noticed', () => {
    expect(
      measure(
        home,
        "globalThis.held = 'x'.repeat(10) + Buffer.alloc(2e8, 1).toString('latin1').length; new Array(2e7).fill(0)",
      ),
    ).toBeGreaterThan(FIXED_BYTES * 2)
  })
})
