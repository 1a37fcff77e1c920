// Defects to plant. The simulator has to find each of them: one that lives is a fault of the simulator.
import { MUTANTS_OF_COPIES } from './mutants-of-copies'
import { MUTANTS_OF_FOLLOWERS } from './mutants-of-followers'
import { type Mutant, mutant, type Replacement } from './planting'

const UNSYNCED_SEAL: Replacement = [
  'src/ending.ts',
  '  return [sync, seal]\n',
  '  const nothing = { later: (done: (error: unknown) => void) => done(undefined), now: () => {} }\n  return [nothing, { ...seal, ...nothing }]\n',
]
const UNCHECKED_SEAL: Replacement = [
  'src/active.ts',
  "    invariant(!this.isDirty, 'only what is synced is sealed')\n",
  '',
]

export const MUTANTS: Mutant[] = [
  mutant('a put is acknowledged without a sync', 'crash', [
    'src/writer.ts',
    '      this.unsynced.push(group)\n      log.makeRoom',
    '      group.settle(undefined)\n      log.makeRoom',
  ]),
  mutant('putSync returns without a sync', 'crash', [
    'src/writer.ts',
    "if (this.rooms.sync === 'always') this.syncNow()",
    '',
  ]),
  mutant('flush does not wait for the disk', 'crash', [
    'src/writer.ts',
    '    this.startSync()\n    await group.promise',
    '    this.startSync()',
  ]),
  mutant('a group is acknowledged by the sync of the one before', 'crash', [
    'src/writer.ts',
    'for (const group of this.syncing.splice(0)) group.settle(undefined)',
    'for (const group of [...this.syncing.splice(0), ...this.unsynced.splice(0)]) group.settle(undefined)',
  ]),
  mutant(
    'closing does not sync',
    'crash',
    ['src/log.ts', '    active?.sync()\n', ''],
    UNSYNCED_SEAL,
    UNCHECKED_SEAL,
    [
      'src/writer.ts',
      '      await this.flush()\n      this.checkPoison()',
      '      this.commit()\n      this.checkPoison()',
    ],
  ),
  mutant('the seal of a segment that a merge ends is not synced', 'merge', [
    'src/ending.ts',
    '    ...sync,\n',
    '    later: (done: (error: unknown) => void) => done(undefined),\n    now: () => {},\n',
  ]),
  mutant('a write goes behind the seal that a merge is writing', 'merge', [
    'src/log.ts',
    'const error = turning?.course.finish()',
    'const error = Date.now() > 0 ? undefined : turning?.course.finish()',
  ]),
  mutant('a segment is written to before the manifest names it', 'crash', [
    'src/starting.ts',
    '.then(\n          () => done(undefined),',
    '.then(() => {}, () => {})\n        this.rooms.host.soon(() => done(undefined))\n        Promise.resolve().then(\n          () => {},',
  ]),
  mutant('a segment is written to before the manifest that names it is there to stay', 'crash', [
    'src/starting.ts',
    'if (this.isRenamed) publisher.secureNames()\n          else',
    'if (!this.isRenamed)',
  ]),
  mutant('a segment begins before the one so far has ended', 'crash', [
    'src/log.ts',
    'this.turnLater([...this.endingOf(active), ...starting.stages], starting, {',
    'this.turnLater([...starting.stages, ...this.endingOf(active)], starting, {',
  ]),
  mutant('an id that was reserved while a manifest was written is given again', 'merge', [
    'src/publisher.ts',
    '    this.begun++\n    return id',
    '    return id',
  ]),
  mutant('closing does not wait for the syncs of a segment that has ended', 'fault', [
    'src/writer.ts',
    '      await this.rooms.log.quiet()\n',
    '',
  ]),
  mutant('what waits for the end of a segment is numbered as if it was written', 'merge', [
    'src/writer.ts',
    'offset = log.segment(this.groupSequence).bytes',
    'offset = log.segment(log.nextSequence).bytes',
  ]),
  mutant('a full segment is left without a sync', 'crash', UNSYNCED_SEAL, UNCHECKED_SEAL),
  mutant(
    'the name of a new segment is not synced',
    'crash',
    [
      'src/starting.ts',
      '        host.syncDirectoryLater(catalog.directory, (cause) => {\n',
      '        host.soon(() => {\n          const cause = undefined\n',
    ],
    ['src/starting.ts', 'catalog.withHandles(() => syncNames(host, catalog.directory))', '{}'],
    ['src/manifest.ts', '    host.syncDirectory(directory)\n  } catch', '  } catch'],
  ),
  mutant(
    'the header of a new segment is not synced',
    'crash',
    [
      'src/starting.ts',
      '        host.syncLater(file, (cause) => {\n',
      '        host.soon(() => {\n          const cause = undefined\n',
    ],
    ['src/starting.ts', '          host.sync(this.syncFile)\n', ''],
  ),
  mutant('the manifest is renamed before it is synced', 'crash', [
    'src/manifest.ts',
    '      host.sync(file)\n    } finally',
    '    } finally',
  ]),
  mutant('the directory is not synced after the manifest was renamed', 'crash', [
    'src/manifest.ts',
    '    host.syncDirectory(directory)\n  } catch',
    '  } catch',
  ]),
  mutant('the name of a new store is not synced', 'crash', [
    'src/open.ts',
    '  syncWayTo(host, directory)\n  publishManifest',
    '  publishManifest',
  ]),
  mutant('a manifest that a killed process left is not made lasting', 'crash', [
    'src/open.ts',
    '    catalog.withHandles(() => syncNames(host, directory))\n',
    '',
  ]),
  mutant('what a crash left is served without being made lasting', 'crash', [
    'src/open.ts',
    '    catalog.withHandles(() => secureTail(log, host, catalog))\n',
    '',
  ]),
  mutant('the uncertified end is synced, and not copied', 'fault', [
    'src/relog.ts',
    "tail?.state === 'active' && tail.certifiedBytes < tail.bytes ? tail : undefined",
    "tail?.state === 'active' && tail.certifiedBytes > tail.bytes ? tail : undefined",
  ]),
  mutant('the copy of an end is published before it is synced', 'crash', [
    'src/copier.ts',
    '    this.attempt(() => this.host.sync(this.opened()))',
    '',
  ]),
  mutant('keys go on pointing to where their records were copied from', 'crash', [
    'src/relog.ts',
    '  moves.apply(tail.slot, segment.slot)\n',
    '',
  ]),
  mutant('a short write passes for a whole one', 'fault', [
    'src/io.ts',
    '    done += written',
    '    done = bytes',
  ]),
  mutant('a failed write is not cut back', 'fault', [
    'src/active.ts',
    '      this.cutBack(segment.bytes)\n      throw ioError',
    '      throw ioError',
  ]),
  mutant('a cut is not synced before the write is refused', 'fault', [
    'src/active.ts',
    '      throw error\n    }\n    if (this.rooms.health.poisoned === undefined) this.sync()\n',
    '      throw error\n    }\n',
  ]),
  mutant('room is made over what was written', 'crash', [
    'src/active.ts',
    'room, 0, ROOM_BYTES, segment.bytes)',
    'room, 0, ROOM_BYTES, segment.bytes - 5)',
  ]),
  mutant('the mark of room stands for a part of the log', 'crash', [
    'src/active.ts',
    '<= this.roomEnd) this.markRoom()',
    '<= this.roomEnd) {\n      this.markRoom()\n      segment.bytes += 5\n    }',
  ]),
  mutant('a refused write poisons the store', 'fault', [
    'src/active.ts',
    '      this.cutBack(segment.bytes)\n      throw ioError',
    '      this.cutBack(segment.bytes)\n      throw this.syncFailed(cause)\n      throw ioError',
  ]),
  mutant('a reader leaves something on disk', 'crash', [
    'src/open.ts',
    '  if (settings.readOnly) return yield*',
    '  if (settings.readOnly) host.makeDirectory(directory)\n  if (settings.readOnly) return yield*',
  ]),
  mutant('a reader keeps its handles', 'crash', [
    'src/casky.ts',
    '      catalog.closeFiles()\n',
    '      if (writing !== undefined) catalog.closeFiles()\n',
  ]),
  mutant('closing keeps the lock', 'crash', ['src/casky.ts', '      writing?.lock.release()\n', '']),
  mutant('a refused group stays in memory', 'fault', [
    'src/writer.ts',
    '    this.usedBytes = 0\n    this.memtable.clear()\n    this.rooms.log.nextSequence',
    '    this.memtable.count\n    this.rooms.log.nextSequence',
  ]),
  mutant(
    'a failed sync is tried again, and believed',
    'fault',
    ['src/active.ts', '      throw this.syncFailed(cause)', '      this.rooms.host.sync(this.syncFile)'],
    [
      'src/active.ts',
      'const error = hasFailed ? this.syncFailed(cause) : this.rooms.health.poisoned',
      'const error = undefined\n      if (hasFailed) this.rooms.host.sync(this.syncFile)',
    ],
  ),
  mutant('a failed sync does not poison', 'fault', [
    'src/active.ts',
    '      { path, cause },\n    )\n    this.rooms.health.poisoned ??= error\n    return error',
    '      { path, cause },\n    )\n    return error',
  ]),
  mutant('a cut that failed does not poison', 'fault', [
    'src/active.ts',
    '{ path: segment.path, offset: bytes, cause },\n      )\n      this.rooms.health.poisoned ??= error',
    '{ path: segment.path, offset: bytes, cause },\n      )',
  ]),
  mutant('records behind a hole in the tail are kept', 'crash', [
    'src/scanner.ts',
    '    this.searchedBytes = 0\n    return certified\n',
    '    this.searchedBytes = 0\n    this.boundary = this.limit\n    return this.limit\n',
  ]),
  mutant('the certified length is overstated', 'crash', [
    'src/active.ts',
    'const { syncedBytes } = this\n    this.certifiedBytes',
    'const syncedBytes = this.segment.bytes\n    this.certifiedBytes',
  ]),
  mutant('a sync vouches for what was written while it ran', 'crash', [
    'src/active.ts',
    'Math.max(this.syncedBytes, Math.min(bytes, this.segment.bytes))',
    'Math.max(this.syncedBytes, Math.max(bytes, this.segment.bytes))',
  ]),
  mutant('the torn tail becomes a part of the segment', 'crash', [
    'src/pass.ts',
    'segment.bytes = decidedBytes ?? replay.torn(endBytes)',
    'replay.torn(endBytes)\n  segment.bytes = decidedBytes ?? fileBytes',
  ]),
  mutant('a batch that the tail cut is applied in part', 'crash', [
    'src/replay.ts',
    '    this.endBatch()\n    return batchOffset',
    '    this.applyBatch()\n    return offset',
  ]),
  mutant(
    'a batch with a hole is applied',
    'rot',
    [
      'src/replay.ts',
      '    if ((kind & FLAG_JOINED_TO_PREVIOUS) === 0) this.breakBatch()',
      '    if ((kind & FLAG_JOINED_TO_PREVIOUS) === 0) this.applyBatch()',
    ],
    [
      'src/replay.ts',
      '  damage(offset: number, bytes: number): void {\n    this.breakBatch()',
      '  damage(offset: number, bytes: number): void {\n    this.applyBatch()',
    ],
  ),
  mutant('a delete is not logged', 'crash', [
    'src/casky.ts',
    '    writer.append(at, KIND_DELETE, keyBytes, 0, undefined)\n',
    '    this.#rooms.ledger.remove(kernels.hashLow, kernels.hashHigh, kernels.bytes, KEY_AT, keyBytes)\n',
  ]),
  mutant('an expired record does not hide what is older', 'crash', [
    'src/replay.ts',
    '    if (isGone) this.sink.remove',
    '    if (isGone && (kind & KIND_MASK) !== KIND_DELETE) return\n    if (isGone) this.sink.remove',
  ]),
  mutant('the sequence number comes from the clock', 'crash', [
    'src/log.ts',
    'this.nextSequence = lastSequence + 1',
    'this.nextSequence = (rooms.host.nowMs() % 100_000) + lastSequence * 0',
  ]),
  mutant(
    'the lock is not taken',
    'crash',
    ['src/lock.ts', '    yield* outlastRivals(place, stake.token)\n', ''],
    ['src/lock.ts', 'if (known !== undefined) throw lockedError(place.store, { ...known })', ''],
  ),
  mutant('a failed directory sync after a rename is passed over', 'fault', [
    'src/manifest.ts',
    '    host.syncDirectory(directory)\n  } catch (cause) {',
    '    host.syncDirectory(directory)\n  } catch (cause) {\n    if (Date.now() > 0) return',
  ]),
  mutant('a rename that was done and said to have failed is believed not to be done', 'fault', [
    'src/manifest.ts',
    'if (isStillThere(host, next)) throw ioError',
    'throw ioError',
  ]),
  mutant('a merge drops deletes while older segments stay', 'merge', [
    'src/merge/run.ts',
    'if (this.plan.dropsTombstones) return 0',
    'return 0',
  ]),
  mutant('a merge drops what has expired and hides an older value', 'merge', [
    'src/merge/run.ts',
    'return expires ? this.tombstone(keyBytes) : 0',
    'return 0',
  ]),
  mutant('a merge leaves out what an unsynced write hides', 'merge', [
    'src/merge/run.ts',
    'await this.pace.wait((done) => this.rooms.certify().then(() => done(null), done))',
    '',
  ]),
  mutant('a merge removes its inputs before its manifest is on disk', 'merge', [
    'src/publisher.ts',
    '    onRenamed()\n    await new Promise',
    '    onRenamed()\n    if (Date.now() > 0) return\n    await new Promise',
  ]),
  mutant('the name of a merged segment is not synced', 'merge', [
    'src/merge/run.ts',
    'await this.pace.wait((done) => host.syncDirectoryLater(catalog.directory, done))',
    '',
  ]),
  mutant('a merged segment is named before its data is on disk', 'merge', [
    'src/merge/output.ts',
    '        host.syncLater(file, (error) => {',
    '        host.soon(() => {\n          const error = null',
  ]),
  mutant('a merge moves a key that was overwritten meanwhile', 'merge', [
    'src/ledger.ts',
    'if (found.segment !== from.segment || found.offset !== from.offset) return',
    '',
  ]),
  mutant('a merge launders damage', 'rot', [
    'src/merge/run.ts',
    'if ((kind & ROW_VALUE_DAMAGED) !== 0) return FOUND_DAMAGE',
    '',
  ]),
  mutant('a merge forgets which records are of one batch', 'rot', [
    'src/merge/run.ts',
    'words[word + ROW_KIND] = (kind & ~JOINED) | joins | fate',
    'words[word + ROW_KIND] = (kind & ~JOINED) | fate',
  ]),
  mutant('files that are still read from go with a merge', 'merge', [
    'src/replaced.ts',
    'pins.whenFree(() => {',
    ';((run: () => void) => run())(() => {',
  ]),
  mutant(
    'what a merge has left nothing of comes back without its manifest',
    'repair',
    [
      'src/merge/output.ts',
      'const isSealed = records > 0 || lastSequence >= header.firstSequence',
      'const isSealed = records > 0',
    ],
    ['test/sim/cases.ts', 'const MIDWAY = 0.25', 'const MIDWAY = 1'],
  ),
  mutant('what a merge buries of a batch no longer ends it', 'rot', [
    'src/merge/run.ts',
    'if (this.lastKept >= 0) words[this.lastKept + ROW_KIND] &= ~FLAG_JOINED_TO_NEXT',
    'if (this.lastKept >= 0) void FLAG_JOINED_TO_NEXT',
  ]),
  mutant('a batch that goes on behind a window is not ended', 'merge', [
    'src/merge/run.ts',
    'if (this.mustEndBatch) output.endBatch()',
    '',
  ]),
  mutant('keys go on pointing to what a merge has replaced', 'merge', [
    'src/merge/merger.ts',
    'await next.run.move(next.merged, () => this.check(undefined))',
    '',
  ]),
  mutant('a merge removes its inputs before the keys have moved', 'merge', [
    'src/merge/merger.ts',
    'await next.run.move(next.merged, () => this.check(undefined))',
    'for (const { path } of next.segments) this.rooms.host.remove(path)\n        await next.run.move(next.merged, () => this.check(undefined))',
  ]),
  mutant('a merge that was given up leaves its output', 'merge', [
    'src/merge/output.ts',
    '    this.close()\n    tryRemove(this.host, this.path)',
    '    this.close()',
  ]),
  mutant('a merge begins where there is no room for it', 'merge', [
    'src/merge/merger.ts',
    'if (free >= needed) return',
    'if (free >= 0) return',
  ]),
  mutant('a manifest that came between is undone by a merge', 'merge', [
    'src/publisher.ts',
    'if (this.begun !== attempt) {',
    'if (this.begun < 0) {',
  ]),
  mutant('a snapshot does not hear of a delete', 'merge', [
    'src/ledger.ts',
    'if (this.overlays.size > 0) this.note(hashLow, hashHigh, source, at, keyBytes, true)',
    '',
  ]),
  mutant('a snapshot hears of the last change, not of the first', 'merge', [
    'src/overlay.ts',
    'if (before.find(hashLow, hashHigh, source, at, keyBytes)) return',
    '',
  ]),
  mutant('a snapshot sees what expires later expire', 'merge', [
    'src/frozen.ts',
    'expiresAtMs === undefined || expiresAtMs > this.nowMs',
    'expiresAtMs === undefined || expiresAtMs > this.nowMs + 100',
  ]),
  mutant('a key that was not there comes into a snapshot', 'merge', [
    'src/ledger.ts',
    'const place = wasThere ? this.keydir.found : undefined',
    'if (!wasThere) return\n    const place = this.keydir.found',
  ]),
  mutant('a snapshot does not hold what a merge replaces', 'merge', [
    'src/snapshot.ts',
    'const unpin = pins.pin()',
    'const unpin = () => {}',
  ]),
  mutant('an iterator does not hold what a merge replaces', 'merge', [
    'src/walks.ts',
    '  const unpin = pins.pin()\n  ledger.hold',
    '  const unpin = () => {}\n  ledger.hold',
  ]),
  mutant('what was held for a snapshot is never removed', 'merge', [
    'src/pins.ts',
    '      else this.held.delete(epoch)\n      this.runDue()',
    '      else this.held.delete(epoch)',
  ]),
  mutant('handles stay open after close', 'crash', [
    'src/catalog.ts',
    'for (const slot of [...this.open.keys()]) this.closeFile(slot)',
    'for (const slot of [...this.open.keys()].slice(1)) this.closeFile(slot)',
  ]),
  mutant('handles stay open after a failed start of a segment', 'fault', [
    'src/starting.ts',
    '    if (this.syncFile !== undefined) host.close(this.syncFile)\n',
    '',
  ]),
  mutant(
    'the CRC of a value is not looked at',
    'rot',
    [
      'src/replay.ts',
      'place.isDamaged = (kind & ROW_VALUE_DAMAGED) !== 0\n    place.expiresAtMs',
      'place.isDamaged = false\n    place.expiresAtMs',
    ],
    [
      'src/reader.ts',
      'if (verdict === VERIFY_OK) {',
      'if (verdict === VERIFY_OK || verdict === VERIFY_BAD_VALUE) {',
    ],
  ),
  mutant(
    'the salt is left out of the CRCs',
    'rot',
    ['src/segment.ts', 'return (salt ^ offset) >>> 0', 'return (offset ^ (salt & 0)) >>> 0'],
    [
      'src/active.ts',
      'encodeGroup(records, bytes, header.salt,',
      'encodeGroup(records, bytes, header.salt & 0,',
    ],
    [
      'src/scanner.ts',
      'offset, this.target.salt, nextSequence)\n  }\n\n  /** The first row',
      'offset, 0, nextSequence)\n  }\n\n  /** The first row',
    ],
  ),
  mutant('a damaged end of a sealed segment passes for a torn tail', 'rot', [
    'src/pass.ts',
    "  return state === 'active'\n",
    "  return state === 'active' || bytes > 0\n",
  ]),
  mutant('what later records certify is not asked', 'bits', [
    'src/scanner.ts',
    '    let certified = this.certifiedBytes\n',
    '    let certified = this.certifiedBytes\n    if (certified >= 0) return certified\n',
  ]),
  mutant('the header of a segment is not compared', 'rot', [
    'src/pass.ts',
    'if (decoded.header !== undefined && isSameSegment(decoded.header, segment.header)) return true',
    'if (segment.header !== undefined || isSameSegment(segment.header, segment.header)) return true',
  ]),
  mutant('the CRC of the manifest is not looked at', 'rot', [
    'src/manifest.ts',
    'if (view.getUint32(bodyBytes, true) !== kernels.crc(bytes.subarray(0, bodyBytes)))\n',
    'if (bodyBytes < 0)\n',
  ]),
  mutant('a missing segment is passed over', 'rot', [
    'src/recovery.ts',
    '    reportMissing(health, segment, entry.bytes, nowMs)\n',
    '',
  ]),
  mutant('damage in a record that can be skipped is not reported', 'rot', [
    'src/replay.ts',
    '    this.findings.unreadable(offset, bytes)\n',
    '',
  ]),
  mutant('a repair drops a damaged record instead of deleting its key', 'repair', [
    'src/repair.ts',
    'if (place.isDamaged) this.copy.bury(this.source, place, true)',
    'if (place.isDamaged) return',
  ]),
  mutant('a repair keeps no originals', 'repair', [
    'src/repair.ts',
    'originals = keepOriginals(host, directory, this.replacedNames(found))',
    'originals = keepOriginals(host, directory, this.replacedNames(found).slice(0, 0))',
  ]),
  ...MUTANTS_OF_COPIES,
  ...MUTANTS_OF_FOLLOWERS,
]
