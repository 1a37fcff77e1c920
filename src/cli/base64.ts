import { Buffer } from 'node:buffer'

/** Strictly: no other characters, padded, no stray bits; `undefined` for everything else. */
export function decodeBase64(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64')
  return bytes.toString('base64') === text ? bytes : undefined
}
