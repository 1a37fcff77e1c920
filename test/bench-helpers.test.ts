// What the benchmarks are built of: the keys they draw, the commands they run, and who they say is ahead.
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { deflateRawSync } from 'node:zlib'
import { expect, test } from 'vitest'

const root = resolve(import.meta.dirname, '..')
const load = async <T>(path: string): Promise<T> => (await import(resolve(root, 'bench', path))) as T

interface Data {
  bytesFor(i: number, version?: number): Buffer
  checkValue(i: number, version: number, value: Uint8Array | undefined): void
  numberOf(key: string): number
  shuffled(count: number): Uint32Array
  zipfianNumbers(count: number, below: number): Uint32Array
}
interface Runner {
  chosenFrom(all: string[], text: string | undefined, kind: string): string[]
  commandOf(how: { runtime?: string; pin?: number; prefix?: string }): { program: string; args: string[] }
  commonChoice(values: object, defaults?: object): { keys: number; runs: number; pin?: number }
}
interface Report {
  standings(results: object): { id: string; ours: string; theirs: string; times: number }[]
}

interface Machine {
  watchOthers(core?: number): () => number | undefined
}

const machine = await load<Machine>('machine.mjs')
const data = await load<Data>('rivals/data.mjs')
const runner = await load<Runner>('runner.mjs')
const report = await load<Report>('rivals/report.mjs')

test('values do not compress, and follow from the key and the version', () => {
  const block = Buffer.concat(Array.from({ length: 500 }, (_, i) => data.bytesFor(i)))
  expect(deflateRawSync(block).length).toBeGreaterThan(block.length * 0.98)
  const seen = [0, 1, 2, 3].map((version) => data.bytesFor(7, version).toString('hex'))
  expect(new Set(seen).size).toBe(4)
  expect(data.bytesFor(7)).toEqual(data.bytesFor(7, 0))
  expect(() => data.checkValue(7, 1, data.bytesFor(7, 1))).not.toThrow()
  for (const wrong of [undefined, data.bytesFor(7, 0), data.bytesFor(7, 1).subarray(1)])
    expect(() => data.checkValue(7, 1, wrong)).toThrow('key:000000000007')
})

test('a key that nobody wrote is noticed', () => {
  expect(data.numberOf('key:000000000042')).toBe(42)
  for (const wrong of ['key:42', 'kex:000000000042', 'key:00000000004x'])
    expect(() => data.numberOf(wrong)).toThrow('nobody wrote')
})

test('shuffling keeps each number, in another order, the same on every run', () => {
  const order = data.shuffled(1000)
  expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, i) => i))
  expect(order.filter((number, i) => number === i).length).toBeLessThan(20)
  expect(data.shuffled(1000)).toEqual(order)
})

test("the hot keys are drawn as often as Zipf's law has it", () => {
  const below = 1000
  const draws = 200_000
  const counts = new Map<number, number>()
  for (const number of data.zipfianNumbers(draws, below)) counts.set(number, (counts.get(number) ?? 0) + 1)
  expect(Math.max(...counts.keys())).toBeLessThan(below)
  const byHeat = [...counts.values()].sort((a, b) => b - a)
  const zeta = Array.from({ length: below }, (_, i) => (i + 1) ** -0.99).reduce((sum, each) => sum + each)
  for (const rank of [1, 2]) {
    const wanted = rank ** -0.99 / zeta
    expect(byHeat[rank - 1] / draws).toBeGreaterThan(wanted * 0.95)
    expect(byHeat[rank - 1] / draws).toBeLessThan(wanted * 1.05)
  }
  const tenth = byHeat.slice(0, below / 10).reduce((sum, each) => sum + each) / draws
  const wantedTenth =
    Array.from({ length: below / 10 }, (_, i) => (i + 1) ** -0.99).reduce((sum, each) => sum + each) / zeta
  expect(Math.abs(tenth - wantedTenth)).toBeLessThan(0.02)
})

