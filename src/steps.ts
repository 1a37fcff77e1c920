// Work that is done step by step, each step a value that a generator yields.

/** The same steps, told of in another way. Ends the work, files and all, when it is itself ended early. */
export function* retold<P, Q, T>(steps: Generator<P, T>, tell: (progress: P) => Q): Generator<Q, T> {
  let isOver = false
  try {
    for (;;) {
      const step = steps.next()
      isOver = step.done === true
      if (step.done === true) return step.value
      yield tell(step.value)
    }
  } finally {
    if (!isOver) steps.return(undefined as never)
  }
}

/** Takes the steps one by one, and lets others run in between; `soon` has something done once the event loop has turned. */
export async function inTurns<T>(steps: Generator<unknown, T>, soon: (run: () => void) => void): Promise<T> {
  for (;;) {
    const step = steps.next()
    if (step.done === true) return step.value
    await new Promise<void>((resolve) => soon(resolve))
  }
}
