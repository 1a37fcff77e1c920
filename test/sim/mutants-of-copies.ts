// Defects of hints, checkpoints, backups and restored stores.
import { cached, type Mutant, mutant } from './planting'

export const MUTANTS_OF_COPIES: Mutant[] = [
  cached('a hint that was cut passes for a whole one', 'bits', [
    'src/hint.ts',
    'const isFit = reader.isWhole(entry) && health.damage.length === 0 && isCounted',
    'const isFit = health.damage.length === 0 && segment.records <= entry.records',
  ]),
  cached('a checkpoint is loaded without a look at its CRC', 'bits', [
    'src/restore.ts',
    'if (crc !== piece.crc) return undefined',
    'if (crc < 0 && piece.crc < 0) return undefined',
  ]),
  cached('the lists of a checkpoint are believed without their CRC', 'bits', [
    'src/checkpoint-file.ts',
    'if (view.getUint32(LISTS_CRC_AT, true) !== kernels.crc(lists))',
    'if (lists.length < 0)',
  ]),
  cached(
    "another store's checkpoint is taken",
    'bits',
    [
      'src/restore.ts',
      'if (!isEqual(storeId, manifest.storeId))',
      'if (isEqual(storeId, new Uint8Array(0)))',
    ],
    ['src/restore.ts', 'if (!isEqual(secret, manifest.secret))', 'if (isEqual(secret, new Uint8Array(0)))'],
    [
      'src/restore.ts',
      'covered.id !== header.id || covered.salt !== header.salt',
      'covered.id !== header.id',
    ],
    [
      'src/restore.ts',
      '        covered.bytes === bytes &&\n        covered.records === records &&\n        covered.lastSequence === lastSequence',
      '        bytes > 0 && records >= 0 && lastSequence >= 0',
    ],
  ),
  cached('what lies behind a checkpoint is not applied to its tables', 'crash', [
    'src/keydir/keydir.ts',
    'backlog?.has(piece) === true ? this.applyTo(made, backlog, piece) : undefined',
    'undefined',
  ]),
  cached('what expires, or is of a batch, waits as if it was neither', 'crash', [
    'src/keydir/backlog.ts',
    'const PLAIN_MASK = 0xffff',
    'const PLAIN_MASK = 0xf',
  ]),
  cached('what waits forgets where its rows stand', 'crash', [
    'src/keydir/backlog.ts',
    'words[word + OFFSET_WORD] = offset + rows[row + ROW_AT]',
    'words[word + OFFSET_WORD] = rows[row + ROW_AT]',
  ]),
  cached('rows that were taken at once are not counted', 'crash', [
    'src/replay.ts',
    '    segment.lastSequence = Math.max(segment.lastSequence, lastSequence)\n    segment.records += taken',
    '',
  ]),
  cached('what waits for a table is applied newest first', 'crash', [
    'src/keydir/backlog.ts',
    '      chunks[last[piece] >>> CHUNK_BITS][last[piece] & WORD_MASK] = change',
    '      chunks[change >>> CHUNK_BITS][change & WORD_MASK] = first[piece]\n      first[piece] = change\n      return',
  ]),
  cached('a checkpoint is written of a damaged store', 'rot', [
    'src/checkpoint.ts',
    "if (health.damage.length > 0) return 'the store is damaged'",
    '',
  ]),
  cached('a segment with a damaged value gets a hint', 'rot', [
    'src/hinting.ts',
    'if ((kind & ROW_VALUE_DAMAGED) !== 0) return false',
    '',
  ]),
  cached('a segment whose hint was unfit gets no other', 'bits', [
    'src/recovery.ts',
    'const hasHint = present.hints.has(id) && hintReason === undefined',
    'const hasHint = present.hints.has(id) && hintReason !== id',
  ]),
  mutant('a backup does not sync the names of its segments', 'backup', [
    'src/backup/backup.ts',
    '    await job.syncDirectory(directory)\n    await syncWayTo(job, directory)',
    '    await syncWayTo(job, directory)',
  ]),
  mutant('a backup does not sync the way to it', 'backup', [
    'src/backup/backup.ts',
    '    await syncWayTo(job, directory)\n',
    '',
  ]),
  mutant('a description is named before it is on disk', 'backup', [
    'src/backup/job.ts',
    '      await this.sync(file, path)\n    } catch',
    '    } catch',
  ]),
  mutant('a copied segment is not synced', 'backup', [
    'src/backup/transfer.ts',
    '        await this.job.sync(target, to)\n      }),',
    '      }),',
  ]),
  mutant('a cloned segment is not synced', 'backup', [
    'src/backup/transfer.ts',
    '      await this.job.sync(file, to)\n    })\n    this.counts.bytesCloned',
    '    })\n    this.counts.bytesCloned',
  ]),
  mutant(
    'an increment describes only what is new',
    'backup',
    [
      'src/backup/backup.ts',
      'const made = cut.segments.map(({ entry }) => entry)',
      'const all = cut.segments.map(({ entry }) => entry)\n    const made = all.filter(({ header }) => !this.shelf.had(header.id))',
    ],
    ['src/backup/backup.ts', '    this.compare(cut, proof)\n', ''],
    [
      'src/backup/shelf.ts',
      '  pathOf(id: number): string {',
      '  had(id: number): boolean {\n    return this.kept.has(id)\n  }\n\n  pathOf(id: number): string {',
    ],
  ),
  mutant('a restored store is named before its segments are', 'backup', [
    'src/backup/restore.ts',
    '      await job.rest()\n    }\n    await job.syncDirectory(target)\n',
    '      await job.rest()\n    }\n',
  ]),
  mutant('a restore leaves no mark while it is under way', 'backup', [
    'src/backup/restore.ts',
    '      await this.begin()\n',
    '',
  ]),
  mutant('a backup is restored over a store', 'backup', [
    'src/backup/target.ts',
    '  if (stranger === undefined) return\n',
    '  if (stranger !== names.join()) return\n',
  ]),
  mutant('the manifest of a restored store is not synced', 'backup', [
    'src/backup/restore.ts',
    '      host.syncLater(file, (error) => {',
    '      host.soon((error: unknown) => {',
  ]),
]
