// Ctrl-C, SIGTERM, and what is drawn on a terminal.
import * as fs from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { openSync } from '../../src/index'
import { record } from './casky-c-log'
import {
  casky,
  firstSegment,
  freshPath,
  hasTerminal,
  makeStore,
  onTerminal,
  readStore,
  shell,
  start,
  useCli,
} from './support'

useCli()

const ENTRIES = 100_000

function entry(i: number): string {
  return `${JSON.stringify({ key: `key ${i}`, value: `value ${i}` })}\n`
}

let big: string | undefined

function bigFile(): string {
  if (big === undefined) {
    big = freshPath()
    fs.writeFileSync(big, Array.from({ length: ENTRIES }, (_, i) => entry(i)).join(''))
  }
  return big
}

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; tries < 500 && !condition(); tries++) await sleep(10)
  expect(condition()).toBe(true)
}

/** The entries that are said to be imported are there, in their order, and no others. */
function expectExactly(dir: string, err: string): number {
  const [, told] =
    /^casky: interrupted; ([\d,]+) entr(?:y is|ies are) imported and on disk\n$/.exec(err) ?? []
  expect(told, err).toBeDefined()
  const count = Number(told?.replaceAll(',', ''))
  const store = openSync(dir, { strict: true })
  expect(store.size).toBe(count)
  const wrong = Array.from({ length: count }, (_, i) => i).filter(
    (i) => store.get(`key ${i}`) !== `value ${i}`,
  )
  expect(wrong).toEqual([])
  expect(store.health()).toMatchObject({ ok: true, tornTails: [] })
  store.closeSync()
  return count
}

describe('an import that is stopped', () => {
  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('by %s keeps what it acknowledged', async (signal, exitCode) => {
    const dir = freshPath()
    const { child, result } = start(['import', dir])
    const half = Array.from({ length: ENTRIES / 2 }, (_, i) => entry(i)).join('')
    child.stdin?.write(half)
    await until(() => fs.existsSync(firstSegment(dir)) && fs.statSync(firstSegment(dir)).size > 1_000_000)
    // More comes in, and there is no end to wait for.
    child.stdin?.write(entry(ENTRIES / 2).slice(0, 10))
    child.kill(signal)
    const { code, text, err } = await result
    expect({ code, text }).toEqual({ code: exitCode, text: '' })
    expect(expectExactly(dir, err)).toBeGreaterThan(1000)
  })

  test('in the middle of a file', async () => {
    for (const delayMs of [0, 60]) {
      const dir = freshPath()
      const { child, result } = start(['import', dir, bigFile()])
      await until(() => fs.existsSync(firstSegment(dir)))
      await sleep(delayMs)
      child.kill('SIGINT')
      const { code, err } = await result
      if (code === 0) continue
      expect(code).toBe(130)
      expect(expectExactly(dir, err)).toBeLessThanOrEqual(ENTRIES)
    }
  })

  test('while it waits for input, and goes on where it was', async () => {
    const dir = freshPath()
    const { child, result } = start(['import', dir])
    child.stdin?.write(entry(0) + entry(1))
    await until(() => fs.existsSync(firstSegment(dir)))
    await sleep(100)
    child.kill('SIGINT')
    const { code, err } = await result
    expect(code).toBe(130)
    expect(expectExactly(dir, err)).toBe(2)
    expect((await casky(['import', dir], entry(2))).code).toBe(0)
    expect(Object.keys(readStore(dir))).toHaveLength(3)
  })

  test('of a C log too', async () => {
    const dir = freshPath()
    const log = freshPath()
    const records = Array.from({ length: ENTRIES }, (_, i) => record(`key ${i}`, `value ${i}`))
    fs.writeFileSync(log, Buffer.concat(records))
    const { child, result } = start(['import', dir, '--format', 'casky-c', log])
    await until(() => fs.existsSync(firstSegment(dir)))
    child.kill('SIGINT')
    const { code, err } = await result
    expect(code).toBe(130)
    expect(expectExactly(dir, err)).toBeLessThan(ENTRIES)
  })

  test('before it began, at once', async () => {
    const { child, result } = start(['put', freshPath(), 'k', '-'])
    // More than a pipe holds: it has been written once the command reads.
    await new Promise((resolve) => child.stdin?.write(Buffer.alloc(1_000_000), resolve))
    child.kill('SIGINT')
    expect((await result).code).toBe(130)
  })
})

