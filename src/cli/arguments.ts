// What is given on the command line, as the store takes it.
import { Buffer } from 'node:buffer'
import { type Command, InvalidArgumentError } from 'commander'
import { KEY_BYTES_MAX, VALUE_BYTES_MAX } from '../index'
import { decodeBase64 } from './base64'
import { Failure, USAGE } from './exit'
import { openInput } from './files'
import { sizeOf } from './units'

export function directory(given: string): string {
  if (given !== '') return given
  throw new InvalidArgumentError('It names no directory.')
}

/** A whole number, as an option's value. */
export function whole(given: string): number {
  const value = Number(given)
  if (/^\d+$/.test(given) && Number.isSafeInteger(value)) return value
  throw new InvalidArgumentError('It is a whole number.')
}

/** A key or value as it stands on the command line: UTF-8, or base64 with `--base64`. */
export function bytesOf(given: string, what: string, isBase64: boolean | undefined): Uint8Array {
  if (isBase64 !== true) return Buffer.from(given)
  const bytes = decodeBase64(given)
  if (bytes !== undefined) return bytes
  throw new Failure(USAGE, `${what} is not base64: '${given.slice(0, 40)}${given.length > 40 ? '…' : ''}'`)
}

/** A key that the store will take: told before a store is made for it. */
export function keyOf(given: string, isBase64: boolean | undefined): Uint8Array {
  const key = bytesOf(given, 'the key', isBase64)
  if (key.length === 0) throw new Failure(USAGE, 'a key has at least one byte, and this one is empty')
  if (key.length <= KEY_BYTES_MAX) return key
  throw new Failure(USAGE, `a key has at most ${KEY_BYTES_MAX} bytes, and this one has ${key.length}`)
}

/** All of standard input, to the longest value there can be. */
export async function readStandardInput(): Promise<Buffer> {
  const input = await openInput('-')
  const chunks: Buffer[] = []
  let bytes = 0
  for (let step = await input.chunks.next(); step.done !== true; step = await input.chunks.next()) {
    chunks.push(step.value)
    bytes += step.value.length
    if (bytes <= VALUE_BYTES_MAX) continue
    input.close()
    throw new Failure(USAGE, `a value has at most ${sizeOf(VALUE_BYTES_MAX)}, and standard input holds more`)
  }
  return Buffer.concat(chunks)
}

/** An example behind the help of a command. */
export function example(command: Command, ...lines: string[]): Command {
  const title = lines.length > 1 ? 'Examples' : 'Example'
  return command.addHelpText('after', `\n${title}:\n${lines.map((line) => `  ${line}\n`).join('')}`)
}
