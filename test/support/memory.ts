// Memory for stores that are opened and closed by the thousand: most of the time would go to collecting what each left.

const Memory = WebAssembly.Memory
const free = new Map<number, WebAssembly.Memory[]>()

/**
 * Runs what opens stores and closes all of them again. Their memory is taken from what earlier ones have left, and is
 * all zeros, as new memory is.
 */
export function recycled<T>(run: () => T): T {
  const taken: [pages: number, memory: WebAssembly.Memory][] = []
  function Recycled(descriptor: WebAssembly.MemoryDescriptor): WebAssembly.Memory {
    const memory = free.get(descriptor.initial)?.pop()
    if (memory !== undefined) new Uint8Array(memory.buffer).fill(0)
    const given = memory ?? new Memory(descriptor)
    taken.push([descriptor.initial, given])
    return given
  }
  WebAssembly.Memory = Recycled as unknown as typeof Memory
  try {
    return run()
  } finally {
    WebAssembly.Memory = Memory
    for (const [pages, memory] of taken) free.set(pages, [...(free.get(pages) ?? []), memory])
  }
}
