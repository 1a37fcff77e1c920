// Kernels for simulated stores, used again once their process is dead. See bundle.ts.

interface Kernels {
  readonly call: unknown
}

interface Pool {
  take(cacheBytes: number): Kernels | undefined
  made(cacheBytes: number, kernels: Kernels): void
}

const free = new Map<number, Kernels[]>()
let taken: { cacheBytes: number; kernels: Kernels }[] | undefined

function note(cacheBytes: number, kernels: Kernels): void {
  taken?.push({ cacheBytes, kernels })
}

export const kernelsPool = {
  /** What is made from now on belongs to this list. */
  own(list: { cacheBytes: number; kernels: Kernels }[]): void {
    taken = list
  },
  giveBack(list: { cacheBytes: number; kernels: Kernels }[]): void {
    for (const { cacheBytes, kernels } of list.splice(0)) {
      const list = free.get(cacheBytes) ?? []
      list.push(kernels)
      free.set(cacheBytes, list)
    }
  },
}

const pool: Pool = {
  take: (cacheBytes) => {
    const kernels = free.get(cacheBytes)?.pop()
    if (kernels !== undefined) note(cacheBytes, kernels)
    return kernels
  },
  made: note,
}
;(globalThis as { caskyKernels?: Pool }).caskyKernels = pool
