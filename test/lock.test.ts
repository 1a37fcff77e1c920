import { describe, expect, test } from 'vitest'
import { advance, type BeaconKind, type Contender, copyWorld, kill, newContender, newWorld, type World } from './lock/world'

const TOKENS = ['10', '20', '30']

function contenders(kinds: BeaconKind[], order: number[], listsFirst: ('low' | 'high')[]): Contender[] {
  return kinds.map((beacon, id) =>
    newContender({ id, token: TOKENS[order[id]!]!, beacon, listsFirst: listsFirst[id]! }),
  )
}

const copyContender = (contender: Contender): Contender => ({ ...contender, log: [...contender.log] })

const keyOf = (world: World, all: Contender[]) =>
  JSON.stringify([[...world.files], world.alive, world.inside, all.map(({ log, sleeps, outcome }) => [log, sleeps, outcome])])

/** A process alone, that nobody comes between, must get in and leave nothing behind. */
function expectFree(world: World, kind: BeaconKind): void {
  const last = newContender({ id: world.alive.length - 1, token: '40', beacon: kind, listsFirst: 'low' })
  for (let steps = 0; last.outcome === 'running' && steps < 500; steps++) advance(world, last)
  expect(last.outcome, String(last.error)).toBe('done')
  expect([...world.files.keys()]).toEqual([])
}

interface Explored {
  states: number
  ends: number
  wins: number[]
}

/** Every order in which the steps of the contenders can come, and, with `mayKill`, every step at which the first dies. */
function exploreAll(start: Contender[], mayKill: boolean): Explored {
  const seen = new Set<string>()
  const result: Explored = { states: 0, ends: 0, wins: [0, 0, 0] }
  const stack: [World, Contender[]][] = [[newWorld(start.length + 1), start]]
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    const [world, all] = next
    const key = keyOf(world, all)
    if (seen.has(key)) continue
    seen.add(key)
    result.states++
    expect(world.inside.filter(Boolean).length, 'writers at once').toBeLessThan(2)
    const running = all.filter(({ outcome, setup }) => outcome === 'running' && world.alive[setup.id])
    if (running.length === 0) {
      endsWell(copyWorld(world), all, result)
      continue
    }
    const movers = running.filter(({ sleeps }) => !sleeps)
    for (const { setup } of movers.length > 0 ? movers : running) {
      const [thisWorld, these] = [copyWorld(world), all.map(copyContender)]
      for (const each of these) if (each.setup.id !== setup.id) each.sleeps = false
      advance(thisWorld, these[setup.id]!)
      stack.push([thisWorld, these])
    }
    if (mayKill && world.alive[0] && all[0]!.outcome === 'running') {
      const [thisWorld, these] = [copyWorld(world), all.map(copyContender)]
      for (const each of these) each.sleeps = false
      kill(thisWorld, 0)
      stack.push([thisWorld, these])
    }
  }
  return result
}

function endsWell(world: World, all: Contender[], result: Explored): void {
  result.ends++
  for (const { outcome, error } of all) if (outcome === 'failed') throw error
  const winners = all.filter(({ outcome }) => outcome === 'done')
  for (const { setup } of winners) result.wins[setup.id]!++
  if (world.alive[0]) expect(winners.length, 'somebody gets in').toBeGreaterThan(0)
  expectFree(world, all[0]!.setup.beacon)
}

describe('two that race, in every order of their steps', () => {
  for (const [first, second] of [
    ['socket', 'socket'],
    ['fileLock', 'fileLock'],
    ['pid', 'pid'],
    ['socket', 'fileLock'],
  ] as [BeaconKind, BeaconKind][]) {
    test(`${first} and ${second}: never two writers, never none, nothing left behind`, () => {
      for (const lists of [['low', 'low'], ['high', 'low'], ['low', 'high'], ['high', 'high']] as ('low' | 'high')[][]) {
        for (const order of [[0, 1], [1, 0]]) {
          const { wins, states, ends } = exploreAll(contenders([first, second], order, lists), false)
          console.log(first, second, lists, order, { wins, states, ends })
          expect(wins[0]).toBeGreaterThan(0)
          expect(wins[1]).toBeGreaterThan(0)
        }
      }
    })
  }
})
