// A store's directory held in memory, with things in it that a store never makes.
import * as fs from 'node:fs'
import { dirname, join } from 'node:path'

export type Thing =
  | { kind: 'file'; bytes: Buffer }
  | { kind: 'link'; to: string }
  | { kind: 'fifo' }
  | { kind: 'directory' }

/** By path within the store; a directory comes before what is in it. */
export type Image = Map<string, Thing>

export const file = (bytes: Buffer): Thing => ({ kind: 'file', bytes })

export function readImage(directory: string): Image {
  const image: Image = new Map()
  for (const entry of fs.readdirSync(directory, { withFileTypes: true }).sort(byName)) {
    if (entry.isFile()) image.set(entry.name, file(fs.readFileSync(join(directory, entry.name))))
    else if (entry.isDirectory()) image.set(entry.name, { kind: 'directory' })
  }
  return image
}

function byName(a: fs.Dirent, b: fs.Dirent): number {
  return a.name < b.name ? -1 : 1
}

/** `fifo`: one that is linked to, since Node can make none. */
export function writeImage(image: Image, directory: string, fifo: string): void {
  fs.mkdirSync(directory, { recursive: true })
  for (const [name, thing] of image) {
    const path = join(directory, name)
    // What was in a directory that became something else is gone with it.
    if (dirname(name) !== '.' && image.get(dirname(name))?.kind !== 'directory') continue
    if (thing.kind === 'file') fs.writeFileSync(path, thing.bytes)
    else if (thing.kind === 'link') fs.symlinkSync(thing.to, path)
    else if (thing.kind === 'fifo') fs.linkSync(fifo, path)
    else fs.mkdirSync(path)
  }
}

export function bytesOf(image: Image): number {
  let bytes = 0
  for (const [name, thing] of image) bytes += name.length + (thing.kind === 'file' ? thing.bytes.length : 0)
  return bytes
}

/** What a directory holds, down to each byte, as one text to compare; nothing in it is followed. */
export function fingerprint(directory: string): string {
  const lines: string[] = []
  const visit = (at: string, name: string): void => {
    const stat = fs.lstatSync(at)
    const content = stat.isFile()
      ? fs.readFileSync(at).toString('latin1')
      : stat.isSymbolicLink()
        ? fs.readlinkSync(at)
        : ''
    lines.push(`${name} ${stat.mode} ${stat.isDirectory() ? '' : stat.size} ${content}`)
    if (stat.isDirectory())
      for (const each of fs.readdirSync(at).sort()) visit(join(at, each), `${name}/${each}`)
  }
  visit(directory, '.')
  return lines.join('\n')
}
