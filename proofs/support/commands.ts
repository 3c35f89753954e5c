/** What a driver says to a replica process, and what it answers. Bytes travel as base64. */
import type { Aim } from './gun.ts'
import type { Mutant } from './mutants.ts'

/** Written to a file that only this user can read: it names the database with its password. */
export interface ReplicaSettings {
  readonly url: string
  readonly kekFile: string
  readonly tapFile: string
  readonly stateDir: string
  /** How far the clock of the proof has come when the process starts. */
  readonly aheadMs: number
  readonly limits: Readonly<Record<string, number>>
  /** From the very start, instead of a command `arm`; without `at` it only counts. */
  readonly aim?: (Omit<Aim, 'at'> & { at?: number }) | undefined
  /** A version that is wrong on purpose. */
  readonly mutant?: Mutant | undefined
}

export interface Job {
  readonly messageId: string
  readonly peer: string
  readonly text: string
}

export type Command =
  | { do: 'id' }
  | { do: 'pin'; certificate: string }
  | { do: 'seal'; messageId: string; peer: string; text: string; class: 'application' | 'control' }
  | { do: 'open'; peer: string; envelope: string }
  | { do: 'acknowledge'; envelope: string }
  | { do: 'take'; peer: string }
  | { do: 'storm'; jobs: readonly Job[]; workers: number; file: string }
  | { do: 'arm'; aim: Omit<Aim, 'at'> & { at?: number } }
  | { do: 'disarm' }
  /** Until nothing goes on in the background. */
  | { do: 'quiet' }

export type Reply = { id: number; result: unknown } | { id: number; fault: string }
/** The replica needs a bundle of this peer. */
export interface Ask {
  ask: number
  bundleOf: string
}

export type Sealed = { ok: true; envelope: string; epoch: number } | { ok: false; code: string }
export type Opened = { ok: true; text: string } | { ok: false; code: string }
export type Taken = { ok: true; bundle: string } | { ok: false; code: string }
