// Tables as a checkpoint keeps them, many in one piece of its file. A piece is brought in when one of its tables is
// first used: what a checkpoint says of them is enough to open a store, however many keys there are.
import { CaskyError } from '../errors'
import { isImageSound, Table } from './table'

/** How a table lies in its piece: its heap, then its slots. */
export interface FoldedTable {
  index: number
  count: number
  heapWords: number
  deadWords: number
  slots: number
  expiring: number
  isKeyed: boolean
}

/** Tables that lie together in the file, under one CRC. */
export interface FoldedPiece {
  /** In the file. */
  position: number
  bytes: number
  crc: number
  /** In the order of their indexes; those of one index are all in it. */
  tables: FoldedTable[]
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
  /** The words of a piece, for the caller to keep; undefined where they can't be had as they were written. */
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

/** Memory that tables share: none of them can give its part of it back alone. */
export class Piece {
  private readonly tables: Table[] = []

  take(table: Table): void {
    this.tables.push(table)
  }

  /** All tables take their words with them, so that the piece is given back at once. */
  leave(): void {
    for (const table of this.tables.splice(0)) table.moveOut()
  }
}

export class FoldedTables {
  private readonly isIn: Uint8Array
  private left: number
  private next = 0

  constructor(
    readonly keydir: FoldedKeydir,
    private readonly source: PieceSource,
    private readonly heapWordsMax: number | undefined,
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

  /** Any piece that is not in yet, or -1. */
  nextPiece(): number {
    while (this.next < this.isIn.length && this.isIn[this.next] !== 0) this.next++
    return this.next < this.isIn.length ? this.next : -1
  }

  /** Hands on the first table of each index of a piece, those that go on behind it; false where it is damaged. */
  bringIn(number: number, keep: (index: number, table: Table) => void): boolean {
    const folded = this.keydir.pieceAt(number)
    const bytes = this.source.read(folded)
    const tables = bytes && this.tablesOf(folded, bytes)
    if (tables === undefined) return false
    for (const [i, { index }] of folded.tables.entries()) {
      const follows = i > 0 && folded.tables[i - 1].index === index
      if (follows) tables[i - 1].next = tables[i]
      else keep(index, tables[i])
    }
    this.pass(number)
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

  private tablesOf({ tables }: FoldedPiece, bytes: Uint8Array): Table[] | undefined {
    const piece = new Piece()
    const made: Table[] = []
    let at = bytes.byteOffset
    for (const { heapWords, deadWords, slots, count, isKeyed } of tables) {
      const words = new Uint32Array(bytes.buffer, at, heapWords + slots)
      const image = { words, heapWords, count, deadWords, isKeyed }
      // Where its CRC is right all the same it was made up.
      if (!isImageSound(image, this.keydir.segments)) return undefined
      const table = new Table(this.heapWordsMax, { ...image, piece })
      piece.take(table)
      made.push(table)
      at += words.byteLength
    }
    return made
  }
}
