import { expect, test } from 'vitest'
import { Pace } from '../src/pace'
import { groundWith } from './support/ground'

/** A slice of 2 ms, and then a rest during which each turn of the event loop takes a quarter of one; in turns. */
async function turnsOfRest(operations: () => number): Promise<number> {
  let clockMs = 0
  let turns = 0
  const { host } = groundWith({
    clockMs: () => clockMs,
    soon: (run) => {
      turns++
      clockMs += 0.25
      setImmediate(run)
    },
  })
  const pace = new Pace(host, 0, operations)
  clockMs = 2
  expect(pace.isDue).toBe(true)
  await pace.rest()
  expect(pace.isDue).toBe(false)
  expect(pace.longestSliceMs).toBe(2)
  return turns
}

test('a slice is followed by the next one where nobody else does anything', async () => {
  expect(await turnsOfRest(() => 7)).toBe(1)
})

test('where others do something, they get as long as the slice took', async () => {
  let operations = 0
  expect(await turnsOfRest(() => operations++)).toBe(8)
})

test('or until they have done', async () => {
  let operations = 0
  expect(await turnsOfRest(() => Math.min(3, operations++ >> 1))).toBeLessThan(8)
})
