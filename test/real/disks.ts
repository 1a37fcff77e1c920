// A disk that is really full: a small file system in memory, filled by a store in one of the runtimes.
import * as fs from 'node:fs'
import { join } from 'node:path'
import type { Runtime } from '../runtimes/runtime'
import { randomFrom } from '../support/ground'
import { ask, makeDisk } from './ground'

const DISK_BYTES_MIN = 192 * 1024
const DISK_BYTES_MAX = Number(process.env.CASKY_DISK_KIB ?? 320) * 1024
const BALLAST_BYTES = 24 * 1024
const BALLASTS = 3

export interface Filled {
  faults: string[]
  refusals: Record<string, number>
  acknowledged: number
  refused: number
}

/** Throws where something acknowledged is lost, or something refused is there. */
export async function fillDisk(workshop: string, runtime: Runtime, seed: number): Promise<Filled> {
  const random = randomFrom(seed)
  const pages = Math.floor((DISK_BYTES_MIN + random() * (DISK_BYTES_MAX - DISK_BYTES_MIN)) / 4096)
  const disk = makeDisk(pages * 4096)
  try {
    // Removed bit by bit, to make room.
    const ballast = join(disk.path, 'ballast')
    fs.mkdirSync(ballast)
    for (let i = 0; i < BALLASTS; i++) fs.writeFileSync(join(ballast, String(i)), Buffer.alloc(BALLAST_BYTES))
    const given = ['fill', join(disk.path, 'store'), ballast, String(Math.floor(random() * 1000))]
    const filled = (await ask(runtime, workshop, 'chores', given)) as Filled
    if (filled.faults.length > 0) {
      throw new Error(
        `a full disk of ${pages} pages, ${runtime.name}, seed ${seed}:\n${filled.faults.join('\n')}`,
      )
    }
    return filled
  } finally {
    disk.release()
  }
}
