// The rules that every store is held to. docs/DURABILITY.md, "The rules", says what each means; a test compares them.

export const RULES = [
  'D0 reads see what was written',
  'D1 a prefix',
  'D2 nothing acknowledged is lost',
  'D3 a crash is no damage',
  'D4 recovery goes on',
  'D5 recovery may crash',
  'D6 bit rot is reported',
  'D7 errors are typed',
  'D8 no handle leaks',
  'D9 one writer',
  'D10 repair',
  'D11 a snapshot stays',
  'D12 a backup is whole',
  'D13 a follower keeps up',
] as const

export type Rule = (typeof RULES)[number]
