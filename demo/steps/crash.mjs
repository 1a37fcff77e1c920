// A writer is killed in the middle of its work, again and again; what it had acknowledged must all be there.
import { spawn } from 'node:child_process'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { open } from '../package.mjs'
import { mind } from '../place.mjs'
import { bold, dim, green, heading, must, number, print, red, seconds, timed } from '../screen.mjs'
import { keysOf, valueFor } from '../written.mjs'

const ROUNDS = 5
const WRITER = fileURLToPath(new URL('../writer.mjs', import.meta.url))

export async function crash(path) {
  heading(`Kill the writer (SIGKILL), ${ROUNDS} times`)
  print(dim('  round  killed after  acknowledged    found     lost  wrong  half a batch  reopened in'))
  const rounds = []
  for (let round = 1; round <= ROUNDS; round++) {
    const killed = await killWriter(path, round)
    const { result: db, ms } = await timed(() => open(path, { valueEncoding: 'json' }))
    rounds.push(killed)
    // Later kills must not hurt what earlier rounds left, so all of it is looked at again.
    const all = rounds.map((each) => judge(db, each))
    await db.close()
    const seen = all.at(-1)
    const cells = [
      String(round).padStart(7),
      seconds(killed.ms).padStart(14),
      number(killed.acknowledged.length).padStart(14),
      number(seen.found).padStart(9),
      seen.lost === 0 ? green('0'.padStart(9)) : red(number(seen.lost).padStart(9)),
      number(seen.wrong).padStart(7),
      number(seen.halves).padStart(14),
      seconds(ms).padStart(13),
    ]
    print(cells.join(''))
    for (const [i, { lost, wrong, halves }] of all.entries()) {
      must(lost === 0, `${number(lost)} acknowledged writes of round ${i + 1} are lost`)
      must(wrong === 0, `${number(wrong)} writes of round ${i + 1} came back with another value`)
      must(halves === 0, `${number(halves)} batches of round ${i + 1} are there in part`)
    }
  }
  const acknowledged = rounds.reduce((sum, each) => sum + each.acknowledged.length, 0)
  print(
    `  ${bold(number(acknowledged))} acknowledged writes, each one compared. Found beyond them: writes on their way.`,
  )
  return { acknowledged, kills: ROUNDS }
}

/** Lets a writer work for a while, kills it, and returns which writes it had said were acknowledged. */
async function killWriter(path, round) {
  const child = mind(
    spawn(process.execPath, [WRITER, path, String(round)], { stdio: ['ignore', 'pipe', 'pipe'] }),
  )
  const ended = new Promise((resolve) => child.once('close', resolve))
  let output = ''
  let errors = ''
  let begin
  const first = new Promise((resolve) => {
    child.stdout.setEncoding('utf8').on('data', (text) => {
      output += text
      begin ??= performance.now()
      resolve()
    })
  })
  child.stderr.setEncoding('utf8').on('data', (text) => {
    errors += text
  })
  await Promise.race([first, ended])
  await new Promise((resolve) => setTimeout(resolve, 50 + Math.random() * 350))
  must(child.exitCode === null, `the writer ended by itself: ${errors}`)
  child.kill('SIGKILL')
  const ms = performance.now() - begin
  await ended
  // The last line may have been cut: it counts only with its end.
  const acknowledged = output.split('\n').slice(0, -1).map(Number)
  must(acknowledged.length > 0, `the writer acknowledged nothing: ${errors}`)
  return { round, acknowledged, ms }
}

function judge(db, { round, acknowledged }) {
  const seen = { found: 0, lost: 0, wrong: 0, halves: 0 }
  for (const n of acknowledged) {
    if (keysOf(round, n).some((key) => !db.has(key))) seen.lost++
  }
  const numbers = new Set()
  for (const [key, value] of db.entries({ prefix: `log/${round}/` })) {
    if (value !== valueFor(key)) seen.wrong++
    numbers.add(Number(key.split('/')[2]))
  }
  for (const n of numbers) if (keysOf(round, n).some((key) => !db.has(key))) seen.halves++
  seen.found = numbers.size
  return seen
}