test('a store is not locked by an import that was killed', async () => {
  const dir = freshPath()
  const { child, result } = start(['import', dir])
  child.stdin?.write(entry(0))
  await until(() => fs.existsSync(firstSegment(dir)))
  await sleep(100)
  child.kill('SIGKILL')
  await result
  expect(readStore(dir)).toEqual({ 'key 0': 'value 0' })
  expect((await casky(['import', dir], entry(1))).code).toBe(0)
  expect(Object.keys(readStore(dir))).toHaveLength(2)
})

describe.skipIf(!hasTerminal)('on a terminal', () => {
  const slowly = (file: string): string => `(head -n 1000 ${file}; sleep 0.6; tail -n +1001 ${file})`

  test('an import draws its progress, and takes it away', async () => {
    const dir = freshPath()
    const { code, text } = await onTerminal(`${slowly(bigFile())} | casky import ${dir}`)
    expect(code).toBe(0)
    expect(text).toMatch(/importing · [\d.]+ [KM]iB · [\d.]+ [KMG]iB\/s/)
    expect(text).toMatch(/imported 100,000 entries\r\n$/)
    const quiet = await onTerminal(`${slowly(bigFile())} | casky import ${freshPath()} --quiet`)
    expect(quiet.text).toBe('')
  })

  test('with a bar where the end is known', async () => {
    const file = freshPath()
    const lines = fs.readFileSync(bigFile(), 'utf8')
    fs.writeFileSync(file, lines.repeat(5))
    const { code, text } = await onTerminal(`casky import ${freshPath()} ${file}`)
    expect(code).toBe(0)
    expect(text).toMatch(/importing [█░]+ \d+% · /)
    expect(text).toContain('imported 500,000 entries')
  })

  test('an export draws beside its output, never into it', async () => {
    const count = 300_000
    const dir = freshPath()
    const store = openSync(dir, { sync: 'never' })
    for (let i = 0; i < count; i++) void store.put(`key ${i}`, 'value')
    store.closeSync()
    const out = freshPath()
    const { code, text } = await onTerminal(`casky export ${dir} > ${out}`)
    expect(code).toBe(0)
    expect(fs.readFileSync(out, 'utf8').split('\n')).toHaveLength(count + 1)
    expect(fs.readFileSync(out)).not.toContain(0x1b)
    expect(text).toContain('exporting')
    const piped = await shell(`casky export ${dir} > /dev/null`)
    expect(piped.err).toBe('')
  })

  test('a message stands on a line of its own', async () => {
    const dir = freshPath()
    const { code, text } = await onTerminal(`(${slowly(bigFile())}; echo oops) | casky import ${dir}`)
    expect(code).toBe(3)
    // The bar's line is cleared, and the message is all that is on it.
    expect(text).toMatch(/\u001b\[2Kcasky: line 100001: it is not JSON [^\n]*100,000 entries[^\n]*\r\n$/)
    // Line wrapping and the cursor are as they were.
    expect(text.lastIndexOf('\u001b[?7h')).toBeGreaterThanOrEqual(text.lastIndexOf('\u001b[?7l'))
  })

  test('Ctrl-C gives the terminal back as it was', async () => {
    const dir = freshPath()
    const { text, code } = await onTerminal(
      `(cat ${bigFile()}; sleep 2.5) | timeout --foreground -s INT 1.5 casky import ${dir}; echo "code $?"`,
    )
    expect(code).toBe(0)
    expect(text).toMatch(/interrupted; [\d,]+ entries are imported/)
    expect(text.lastIndexOf('\u001b[?7h')).toBeGreaterThanOrEqual(text.lastIndexOf('\u001b[?7l'))
  })
})

test('nothing is drawn where standard error is no terminal', async () => {
  const dir = makeStore([['k', 'v']])
  for (const args of [
    ['import', dir, bigFile()],
    ['check', dir],
    ['export', dir],
  ]) {
    expect((await casky(args)).err).toBe('')
  }
})
