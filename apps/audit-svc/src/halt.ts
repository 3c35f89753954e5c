/**
 * A log that contradicts itself stops: it takes no event and signs no checkpoint until a person has looked. Going on
 * could show one history to one counterparty and another to the next, and no proof could ever mend that.
 * The stop is in the database, so that it holds for every replica and across restarts.
 * @see docs/spec/audit-log.md §8
 */
import { Gauge, type Registry } from 'prom-client'
import type { Db } from './db.js'

/** What is stored is not what was appended. */
export class InconsistentLog extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'InconsistentLog'
  }
}

/** The log has stopped, now or earlier. */
export class LogHalted extends Error {
  constructor(readonly reason: string) {
    super(`the audit log has stopped: ${reason}`)
    this.name = 'LogHalted'
  }
}

interface HaltLog {
  fatal(fields: object, message: string): void
}

export class Halt {
  readonly #db: Db
  readonly #log: HaltLog
  readonly #gauge: Gauge

  constructor(db: Db, log: HaltLog, metrics: Registry) {
    this.#db = db
    this.#log = log
    this.#gauge = new Gauge({
      name: 'tallystick_audit_halted',
      help: '1 while the log has stopped because it contradicts itself.',
      registers: [metrics],
    })
  }

  /** Store the stop. Idempotent; the first reason stays. */
  async stop(error: InconsistentLog): Promise<LogHalted> {
    this.#gauge.set(1)
    this.#log.fatal({ err: error, reason: error.message }, 'the audit log contradicts itself and has stopped')
    await this.#db
      .$executeRaw`UPDATE audit_head SET halted_at = now(), halted_reason = ${error.message.slice(0, 300)} WHERE id = 1 AND halted_at IS NULL`
    const [head] = await this.#db.$queryRaw<{ halted_reason: string | null }[]>`SELECT halted_reason FROM audit_head WHERE id = 1`
    return new LogHalted(head?.halted_reason ?? error.message)
  }

  /** Run work; if it finds the log inconsistent, stop the log. @throws LogHalted in place of InconsistentLog */
  async guard<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (error instanceof LogHalted) this.#gauge.set(1)
      if (error instanceof InconsistentLog) throw await this.stop(error)
      throw error
    }
  }
}
