import { describe, expect, test } from 'vitest'
import {
  advance,
  type BeaconKind,
  type Contender,
  copyWorld,
  keyOf,
  kill,
  newContender,
  newWorld,
  type World,
} from './lock/world'

const TOKENS = ['10', '20', '30']
type ListsFirst = 'low' | 'high'

function contenders(
  kinds: BeaconKind[],
  order: number[],
  listsFirst: ListsFirst[],
  rounds = [1, 1, 1],
): Contender[] {
  return kinds.map((beacon, id) =>
    newContender({ id, token: TOKENS[order[id]!]!, beacon, listsFirst: listsFirst[id]! }, rounds[id]),
  )
}

function expectOneWriter(world: World): void {
  expect(world.inside.filter(Boolean).length, 'writers at once').toBeLessThan(2)
}

/** When all are done, the next one must get in, and nothing be left behind. */
function expectGoodEnd(world: World, all: Contender[]): void {
  for (const { outcome, error } of all) if (outcome === 'failed') throw error
  if (world.alive.every(Boolean))
    expect(
      all.some(({ wins }) => wins > 0),
      'somebody gets in',
    ).toBe(true)
  const { beacon } = all[0]!.setup
  const last = newContender({ id: world.alive.length - 1, token: '40', beacon, listsFirst: 'low' })
  for (let steps = 0; last.outcome === 'running' && steps < 500; steps++) advance(world, last)
  expect(last.outcome, String(last.error)).toBe('done')
  expect([...world.files.keys()]).toEqual([])
}

type State = [World, Contender[]]
const copyState = ([world, all]: State): State => [
  copyWorld(world),
  all.map((contender) => ({ ...contender, log: [...contender.log] })),
]

function afterStep(state: State, mover: number): State {
  const [world, all] = copyState(state)
  for (const { setup } of all) if (setup.id !== mover) all[setup.id]!.sleeps = false
  advance(world, all[mover]!)
  return [world, all]
}

function afterDeath(state: State, victim: number): State {
  const [world, all] = copyState(state)
  for (const contender of all) contender.sleeps = false
  kill(world, victim)
  return [world, all]
}

/** Goes through every order of the contenders' steps, and of one death at any of them where `mayKill`. */
function exploreAll(start: Contender[], mayKill: boolean): { states: number; winners: Set<number> } {
  const seen = new Set<string>()
  const winners = new Set<number>()
  const stack: State[] = [[newWorld(start.length + 1), start]]
  for (let state = stack.pop(); state !== undefined; state = stack.pop()) {
    const [world, all] = state
    const key = JSON.stringify([
      [...world.files].sort(),
      [...world.lit].sort(),
      world.alive,
      world.inside,
      all.map(keyOf),
    ])
    if (seen.has(key)) continue
    seen.add(key)
    expectOneWriter(world)
    const running = all.filter(({ outcome, setup }) => outcome === 'running' && world.alive[setup.id])
    if (running.length === 0) expectGoodEnd(copyWorld(world), all)
    for (const { outcome, setup } of all) if (outcome === 'done') winners.add(setup.id)
    const awake = running.filter(({ sleeps }) => !sleeps)
    for (const { setup } of awake.length > 0 ? awake : running) stack.push(afterStep(state, setup.id))
    if (!mayKill || !world.alive.every(Boolean)) continue
    for (const { setup } of running) stack.push(afterDeath(state, setup.id))
  }
  return { states: seen.size, winners }
}

describe('two race, in every order of their steps, with a death at every step', () => {
  const cases: [BeaconKind, ListsFirst[]][] = [
    ['abstract', ['low', 'high']],
    ['abstract', ['high', 'high']],
    ['socket', ['low', 'high']],
    ['socket', ['high', 'low']],
    ['fileLock', ['low', 'high']],
    ['pid', ['high', 'high']],
  ]
  test.each(cases)('beacon %s, listing %s: never two writers, and the next gets in', (kind, listing) => {
    const { states, winners } = exploreAll(contenders([kind, kind], [0, 1], listing), true)
    expect(states).toBeGreaterThan(5_000)
    expect([...winners].sort()).toEqual([0, 1])
  })

  test('one that tidied up a live one is found out when it comes back', () => {
    const { states } = exploreAll(contenders(['socket', 'socket'], [0, 1], ['low', 'low'], [1, 2]), false)
    expect(states).toBeGreaterThan(10_000)
  })
})

test('three race, in random orders with random deaths: never two writers, and the next gets in', () => {
  let seed = 1
  const random = (below: number) => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0
    return (seed >>> 8) % below
  }
  const pick = <T>(from: readonly T[]): T => from[random(from.length)]!
  let wins = 0
  for (let round = 0; round < 400; round++) {
    const kinds = [0, 1, 2].map(() => pick(['abstract', 'socket', 'fileLock', 'pid'] as const))
    const listings = kinds.map(() => pick(['low', 'high'] as const))
    const order = pick([
      [0, 1, 2],
      [1, 2, 0],
      [2, 0, 1],
      [2, 1, 0],
      [0, 2, 1],
      [1, 0, 2],
    ])
    const world = newWorld(4)
    const all = contenders(kinds, order, listings)
    for (;;) {
      const running = all.filter(({ outcome, setup }) => outcome === 'running' && world.alive[setup.id])
      if (running.length === 0) break
      const awake = running.filter(({ sleeps }) => !sleeps)
      const { setup } = pick(awake.length > 0 ? awake : running)
      if (random(60) === 0) kill(world, setup.id)
      // Runs of steps, for a race that changes hands at every step is over before it gets interesting.
      for (let steps = 1 + random(12); steps > 0 && world.alive[setup.id]; steps--) {
        for (const other of all) if (other.setup.id !== setup.id) other.sleeps = false
        if (all[setup.id]!.outcome === 'running') advance(world, all[setup.id]!)
        expectOneWriter(world)
      }
    }
    wins += all.filter(({ outcome }) => outcome === 'done').length
    expectGoodEnd(world, all)
  }
  expect(wins).toBeGreaterThan(400)
})
