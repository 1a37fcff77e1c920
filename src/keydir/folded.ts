// Tables as a checkpoint keeps them: some of them in one piece of memory, each made when it is first used. So loading
// a keydir costs little more than reading it.
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

interface Folded {
  table: FoldedTable
  piece: Piece
  at: number
  /** Of the same index. */
  next: Folded | undefined
}

/** Memory that tables share: none of them can give its part of it back alone. */
export class Piece {
  private readonly tables: Table[] = []

  constructor(
    readonly bytes: Uint8Array,
    private readonly unfoldAll: () => void,
  ) {}

  take(table: Table): void {
    this.tables.push(table)
  }

  /** All tables take their words with them, so that the piece is given back at once. */
  leave(): void {
    this.unfoldAll()
    for (const table of this.tables.splice(0)) table.moveOut()
  }
}

export class FoldedTables {
  private readonly byIndex: (Folded | undefined)[] = []
  private left = 0

  /** `segments`: how many there are that entries may point to. */
  constructor(private readonly segments: number) {}

  /** The bytes are taken over. `use` has the table of an index unfolded. */
  add(bytes: Uint8Array, tables: readonly FoldedTable[], use: (index: number) => void): void {
    const piece = new Piece(bytes, () => {
      for (const { index } of tables) use(index)
    })
    let at = 0
    for (const table of tables) {
      this.byIndex[table.index] = { table, piece, at, next: this.byIndex[table.index] }
      at += (table.heapWords + table.slots) * 4
    }
    this.left += tables.length
  }

  get isEmpty(): boolean {
    return this.left === 0
  }

  /** The table of this index, and those that go on where it was full; undefined where there is none. */
  unfold(index: number, heapWordsMax: number | undefined): Table | undefined {
    let head: Table | undefined
    let count = 0
    for (let folded = this.byIndex[index]; folded !== undefined; folded = folded.next, count++) {
      const table = this.tableOf(folded, heapWordsMax)
      table.next = head
      head = table
    }
    this.byIndex[index] = undefined
    this.left -= count
    return head
  }

  private tableOf({ table: folded, piece, at }: Folded, heapWordsMax: number | undefined): Table {
    const { heapWords, deadWords, slots, count, isKeyed } = folded
    const { buffer, byteOffset } = piece.bytes
    const words = new Uint32Array(buffer, byteOffset + at, heapWords + slots)
    const image = { words, heapWords, count, deadWords, isKeyed }
    if (!isImageSound(image, this.segments)) {
      // Its CRC was right, so it was made up.
      throw new CaskyError(
        'CASKY_CORRUPT',
        'the checkpoint makes no sense; close the store, remove CHECKPOINT from its directory, and open it again',
      )
    }
    const table = new Table(heapWordsMax, { ...image, piece })
    piece.take(table)
    return table
  }
}
