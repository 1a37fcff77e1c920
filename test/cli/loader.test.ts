// What counts as imported when the store refuses some of it: what it acknowledged, and nothing else.
import { expect, test } from 'vitest'
import { Loader, RefusedWrite } from '../../src/cli/loader'
import type { Casky } from '../../src/index'

/** Stands in for a store whose commit groups have so many puts each, and one of which fails. */
function storeOf(groupPuts: number, failing: number | undefined): Casky {
  let puts = 0
  let group: Promise<void> = Promise.resolve()
  const put = (): Promise<void> => {
    const number = Math.floor(puts / groupPuts)
    if (puts++ % groupPuts === 0) {
      group = new Promise((resolve, reject) => {
        const settle = (): void => (number === failing ? reject(new Error('no space')) : resolve())
        setTimeout(settle, number + 1)
      })
    }
    return group
  }
  return { put, delete: async () => true } as unknown as Casky
}

test('all of it', async () => {
  const loader = new Loader(storeOf(10, undefined))
  for (let i = 1; i <= 95; i++) loader.put('k', 'v', undefined, i)
  loader.delete('k', 96)
  expect(loader.puts).toBe(0)
  await loader.settle()
  expect([loader.puts, loader.deletes]).toEqual([95, 1])
})

test('every group but the one that is refused, which is named by its first line', async () => {
  const loader = new Loader(storeOf(10, 4))
  for (let i = 1; i <= 95; i++) loader.put('k', 'v', undefined, i)
  await expect(loader.settle()).rejects.toMatchObject({ where: 41, cause: { message: 'no space' } })
  await expect(loader.settle()).rejects.toBeInstanceOf(RefusedWrite)
  expect(loader.puts).toBe(85)
})

test('a full batch waits for the one before', async () => {
  const loader = new Loader(storeOf(4096, undefined))
  let rounds = 0
  for (let i = 0; i < 50_000; i++) {
    loader.put('k', 'v', undefined, i)
    if (!loader.isFull) continue
    await loader.pace()
    rounds++
    // At most the batch that was just filled is under way.
    expect(i + 1 - loader.puts).toBeLessThanOrEqual(8192)
  }
  expect(rounds).toBe(6)
  await loader.settle()
  expect(loader.puts).toBe(50_000)
})
