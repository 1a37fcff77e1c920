// Pieces of a checkpoint that were loaded, and whose tables nobody has used yet. So loading a keydir costs little more
// than reading it; the first look for a key of a piece takes its tables over.
import { CaskyError } from '../errors'
import { isImageSound, type TableImage } from './image'

/** Tables that were loaded together: of each its heap, then its slots, one behind the other. */
export interface Piece {
  bytes: Uint8Array
  tables: readonly TableImage[]
}

export class FoldedPieces {
  private readonly byIndex = new Map<number, Piece>()
  private bytes = 0

  /** `segments`: how many there are that entries may point to. */
  constructor(readonly segments: number) {}

  /** Whether a table of one of these indexes is folded. */
  holds(tables: readonly TableImage[]): boolean {
    return tables.some(({ index }) => this.byIndex.has(index))
  }

  add(piece: Piece): void {
    this.bytes += piece.bytes.length
    for (const { index } of piece.tables) this.byIndex.set(index, piece)
  }

  get isEmpty(): boolean {
    return this.byIndex.size === 0
  }

  get memoryBytes(): number {
    return this.bytes
  }

  /** The piece that has the table of this index, which is forgotten here. */
  take(index: number): Piece | undefined {
    const piece = this.byIndex.get(index)
    if (piece === undefined) return undefined
    checkPiece(piece, this.segments)
    this.bytes -= piece.bytes.length
    for (const { index: each } of piece.tables) this.byIndex.delete(each)
    return piece
  }
}

/** Calls `visit` with each table's words. */
export function forEachImage(
  { bytes, tables }: Piece,
  visit: (words: Uint32Array, image: TableImage) => void,
): void {
  let at = bytes.byteOffset
  for (const image of tables) {
    const words = image.heapWords + image.slots
    visit(new Uint32Array(bytes.buffer, at, words), image)
    at += words * 4
  }
}

/** Throws where a piece, whose CRC was right, was made up. */
export function checkPiece(piece: Piece, segments: number): void {
  forEachImage(piece, (words, image) => {
    if (isImageSound(words, image, segments)) return
    throw new CaskyError(
      'CASKY_CORRUPT',
      'the checkpoint makes no sense; close the store, remove CHECKPOINT from its directory, and open it again',
    )
  })
}
