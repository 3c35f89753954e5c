/** Audit events of this service, written through the outbox in the transaction of the effect they report. */
import { newAuditEvent, recordAuditEvents, type SqlExecutor } from '@tallystick/audit-outbox/outbox'
import type { AuditEventBody, AuditEventType } from '@tallystick/contracts/audit-events'
import type { Clock } from '@tallystick/service-host/clock'
import type { RandomSource } from '@tallystick/primitives/random'
import { uuidv7 } from './ids.js'

export interface AuditTrail {
  /** Adds one event to the transaction. */
  record<T extends AuditEventType>(tx: SqlExecutor, type: T, body: AuditEventBody<T>): Promise<void>
  /** After a commit that recorded events: a hint, the pump polls as well. */
  committed(): void
}

/** @param wake called after commits, to send what was recorded without waiting for the next poll */
export function auditTrail(clock: Clock, random: RandomSource, wake: () => void): AuditTrail {
  return {
    async record(tx, type, body) {
      const at = clock.now()
      await recordAuditEvents(tx, [newAuditEvent({ type, actor: 'session-svc', body, at, id: uuidv7(at, random) })])
    },
    committed: wake,
  }
}
