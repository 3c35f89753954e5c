/**
 * Security events of the network edge, counted for a minute and then written as one event of each kind: whoever
 * knocks a thousand times a second gets one line a minute in the audit log, not a thousand.
 */
import { newAuditEvent, recordAuditEvents } from '@tallystick/audit-outbox/outbox'
import type { AuditEvent, AuditEventBody } from '@tallystick/contracts/audit-events'
import { uuidv7 } from './ids.js'
import type { Limits } from './limits.js'

type OutboxTx = Parameters<typeof recordAuditEvents>[0]
type Log = { error(fields: object, text: string): void }

/** Clients named one by one in a window; the others are counted together. */
const NAMED_CLIENTS = 16
const ACTOR = 'relay-svc'

export interface SecurityDeps {
  readonly db: OutboxTx
  readonly clock: { now(): number }
  readonly limits: Pick<Limits, 'auditWindowMs'>
  readonly log: Log
  /** Events have been written. */
  written(): void
}

export class SecurityEvents {
  readonly #deps: SecurityDeps
  #auth = new Map<string, AuditEventBody<'AuthFailed'>>()
  #limits = new Map<string, AuditEventBody<'RateLimitTriggered'>>()
  #timer: NodeJS.Timeout | undefined

  constructor(deps: SecurityDeps) {
    this.#deps = deps
  }

  start(): void {
    this.#timer = setInterval(() => void this.flush(), this.#deps.limits.auditWindowMs)
    this.#timer.unref()
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.flush()
  }

  /** @param client the PeerId that was proved */
  authFailed(reason: 'unknown-peer' | 'blocked-peer', client: string): void {
    const named = this.#auth.has(`${reason} ${client}`) || this.#auth.size < NAMED_CLIENTS
    const key = named ? `${reason} ${client}` : reason
    const body = this.#auth.get(key)
    this.#auth.set(key, { surface: 'p2p', reason, count: (body?.count ?? 0) + 1, ...(named ? { client } : {}) })
  }

  rateLimited(layer: AuditEventBody<'RateLimitTriggered'>['layer'], limit: string, peer?: string): void {
    const key = `${layer} ${limit} ${peer ?? ''}`
    const body = this.#limits.get(key)
    this.#limits.set(key, { layer, limit, count: (body?.count ?? 0) + 1, ...(peer === undefined ? {} : { peer }) })
  }

  /** Write what was counted; what cannot be written is counted on. */
  async flush(): Promise<void> {
    const at = this.#deps.clock.now()
    const auth = this.#auth
    const limits = this.#limits
    if (auth.size + limits.size === 0) return
    this.#auth = new Map()
    this.#limits = new Map()
    const events: AuditEvent[] = [
      ...[...auth.values()].map((body) => newAuditEvent({ type: 'AuthFailed', actor: ACTOR, body, at, id: uuidv7(at) })),
      ...[...limits.values()].map((body) => newAuditEvent({ type: 'RateLimitTriggered', actor: ACTOR, body, at, id: uuidv7(at) })),
    ]
    try {
      await recordAuditEvents(this.#deps.db, events)
      this.#deps.written()
    } catch (err) {
      this.#deps.log.error({ err, count: events.length }, 'security events not written, kept for the next time')
      for (const [key, body] of auth) this.#auth.set(key, { ...body, count: body.count + (this.#auth.get(key)?.count ?? 0) })
      for (const [key, body] of limits) this.#limits.set(key, { ...body, count: body.count + (this.#limits.get(key)?.count ?? 0) })
    }
  }
}
