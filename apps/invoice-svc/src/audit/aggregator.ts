/**
 * Refusals at the edge as audit events. The first of a kind is written at once; those that follow within the
 * interval become one event with a count, so that a flood can neither fill the log nor hide in it.
 */
import type { AuditEventBody } from '@tallystick/contracts/audit-events'
import { newAuditEvent, recordAuditEvents } from '@tallystick/audit-outbox/outbox'
import type { Logger } from 'pino'
import { SERVICE_ACTOR, type Db } from '../app.js'
import { newId } from '../ids.js'
import type { Limits } from '../limits.js'

type AuthReason = AuditEventBody<'AuthFailed'>['reason']
type Waiting =
  | { readonly type: 'AuthFailed'; readonly reason: AuthReason; readonly client?: string }
  | { readonly type: 'RateLimitTriggered'; readonly limit: string }

export class AuditAggregator {
  readonly #waiting = new Map<string, { what: Waiting; count: number }>()
  #timer: NodeJS.Timeout | undefined
  #writing: Promise<void> = Promise.resolve()

  constructor(
    private readonly deps: {
      db: Db
      clock: { now(): number }
      log: Logger
      limits: Pick<Limits, 'auditAggregateMs' | 'auditAggregateKeys'>
      wake(): void
    },
  ) {}

  authFailed(reason: AuthReason, client?: string): void {
    this.#add({ type: 'AuthFailed', reason, ...(client === undefined ? {} : { client }) })
  }

  rateLimited(limit: string): void {
    this.#add({ type: 'RateLimitTriggered', limit: limit.slice(0, 64) })
  }

  /** Write what has gathered; the promise ends when it is durable. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#write()
    await this.#writing
  }

  #add(what: Waiting): void {
    const key = JSON.stringify(what)
    const known = this.#waiting.get(key)
    if (known !== undefined) known.count++
    else if (this.#waiting.size < this.deps.limits.auditAggregateKeys) this.#waiting.set(key, { what, count: 1 })
    // The rest of a wide flood is counted under the first entry of its kind.
    else
      for (const entry of this.#waiting.values())
        if (entry.what.type === what.type) {
          entry.count++
          break
        }
    if (this.#timer !== undefined) return
    this.#write()
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#write()
    }, this.deps.limits.auditAggregateMs)
    this.#timer.unref()
  }

  #write(): void {
    if (this.#waiting.size === 0) return
    const batch = [...this.#waiting.values()]
    this.#waiting.clear()
    const at = this.deps.clock.now()
    const events = batch.map(({ what, count }) =>
      what.type === 'AuthFailed'
        ? newAuditEvent({
            type: 'AuthFailed',
            actor: SERVICE_ACTOR,
            at,
            id: newId(),
            body: { surface: 'api', reason: what.reason, ...(what.client === undefined ? {} : { client: what.client }), count },
          })
        : newAuditEvent({
            type: 'RateLimitTriggered',
            actor: SERVICE_ACTOR,
            at,
            id: newId(),
            body: { layer: 'api', limit: what.limit, count },
          }),
    )
    this.#writing = this.#writing.then(async () => {
      try {
        await recordAuditEvents(this.deps.db, events)
        this.deps.wake()
      } catch (error) {
        this.deps.log.error({ err: error, count: events.length }, 'refusals could not be written to the audit outbox; they are kept')
        for (const { what, count } of batch) {
          const key = JSON.stringify(what)
          const known = this.#waiting.get(key)
          if (known !== undefined) known.count += count
          else this.#waiting.set(key, { what, count })
        }
      }
    })
  }
}
