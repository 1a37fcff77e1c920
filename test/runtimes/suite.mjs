// The public API as named cases for any runtime: whoever runs it hands in the package and an empty directory.
// It asks for no permission beyond that directory, and makes the same number of checks on every runtime.
import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import basics from './cases/basics.mjs'
import batches from './cases/batches.mjs'
import encodings from './cases/encodings.mjs'
import errors from './cases/errors.mjs'
import lifecycle from './cases/lifecycle.mjs'
import maintenance from './cases/maintenance.mjs'
import ranges from './cases/ranges.mjs'
import ttl from './cases/ttl.mjs'
import views from './cases/views.mjs'

const parts = { basics, batches, encodings, errors, lifecycle, maintenance, ranges, ttl, views }

export const cases = Object.entries(parts).flatMap(([part, named]) =>
  Object.entries(named).map(([name, run]) => ({ name: `${part}: ${name}`, run })),
)

/** What a case gets: the package, checks that are counted, and stores that are closed for it. */
class Case {
  checks = 0
  #stores = []
  #paths = 0

  constructor(casky, directory) {
    this.casky = casky
    this.directory = directory
  }

  /** A path of its own, with nothing there yet. */
  path() {
    return join(this.directory, String(++this.#paths))
  }

  async open(options, path = this.path()) {
    return this.#keep(await this.casky.open(path, options))
  }

  openSync(options, path = this.path()) {
    return this.#keep(this.casky.openSync(path, options))
  }

  #keep(store) {
    this.#stores.push(store)
    return store
  }

  async end() {
    for (const store of this.#stores) await store.close()
  }

  equal(got, expected, what) {
    this.checks++
    assert.deepStrictEqual(got, expected, what && `${what}: got ${show(got)}, expected ${show(expected)}`)
  }

  ok(value, what) {
    this.checks++
    assert.ok(value, what)
  }

  /** Returns the error that `run` throws at once. */
  throws(code, run) {
    this.checks++
    let result
    try {
      result = run()
    } catch (error) {
      this.#isCasky(error, code)
      return error
    }
    // A rejection that comes instead must not end the process as an unhandled one.
    if (result instanceof Promise) result.catch(() => {})
    assert.fail(`nothing was thrown where ${code} was expected`)
  }

  /** Returns the error that the promise of `run` rejects with; throwing it in passing counts as a failure. */
  async rejects(code, run) {
    this.checks++
    let promise
    try {
      promise = run()
    } catch (error) {
      assert.fail(`thrown instead of rejected: ${error}`)
    }
    assert.ok(promise instanceof Promise, `no promise where one that rejects with ${code} was expected`)
    try {
      await promise
    } catch (error) {
      this.#isCasky(error, code)
      return error
    }
    assert.fail(`the promise resolved where ${code} was expected`)
  }

  #isCasky(error, code) {
    assert.ok(error instanceof Error, `not an Error: ${error}`)
    assert.equal(error.name, 'CaskyError', `${error.stack}`)
    assert.equal(error.code, code, error.message)
    assert.ok(this.casky.isCaskyError(error))
  }
}

function show(value) {
  const text = typeof value === 'string' ? JSON.stringify(value) : String(value)
  return text.length > 100 ? `${text.slice(0, 100)}…` : text
}

/** Runs every case in a directory of its own below `directory`. */
export async function runSuite(casky, directory) {
  const report = { passed: 0, checks: 0, failed: [] }
  for (const [i, { name, run }] of cases.entries()) {
    const place = join(directory, `case-${i}`)
    const subject = new Case(casky, place)
    try {
      try {
        await run(subject)
      } finally {
        await subject.end()
      }
      assert.ok(subject.checks > 0, 'the case checks nothing')
      report.passed++
    } catch (error) {
      report.failed.push({
        name,
        error: error instanceof Error ? (error.stack ?? error.message) : `${error}`,
      })
    }
    report.checks += subject.checks
    rmSync(place, { recursive: true, force: true })
  }
  return report
}
