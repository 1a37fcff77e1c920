// One byte of a copy of the store is changed: that is reported, and costs nothing but that one value.
import { closeSync, cpSync, openSync, readSync, writeSync } from 'node:fs'
import { basename } from 'node:path'
import { inCountry, isSame, largest } from '../cities.mjs'
import { dump, open } from '../package.mjs'
import { green, heading, line, must, number } from '../screen.mjs'

export async function damage(path, copy, cities) {
  heading('Flip one byte in a copy of the store')
  cpSync(path, copy, { recursive: true })
  const victim = largest(inCountry(cities, 'IT'))
  const record = newestOf(copy, victim.key)
  const offset = record.offset + record.bytes - 5
  flipByte(record.file, offset)
  line('flipped', `byte ${number(offset)} of ${basename(record.file)}, in the value of ${victim.key}`)
  const db = await open(copy, { valueEncoding: 'json' })
  const { ok, damage: found } = await db.check()
  must(!ok && found.length === 1, `${found.length} places of damage were reported instead of one`)
  const [{ path: file, offset: from, bytes, reason, keys }] = found
  must(file === record.file && from <= offset && offset < from + bytes, 'the damage was reported elsewhere')
  const names = keys.map((key) => new TextDecoder().decode(key)).join(', ')
  line(
    'check reports',
    `${basename(file)}, bytes ${number(from)} to ${number(from + bytes - 1)}, key ${names}`,
  )
  line('', reason)
  line(`get of that key`, `throws ${codeOf(() => db.get(victim.key))}`)
  const others = await compare(path, db, victim.key)
  line('all other entries', green(`${number(others)} served, each compared with the original`))
  await db.close()
}

function newestOf(path, key) {
  let newest
  for (const record of dump(path)) {
    if (record.key !== undefined && new TextDecoder().decode(record.key) === key) newest = record
  }
  return newest
}

function flipByte(path, offset) {
  const file = openSync(path, 'r+')
  const byte = new Uint8Array(1)
  readSync(file, byte, 0, 1, offset)
  byte[0] ^= 0xff
  writeSync(file, byte, 0, 1, offset)
  closeSync(file)
}

function codeOf(run) {
  try {
    return `nothing, but returned ${JSON.stringify(run())}`
  } catch (error) {
    return error.code
  }
}

/** How many entries of the original the copy serves as well; all must be, but for one key. */
async function compare(path, db, damagedKey) {
  const original = await open(path, { valueEncoding: 'json', readOnly: true })
  must(db.size === original.size, `the copy has ${db.size} entries, the original ${original.size}`)
  let same = 0
  for (const [key, value] of db.entries({ damaged: 'skip' })) {
    must(key !== damagedKey && isSame(value, original.get(key)), `${key} came back with another value`)
    same++
  }
  must(same === original.size - 1, `${original.size - 1 - same} entries were not served`)
  await original.close()
  return same
}
