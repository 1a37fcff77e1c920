// What a restore takes, and where it may go.
import { CaskyError } from '../errors'
import { isRestoringName, LOCK, MANIFEST, MANIFEST_NEXT, RESTORING, segmentIdOf } from '../files'
import type { Host } from '../host/host'
import type { Kernels } from '../kernels'
import { listOrUndefined } from '../open'
import { type Description, listed, readDescription, sequencesIn } from './description'

/** The backup that is asked for, or the latest. */
export function descriptionOf(
  host: Host,
  kernels: Kernels,
  from: string,
  given: number | undefined,
): Description {
  const sequences = sequencesIn(listOrUndefined(host, from) ?? [])
  const sequence = given ?? sequences.at(-1)
  if (sequence === undefined) {
    throw new CaskyError('CASKY_NOT_FOUND', `there is no backup here: ${from}`, { path: from })
  }
  if (!sequences.includes(sequence)) {
    const there = sequences.length === 0 ? 'none' : listed(sequences)
    throw new CaskyError(
      'CASKY_NOT_FOUND',
      `there is no backup with sequence number ${sequence}; there is ${there}: ${from}`,
      { path: from, expected: sequences, got: sequence },
    )
  }
  return readDescription(host, kernels, from, sequence)
}

/** Refuses a directory with anything in it but what an interrupted restore has left. */
export function checkTarget(host: Host, target: string): void {
  const names = listOrUndefined(host, target) ?? []
  const isInterrupted = names.includes(RESTORING) && !names.includes(MANIFEST)
  const isOwn = (name: string): boolean => name === LOCK || (isInterrupted && isOfRestore(name))
  const stranger = names.find((name) => !isOwn(name))
  if (stranger === undefined) return
  const what = names.includes(MANIFEST) ? 'a store is here already' : `it holds '${stranger}'`
  throw new CaskyError(
    'CASKY_EXISTS',
    `a backup is restored into a directory that is empty, or not there yet, and this is not (${what}): ${target}`,
    { path: target, got: stranger },
  )
}

export function isOfRestore(name: string): boolean {
  return (
    name === RESTORING || name === MANIFEST_NEXT || isRestoringName(name) || segmentIdOf(name) !== undefined
  )
}
