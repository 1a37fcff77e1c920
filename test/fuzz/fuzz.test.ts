// Hostile files: nothing that somebody put into a store's directory makes casky crash, hang, take all memory, leave
// the directory, or print to a terminal what it would obey.
import * as fs from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { buildCli, faultsOf, fuzzCli, obeyed } from './cli'
import { attackOrders, type Bundles, buildBundles, describeFailures, fuzz, makeHome } from './fuzz'
import type { Order } from './victim'

// Always the same, so that a red run says something of what has changed; new ones are the soak's.
const SEED = Number(process.env.CASKY_SEED ?? 1)
const CASES_MS = Number(process.env.CASKY_FUZZ_MS ?? 5_000)
const CLI_STORES = Number(process.env.CASKY_FUZZ_CLI ?? 1)
const ORDER = process.env.CASKY_FUZZ_ORDER
const FAR_MS = 3_600_000

let home: string
let bundles: Bundles
beforeAll(async () => {
  home = makeHome()
  bundles = await buildBundles(home)
})
afterAll(() => fs.rmSync(home, { recursive: true, force: true }))

test.runIf(ORDER !== undefined)(`the one case of CASKY_FUZZ_ORDER: ${ORDER}`, async () => {
  const orders = [JSON.parse(ORDER ?? '{}') as Order]
  const result = await fuzz({ seed: 0, deadlineMs: Date.now() + FAR_MS, orders, bundles })
  expect(describeFailures(result)).toBe('')
})

describe.skipIf(ORDER !== undefined)('hostile stores', () => {
  test('those that were thought up', async () => {
    const deadlineMs = Date.now() + FAR_MS
    const result = await fuzz({ seed: 0, deadlineMs, orders: attackOrders(), bundles })
    expect(describeFailures(result)).toBe('')
    expect(result.cases).toBe(attackOrders().length)
    // They get past the door, and through it in different ways.
    expect(result.codes.fine).toBeGreaterThan(result.cases / 2)
    expect(Object.keys(result.codes)).toEqual(
      expect.arrayContaining(['CASKY_CORRUPT', 'CASKY_IO', 'CASKY_LOCKED', 'CASKY_NOT_A_STORE']),
    )
  }, 120_000)

  test(`random ones, with seed ${SEED}`, async () => {
    const result = await fuzz({ seed: SEED, deadlineMs: Date.now() + CASES_MS, bundles })
    console.log(
      `hostile stores: ${result.cases} cases of seed ${SEED}; steps ended ${JSON.stringify(result.codes)}`,
    )
    expect(describeFailures(result)).toBe('')
    // How many there are is up to the machine, and so is what they come across.
    expect(result.cases).toBeGreaterThan(0)
    expect(result.codes.fine).toBeGreaterThan(0)
  }, 300_000)

  test(`on the command line, with seed ${SEED}`, async () => {
    const place = makeHome()
    try {
      const result = await fuzzCli(place, SEED, CLI_STORES, await buildCli(place))
      console.log(
        `hostile stores: ${result.commands} commands; exit codes ${JSON.stringify(result.exitCodes)}`,
      )
      expect(result.faults).toEqual([])
      expect(Object.keys(result.exitCodes)).toEqual(expect.arrayContaining(['0', '1', '3']))
    } finally {
      fs.rmSync(place, { recursive: true, force: true })
    }
  }, 120_000)
})

/** A store that does wrong: `open` runs before the real openSync, `dump` in place of the real one. */
interface Plant {
  name: string
  attack?: string
  open?: string
  dump?: string
  found: RegExp
}

