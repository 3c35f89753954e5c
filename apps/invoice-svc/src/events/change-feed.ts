/**
 * One reader of the change table per replica, shared by all listeners of GET /v1/events; it reads only while somebody
 * listens. A listener that resumes is caught up from the table first.
 */
import type { Logger } from 'pino'
import type { Db } from '../app.js'
import type { Limits } from '../limits.js'
import { Refused } from '../refused.js'
import { changesAfter, presentCursor, type ChangeRow, type Cursor } from './change.store.js'

const PAGE = 500

interface Listener {
  cursor: Cursor
  readonly deliver: (row: ChangeRow) => void
  readonly end: () => void
}

export class ChangeFeed {
  readonly #listeners = new Set<Listener>()
  #timer: NodeJS.Timeout | undefined
  #closed = false

  constructor(private readonly deps: { db: Db; log: Logger; limits: Pick<Limits, 'changesListeners' | 'changesPollMs'> }) {}

  /**
   * @param from undefined: from now on
   * @returns ends the listening
   * @throws Refused RateLimited when too many listen already
   */
  async listen(from: Cursor | undefined, deliver: (row: ChangeRow) => void, end: () => void): Promise<() => void> {
    this.#admit()
    const cursor = from ?? (await presentCursor(this.deps.db))
    this.#admit() // meanwhile others may have come, or the end
    const listener: Listener = { cursor, deliver, end }
    this.#listeners.add(listener)
    this.#schedule()
    return () => void this.#listeners.delete(listener)
  }

  #admit(): void {
    if (this.#closed) throw new Refused('NotReady', 'The service is stopping.', { retryAfterMs: 2_000 })
    if (this.#listeners.size >= this.deps.limits.changesListeners) {
      throw new Refused('RateLimited', `At most ${this.deps.limits.changesListeners} listeners at a time.`, { retryAfterMs: 10_000 })
    }
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    for (const listener of this.#listeners) listener.end()
    this.#listeners.clear()
  }

  #schedule(): void {
    if (this.#timer !== undefined || this.#closed || this.#listeners.size === 0) return
    this.#timer = setTimeout(() => {
      void this.#read().finally(() => {
        this.#timer = undefined
        this.#schedule()
      })
    }, this.deps.limits.changesPollMs)
  }

  async #read(): Promise<void> {
    if (this.#listeners.size === 0) return // the last one has left since this look was planned
    // Whoever comes while the table is read may be behind what this look began at: the next look is for them.
    const served = [...this.#listeners]
    try {
      const oldest = served.map((listener) => listener.cursor).reduce((a, b) => (isBefore(a, b) ? a : b))
      const rows = await changesAfter(this.deps.db, oldest, PAGE)
      for (const row of rows) {
        for (const listener of served) {
          if (!this.#listeners.has(listener) || !isBefore(listener.cursor, row)) continue
          listener.cursor = { tx: row.tx, id: row.id }
          listener.deliver(row)
        }
      }
    } catch (error) {
      this.deps.log.warn({ err: error }, 'changes could not be read; listeners wait')
    }
  }
}

function isBefore(a: Cursor, b: Cursor): boolean {
  return a.tx < b.tx || (a.tx === b.tx && a.id < b.id)
}

export function cursorText(row: Cursor): string {
  return `${row.tx}-${row.id}`
}

/** @returns undefined for anything that is not a cursor: the listener then starts at the present */
export function readCursor(text: string | undefined): Cursor | undefined {
  const match = text === undefined ? null : /^([0-9]{1,18})-([0-9]{1,18})$/.exec(text)
  return match === null ? undefined : { tx: BigInt(match[1]!), id: BigInt(match[2]!) }
}
