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
