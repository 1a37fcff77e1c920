// Beside a writer the file under a segment's name may be another: a repair has put it there since the manifest was read.
// Where the manifest is the same still, it is the segment, with a damaged header that passes its CRC.
import { isEqual } from './bytes'
import type { FileHandle, Host } from './host/host'
import type { Kernels } from './kernels'
import { readSegmentHeader, type SegmentHeader } from './segment'

export class Strangers {
  private readonly met = new Set<string>()
  private readonly trusted = new Set<string>()

  constructor(
    private readonly host: Host,
    private readonly kernels: Kernels,
  ) {}

  /** Whether the file is another than the segment, as far as its header tells: a damaged one is no proof. */
  has({ header, path }: { header: SegmentHeader; path: string }, file: FileHandle): boolean {
    if (this.trusted.has(path)) return false
    const found = readSegmentHeader(this.host, this.kernels, file, path).header
    if (found === undefined) return false
    // By these its records are told from those of others.
    if (found.id === header.id && found.salt === header.salt && isEqual(found.storeId, header.storeId))
      return false
    this.met.add(path)
    return true
  }

  /** The manifest was read after those that were met, and is the same: they are what it names. False where there are none. */
  trust(): boolean {
    if (this.met.size === 0) return false
    for (const path of this.met) this.trusted.add(path)
    this.met.clear()
    return true
  }
}
