/**
 * Audit events leave a service through a table of its own schema, written in the transaction of the effect they tell
 * of: no event is lost, none is invented.
 * @see docs/spec/bus.md §7
 */
import {
  AUDIT_EVENT_BODIES,
  auditEvent,
  SHARING_EVENT_TYPES,
  type AuditEvent,
  type AuditEventBody,
  type AuditEventType,
} from '@tallystick/contracts/audit-events'

/** What a Prisma client or transaction offers and this library uses; the tagged forms only. */
export interface SqlExecutor {
  $executeRaw(query: TemplateStringsArray, ...values: string[]): PromiseLike<number>
}

/**
 * @param event at: milliseconds; id: a UUIDv7 that stays the same when the effect is retried
 * @returns an event of the closed schema; its stream follows from its type
 * @throws Error that names the fields that are wrong, never their values
 */
export function newAuditEvent<T extends AuditEventType>(event: {
  type: T
  actor: string
  body: AuditEventBody<T>
  at: number
  id: string
}): AuditEvent {
  const body = AUDIT_EVENT_BODIES[event.type].safeParse(event.body)
  if (!body.success) throw new Error(`${event.type}: body outside the schema: ${paths(body.error.issues)}`)
  return checked({
    eventId: event.id,
    stream: SHARING_EVENT_TYPES.includes(event.type) ? 'sharing' : 'security',
    type: event.type,
    at: event.at,
    actor: event.actor,
    body: body.data,
  })
}

/**
 * Insert into `audit_outbox` of the connection's own schema, in the order given. An event id that is there already is
 * left as it is. Wake the pump after the commit.
 * @param tx the transaction of the effect
 */
export async function recordAuditEvents(tx: SqlExecutor, events: readonly AuditEvent[]): Promise<void> {
  if (events.length === 0) return
  const rows = JSON.stringify(events.map(checked))
  await tx.$executeRaw`
    INSERT INTO audit_outbox (event_id, event)
    SELECT (t.event ->> 'eventId')::uuid, t.event
    FROM jsonb_array_elements(${rows}::jsonb) WITH ORDINALITY AS t (event, n)
    ORDER BY t.n
    ON CONFLICT (event_id) DO NOTHING`
}

function checked(event: AuditEvent): AuditEvent {
  const parsed = auditEvent.safeParse(event)
  if (!parsed.success) throw new Error(`${event.type}: event outside the schema: ${paths(parsed.error.issues)}`)
  return parsed.data
}

function paths(issues: ReadonlyArray<{ path: PropertyKey[]; code?: string | undefined }>): string {
  return issues.map((issue) => `${issue.path.map(String).join('.')} ${issue.code ?? ''}`).join(', ')
}
