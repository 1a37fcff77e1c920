// Lays crashes at a call of the machine: power cuts by chance, and a kill.
import { choices, crashed } from './crash'
import type { History } from './model'
import type { Oracle } from './oracle'
import type { Random } from './random'
import type { World } from './world'

export function layCrashes(
  { disk, nowMs }: World,
  history: History,
  oracle: Oracle,
  crashesPerCall: number,
  random: Random,
): void {
  for (const choice of choices(disk, crashesPerCall, random)) {
    oracle.judge(crashed(disk, choice, random), nowMs, history, history.durable, history.issued)
  }
  // What a kill leaves: all that is live, and nothing is lost that was kept.
  const { kept, issued, durable } = history
  oracle.judge(disk.clone(), nowMs, history, kept, issued, durable)
}
