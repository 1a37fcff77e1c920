// Defects of followers.
import { type Mutant, mutant } from './planting'

export const MUTANTS_OF_FOLLOWERS: Mutant[] = [
  mutant('a follower keeps what a merge has left out', 'merge', [
    'src/catchup.ts',
    'if (cuts.size > 0 || gone.some(({ liveBytes }) => liveBytes > 0)) yield* forget(rooms, gone, cuts)',
    'if (cuts.size > 1000) yield* forget(rooms, gone, cuts)',
  ]),
  mutant('a follower takes an older copy for the newest record', 'merge', [
    'src/moved.ts',
    'return place.segment === this.segment.slot || this.standsFor(place)',
    'return place.segment >= 0',
  ]),
  mutant('a follower applies what it knows already', 'merge', [
    'src/moved.ts',
    'return this.segment.lastSequence > this.lastKnown',
    'return this.segment.lastSequence >= 0',
  ]),
  mutant('a follower shows half of a refresh', 'merge', ['src/follower.ts', '    this.reads.freeze()\n', '']),
  mutant('a follower passes over what was written to the segment that it knows', 'merge', [
    'src/catchup.ts',
    'if ((isEnded ? entry.bytes : tailBytes) > segment.bytes) {',
    'if (!isEnded && tailBytes > segment.bytes) {',
  ]),
  mutant('a follower does not notice that the log has grown', 'merge', [
    'src/follower.ts',
    "return last?.state === 'active' && this.tail?.hasChanged !== false",
    "return last?.state === 'active' && this.tail === undefined",
  ]),
  mutant('a follower does not notice what is written to room', 'merge', [
    'src/tail.ts',
    "if (seen.by === 'mark') return !isRoomAt(host, file, segment, seen.bytes)",
    "if (seen.by === 'mark') return false",
  ]),
]
