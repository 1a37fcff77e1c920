// Records as the C Casky wrote them, byte by byte.
import { crc32 } from 'node:zlib'

export const TIME = 1_700_000_000

function sealed(rest: Buffer): Buffer {
  const crc = Buffer.alloc(4)
  crc.writeUInt32LE(crc32(rest))
  return Buffer.concat([crc, rest])
}

/** Since 0.40: 64-bit times, with an expiry. */
export function record(key: string | Buffer, value: string | Buffer, expires: number | bigint = 0): Buffer {
  const [keyBytes, valueBytes] = [Buffer.from(key), Buffer.from(value)]
  const header = Buffer.alloc(24)
  header.writeBigUInt64LE(BigInt(TIME), 0)
  header.writeBigUInt64LE(BigInt(expires), 8)
  header.writeUInt32LE(keyBytes.length, 16)
  header.writeUInt32LE(valueBytes.length, 20)
  return sealed(Buffer.concat([header, keyBytes, valueBytes]))
}

/** Without an expiry; the time has 32 bits in 16 bytes of header, and 64 in 20. */
export function oldRecord(headerBytes: 16 | 20, key: string, value: string): Buffer {
  const header = Buffer.alloc(headerBytes - 4)
  header.writeUInt32LE(TIME, 0)
  header.writeUInt32LE(Buffer.byteLength(key), headerBytes - 12)
  header.writeUInt32LE(Buffer.byteLength(value), headerBytes - 8)
  return sealed(Buffer.concat([header, Buffer.from(key), Buffer.from(value)]))
}
