// Every single bit of a small store, and every other single harm: see bits.ts.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { BIT_SHARES } from './bits'
import { bundleWorker } from './bundle'
import { describeFailure, drive } from './drive'

test('every bit, cut, piece, file and length of a small store is under rule D6', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'casky-bits-'))
  try {
    const bundle = join(folder, 'bits.mjs')
    await bundleWorker(bundle, 'small')
    const { tally, failures } = await drive(
      Array.from({ length: BIT_SHARES }, (_, firstSeed) => ({
        bundle,
        job: { firstSeed, stride: 1, seeds: 1, untilMs: Number.POSITIVE_INFINITY, kind: 'bits' },
      })),
    )
    console.log(`${tally.flips} stores, each hurt in one way`)
    expect(failures.map(describeFailure)).toEqual([])
    expect(tally.flips).toBeGreaterThan(30_000)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}, 240_000)
