export { KEY_BYTES_MAX, VALUE_BYTES_MAX } from '../assembly/layout'
export type { BackupProgress, BackupReport } from './backup/backup'
export type { RestoreProgress, RestoreReport } from './backup/restore'
export type { BatchOperation } from './batch'
export { Casky } from './casky'
export type {
  BatchChange,
  Change,
  ChangesOptions,
  DeleteOperation,
  LostChanges,
  PutOperation,
} from './changes'
export type { CheckProgress } from './check'
export type { DumpedRecord } from './dump'
export type { KeyEncoding, KeyIn, KeyOut, ValueCodec, ValueEncoding, ValueIn, ValueOut } from './encoding'
export { CaskyError, type CaskyErrorCode, type CaskyErrorDetails, isCaskyError } from './errors'
export type { RefreshReport } from './follower'
export type { SyncMode } from './group'
export type { Damage, HealthReport, TornTail } from './health'
export type { TimeBucket, TimeStats } from './histogram'
export type { LockHolder } from './lock'
export type { MergeProgress, MergeReport, MergeStats } from './merge/merger'
export type { MergePolicy } from './merge/policy'
export type { BackupOptions, MergeOptions, OpenOptions, PutOptions, RestoreOptions } from './options'
export type { RangeOptions } from './range'
export type { OpenProgress, RecoveryReport } from './recovery'
export type { RepairProgress, RepairReport, RewrittenSegment } from './repair'
export type { ManifestState } from './rollcall'
export { Snapshot } from './snapshot'
export type { GroupSizes, SegmentStats, Stats, WriteStats } from './stats'
export { check, dump, open, openSync, repair, restore } from './store'
export type { CheckOptions, CheckReport, RepairOptions } from './upkeep'
