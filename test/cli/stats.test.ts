// What `casky stats` draws.
import * as fs from 'node:fs'
import { describe, expect, test } from 'vitest'
import { ASCII, type Style, styleOf, UNICODE, widthOf } from '../../src/cli/canvas'
import { picture } from '../../src/cli/picture'
import { durationOf, sizeOf } from '../../src/cli/units'
import { open, openSync, type SegmentStats, type Stats } from '../../src/index'
import { casky, freshPath, hasTerminal, makeStore, onTerminal, type Result, start, useCli } from './support'

useCli()

const WIDTHS = [20, 21, 29, 30, 39, 40, 41, 60, 79, 80, 120, 140, 200, 300]
const MIB = 2 ** 20
const SEGMENTS: SegmentStats[] = (
  [
    [1, 256 * MIB, 0],
    [2, 190 * MIB, 105 * MIB],
    [123, 5 * MIB, 5 * MIB - 96],
    [4_294_967_295, 96, 0],
  ] as const
).map(([id, bytes, deadBytes]) => ({
  id,
  path: '/data/x',
  state: 'sealed',
  bytes,
  liveBytes: bytes - 96 - deadBytes,
  deadBytes,
  records: 1_234_567,
  firstSequence: 1,
  lastSequence: 1_234_567,
}))

const STATS = {
  entries: 12_345_678,
  expired: 12,
  swept: 5678,
  lastSequence: 99_999_999,
  segments: SEGMENTS,
  bytes: 451 * MIB + 96,
  liveBytes: 341 * MIB - 192,
  deadBytes: 110 * MIB - 96,
  keydir: { bytes: 456_789_012, bytesPerKey: 37.04 },
  cache: { bytes: 64 * MIB, hits: 4500, misses: 5500 },
  writes: {
    records: 123_456,
    groups: 12_345,
    largestGroupRecords: 70,
    groupSizes: [9000, 3000, 300, 0, 0, 44, 1].map((groups, i) => {
      return { minRecords: 2 ** i, maxRecords: 2 ** (i + 1) - 1, groups }
    }),
    syncs: 12_000,
    syncTimes: {
      count: 12_000,
      totalMs: 4800,
      p50Ms: 0.28125,
      p99Ms: 12.5,
      maxMs: 1420.5,
      buckets: [3000, 7000, 1800, 199, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1].map((count, i) => {
        return { fromMs: 2 ** (i - 3), belowMs: 2 ** (i - 2), count }
      }),
    },
  },
  merges: {
    count: 17,
    bytesRead: 900 * MIB,
    bytesWritten: 300 * MIB,
    freedBytes: 600 * MIB,
    last: { reason: 'half of a segment is dead' },
  },
  snapshots: { count: 2, replacedBytes: 33 * MIB },
  recovery: { segments: 4, hinted: 3, scanned: 1, records: 5, bytesRead: 451 * MIB + 96, durationMs: 1234 },
  // What else there is to know is not drawn.
} as unknown as Stats

function plain(width: number): Style {
  return { width, hasColour: false, glyphs: UNICODE }
}

function draw(stats: Stats, style: Style, name = '/data', isAll = false): string[] {
  return picture(stats, { name, isJustOpened: false }, style, isAll)
}

/** The lines from the one that begins so to the next empty one. */
function part(lines: string[], begin: string): string[] {
  const from = lines.findIndex((line) => line.startsWith(begin))
  expect(from, begin).toBeGreaterThanOrEqual(0)
  const length = lines.slice(from).indexOf('')
  return lines.slice(from, length < 0 ? undefined : from + length)
}

function manySegments(count: number): Stats {
  return { ...STATS, segments: Array.from({ length: count }, (_, i) => ({ ...SEGMENTS[1], id: i + 1 })) }
}

