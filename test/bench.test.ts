// The benchmarks, at a size that says nothing about speed: that they run, check their data, and leave nothing behind.
import { execFile } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { freshFolder } from './support/folders'

const main = resolve(import.meta.dirname, '../bench/main.mjs')

test('each of them gives a figure, and takes away what it has made', async () => {
  const folder = freshFolder()
  const work = join(folder, 'work')
  mkdirSync(work)
  const json = join(folder, 'results.json')
  const { stdout } = await promisify(execFile)(process.execPath, [
    main,
    '--keys',
    '2000',
    '--runs',
    '1',
    '--dir',
    work,
    '--json',
    json,
  ])
  const { results } = JSON.parse(readFileSync(json, 'utf8')) as {
    results: Record<string, Record<string, { median: number }>>
  }
  expect(Object.keys(results).length).toBe(31)
  for (const [name, figures] of Object.entries(results)) {
    expect(stdout).toContain(name)
    expect(Object.values(figures).length).toBeGreaterThan(0)
    for (const { median } of Object.values(figures)) expect(median).toBeGreaterThanOrEqual(0)
  }
  expect(readdirSync(work)).toEqual([])
})
