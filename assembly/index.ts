// The kernels: what the host calls, and nothing else.
import { buildCrcTables } from './crc32'

export { copyRows } from './copy'
export { crc32 } from './crc32'
export { encodeGroup, hashGroup } from './group'
export { djb2xor, hashKey, hashKeys } from './hash'
export { scanPrefixes } from './hint'
export { encodeHeader, encodeRecord, isHeaderValid, verifyRecord } from './record'
export { describe, find, scan } from './scan'
export { keyedHash, sipHash } from './siphash'
export { verifyRows } from './window'

buildCrcTables()
