import type { Command } from 'commander'
import { bytesOf, directory, example, keyOf, readStandardInput, whole } from '../arguments'
import { decodeBase64 } from '../base64'
import type { Cli, Outcome, Run } from '../cli'
import { DONE, Failure, USAGE } from '../exit'
import { TO_WRITE, warnOfDamage, withStore } from '../store'
import { BASE64_OPTION } from './options'

interface PutFlags {
  ttlMs?: number
  expiresAtMs?: number
  base64?: boolean
}

export function definePut(program: Command, run: Run, cli: Cli): void {
  const command = program
    .command('put')
    .summary('store a value under a key')
    .description('Stores VALUE under KEY, in place of what was there. Makes the store where there is none.')
    .argument('<DIR>', 'the directory of the store', directory)
    .argument('<KEY>', 'the key')
    .argument('<VALUE>', 'the value; `-` reads it from standard input, byte by byte')
    .option('--ttl-ms <N>', 'expire N milliseconds from now', whole)
    .option('--expires-at-ms <N>', 'expire at N milliseconds since 1970', whole)
    .option(...BASE64_OPTION)
    .action((dir: string, key: string, value: string, flags: PutFlags) =>
      run(put(cli, dir, key, value, flags)),
    )
  command.options.find((option) => option.long === '--ttl-ms')?.conflicts('expiresAtMs')
  example(
    command,
    'casky put ./data user:1 \'{"name":"Ada"}\'',
    'casky put ./data session:9 on --ttl-ms 60000',
    'casky put ./data photo - < photo.jpg',
    'casky put ./data -- -key -value      (what begins with a dash)',
  )
}

async function put(cli: Cli, dir: string, key: string, value: string, flags: PutFlags): Outcome {
  const { base64, ttlMs, expiresAtMs } = flags
  const keyBytes = keyOf(key, base64)
  const valueBytes = value === '-' ? await inputValue(base64) : bytesOf(value, 'the value', base64)
  const options = {
    ...(ttlMs === undefined ? {} : { ttlMs }),
    ...(expiresAtMs === undefined ? {} : { expiresAtMs }),
  }
  return withStore(cli, dir, TO_WRITE, async (store) => {
    warnOfDamage(cli, store)
    await store.put(keyBytes, valueBytes, options)
    return DONE
  })
}

async function inputValue(isBase64: boolean | undefined): Promise<Uint8Array> {
  const bytes = await readStandardInput()
  if (isBase64 !== true) return bytes
  const decoded = decodeBase64(bytes.toString('latin1').replace(/\s/g, ''))
  if (decoded === undefined) throw new Failure(USAGE, 'standard input is not base64')
  return decoded
}
