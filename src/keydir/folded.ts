// Tables as a checkpoint keeps them, many in one piece of its file. A piece is brought in when one of its tables is
// first used: what a checkpoint says of them is enough to open a store, however many keys there are.
import { CaskyError } from '../errors'
import { isImageSound, type TableImage } from './image'

/** Tables that lie together in the file, under one CRC. */
export interface FoldedPiece {
  /** In the file. */
  position: number
  bytes: number
  crc: number
  /** In the order of their indexes. */
  tables: TableImage[]
}

/** What is known of a checkpoint's tables before any of them is brought in. */
export interface FoldedKeydir {
  count: number
  expiring: number
  bytes: number
  /** How many segments there are that entries may point to. */
  segments: number
  /** How many pieces there are. */
  pieces: number
  /** The piece of each index, or -1. */
  pieceOf: Int32Array
  /** What the lists say of a piece. */
  pieceAt(piece: number): FoldedPiece
}

/** The file that the pieces are in. */
export interface PieceSource {
  /** The words of a piece; undefined where they can't be had as they were written. */
  read(piece: FoldedPiece): Uint8Array | undefined
  /** Nothing more will be read. */
  close(): void
}

/** Tables that a checkpoint announced can't be had, and nothing was named that could stand in for them. */
export class PieceDamaged extends CaskyError {
  constructor() {
    super(
      'CASKY_CORRUPT',
      'the checkpoint is damaged; close the store, remove CHECKPOINT from its directory, and open it again',
    )
  }
}

export class FoldedTables {
  private readonly isIn: Uint8Array
  private left: number
  private next = 0

  constructor(
    readonly keydir: FoldedKeydir,
    private readonly source: PieceSource,
  ) {
    this.isIn = new Uint8Array(keydir.pieces)
    this.left = keydir.pieces
  }

  get isEmpty(): boolean {
    return this.left === 0
  }

  /** The piece that this index waits in, or -1. */
  pieceOf(index: number): number {
    const piece = this.keydir.pieceOf[index]
    return piece < 0 || this.isIn[piece] !== 0 ? -1 : piece
  }

  isWaiting(piece: number): boolean {
    return this.isIn[piece] === 0
  }

  /** Entries of what is not in yet. */
  get waitingCount(): number {
    let count = 0
    for (let piece = 0; piece < this.keydir.pieces; piece++) {
      if (!this.isWaiting(piece)) continue
      for (const table of this.keydir.pieceAt(piece).tables) count += table.count
    }
    return count
  }

  /** Any piece that is not in yet, or -1. */
  nextPiece(): number {
    while (this.next < this.isIn.length && this.isIn[this.next] !== 0) this.next++
    return this.next < this.isIn.length ? this.next : -1
  }

  /**
   * Hands on each table of a piece, with its words; none of them, and false, where the piece is damaged. It waits on until
   * `pass` says that it is in.
   */
  bringIn(number: number, keep: (image: TableImage, words: Uint32Array) => void): boolean {
    const folded = this.keydir.pieceAt(number)
    const bytes = this.source.read(folded)
    if (bytes === undefined) return false
    let at = bytes.byteOffset
    const words = folded.tables.map((image) => {
      at += image.words * 4
      return new Uint32Array(bytes.buffer, at - image.words * 4, image.words)
    })
    // Where its CRC is right all the same it was made up.
    const { segments } = this.keydir
    if (!folded.tables.every((image, i) => isImageSound(words[i], image, segments))) return false
    for (const [i, image] of folded.tables.entries()) keep(image, words[i])
    return true
  }

  /** A piece is in, or others stand in for its tables. */
  pass(number: number): void {
    this.isIn[number] = 1
    if (--this.left === 0) this.close()
  }

  close(): void {
    this.source.close()
  }
}
