/** Carries the audit events of one service to audit-svc, in order, until each is acknowledged. */
import { auditAppend } from '@tallystick/contracts/audit'
import { auditEvent, type AuditEvent } from '@tallystick/contracts/audit-events'
import type { BusLog } from '@tallystick/nats-rpc/connection'
import type { ServiceClient } from '@tallystick/nats-rpc/client'
import { Gauge, type Registry } from 'prom-client'
import type { SqlExecutor } from './outbox.js'

export interface SqlTransaction extends SqlExecutor {
  $queryRaw<T = unknown>(query: TemplateStringsArray, ...values: (string | number)[]): PromiseLike<T>
}

/** What a Prisma client offers and the pump uses. */
export interface OutboxDb {
  $transaction<T>(work: (tx: SqlTransaction) => Promise<T>, options?: { maxWait?: number; timeout?: number }): Promise<T>
}

export interface AuditPumpOptions {
  readonly db: OutboxDb
  readonly rpc: Pick<ServiceClient, 'call'>
  readonly log: BusLog
  readonly metrics: Registry
  readonly clock: { now(): number }
}

/** Events of one append; the contract takes 256. */
export const AUDIT_BATCH = 256
/** A commit whose wake-up was lost waits this long at most, milliseconds. */
export const AUDIT_POLL_MS = 1_000
/** First and longest wait after a failure, milliseconds. The circuit breaker keeps the calls themselves rare. */
export const AUDIT_RETRY_MS = 250
export const AUDIT_MAX_RETRY_MS = 5_000
/** The transaction stays open during the append, whose deadline is 10 s. */
const TRANSACTION = { maxWait: 5_000, timeout: 20_000 }

interface Row {
  event_id: string
  event: unknown
}

type Round = 'empty' | 'more' | 'elsewhere' | 'refused'

/** Metric of every outbox of a service, by name; created once per registry. */
export function outboxLag(registry: Registry): Gauge<'outbox'> {
  const name = 'tallystick_outbox_lag_seconds'
  const known = registry.getSingleMetric(name)
  return (
    (known as Gauge<'outbox'> | undefined) ??
    new Gauge({ name, help: 'Age of the oldest row that waits', labelNames: ['outbox'], registers: [registry] })
  )
}

export class AuditPump {
  readonly #options: AuditPumpOptions
  readonly #lag: Gauge<'outbox'>
  readonly #stuck: Gauge
  /** Rows that today's schema refuses: kept in the table, passed over, reported. */
  readonly #refusedRows = new Set<string>()
  #loop: Promise<void> | undefined
  #stopping = false
  #woken = Promise.withResolvers<void>()

  constructor(options: AuditPumpOptions) {
    this.#options = options
    this.#lag = outboxLag(options.metrics)
    this.#stuck = new Gauge({
      name: 'tallystick_audit_outbox_stuck_events',
      help: 'Audit events that the schema refuses; they stay in the outbox',
      registers: [options.metrics],
    })
  }

  start(): void {
    this.#loop ??= this.#run()
  }

  /** After a commit that recorded events. Cheap; may be called from anywhere. */
  wake(): void {
    this.#woken.resolve()
  }

  /** Ends after the batch that is under way. */
  async stop(): Promise<void> {
    this.#stopping = true
    this.wake()
    await this.#loop
  }

  async #run(): Promise<void> {
    let retryMs = AUDIT_RETRY_MS
    while (!this.#stopping) {
      try {
        const round = await this.#round()
        retryMs = round === 'refused' ? Math.min(AUDIT_MAX_RETRY_MS, retryMs * 2) : AUDIT_RETRY_MS
        if (round === 'refused') await this.#pause(retryMs)
        else if (round !== 'more') await this.#idle()
      } catch (error) {
        this.#options.log.warn({ err: error, retryAfterMs: retryMs }, 'audit events wait in the outbox')
        await this.#pause(retryMs)
        retryMs = Math.min(AUDIT_MAX_RETRY_MS, retryMs * 2)
      }
    }
  }

  /**
   * One batch, in one transaction: a crash between the append and the delete repeats the append, which is idempotent
   * by event id. An advisory lock lets one replica at a time carry events, which keeps their order.
   */
  async #round(): Promise<Round> {
    return this.#options.db.$transaction(async (tx) => {
      const [lock] = await tx.$queryRaw<
        Array<{ mine: boolean }>
      >`SELECT pg_try_advisory_xact_lock(hashtext('audit_outbox'), hashtext(current_schema())) AS mine`
      if (!lock?.mine) return 'elsewhere'
      await this.#measure(tx)
      const rows = await tx.$queryRaw<Row[]>`
        SELECT event_id::text AS event_id, event FROM audit_outbox
        WHERE event_id NOT IN (SELECT value::uuid FROM jsonb_array_elements_text(${JSON.stringify([...this.#refusedRows])}::jsonb))
        ORDER BY id LIMIT ${AUDIT_BATCH}`
      const events = this.#readable(rows)
      if (events.length === 0) return rows.length === 0 ? 'empty' : 'more'
      const answer = await this.#options.rpc.call(auditAppend, { events })
      if (!answer.ok) {
        this.#options.log.warn({ code: answer.code, count: events.length }, 'audit-svc does not take events now')
        return 'refused'
      }
      const taken = JSON.stringify(answer.items.map((item) => item.eventId))
      await tx.$executeRaw`DELETE FROM audit_outbox WHERE event_id IN (SELECT value::uuid FROM jsonb_array_elements_text(${taken}::jsonb))`
      return rows.length === AUDIT_BATCH ? 'more' : 'empty'
    }, TRANSACTION)
  }

  #readable(rows: readonly Row[]): AuditEvent[] {
    const events: AuditEvent[] = []
    for (const row of rows) {
      const parsed = auditEvent.safeParse(row.event)
      if (parsed.success) {
        events.push(parsed.data)
        continue
      }
      this.#refusedRows.add(row.event_id)
      this.#options.log.error({ eventId: row.event_id }, 'an audit event is outside the schema and stays in the outbox')
    }
    this.#stuck.set(this.#refusedRows.size)
    return events
  }

  async #measure(tx: SqlTransaction): Promise<void> {
    const [row] = await tx.$queryRaw<
      Array<{ oldest: number | null }>
    >`SELECT (extract(epoch FROM min(created_at)) * 1000)::float8 AS oldest FROM audit_outbox`
    const oldest = row?.oldest ?? undefined
    this.#lag.set({ outbox: 'audit' }, oldest === undefined ? 0 : Math.max(0, (this.#options.clock.now() - oldest) / 1000))
  }

  /** Until woken, or the poll is due. */
  async #idle(): Promise<void> {
    await this.#wait(AUDIT_POLL_MS, true)
  }

  /** After a failure; a wake-up does not shorten it. */
  async #pause(ms: number): Promise<void> {
    await this.#wait(ms, false)
  }

  async #wait(ms: number, wakeable: boolean): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const due = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, ms)
    })
    // stop() wakes too, and ends a pause as well.
    while (!this.#stopping) {
      const woken = await Promise.race([due.then(() => false), this.#woken.promise.then(() => true)])
      if (woken) this.#woken = Promise.withResolvers<void>()
      if (!woken || wakeable) break
    }
    clearTimeout(timer)
  }
}
