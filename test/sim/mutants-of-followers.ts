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
    'if ((isEnded ? entry.bytes : tail.bytes) > segment.bytes) {',
    'if (!isEnded && tail.bytes > segment.bytes) {',
  ]),
  mutant('a follower does not notice that the log has grown', 'merge', [
    'src/follower.ts',
    "return last?.state === 'active' && this.end?.hasChanged !== false",
    "return last?.state === 'active' && this.end === undefined",
  ]),
  mutant('a follower takes the length of the file for the end of the log', 'merge', [
    'src/durable.ts',
    'return { bytes: writtenEnd(host, file, segment.path, Math.min(from, fileBytes), fileBytes), fileBytes }',
    'return { bytes: fileBytes + 0 * writtenEnd(host, file, segment.path, from, from), fileBytes }',
  ]),
  mutant('a follower does not notice what is written to room', 'merge', [
    'src/tail.ts',
    'writtenEnd(host, file, segment.path, seen.bytes, fileBytes) > seen.bytes',
    'writtenEnd(host, file, segment.path, fileBytes, fileBytes) < 0',
  ]),
]
