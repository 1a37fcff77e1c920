// Opens the store again and again, against others that do the same. Whoever gets in counts up, and looks whether
// somebody else is inside.
import * as fs from 'node:fs'
import process from 'node:process'
import { createInterface } from 'node:readline'
import { open, openSync } from '../../../src/index'

const [path] = process.argv.slice(2) as [string]
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

export interface RaceResult {
  wins: number
  losses: number
  meetings: number
  errors: string[]
}

async function race(attempts: number): Promise<RaceResult> {
  const result: RaceResult = { wins: 0, losses: 0, meetings: 0, errors: [] }
  const inside = `${path}.inside`
  for (let turn = 0; turn < attempts; turn++) {
    try {
      const db = turn % 2 === 0 ? await open(path, { cacheBytes: 0 }) : openSync(path, { cacheBytes: 0 })
      result.wins++
      try {
        fs.closeSync(fs.openSync(inside, 'wx'))
      } catch {
        result.meetings++
      }
      const count = Number(db.get('count') ?? 0) + 1
      if (turn % 3 === 0) db.putSync('count', String(count))
      else await db.put('count', String(count))
      await sleep(turn % 3)
      fs.rmSync(inside, { force: true })
      await db.close()
    } catch (error) {
      if ((error as { code?: string }).code === 'CASKY_LOCKED') result.losses++
      else result.errors.push(String((error as Error).stack ?? error))
    }
    await sleep(turn % 4)
  }
  return result
}

console.log('"ready"')
for await (const line of createInterface({ input: process.stdin }))
  console.log(JSON.stringify(await race(Number(line))))
process.exit()