describe('at every width', () => {
  test.each(WIDTHS)('%i columns', (width) => {
    const style = plain(width)
    const longPath = `/a/${'very/'.repeat(90)}long/path`
    const lines = picture(STATS, { name: longPath, isJustOpened: true }, style, false)
    for (const line of lines) expect(widthOf(line), line).toBeLessThanOrEqual(width)
    const words = lines.join(' ').replaceAll(/ +/g, ' ')
    for (const number of [
      '12,345,678',
      '99,999,999',
      '37.0 bytes a key',
      '76%',
      '24%',
      '4294967295',
      '12,345',
    ]) {
      expect(words).toContain(number)
    }
    for (const number of [
      'p50 0.28 ms',
      'p99 13 ms',
      'max 1.4 s',
      'mean 0.4 ms',
      '45% of 10,000 reads',
      '3 by hint, 1 read whole',
      '5,678 were swept',
      '17: 900.0 MiB read, 300.0 MiB written, 600.0 MiB freed',
      'half of a segment is dead',
      '2 held; 33.0 MiB were merged',
    ]) {
      expect(words).toContain(number)
    }
    expect(words).not.toContain('\u001b')
    expect(words).not.toMatch(/NaN|Infinity|undefined/)
    expect(lines[0].endsWith('long/path')).toBe(true)
    const [first, second, third] = part(lines, 'segments').slice(2)
    expect(first).toMatch(/^ +1 .*[^░]█+$/)
    if (width >= 30) expect(second).toMatch(/█+░+$/)
    expect(third).toMatch(/░$/)
  })

  test('more room, more to see', () => {
    const headings = (width: number): string => part(draw(STATS, plain(width)), 'segments')[1].trim()
    expect(headings(20).split(/ +/)).toEqual(['id', 'live'])
    expect(headings(40).split(/ +/)).toEqual(['id', 'size', 'live'])
    expect(headings(80).split(/ +/)).toEqual(['id', 'state', 'size', 'dead', 'live'])
    expect(headings(140).split(/ +/)).toEqual(['id', 'state', 'sequence', 'writes', 'size', 'dead', 'live'])
  })

  test('a path with wide characters, and with characters that a terminal would obey', () => {
    const [name] = draw(STATS, plain(30), `/${'数据'.repeat(20)}/\u001b[2J\n`)
    expect([29, 30]).toContain(name.replaceAll(/[数据]/g, '..').length)
    expect(name).toMatch(/^….*数据\/\\u\{1b\}\[2J\\n$/)
  })
})

describe('segments', () => {
  test('bars are as long as segments are large, and live and dead have their share', () => {
    const rows = part(draw(STATS, plain(79)), 'segments').slice(2)
    const bars = rows.map((row) => row.match(/[█░]*$/)?.[0] ?? '')
    const [largest, second] = bars
    expect(largest).toMatch(/^█+$/)
    expect(widthOf(rows[0])).toBe(79)
    expect(second.length).toBe(Math.round((largest.length * 190) / 256))
    expect([...second].filter((cell) => cell === '█').length).toBe(Math.round((second.length * 85) / 190))
    expect(bars[2]).toBe('░')
    expect(bars[3].length).toBe(1)
  })

  test('a little of either is seen: as a cell, and as no round number', () => {
    const bytes = 256 * MIB
    const almost = [1, bytes - 97].map((deadBytes) => {
      return { ...SEGMENTS[0], deadBytes, liveBytes: bytes - 96 - deadBytes }
    })
    const [live, dead] = part(draw({ ...STATS, segments: almost }, plain(60)), 'segments').slice(2)
    expect(live).toMatch(/ >99% +█+░$/)
    expect(dead).toMatch(/ <1% +█░+$/)
  })

  test('of thousands the ones in the middle take one line, and --all shows them', () => {
    const lines = part(draw(manySegments(1258), plain(80)), 'segments').slice(2)
    expect(lines.length).toBe(25)
    expect(lines.map((line) => line.trim().split(' ')[0])).toEqual([
      ...Array.from({ length: 12 }, (_, i) => String(i + 1)),
      '…',
      ...Array.from({ length: 12 }, (_, i) => String(1247 + i)),
    ])
    expect(lines[12]).toBe('… 1,234 more: 229.0 GiB, 126.5 GiB of it dead, 45% live; --all shows them')
    expect(part(draw(manySegments(1258), plain(80), '/data', true), 'segments').length).toBe(2 + 1258)
    for (const width of WIDTHS) {
      const folded = draw(manySegments(1258), plain(width)).find((line) => line.startsWith('… 1,234 more'))
      expect(widthOf(folded ?? '')).toBeLessThanOrEqual(width)
    }
  })

  test('one too many is no reason to hide it', () => {
    expect(part(draw(manySegments(25), plain(80)), 'segments')[14]).toMatch(/^13 /)
    expect(part(draw(manySegments(26), plain(80)), 'segments')[14]).toMatch(/^… 2 more: /)
  })

  test('the largest sets the scale also where it is hidden', () => {
    const stats = manySegments(100)
    stats.segments[50].bytes *= 10
    const [first] = part(draw(stats, plain(80)), 'segments').slice(2)
    expect(first.match(/[█░]+$/)?.[0].length).toBeLessThan(5)
  })

  test('more than a call takes arguments', () => {
    expect(draw(manySegments(200_000), plain(80), '/data', true).length).toBeGreaterThan(200_000)
  })
})

describe('group sizes and sync times', () => {
  test('have a bar for each power of two, and stretches of nothing one line', () => {
    const lines = draw(STATS, plain(50))
    expect(part(lines, 'group sizes').slice(-7)).toEqual(
      [
        'writes  groups',
        '     1   9,000  73%  █████████████████████████████',
        '   2–3   3,000  24%  █████████▋',
        '   4–7     300   2%  █',
        '     …',
        ' 32–63      44  <1%  ▏',
        '64–127       1  <1%  ▏',
      ].map((line) => line),
    )
    expect(
      part(lines, 'sync times')
        .slice(-7)
        .map((line) => line.replace(/ +[█▏▎▍▌▋▊▉]*$/, '')),
    ).toEqual([
      '         ms  syncs',
      '  0.13–0.25  3,000  25%',
      '   0.25–0.5  7,000  58%',
      '      0.5–1  1,800  15%',
      '        1–2    199   2%',
      '          …',
      '1,024–2,048      1  <1%',
    ])
  })

  test('are left out where there are none, and where nobody has written the reader is told where they are', () => {
    const { groups: _, ...rest } = STATS.writes
    const writes = { ...rest, groups: 0, syncTimes: { ...STATS.writes.syncTimes, count: 0 } }
    const text = draw({ ...STATS, writes }, plain(80)).join('\n')
    expect(text).not.toMatch(/group sizes|sync times/)
    const told = picture({ ...STATS, writes }, { name: '/data', isJustOpened: true }, plain(80), false)
    expect(told.join(' ')).toContain('JSON.stringify(db.stats())')
  })
})

describe('units', () => {
  test('a size is never 1024 of its unit', () => {
    expect([1023, 1024, MIB - 1, MIB, 2 ** 30 - 1].map(sizeOf)).toEqual([
      '1023 bytes',
      '1.0 KiB',
      '1.0 MiB',
      '1.0 MiB',
      '1.0 GiB',
    ])
  })

  test('durations', () => {
    const shown = [0, 0.0123, 0.28125, 1.25, 9.96, 14.4, 999.4, 1420, 86_400_000].map(durationOf)
    const expected = [
      '0 ms',
      '0.012 ms',
      '0.28 ms',
      '1.3 ms',
      '10 ms',
      '14 ms',
      '999 ms',
      '1.4 s',
      '86,400.0 s',
    ]
    expect(shown).toEqual(expected)
  })
})

describe('the style', () => {
  const terminal = { columns: 100, isTTY: true }

  test('the width is the terminal’s, or what the environment says, or 80', () => {
    expect(styleOf(terminal, { COLUMNS: '50' }).width).toBe(100)
    expect(styleOf({}, { COLUMNS: '50' }).width).toBe(50)
    expect(styleOf({ columns: 0, isTTY: true }, {}).width).toBe(80)
    expect(styleOf({}, { COLUMNS: 'many' }).width).toBe(80)
    expect(styleOf({ columns: 3, isTTY: true }, {}).width).toBe(20)
  })

  test('colour only on a terminal that takes it and a user who wants it', () => {
    expect(styleOf(terminal, { TERM: 'xterm', NO_COLOR: '' }).hasColour).toBe(true)
    expect(styleOf(terminal, { NO_COLOR: '1' }).hasColour).toBe(false)
    expect(styleOf(terminal, { TERM: 'dumb' }).hasColour).toBe(false)
    expect(styleOf({ columns: 100 }, {}).hasColour).toBe(false)
  })

  test('ASCII where the locale says so', () => {
    expect(styleOf(terminal, {}).glyphs).toBe(UNICODE)
    expect(styleOf(terminal, { LANG: 'en_US.UTF-8' }).glyphs).toBe(UNICODE)
    expect(styleOf(terminal, { LANG: 'en_US.UTF-8', LC_ALL: 'C' }).glyphs).toBe(ASCII)
    expect(styleOf(terminal, { LANG: 'C', LC_CTYPE: 'de_DE.utf8' }).glyphs).toBe(UNICODE)
    const style = { width: 80, hasColour: true, glyphs: ASCII }
    const text = picture(manySegments(100), { name: '/data', isJustOpened: true }, style, false).join('\n')
    expect(text).toMatch(/^[\n\u001b -~]*$/)
  })

  test('colours change nothing but the colour', () => {
    const coloured = draw(STATS, { ...plain(80), hasColour: true }).join('\n')
    expect(coloured).toContain('\u001b[32m█')
    expect(coloured).toContain('\u001b[33m░')
    expect(coloured.replaceAll(/\u001b\[\d+m/g, '')).toBe(draw(STATS, plain(80)).join('\n'))
  })
})

describe('the command', () => {
  function store(): string {
    return makeStore([
      ['a', 'one'],
      ['a', 'two'],
      ['b', 'x'],
    ])
  }

  /** As a service leaves its numbers. */
  async function serviceStats(): Promise<{ file: string; stats: Stats }> {
    const db = await open(freshPath())
    await Promise.all(Array.from({ length: 300 }, (_, i) => db.put(`k${i}`, 'v')))
    const stats = db.stats()
    await db.close()
    const file = freshPath()
    fs.writeFileSync(file, JSON.stringify(stats))
    return { file, stats }
  }

  function refusal({ code, text, err }: Result): string {
    expect({ code, text }).toEqual({ code: 3, text: '' })
    expect(err).toMatch(/^casky: [^\n]+\n$/)
    return err
  }

  test('an empty store', async () => {
    const { code, text, err } = await casky(['stats', makeStore([])])
    expect({ code, err }).toEqual({ code: 0, err: '' })
    expect(text).toMatch(/entries +0\n/)
    expect(text).not.toMatch(/NaN|Infinity|undefined|segments:/)
  })

  test('as text and as JSON, with the same numbers as the interface', async () => {
    const dir = store()
    const { result, child } = start(['stats', dir], { LANG: 'C.UTF-8', LC_ALL: '', COLUMNS: '' })
    child.stdin?.end()
    const { code, text } = await result
    expect(code).toBe(0)
    expect(text).not.toContain('\u001b')
    expect(text).toMatch(/entries +2\n/)
    expect(text).toMatch(/^ 1 .* \d\d% +█+░+$/m)
    for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(80)
    const json = JSON.parse((await casky(['stats', dir, '--json'])).text) as Stats
    const db = openSync(dir, { readOnly: true })
    const { recovery, ...stats } = JSON.parse(JSON.stringify(db.stats())) as Stats
    db.closeSync()
    expect(json).toMatchObject({ ...stats, cache: { hits: 0 } })
    expect(json.recovery.records).toBe(recovery.records)
  })

  test('what a service has written down, from a file and from standard input', async () => {
    const { file, stats } = await serviceStats()
    const drawn = await casky(['stats', file])
    expect(drawn).toMatchObject({ code: 0, err: '' })
    expect(drawn.text.split('\n')[0]).toBe(file)
    expect(drawn.text).toMatch(/entries +300\n/)
    expect(drawn.text).toMatch(/group sizes: 300 writes in \d group/)
    expect(drawn.text).toMatch(/sync times: \d syncs?, p50 /)
    expect(drawn.text).not.toContain('JSON.stringify')
    const piped = await casky(['stats', '-'], JSON.stringify(stats))
    expect(piped.text).toBe(drawn.text.replace(file, 'standard input'))
    expect(JSON.parse((await casky(['stats', '-', '--json'], JSON.stringify(stats))).text)).toEqual(stats)
  })

  test('what is no such file is refused with a reason', async () => {
    const { stats } = await serviceStats()
    const given = (change: (copy: Stats) => unknown): string => {
      const copy = structuredClone(stats)
      return JSON.stringify(change(copy) ?? copy)
    }
    const changed = (at: string[], value: unknown): string =>
      given((copy) => {
        let inner: unknown = copy
        for (const name of at.slice(0, -1)) inner = (inner as Record<string, unknown>)[name]
        ;(inner as Record<string, unknown>)[at[at.length - 1]] = value
      })
    const cases: [string, RegExp][] = [
      ['', /it is not JSON/],
      ['[1', /it is not JSON/],
      ['[]', /entries is missing/],
      ['null', /it is no object/],
      [changed(['segments', '0', 'bytes'], 'x'), /segments\[0\]\.bytes is no number/],
      [changed(['segments', '0', 'bytes'], -1), /segments\[0\]\.bytes is no number/],
      [changed(['segments', '0', 'state'], '\u001b[2J'), /segments\[0\]\.state is no state/],
      [changed(['segments'], {}), /segments is no array/],
      [changed(['keydir'], 5), /keydir is no object/],
      [
        changed(['writes', 'syncTimes', 'buckets', '0'], null),
        /writes\.syncTimes\.buckets\[0\] is no object/,
      ],
      [changed(['writes', 'groups'], 1e300), /writes\.groups is no number, or none that can be/],
      [JSON.stringify(stats).replace('"entries"', '"__proto__"'), /entries is missing/],
    ]
    for (const [text, reason] of cases) expect(refusal(await casky(['stats', '-'], text))).toMatch(reason)
    expect(refusal(await casky(['stats', freshPath()]))).toMatch(/no store|not found|nothing/i)
  })

  test('numbers that do not fit together are drawn all the same', async () => {
    const { stats } = await serviceStats()
    stats.segments[0].liveBytes = Number.MAX_SAFE_INTEGER
    stats.segments[0].bytes = 0
    stats.segments.push({ ...stats.segments[0], bytes: 5, id: Number.MAX_SAFE_INTEGER })
    stats.writes.groupSizes[0].groups = Number.MAX_SAFE_INTEGER
    stats.writes.syncTimes.buckets = []
    for (const columns of ['20', '80', '300']) {
      const { child, result } = start(['stats', '-'], { COLUMNS: columns, LANG: 'C.UTF-8', LC_ALL: '' })
      child.stdin?.end(JSON.stringify(stats))
      const { code, text, err } = await result
      expect({ code, err }).toEqual({ code: 0, err: '' })
      expect(text).not.toMatch(/NaN|Infinity|undefined/)
      for (const line of text.split('\n')) expect(widthOf(line), line).toBeLessThanOrEqual(Number(columns))
    }
  })

  test.skipIf(!hasTerminal)('on a real terminal, as wide as it is', async () => {
    const dir = store()
    for (const columns of [20, 40, 80, 200]) {
      const { text, code } = await onTerminal(`LC_ALL=C.UTF-8 casky stats ${dir}`, columns)
      expect(code).toBe(0)
      expect(text).toContain('\u001b[32m█')
      const lines = text.replaceAll(/\u001b\[\d+m/g, '').split('\r\n')
      const widest = Math.max(...lines.map(widthOf))
      expect(widest).toBeLessThanOrEqual(columns)
      expect(widest).toBeGreaterThan(Math.min(columns, 100) * 0.7)
    }
    for (const env of ['NO_COLOR=1', 'TERM=dumb']) {
      expect((await onTerminal(`${env} casky stats ${dir}`)).text).not.toContain('\u001b[3')
    }
    expect((await onTerminal(`LC_ALL=C casky stats ${dir}`)).text).toMatch(
      /\u001b\[32m#+\u001b\[0m\u001b\[33m\.+/,
    )
  })
})
