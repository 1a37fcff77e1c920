// The built package on Node, Bun and Deno, by import and by require: each alone, and all on one store.
import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { newProject, type Project } from './package'
import { bunRuntime, denoRuntime, denoSandbox, node, type Runtime, start } from './runtime'
// @ts-expect-error plain JavaScript, for the runtimes' sake
import { cases } from './suite.mjs'

const FILES = readdirSync(import.meta.dirname).filter((name) => /\.[cm]js$/.test(name))
const ALL = [node, bunRuntime, denoRuntime]

let project: Project
let stores = 0
const alive = new Set<ReturnType<typeof start>>()

beforeAll(() => {
  project = newProject()
  for (const name of FILES) copyFileSync(join(import.meta.dirname, name), join(project.directory, name))
  cpSync(join(import.meta.dirname, 'cases'), join(project.directory, 'cases'), { recursive: true })
})

// A test that fails, or takes too long, leaves its processes behind.
afterEach(async () => {
  for (const each of alive) await each.kill()
})

afterAll(() => project?.remove())

function newPath(): string {
  const path = join(project.directory, 'stores', String(++stores))
  mkdirSync(path, { recursive: true })
  return path
}

function begin(runtime: Runtime, script: string, path: string): ReturnType<typeof start> {
  const started = start(runtime, project.directory, script, [path])
  alive.add(started)
  started.ended.then(() => alive.delete(started))
  return started
}

/** Has a process do one thing, and waits until it is gone. */
async function ask(runtime: Runtime, script: string, path: string, ...lines: string[]): Promise<unknown[]> {
  const started = begin(runtime, script, path)
  const answers: unknown[] = []
  for (const line of lines) {
    started.send(line)
    answers.push(await started.next())
  }
  if (lines.length === 0) answers.push(await started.next())
  started.child.stdin!.end()
  await started.ended
  expect(started.child.exitCode, `${runtime.name} ${script}`).toBe(0)
  return answers
}

interface Report {
  passed: number
  checks: number
  failed: { name: string; error: string }[]
}

describe('the suite', () => {
  const reports = new Map<string, Report>()
  const runs: [Runtime, string][] = [
    ...ALL.flatMap((runtime): [Runtime, string][] => [
      [runtime, 'entry-esm.mjs'],
      [runtime, 'entry-cjs.cjs'],
    ]),
    [denoSandbox, 'entry-esm.mjs'],
  ]

  test.each(runs.map(([runtime, script]) => ({ name: runtime.name, script, runtime })))(
    '$name, $script',
    async ({ runtime, script }) => {
      const [report] = (await ask(runtime, script, newPath())) as [Report]
      expect(report.failed).toEqual([])
      expect(report.passed).toBe(cases.length)
      reports.set(`${runtime.name} ${script}`, report)
    },
  )

  test('every runtime has made the same checks', () => {
    expect(reports.size).toBe(runs.length)
    const counts = [...reports.values()].map(({ checks }) => checks)
    expect(new Set(counts).size, `${[...reports.keys()]}: ${counts}`).toBe(1)
    expect(counts[0]).toBeGreaterThan(cases.length)
  })
})

describe('two copies in one process', () => {
  test.each(ALL.map((runtime) => ({ name: runtime.name, runtime })))(
    '$name: import and require lock each other out',
    async ({ runtime }) => {
      expect(await ask(runtime, 'two-copies.mjs', newPath())).toEqual([{ checks: 6 }])
    },
  )
})

describe('one store, several runtimes', () => {
  test.each(ALL.map((runtime) => ({ name: runtime.name, runtime })))(
    'what $name wrote, the others read',
    async ({ runtime }) => {
      const path = newPath()
      await ask(runtime, 'worker-esm.mjs', path, 'hold', 'close')
      for (const reader of [...ALL, denoSandbox]) {
        const script = reader === denoSandbox ? 'worker-esm.mjs' : 'worker-cjs.cjs'
        const answer = await ask(reader, script, path, 'read')
        expect(answer, `read by ${reader.name}`).toEqual([{ writer: [], readOnly: [] }])
      }
    },
  )

  test.each(
    ALL.flatMap((writer) =>
      [...ALL, denoSandbox].map((other) => ({ writer, other, name: writer.name, otherName: other.name })),
    ),
  )('what $name writes and merges, a follower on $otherName sees', async ({ writer, other }) => {
    const path = newPath()
    const writing = begin(writer, 'worker-cjs.cjs', path)
    writing.send('hold')
    await writing.next()
    const following = begin(other, 'worker-esm.mjs', path)
    following.send('follow')
    await following.next()
    for (let round = 0; round < 3; round++) {
      writing.send('change')
      const { digest } = (await writing.next()) as { digest: string }
      following.send('seen')
      expect(await following.next()).toEqual({ digest, ok: true, isReadOnly: true })
    }
    await writing.kill()
    await following.kill()
  })

  const pairs = [...ALL, denoSandbox].flatMap((holder) =>
    [...ALL, denoSandbox].map((other) => ({ holder, other, name: holder.name, otherName: other.name })),
  )
  test.each(pairs)('$name keeps $otherName out, until it is killed', async ({ holder, other }) => {
    const path = newPath()
    const holding = begin(holder, 'worker-esm.mjs', path)
    holding.send('hold')
    const { pid } = (await holding.next()) as { pid: number }
    expect(pid).toBe(holding.child.pid)
    const waiting = begin(other, 'worker-esm.mjs', path)
    waiting.send('attempt')
    const locked = { async: 'CASKY_LOCKED', sync: 'CASKY_LOCKED', readOnly: [] }
    expect(await waiting.next()).toMatchObject({ ...locked, holder: { pid } })
    await holding.kill()
    waiting.send('attempt')
    const after = await waiting.next()
    const isKeptOut = other === denoSandbox && (holder === node || holder === bunRuntime)
    if (isKeptOut) {
      // In its sandbox it can't ask after a process that left no file lock: it stays out, and says what to do.
      const { claim } = (after as { holder: { claim: string } }).holder
      expect(after).toMatchObject({ ...locked, holder: { pid, isAlive: false } })
      expect(JSON.parse(readFileSync(claim, 'utf8')).pid).toBe(pid)
    } else {
      expect(after).toEqual({ async: 'open', sync: 'open', writer: [], readOnly: [] })
    }
    await waiting.kill()
    // Each that was let in has read all of it.
    if (isKeptOut) {
      expect(await ask(node, 'worker-cjs.cjs', path, 'read')).toEqual([{ writer: [], readOnly: [] }])
    }
  })
})