const PLANTS: Plant[] = [
  { name: 'an internal error', open: 'null.length', found: /throws TypeError/ },
  {
    name: 'an internal error in the clothes of another',
    open: "throw Object.assign(new Error('x', { cause: new RangeError('y') }), { name: 'CaskyError', code: 'CASKY_IO' })",
    found: /hides a RangeError/,
  },
  {
    name: 'a code that nobody knows',
    open: "throw Object.assign(new Error('x'), { name: 'CaskyError', code: 'CASKY_ODD' })",
    found: /throws CaskyError CASKY_ODD/,
  },
  { name: 'a loop without end', dump: 'for (;;);', found: /dump: takes more than \d+ ms/ },
  { name: 'a crash', open: 'process.abort()', found: /read-only: the process dies/ },
  {
    name: 'a heap that is full',
    dump: 'for (const all = []; ; ) all.push(new Array(1e5).fill({}))',
    found: /dump: (the process dies|takes)/,
  },
  {
    name: 'an allocation that is not needed',
    open: 'new Uint8Array(3e7)',
    found: /allocates 30000000 bytes/,
  },
  {
    name: 'a handle left open',
    open: "fs.openSync(path + '/MANIFEST', 'r')",
    found: /handles are left open/,
  },
  {
    name: 'a link that is followed',
    attack: 'a segment is a link out',
    open: "fs.closeSync(fs.openSync(path + '/0000000001.data', 'r'))",
    found: /a file outside of the store is opened/,
  },
  {
    name: 'a reader that tidies up',
    open: "if (options.readOnly) fs.rmSync(path + '/0000000001.data', { force: true })",
    found: /has changed the store/,
  },
  {
    name: 'a reader that writes',
    open: "if (options.readOnly) fs.writeFileSync(path + '/x', '')",
    found: /in what only reads/,
  },
  {
    name: 'a directory beside the store',
    open: "if (!options.readOnly) fs.mkdirSync(path + '.tmp')",
    found: /mkdirSync outside of the store/,
  },
  {
    name: 'a record that is lost',
    open: "if (!options.readOnly) fs.rmSync(path + '/0000000001.data')",
    found: /after writing: .* is gone/,
  },
  {
    name: 'a write that is lost',
    open: 'if (!options.readOnly) { const db = real.openSync(path, options); db.putSync = db.put = db.batch = () => {}; return db }',
    found: /what was acknowledged is not there/,
  },
]

function wrapper({ open = '', dump = '' }: Plant): string {
  return `import * as fs from 'node:fs'
import { join } from 'node:path'
import * as real from './real.mjs'
export const open = real.open
export function openSync(path, options) { ${open}; return real.openSync(path, options) }
export function* dump(path) { ${dump}; yield* real.dump(path) }
`
}

describe.skipIf(ORDER !== undefined)('what is planted is found', () => {
  test.each(PLANTS)('$name', async (plant) => {
    const place = makeHome()
    try {
      const planted = { ...bundles, casky: join(place, 'casky.mjs') }
      fs.copyFileSync(bundles.casky, join(place, 'real.mjs'))
      fs.writeFileSync(planted.casky, wrapper(plant))
      const orders = [{ attack: plant.attack ?? 'nothing is wrong' }]
      const deadlineMs = Date.now() + FAR_MS
      const result = await fuzz({
        seed: 0,
        deadlineMs,
        orders,
        bundles: planted,
        victims: 1,
        caseMsMax: plant.dump === undefined ? 3000 : 1500,
        isKept: false,
      })
      expect(describeFailures(result)).toMatch(plant.found)
    } finally {
      fs.rmSync(place, { recursive: true, force: true })
    }
  })

  test('what a terminal would obey', () => {
    const ended = { code: 0, out: Buffer.from('fine ünï\n\t'), err: Buffer.alloc(0) }
    expect(faultsOf(ended)).toEqual([])
    for (const raw of ['\x1b[2J', '\x07', '\r', '\x7f', '\u009b', '\u202e', '\u2066', '\0']) {
      expect(obeyed(Buffer.from(`a${raw}b`)), JSON.stringify(raw)).toBeDefined()
    }
    expect(obeyed(Uint8Array.of(0x61, 0x9b, 0x62))).toBeDefined()
    expect(faultsOf({ ...ended, code: null })).toHaveLength(1)
    expect(faultsOf({ ...ended, err: Buffer.from('casky: internal error, please report it') })).toHaveLength(
      1,
    )
  })
})
