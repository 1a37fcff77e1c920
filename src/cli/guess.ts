/** How many letters to change, leave out or add to get from one word to the other. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1), row[j] + 1, next[j - 1] + 1)
    }
    row = next
  }
  return row[b.length]
}

/** `did you mean …?`, or the list of what there is. */
export function guess(word: string, known: readonly string[]): string {
  const plain = word.slice(0, 40).toLowerCase().replace(/[_-]/g, '')
  const scored = known.map((name) => ({ name, score: distance(plain, name.toLowerCase()) }))
  const [best] = scored.sort((a, b) => a.score - b.score)
  if (best.score <= Math.max(2, best.name.length / 3)) return `did you mean '${best.name}'?`
  return `known are ${known.map((name) => `'${name}'`).join(', ')}`
}
