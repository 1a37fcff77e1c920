// Random sequences of commands against a plain Map, with a clock of their own, reopening and killing on the way.
import { cpSync, rmSync } from 'node:fs'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Casky } from '../src/index'
import { freshStore } from './support/folders'
import { type Clock, groundWithClock, openSyncWith } from './support/ground'
import { referenceStore } from './support/reference'

interface Entry {
  value: string
  expiresAtMs: number | undefined
}
type Model = { clock: Clock; entries: Map<string, Entry> }
interface Real {
  path: string
  db: Casky
  clock: Clock
}
type Command = fc.Command<Model, Real>

const SEGMENT_BYTES = 4096

function reopen(real: Real): void {
  real.db = openSyncWith(groundWithClock(real.clock), real.path, {
    maxSegmentBytes: SEGMENT_BYTES,
    sync: 'never',
    cacheBytes: 65_536,
  })
}

function live(model: Model): [string, string][] {
  const found = [...model.entries].filter(
    ([, { expiresAtMs }]) => expiresAtMs === undefined || expiresAtMs > model.clock.nowMs,
  )
  found.sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
  return found.map(([key, { value }]) => [key, value])
}

function modelValue(model: Model, key: string): string | undefined {
  return live(model).find(([each]) => each === key)?.[1]
}

function command(name: string, run: (model: Model, real: Real) => void): Command {
  return { check: () => true, run, toString: () => name }
}

function write(model: Model, key: string, value: string, ttlMs: number | undefined): void {
  model.entries.set(key, { value, expiresAtMs: ttlMs === undefined ? undefined : model.clock.nowMs + ttlMs })
}

const someKeys = fc.oneof(
  fc.constantFrom('a', 'b', 'c', 'ab', 'ü', '😀'),
  fc.string({ minLength: 1, maxLength: 5, unit: 'grapheme' }),
)
const values = fc.oneof(
  fc.string({ maxLength: 12, unit: 'grapheme' }),
  fc.constantFrom('', 'x'.repeat(900), 'y'.repeat(5000), 'z'.repeat(300_000)),
)
const ttls = fc.option(fc.integer({ min: 1, max: 60 }), { nil: undefined, freq: 2 })
const operations = fc.array(
  fc.record({ key: someKeys, value: values, ttlMs: ttls, isDelete: fc.boolean() }),
  {
    maxLength: 12,
  },
)

const commands = [
  fc.tuple(someKeys, values, ttls).map(([key, value, ttlMs]) =>
    command(`put ${key} ${value.length} ${ttlMs}`, (model, { db }) => {
      void db.put(key, value, ttlMs === undefined ? {} : { ttlMs })
      write(model, key, value, ttlMs)
    }),
  ),
  fc.tuple(someKeys, values).map(([key, value]) =>
    command(`putSync ${key} ${value.length}`, (model, { db }) => {
      db.putSync(key, value)
      write(model, key, value, undefined)
    }),
  ),
  someKeys.map((key) =>
    command(`delete ${key}`, (model, { db }) => {
      expect(db.deleteSync(key)).toBe(modelValue(model, key) !== undefined)
      model.entries.delete(key)
    }),
  ),
  operations.map((list) =>
    command(
      `batch ${JSON.stringify(list.map(({ key, isDelete }) => (isDelete ? `-${key}` : key)))}`,
      (model, { db }) => {
        void db.batch(
          list.map(({ key, value, ttlMs, isDelete }) =>
            isDelete ? { type: 'del', key } : { type: 'put', key, value, ttlMs },
          ),
        )
        for (const { key, value, ttlMs, isDelete } of list) {
          if (isDelete) model.entries.delete(key)
          else write(model, key, value, ttlMs)
        }
      },
    ),
  ),
  someKeys.map((key) =>
    command(`get ${key}`, (model, { db }) => {
      expect(db.get(key)).toBe(modelValue(model, key))
      expect(db.has(key)).toBe(modelValue(model, key) !== undefined)
    }),
  ),
  fc.tuple(someKeys, fc.boolean(), fc.integer({ min: 0, max: 4 })).map(([prefix, reverse, limit]) =>
    command(`list ${prefix} ${reverse} ${limit}`, (model, { db }) => {
      const expected = live(model).filter(([key]) => key.startsWith(prefix))
      if (reverse) expected.reverse()
      expect([...db.entries({ prefix, reverse, limit })]).toEqual(expected.slice(0, limit))
      expect(db.size).toBe(live(model).length)
    }),
  ),
  fc.integer({ min: 1, max: 40 }).map((ms) =>
    command(`wait ${ms}`, (model) => {
      model.clock.nowMs += ms
    }),
  ),
  fc.constant(command('flush', (_model, { db }) => db.flushSync())),
  fc.constant(
    command('expire', (_model, { db }) => {
      void db.expire()
    }),
  ),
  fc.constant(
    command('reopen', (_model, real) => {
      real.db.closeSync()
      reopen(real)
    }),
  ),
  fc.constant(
    // What a kill leaves: the files as they are, without what was still in memory.
    command('kill', (_model, real) => {
      real.db.flushSync()
      const copy = `${real.path}-`
      cpSync(real.path, copy, { recursive: true, filter: (path) => !path.endsWith('LOCK') })
      real.db.closeSync()
      rmSync(real.path, { recursive: true })
      real.path = copy
      reopen(real)
      expect(real.db.health()).toMatchObject({ ok: true, tornTails: [] })
    }),
  ),
]

test('the store agrees with a Map, and a second reader with the store', () => {
  fc.assert(
    fc.property(fc.commands(commands, { maxCommands: 60, size: 'max' }), (sequence) => {
      const clock = { nowMs: 1_000_000 }
      const real = { path: freshStore(), clock } as Real
      reopen(real)
      const model: Model = { clock, entries: new Map() }
      try {
        fc.modelRun(() => ({ model, real }), sequence)
        expect([...real.db.entries()]).toEqual(live(model))
        real.db.flushSync()
        // The reference computes CRCs bit by bit: only where the store is small.
        if (real.db.stats().bytes < 30_000) {
          const expected = new Map(
            live(model).map(([key, value]) => [Buffer.from(key).toString('hex'), Buffer.from(value)]),
          )
          expect(referenceStore(real.path, clock.nowMs)).toEqual(expected)
        }
      } finally {
        real.db.closeSync()
        rmSync(real.path, { recursive: true, force: true })
      }
    }),
    { numRuns: Number(process.env.CASKY_MODEL_RUNS ?? 80) },
  )
})
