import type { Command } from 'commander'
import { type DumpedRecord, dump } from '../../index'
import { directory, example } from '../arguments'
import type { Cli, Outcome, Run } from '../cli'
import { escapeBytes, jsonKey, oneLine, toJson } from '../escape'
import { DONE, NOT_FOUND } from '../exit'
import { countOf, timeOf } from '../units'

interface DumpFlags {
  json?: boolean
}

const TIME_COLUMNS = 24
const NUMBER_COLUMNS = 11
const KIND_COLUMNS = 6
const BATCH_COLUMNS = 6
const DAMAGED = '!!'
const TORN = '~~'

export function defineDump(program: Command, run: Run, cli: Cli): void {
  const command = program
    .command('dump')
    .summary('print the log, record by record')
    .description(
      'Prints the log of a store, or of one of its .data files, as it lies on disk, one record a line, what is ' +
        `damaged marked with ${DAMAGED} and a torn tail with ${TORN}. Exit code 1 where there is damage. With --json: ` +
        'file, offset, bytes, kind, sequence, timeMs, expiresAtMs, key, valueBytes, batch and damage, each where ' +
        'there is one; a key is a string, or {"base64":…} where it is not UTF-8.',
    )
    .argument('<PATH>', 'the directory of a store, or a .data file', directory)
    .option('--json', 'one object a line')
    .action((path: string, flags: DumpFlags) => run(dumpLog(cli, path, flags)))
  example(command, 'casky dump ./data', 'casky dump ./data/0000000001.data --json')
}

async function dumpLog({ output, messages }: Cli, path: string, { json }: DumpFlags): Outcome {
  let file: string | undefined
  let damaged = 0
  for (const record of dump(path)) {
    if (record.damage !== undefined) damaged++
    if (json !== true && record.file !== file) {
      file = record.file
      output.text(`${oneLine(file)}\n${HEADING}\n`)
    }
    const full = output.text(`${json === true ? jsonOf(record) : lineOf(record)}\n`)
    if (full !== undefined) await full
  }
  if (damaged === 0) return DONE
  await output.flush()
  messages.say(`${countOf(damaged, 'damaged place')} in this log`)
  return NOT_FOUND
}

function jsonOf({ key, ...record }: DumpedRecord): string {
  return toJson({ ...record, key: key === undefined ? undefined : jsonKey(key) })
}

function columns(
  mark: string,
  sequence: string,
  offset: string,
  bytes: string,
  kind: string,
  time: string,
  expiry: string,
  value: string,
  batch: string,
  rest: string,
): string {
  return [
    mark.padEnd(2),
    sequence.padStart(NUMBER_COLUMNS),
    offset.padStart(NUMBER_COLUMNS),
    bytes.padStart(NUMBER_COLUMNS),
    kind.padEnd(KIND_COLUMNS),
    time.padEnd(TIME_COLUMNS),
    expiry.padEnd(TIME_COLUMNS),
    value.padStart(NUMBER_COLUMNS),
    batch.padEnd(BATCH_COLUMNS),
    rest,
  ].join(' ')
}

const HEADING = columns(
  '',
  'sequence',
  'offset',
  'bytes',
  'kind',
  'written',
  'expires',
  'value bytes',
  'batch',
  'key',
)

function lineOf(record: DumpedRecord): string {
  const { offset, bytes, kind, sequence, timeMs, expiresAtMs, key, valueBytes, batch, damage } = record
  const place = [offset, bytes].map(String) as [string, string]
  if (kind === 'torn tail') {
    return `${columns(TORN, '-', ...place, 'torn', '-', '-', '-', '-', '')} a write that did not finish`.trimEnd()
  }
  if (kind === 'damage') {
    return columns(DAMAGED, '-', ...place, 'damage', '-', '-', '-', '-', oneLine(damage ?? ''))
  }
  return columns(
    damage === undefined ? '' : DAMAGED,
    shown(sequence),
    ...place,
    kind,
    timeMs === undefined ? '-' : timeOf(timeMs),
    expiresAtMs === undefined ? '-' : timeOf(expiresAtMs),
    shown(valueBytes),
    batch ?? '-',
    (key === undefined ? '' : escapeBytes(key)) +
      (damage === undefined ? '' : ` ${DAMAGED} ${oneLine(damage)}`),
  ).trimEnd()
}

function shown(value: number | undefined): string {
  return value === undefined ? '-' : String(value)
}
