import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { bundleWorker } from './bundle'
import { describeFailure, drive } from './drive'

test('x', async () => {
  const log = (file: string, find: string, add: string) => ({ file, find, replace: find + add })
  const rooms = (process.env.ROOMS ?? 'small') as 'small'
  await bundleWorker(
    '/tmp/stall/w.mjs',
    rooms,
    [
      log(
        'src/starting.ts',
        '    this.header = header\n',
        "\n console.error('created', this.path, new Error().stack)\n",
      ),
      log(
        'src/starting.ts',
        '    const { rooms, segment, file, syncFile } = this\n',
        "\n console.error('done', this.path)\n",
      ),
      log(
        'src/starting.ts',
        '    const { host, catalog, publisher } = this.rooms\n',
        "\n console.error('failed', this.path)\n",
      ),
      log(
        'src/active.ts',
        '    this.isReleased = true\n',
        "\n console.error('released', this.segment.path, this.isSyncing)\n",
      ),
      log(
        'test/sim/machine.ts',
        '    this.tally.faults++\n',
        "\n console.error('fault', kind, JSON.stringify(fault), new Error().stack)\n",
      ),
    ].filter((c) => process.env.DEBUG || c.file === 'x') as never,
  )
  const kept = JSON.parse(readFileSync(process.env.KEPT ?? '/tmp/stall/kept.json', 'utf8'))
  const { failures } = await drive([
    {
      bundle: '/tmp/stall/w.mjs',
      job: { firstSeed: 0, stride: 1, seeds: 1, untilMs: Infinity, kept: { name: 'x', ...kept } },
    },
  ])
  expect(failures.map(describeFailure)).toEqual([])
}, 100000)