test('a workload is run on the runtime and the core that were asked for, behind the prefix', () => {
  const plain = runner.commandOf({})
  expect(plain).toEqual({ program: process.execPath, args: [] })
  const pinned = runner.commandOf({ pin: 1, prefix: 'flock --no-fork file' })
  expect(pinned.program).toBe('flock')
  expect(pinned.args).toEqual(['--no-fork', 'file', 'taskset', '-c', '1', process.execPath])
  expect(runner.commandOf({ runtime: 'deno' }).args).toEqual(['run', '--allow-all'])
  expect(runner.commandOf({ runtime: 'bun' }).program).toMatch(/bun$/)
})

test.runIf(process.platform === 'linux')('what others have of the cores is a share', () => {
  for (const core of [undefined, 0]) {
    const share = machine.watchOthers(core)()
    expect(share).toBeGreaterThanOrEqual(0)
    expect(share).toBeLessThan(Number.POSITIVE_INFINITY)
  }
  // A core that there isn't.
  expect(machine.watchOthers(100_000)()).toBeUndefined()
})

test('options are checked, and have their defaults', () => {
  expect(runner.commonChoice({})).toMatchObject({ keys: 1_000_000, runs: 3, pin: undefined })
  expect(runner.commonChoice({ quick: true })).toMatchObject({ keys: 100_000, runs: 1 })
  expect(runner.commonChoice({ keys: '5000', runs: '5', pin: '0' })).toMatchObject({
    ...{ keys: 5000, runs: 5, pin: 0 },
  })
  for (const wrong of [
    { keys: '1999' },
    { runs: '0' },
    { pin: '-1' },
    { keys: '1e9.5' },
    { runtime: 'perl' },
  ])
    expect(() => runner.commonChoice(wrong)).toThrow(`--${Object.keys(wrong)[0]}`)
  expect(runner.chosenFrom(['a', 'b', 'c'], 'c,a', 'group')).toEqual(['a', 'c'])
  expect(runner.chosenFrom(['a', 'b'], undefined, 'group')).toEqual(['a', 'b'])
  expect(() => runner.chosenFrom(['a', 'b'], 'a,d', 'group')).toThrow("there is no group 'd'")
})

test('the best of each side is compared, whether more is better or less', () => {
  const of = (figure: string, median: number) => ({ [figure]: { median, min: median, max: median } })
  const found = report.standings({
    'get-uniform': {
      casky: of('perSecond', 100),
      'casky, cacheBytes: 256 MiB': of('perSecond', 300),
      LMDB: of('perSecond', 200),
      SQLite: of('perSecond', 600),
    },
    'open-clean': { casky: of('ms', 10), LMDB: of('ms', 40), SQLite: of('ms', 20) },
    iterate: { LMDB: of('perSecond', 1) },
  })
  expect(found.map(({ id, ours, theirs, times }) => ({ id, ours, theirs, times }))).toEqual([
    { id: 'get-uniform', ours: 'casky, cacheBytes: 256 MiB', theirs: 'SQLite', times: 0.5 },
    { id: 'open-clean', ours: 'casky', theirs: 'SQLite', times: 2 },
  ])
})

test('who installs or tests casky builds no rival', () => {
  const read = (path: string) => JSON.parse(readFileSync(resolve(root, path), 'utf8'))
  const locked = Object.keys(read('package-lock.json').packages)
  const { dependencies } = read('bench/package.json') as { dependencies: Record<string, string> }
  expect(Object.keys(dependencies)).toContain('lmdb')
  for (const name of Object.keys(dependencies)) expect(locked).not.toContain(`node_modules/${name}`)
  expect(read('package.json').workspaces).toBeUndefined()
  expect(Object.keys(read('bench/package-lock.json').packages['']?.dependencies)).toEqual(
    Object.keys(dependencies),
  )
})
