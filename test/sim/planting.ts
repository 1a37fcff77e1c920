// How a defect is planted: by a change of the sources as they are bundled (see bundle.ts); nothing of it is in the sources.
import { type Change, EARLY_CACHES } from './bundle'
import type { CaseKind } from './cases'

export interface Mutant {
  name: string
  /** The cases that are to find it. */
  kind: CaseKind
  changes: Change[]
}

export type Replacement = [file: string, find: string, replace: string]

export function mutant(name: string, kind: CaseKind, ...changes: Replacement[]): Mutant {
  return { name, kind, changes: changes.map(([file, find, replace]) => ({ file, find, replace })) }
}

/** In stores that have hints and checkpoints. */
export function cached(...of: Parameters<typeof mutant>): Mutant {
  const planted = mutant(...of)
  return { ...planted, changes: [...EARLY_CACHES, ...planted.changes] }
}
