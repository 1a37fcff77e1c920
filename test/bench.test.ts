// The benchmarks, at a size that says nothing about speed: that they run, check their data, and leave nothing behind.
import { execFile } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { freshFolder } from './support/folders'

const bench = resolve(import.meta.dirname, '../bench')

interface Written {
  runtime: string
  pin?: number
  results: Record<string, Record<string, unknown>>
}

/** Runs a benchmark once, with few keys; it must take away what it has made. */
async function runOf(script: string, args: string[]): Promise<Written & { stdout: string }> {
  const folder = freshFolder()
  const work = join(folder, 'work')
  mkdirSync(work)
  const json = join(folder, 'results.json')
  const { stdout } = await promisify(execFile)(process.execPath, [
    join(bench, script),
    ...['--keys', '2000', '--runs', '1', '--dir', work, '--json', json],
    ...args,
  ])
  expect(readdirSync(work)).toEqual([])
  return { ...(JSON.parse(readFileSync(json, 'utf8')) as Written), stdout }
}

function expectMedians(figures: unknown): void {
  const medians = Object.values(figures as Record<string, { median: number }>)
  expect(medians.length).toBeGreaterThan(0)
  for (const { median } of medians) expect(median).toBeGreaterThanOrEqual(0)
}

test('each of them gives a figure, and takes away what it has made', async () => {
  const { results, stdout } = await runOf('main.mjs', [])
  expect(Object.keys(results).length).toBe(31)
  for (const [name, figures] of Object.entries(results)) {
    expect(stdout).toContain(name)
    expectMedians(figures)
  }
})

test.each(['bun', 'deno'])('they run on %s where that is asked for', async (runtime) => {
  const { results, ...about } = await runOf('main.mjs', ['--only', 'read', '--runtime', runtime])
  expect(about.runtime).toMatch(new RegExp(`^${runtime} \\d+\\.\\d+\\.\\d+$`))
  expect(Object.keys(results).length).toBe(4)
})

/** One row of each workload. */
const ROWS = [
  ...['put-awaited', 'durable-64', 'batch-each', 'get-zipfian', 'get-many', 'ycsb-a'],
  ...['iterate', 'open-killed', 'memory', 'space', 'stall-loading'],
]

test('beside a rival each row has a figure of both, and says who is ahead', async () => {
  const args = ['--rivals', 'casky,map', '--only', ROWS.join(',')]
  const { results, stdout } = await runOf('rivals/main.mjs', args)
  expect(Object.keys(results).sort()).toEqual([...ROWS, 'stall-compacting'].sort())
  for (const entries of Object.values(results)) {
    const names = Object.keys(entries)
    expect(names.at(-1)).toBe('a Map with an append log')
    expect(names[0]).toMatch(/^casky/)
    for (const figures of Object.values(entries)) expectMedians(figures)
  }
  expect(stdout).toMatch(/casky is ahead in \d+ of 12 rows/)
}, 240_000)
