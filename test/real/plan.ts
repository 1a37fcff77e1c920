// A fixed piece of work: a little of everything that a store does, with segments so small that it rotates often.

export interface Write {
  key: string
  /** undefined: deletes it. */
  value: string | undefined
  expiresAtMs?: number
}

export interface Step {
  how: 'put' | 'putSync' | 'batch' | 'delete'
  writes: Write[]
  /** Before it a write is refused for want of room, and cut back. */
  isAfterRefusal: boolean
  /** After it the store is closed and opened again. */
  isBeforeReopen: boolean
}

export const SEGMENT_BYTES = 4096
const LATE_MS = 4_102_444_800_000

const text = (i: number, length: number): string => `${i} `.repeat(length).slice(0, length)

function* stepsOf(): Generator<Pick<Step, 'how' | 'writes'>> {
  for (let i = 0; i < 9; i++) {
    yield { how: 'put', writes: [{ key: `key ${i % 6}`, value: text(i, 700) }] }
    yield { how: 'putSync', writes: [{ key: `sync ${i % 4}`, value: text(i, 300) }] }
    if (i % 3 === 0) {
      const right = { key: 'right', value: text(i, 500), expiresAtMs: LATE_MS }
      yield {
        how: 'batch',
        writes: [{ key: 'left', value: text(i, 500) }, { key: `key ${i % 6}`, value: undefined }, right],
      }
    }
    if (i % 4 === 1) yield { how: 'delete', writes: [{ key: `sync ${i % 4}`, value: undefined }] }
    if (i % 4 === 2)
      yield { how: 'put', writes: [{ key: 'brief', value: text(i, 5), expiresAtMs: LATE_MS + i }] }
    // Longer than the buffers, so that they are written piece by piece.
    if (i === 4) yield { how: 'put', writes: [{ key: 'large', value: text(i, 300_000) }] }
    if (i === 6) {
      const writes = Array.from({ length: 40 }, (_, n) => ({ key: `many ${n}`, value: text(n, 9000) }))
      yield { how: 'batch', writes }
    }
  }
}

export const PLAN: readonly Step[] = Array.from(stepsOf(), (step, i) => ({
  ...step,
  isAfterRefusal: [4, 13, 20].includes(i),
  isBeforeReopen: i % 10 === 9,
}))

/** What the store holds after so many steps. */
export function contentsAfter(steps: number): Map<string, string> {
  const contents = new Map<string, string>()
  for (const { writes } of PLAN.slice(0, steps)) {
    for (const { key, value } of writes) {
      if (value === undefined) contents.delete(key)
      else contents.set(key, value)
    }
  }
  return contents
}
