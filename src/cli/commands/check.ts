import type { Command } from 'commander'
import type { Damage, HealthReport, TornTail } from '../../index'
import { directory, example } from '../arguments'
import type { Cli, Outcome, Run } from '../cli'
import { escapeBytes, jsonKey, oneLine, toJson } from '../escape'
import { DONE, NOT_FOUND } from '../exit'
import { Progress } from '../progress'
import { type Store, TO_READ, withStore } from '../store'
import { countOf, numberOf, sizeOf } from '../units'
import { QUIET_OPTION } from './options'

interface CheckFlags {
  json?: boolean
  quiet?: boolean
}

/** So many keys of one damaged place are named to a person. */
const KEYS_SHOWN = 10

export function defineCheck(program: Command, run: Run, cli: Cli): void {
  const command = program
    .command('check')
    .summary('verify every byte, change nothing')
    .description(
      'Reads the whole store and verifies every byte of it; changes nothing, and works beside a live writer. Prints ' +
        'what is damaged, one finding a line, and a summary. Exit code 1 where there is damage. With --json: one ' +
        'object; a key is a string, or {"base64":…} where it is not UTF-8.',
    )
    .argument('<DIR>', 'the directory of the store', directory)
    .option('--json', 'one object with everything found')
    .option(...QUIET_OPTION)
    .action((dir: string, flags: CheckFlags) => run(checkStore(cli, dir, flags)))
  example(command, 'casky check ./data')
}

async function checkStore(cli: Cli, dir: string, { json, quiet }: CheckFlags): Outcome {
  return withStore(cli, dir, TO_READ, async (store) => {
    const { bytes } = store.stats()
    const isWanted = quiet !== true
    const progress = new Progress(cli.messages, { label: 'checking', total: bytes, unit: 'bytes', isWanted })
    let report: HealthReport
    try {
      report = await store.check({ onProgress: ({ bytesDone }) => progress.update(bytesDone) })
    } finally {
      progress.stop()
    }
    if (json === true) cli.output.text(`${toJson(jsonOf(store, report))}\n`)
    else for (const line of linesOf(store, report, isWanted)) await cli.output.text(`${line}\n`)
    return report.damage.length > 0 ? NOT_FOUND : DONE
  })
}

function jsonOf(store: Store, { ok, damage, tornTails }: HealthReport): unknown {
  const { segments, bytes } = store.stats()
  return {
    ok,
    segments: segments.length,
    records: recordsOf(store),
    bytes,
    damage: damage.map((each) => ({ ...each, keys: each.keys.map(jsonKey) })),
    tornTails,
  }
}

function recordsOf(store: Store): number {
  return store.stats().segments.reduce((sum, { records }) => sum + records, 0)
}

function* linesOf(
  store: Store,
  { damage, tornTails }: HealthReport,
  hasSummary: boolean,
): Generator<string, void> {
  for (const each of damage)
    yield `damage: ${placeOf(each)}: ${each.reason}${sequencesOf(each)}${keysOf(each)}`
  for (const each of tornTails) {
    yield `torn tail: ${placeOf(each)}: a write that did not finish, or is under way; nothing acknowledged is in it`
  }
  if (!hasSummary) return
  const { segments, bytes } = store.stats()
  const checked = `${countOf(segments.length, 'segment')}, ${countOf(recordsOf(store), 'record')}, ${sizeOf(bytes)}`
  const damagedBytes = damage.reduce((sum, each) => sum + each.bytes, 0)
  const places = `${countOf(damage.length, 'damaged place')}, ${countOf(damagedBytes, 'byte')}`
  const torn = tornTails.length === 0 ? '' : `; ${countOf(tornTails.length, 'torn tail')}`
  yield `checked ${checked}: ${damage.length === 0 ? 'no damage' : places}${torn}`
}

function placeOf({ path, offset, bytes }: Damage | TornTail): string {
  const last = offset + Math.max(bytes, 1) - 1
  return `${oneLine(path)}, bytes ${offset} to ${last} (${countOf(bytes, 'byte')})`
}

function sequencesOf({ firstSequence, lastSequence }: Damage): string {
  if (firstSequence === undefined) return ''
  if (lastSequence === undefined) return `; sequence numbers from ${numberOf(firstSequence)} on`
  if (lastSequence === firstSequence) return `; sequence number ${firstSequence}`
  return `; sequence numbers ${firstSequence} to ${lastSequence}`
}

function keysOf({ keys }: Damage): string {
  if (keys.length === 0) return ''
  const shown = keys.slice(0, KEYS_SHOWN).map((key) => `"${escapeBytes(key)}"`)
  const more = keys.length > KEYS_SHOWN ? ` and ${numberOf(keys.length - KEYS_SHOWN)} more` : ''
  return `; ${keys.length === 1 ? 'key' : 'keys'} ${shown.join(', ')}${more}`
}
