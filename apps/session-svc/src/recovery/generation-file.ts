/**
 * A number outside the database, in one small file: what shows that a database was put back.
 * @see docs/spec/custody.md §7.3
 */
import { closeSync, constants, fsyncSync, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs'
import path from 'node:path'

const NAME = 'generation'
const LINE_BYTES = 79
const FORMAT = /^tallystick-generation\/v1 ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}) (\d{16})\n$/

/** More numbers than all replicas use up between the discovery and the recovery, or have in files newer than this one. */
export const GENERATION_JUMP = 1_000_000

interface Remembered {
  readonly databaseId: string
  readonly value: number
}

/** The database was put back: nothing may be encrypted before every session has been given up. */
export class DatabasePutBack extends Error {
  constructor(why: string) {
    super(`the database was put back: ${why}`)
    this.name = 'DatabasePutBack'
  }
}

/** Has the one line of the file in memory; written in place, always at its full length, so that no write is half of two. */
export class GenerationFile {
  readonly #file: string
  #remembered: Remembered | undefined
  #descriptor: number | undefined
  #suspended = false

  private constructor(file: string, remembered: Remembered | undefined) {
    this.#file = file
    this.#remembered = remembered
  }

  /**
   * @param directory made with mode 0700 when missing; belongs to this replica alone
   * A file that does not read as one line of this format counts as missing, which is the safe side.
   */
  static open(directory: string): GenerationFile {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    const file = path.join(directory, NAME)
    return new GenerationFile(file, read(file))
  }

  /** Undefined before {@link adopt}: the database that this replica works with is not known yet. */
  get databaseId(): string | undefined {
    return this.#remembered?.databaseId
  }

  /** Every number that the database gives from now on is above this one. */
  get value(): number {
    return this.#remembered?.value ?? 0
  }

  /** Between the discovery and the end of the recovery: what commits now must not leave. */
  get suspended(): boolean {
    return this.#suspended
  }

  /**
   * The database was put back. The number leaps at once, so that transactions that are under way, and a process that is
   * started before the recovery has come to its end, find the same, however many numbers are used up until then.
   * @throws DatabasePutBack always
   */
  putBack(why: string): never {
    if (!this.#suspended && this.#remembered !== undefined)
      this.#write({ ...this.#remembered, value: this.#remembered.value + GENERATION_JUMP })
    this.#suspended = true
    throw new DatabasePutBack(why)
  }

  /** A transaction that wrote something has committed under this number. Called before anything of it leaves. */
  passed(value: number): void {
    if (this.#suspended || this.#remembered === undefined || value <= this.#remembered.value) return
    this.#write({ databaseId: this.#remembered.databaseId, value })
  }

  /** From now on this is the database, and `value` its highest number. On the disk when this returns. */
  adopt(databaseId: string, value: number): void {
    this.#write({ databaseId, value })
    // A file that did not read may have been longer.
    ftruncateSync(this.#descriptor!, LINE_BYTES)
    fsyncSync(this.#descriptor!)
    this.#suspended = false
  }

  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor)
    this.#descriptor = undefined
  }

  #write(next: Remembered): void {
    this.#descriptor ??= openSync(this.#file, constants.O_WRONLY | constants.O_CREAT, 0o600)
    const line = `tallystick-generation/v1 ${next.databaseId} ${String(next.value).padStart(16, '0')}\n`
    writeSync(this.#descriptor, line, 0, 'ascii')
    this.#remembered = next
  }
}

function read(file: string): Remembered | undefined {
  let text: string
  try {
    text = readFileSync(file, 'latin1')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  const [, databaseId, value] = FORMAT.exec(text) ?? []
  return databaseId === undefined ? undefined : { databaseId, value: Number(value) }
}
