// Opening a store for a command, with what the user should know of its state.
import { type Casky, type KeyEncoding, type OpenOptions, open, type ValueEncoding } from '../index'
import type { Cli } from './cli'
import { placesOf } from './findings'
import { Progress } from './progress'
import { countOf } from './units'

/** Keys and values are bytes here: a command line has no business to refuse what a program has stored. */
export type Store = Casky<'bytes', 'bytes'>

const BYTES = { keyEncoding: 'bytes', valueEncoding: 'bytes' } as const
/** Works beside a live writer, and makes nothing. */
export const TO_READ = { ...BYTES, readOnly: true } as const
/** Merges only where it is told to: most commands are over at once. */
export const TO_WRITE = { ...BYTES, merge: false } as const

/** Opens the store, runs `use` on it and closes it, whatever comes. */
export async function withStore<K extends KeyEncoding, V extends ValueEncoding>(
  cli: Cli,
  directory: string,
  options: OpenOptions<K, V>,
  use: (store: Casky<K, V>) => Promise<number>,
): Promise<number> {
  const store = await openStore(cli, directory, options)
  let isDone = false
  try {
    const exitCode = await use(store)
    isDone = true
    return exitCode
  } finally {
    // What went wrong first is what the user has to hear of.
    if (isDone) await store.close()
    else await store.close().catch(() => {})
  }
}

async function openStore<K extends KeyEncoding, V extends ValueEncoding>(
  { messages }: Cli,
  directory: string,
  options: OpenOptions<K, V>,
): Promise<Casky<K, V>> {
  let progress: Progress | undefined
  try {
    return await open(directory, {
      ...options,
      onProgress: ({ bytesDone, bytesTotal }) => {
        progress ??= new Progress(messages, { label: 'opening', total: bytesTotal, unit: 'bytes' })
        progress.update(bytesDone)
      },
    })
  } finally {
    progress?.stop()
  }
}

/** Says so where the store is damaged; returns whether it is. */
export function warnOfDamage({ messages }: Cli, store: Pick<Store, 'health' | 'path'>): boolean {
  const { damage } = store.health()
  if (damage.length === 0) return false
  const places = countOf(placesOf(damage), 'damaged place')
  messages.say(`warning: the store has ${places}; run \`casky check\` on it: ${store.path}`)
  return true
}
