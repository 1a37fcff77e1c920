// What every command is handed.
import type { Interrupt } from './interrupt'
import type { Messages } from './messages'
import type { Output } from './output'

export interface Cli {
  output: Output
  messages: Messages
  interrupt: Interrupt
}

/** What a command comes to: its exit code. */
export type Outcome = Promise<number>

/** Hands what a command comes to to the program. */
export type Run = (outcome: Outcome) => Promise<void>
