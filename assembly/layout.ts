// Every size, offset and flag that the kernels and the host share. Both compilers read this file, so it holds
// plain numbers and nothing else. docs/FORMAT.md explains the on-disk part in prose.

// --- a record on disk (little-endian; docs/FORMAT.md, "Record") ---
export const RECORD_HEADER_CRC_AT = 0 // u32, over bytes 4 .. end of the key
export const RECORD_VALUE_CRC_AT = 4 // u32, over the value
export const RECORD_CERTIFIED_AT = 8 // u32, bytes of this segment known to be on disk when this was written
export const RECORD_SEQUENCE_AT = 12 // u32, sequence number minus the segment's first sequence number
export const RECORD_VALUE_BYTES_AT = 16 // u32
export const RECORD_KEY_BYTES_AT = 20 // u16
export const RECORD_TIME_AT = 22 // u48, milliseconds since 1970
export const RECORD_KIND_AT = 28 // u8, kind in the low four bits, flags in the high four
export const RECORD_HEADER_BYTES = 29
export const RECORD_EXPIRY_BYTES = 8 // u64, milliseconds since 1970, present if FLAG_EXPIRES is set

export const KIND_MASK = 0x0f
export const KIND_PUT = 1
export const KIND_DELETE = 2
export const KIND_MARKER = 3
export const KIND_SEAL = 4
export const FLAG_EXPIRES = 0x10
export const FLAG_JOINED_TO_PREVIOUS = 0x20
export const FLAG_JOINED_TO_NEXT = 0x40

export const KEY_BYTES_MAX = 65_535
export const VALUE_BYTES_MAX = 0x4000_0000
export const RECORD_PREFIX_BYTES_MAX = 65_572 // header, expiry and the longest key
export const SEAL_VALUE_BYTES = 16

// --- the kernels' memory, in bytes from its start ---
export const CRC_TABLES_AT = 0x4000 // eight tables of 256 u32
export const RESULT_AT = 0x8000 // what a kernel returns beside its return value
export const SECRET_AT = 0x8800 // the store's secret, 16 bytes
export const FOLD_AT = 0x9000 // what the CRC of a long message strikes out of it
export const FOLD_BYTES = 0x4000 // so much of the message at a time
export const FOLDED_AT = 0xe000 // what is left of it
export const FOLDED_TWICE_AT = 0xe400
export const KEY_AT = 0x1_0000 // the key of the call under way
export const KEYS_AT = 0x2_1000 // the keys of a call that looks for several
export const KEYS_BYTES = 0xe800
export const KEY_TABLE_AT = 0x2_f800 // and rows for them
export const KEY_ROWS_MAX = 64
export const WRITE_AT = 0x3_0000 // the commit group that is filling
export const WRITE_BYTES = 0x4_0000
export const READ_AT = 0x8_0000 // a record on its way from disk to the caller
export const READ_BYTES = 0x8_0000
export const WINDOW_BYTES = 0x4_0000 // neighbouring records that are read together, at READ_AT too
export const WINDOW_ROWS_AT = 0xc_0000 // and behind them a row for each
export const WINDOW_ROWS_MAX = 8192
export const SCAN_TABLE_AT = 0x10_0000 // rows that the scan hands back
export const SCAN_ROWS_MAX = 16_384
export const SCAN_AT = 0x18_0000 // the part of a segment that is being scanned
export const SCAN_BYTES = 0x40_0000
export const GROUP_TABLE_AT = 0x58_0000 // rows of the commit group that is filling
export const GROUP_ROWS_MAX = 8739 // as many records as WRITE_BYTES have room for, and one
export const KEYED_AT = 0x5d_0000 // a key from elsewhere, whose keyed hash is asked for
export const CACHE_AT = 0x5e_0000 // the block cache, as long as the store's options say
export const MEMORY_PAGES_MIN = 0x5e // pages of 64 KiB up to CACHE_AT; asconfig.json reserves as many

// --- RESULT_AT as u32 words ---
export const RESULT_HASH_LOW = 0
export const RESULT_HASH_HIGH = 1
export const RESULT_CONSUMED_BYTES = 2
export const RESULT_STOP = 3
export const RESULT_CERTIFIED = 4
export const RESULT_ADVANCED_BYTES = 5
export const RESULT_NEXT_SEQUENCE = 6 // f64, two words: one past the last may be 2^32
export const RESULT_LAST_RECORD = 8

// --- one row of the scan's table, of the group's, or of keys that are looked for together, as u32 words ---
export const ROW_AT = 0 // bytes from the start of the scanned part, or of the group; where a key stands that is looked for
export const ROW_KIND = 1 // kind and flags; ROW_VALUE_DAMAGED; key length in the high half
export const ROW_VALUE_BYTES = 2
export const ROW_SEQUENCE = 3
export const ROW_HASH_LOW = 4
export const ROW_HASH_HIGH = 5
export const ROW_EXPIRES_LOW = 6
export const ROW_EXPIRES_HIGH = 7
export const ROW_WORDS = 8
export const ROW_BYTES = 32
export const ROW_VALUE_DAMAGED = 0x100
export const ROW_COPIED = 0x200 // marks of who copies: its record is copied,
export const ROW_BURIED = 0x400 // or a delete takes its place

// --- one row of a window, as u32 words: the first is given, the others are found ---
export const WINDOW_ROW_AT = 0 // where its record begins, from the window's start
export const WINDOW_ROW_KEY = 1 // bytes of the key; what verifying it says in the third byte; WINDOW_ROW_ASCII
export const WINDOW_ROW_VALUE_BYTES = 2
export const WINDOW_ROW_KEY_AT = 3 // where its key begins, and behind it its value, from the window's start
export const WINDOW_ROW_WORDS = 4
export const WINDOW_ROW_BYTES = 16
export const WINDOW_ROW_ASCII = 0x100_0000 // key and value are intact and ASCII

// --- why a scan stopped ---
export const STOP_MORE = 0 // the next record is not wholly in the window
export const STOP_TABLE_FULL = 1
export const STOP_BAD = 2 // no valid record header at the place reached
export const STOP_LARGE = 3 // a valid header, but its record is longer than any window

// --- what verifying an entry can say ---
export const VERIFY_OK = 0
export const VERIFY_BAD_HEADER = 1
export const VERIFY_BAD_VALUE = 2
export const VERIFY_OTHER_KEY = 3
export const VERIFY_CUT_OFF = 4 // its header is intact, and its value goes on behind the window
