// Bit rot and worse, laid over a store that a trace has left: every byte of every file is under a promise.
import { crashed } from './crash'
import { Content, SECTOR_BYTES, type SimDirectory, type SimDisk, SimFile } from './disk'
import type { Random } from './random'
import { STORE } from './world'

export interface Hurt {
  path: string
  what: string
  apply(disk: SimDisk): void
  /** So many keys at most may be lost by it; undefined: any number. */
  keysMax: number | undefined
  /** Another file that it takes part of. */
  other?: string
  /** It may leave a log that looks as if it had ended there. */
  shortens?: true
  /** Its CRC was mended: keys may be read that nobody wrote. */
  isForged?: true
}

/** Members of a batch at most, as the workload makes them: all keys, where it deletes them. */
const BATCH_MAX = 8

export function directoryOf(disk: SimDisk): SimDirectory {
  const node = disk.find(STORE)
  if (node?.kind !== 'directory') throw new Error('a victim is a store')
  return node
}

export function fileOf(disk: SimDisk, name: string): SimFile {
  const node = directoryOf(disk).live.get(name)
  if (node?.kind !== 'file') throw new Error(`a victim has ${name}`)
  return node
}

export function rewrite(disk: SimDisk, name: string, change: (bytes: Uint8Array) => Uint8Array): void {
  const file = fileOf(disk, name)
  const content = new Content(change(file.live.bytes.slice()))
  file.live = content
  file.durable = content.share()
}

export function flip(name: string, bit: number): Hurt {
  return {
    path: name,
    what: `bit ${bit} flipped`,
    keysMax: BATCH_MAX,
    apply: (disk) =>
      rewrite(disk, name, (bytes) => {
        bytes[bit >>> 3] ^= 1 << (bit & 7)
        return bytes
      }),
  }
}

export function cutAt(name: string, bytes: number): Hurt {
  return {
    path: name,
    what: `cut to ${bytes} bytes`,
    keysMax: undefined,
    shortens: true,
    apply: (disk) => rewrite(disk, name, (content) => content.slice(0, bytes)),
  }
}

/** Sectors zeroed, filled with garbage, doubled over another, or swapped. */
export function sectors(name: string, bytes: number, random: Random): Hurt {
  const count = Math.max(1, Math.ceil(bytes / SECTOR_BYTES))
  const a = random.below(count) * SECTOR_BYTES
  const b = random.below(count) * SECTOR_BYTES
  const how = random.pick(['zeroed', 'garbage', 'doubled', 'swapped'] as const)
  return {
    path: name,
    what: `sector at ${a} ${how} (${b})`,
    keysMax: undefined,
    apply: (disk) =>
      rewrite(disk, name, (content) => {
        const at = content.slice(a, a + SECTOR_BYTES)
        const other = content.slice(b, b + SECTOR_BYTES)
        const length = Math.min(at.length, other.length)
        if (how === 'zeroed') content.fill(0, a, a + at.length)
        else if (how === 'garbage') content.set(random.bytes(at.length), a)
        else content.set(other.subarray(0, length), a)
        if (how === 'swapped') content.set(at.subarray(0, length), b)
        return content
      }),
  }
}

export function removed(name: string): Hurt {
  return {
    path: name,
    what: 'missing',
    keysMax: undefined,
    apply: (disk) => {
      const directory = directoryOf(disk)
      directory.live.delete(name)
      directory.durable.delete(name)
    },
  }
}

export function swapped(name: string, other: string): Hurt {
  return {
    path: name,
    what: `swapped with ${other}`,
    other,
    keysMax: undefined,
    apply: (disk) => {
      const directory = directoryOf(disk)
      const [a, b] = [fileOf(disk, name), fileOf(disk, other)]
      for (const names of [directory.live, directory.durable]) names.set(name, b).set(other, a)
    },
  }
}

/** What another store, or this one at another moment, has or had under some name. */
export function placed(name: string, bytes: Uint8Array, whose: string): Hurt {
  const content = bytes.slice()
  return {
    path: name,
    what: `is ${whose}`,
    keysMax: undefined,
    shortens: true,
    apply: (disk) => {
      const file = new SimFile(new Content(content.slice()))
      file.links = 1
      const directory = directoryOf(disk)
      for (const names of [directory.live, directory.durable]) names.set(name, file)
    },
  }
}

/** What another segment has at the same place, from `at` on: a stale tail, or a write gone astray. */
export function overlaid(name: string, other: string, at: number, bytes: number): Hurt {
  return {
    path: name,
    what: `${bytes} bytes from ${at} on are those of ${other}`,
    other,
    keysMax: undefined,
    // Of a segment without a record there is nothing.
    shortens: true,
    apply: (disk) => {
      const stray = fileOf(disk, other).live.bytes.slice(at, at + bytes)
      rewrite(disk, name, (content) => {
        const whole = new Uint8Array(Math.max(content.length, at + stray.length))
        whole.set(content)
        whole.set(stray, at)
        return bytes === Number.POSITIVE_INFINITY ? whole.slice(0, at + stray.length) : whole
      })
    },
  }
}

/** A copy that can be hurt. */
export function copyOf(disk: SimDisk, random: Random): SimDisk {
  return crashed(disk, { files: new Map(), directories: new Map() }, random)
}
