// Statistics as a picture for a terminal of any width.
import type { Stats } from '../index'
import { fit, indentOf, paint, percentOf, type Style, splitBar, wrap } from './canvas'
import { oneLine } from './escape'
import { pictureOfSegments } from './picture-of-segments'
import { pictureOfGroups, pictureOfSyncs } from './picture-of-writes'
import { countOf, numberOf, sizeOf, tenthsOf } from './units'

const LABEL_COLUMNS = 10
const BAR_MAX = 100

const NOTHING_WRITTEN =
  'Group sizes and sync times are known to the process that writes: have it print JSON.stringify(db.stats()), and ' +
  'draw that with `casky stats FILE`.'

type Ways = { checkpointed?: number; hinted?: number; scanned?: number }

export interface Subject {
  /** What the numbers are about, as the heading. */
  name: string
  /** The store was opened to look at it, so nobody has written through it. */
  isJustOpened: boolean
}

/** The lines, none of them wider than the style says. All segments, or where there are many the first and the last. */
export function picture(stats: Stats, subject: Subject, style: Style, isAll: boolean): string[] {
  const parts = [
    facts(stats, subject, style),
    pictureOfSegments(stats.segments, style, isAll),
    pictureOfGroups(stats.writes, style),
    pictureOfSyncs(stats.writes.syncTimes, style),
    subject.isJustOpened ? wrap('', NOTHING_WRITTEN, 0, style) : [],
  ]
  return parts.filter((lines) => lines.length > 0).flatMap((lines, i) => (i === 0 ? lines : ['', ...lines]))
}

function facts(stats: Stats, { name }: Subject, style: Style): string[] {
  const { liveBytes, deadBytes, keydir, cache, merges, snapshots, recovery } = stats
  const total = liveBytes + deadBytes
  const row = (label: string, text: string): string[] => wrap(label, text, LABEL_COLUMNS, style)
  const reads = cache.hits + cache.misses
  return [
    paint(style, 'bold', fit(oneLine(name), style)),
    ...row('entries', entriesOf(stats)),
    ...row('sequence', `${numberOf(stats.lastSequence)} is the last`),
    ...row('on disk', `${sizeOf(stats.bytes)} in ${countOf(stats.segments.length, 'segment')}`),
    ...(total > 0 ? [wholeBar(stats, style)] : []),
    ...row('live', `${sizeOf(liveBytes)}, ${percentOf(liveBytes, total)}`),
    ...row('dead', `${sizeOf(deadBytes)}, ${percentOf(deadBytes, total)}`),
    ...row(
      'keydir',
      sizeOf(keydir.bytes) +
        (keydir.bytesPerKey > 0 ? ` of memory, ${tenthsOf(keydir.bytesPerKey)} bytes a key` : ''),
    ),
    ...(reads > 0
      ? row(
          'cache',
          `${sizeOf(cache.bytes)}, ${percentOf(cache.hits, reads)} of ${numberOf(reads)} reads hit`,
        )
      : []),
    ...(merges.count > 0 ? row('merges', mergesOf(merges)) : []),
    ...(snapshots.count > 0 || snapshots.replacedBytes > 0 ? row('snapshots', snapshotsOf(snapshots)) : []),
    ...row('opening', openingOf(recovery)),
  ]
}

function entriesOf({ entries, expired, swept }: Stats): string {
  const waiting = expired > 0 ? `, and ${numberOf(expired)} expired that are not swept yet` : ''
  return numberOf(entries) + waiting + (swept > 0 ? `; ${numberOf(swept)} were swept` : '')
}

function mergesOf({ count, bytesRead, bytesWritten, freedBytes, last }: Stats['merges']): string {
  const moved = `${sizeOf(bytesRead)} read, ${sizeOf(bytesWritten)} written, ${sizeOf(freedBytes)} freed`
  // A file may say anything here.
  const why = typeof last?.reason === 'string' ? `; the last one: ${oneLine(last.reason)}` : ''
  return `${numberOf(count)}: ${moved}${why}`
}

function snapshotsOf({ count, replacedBytes }: Stats['snapshots']): string {
  const held = replacedBytes > 0 ? `; ${sizeOf(replacedBytes)} were merged, and are still read from` : ''
  return `${numberOf(count)} held${held}`
}

/** Numbers from a file may be of a version that knew fewer ways to open a segment. */
function openingOf(recovery: { durationMs: number; bytesRead: number } & Ways): string {
  const { durationMs, bytesRead, checkpointed = 0, hinted = 0, scanned = 0 } = recovery
  const ways = [
    [checkpointed, 'by checkpoint'],
    [hinted, 'by hint'],
    [scanned, 'read whole'],
  ] as const
  const told = ways.filter(([count]) => count > 0).map(([count, way]) => `${numberOf(count)} ${way}`)
  const segments = told.length > 0 ? `; segments: ${told.join(', ')}` : ''
  return `${numberOf(durationMs)} ms, ${sizeOf(bytesRead)} read${segments}`
}

function wholeBar({ liveBytes, deadBytes }: Stats, style: Style): string {
  const indent = indentOf(LABEL_COLUMNS, style)
  return ' '.repeat(indent) + splitBar(liveBytes, deadBytes, Math.min(BAR_MAX, style.width - indent), style)
}
