import { describe, expect, it } from 'vitest'
import { AUDIT_EVENT_BODIES, AUDIT_EVENT_TYPES, auditEvent, SHARING_EVENT_TYPES } from './audit-events.js'

const ID = '01890a5d-ac96-774b-bcce-b302099a8057'
const FLEET = `tsf1${'a'.repeat(52)}`
const event = (fields: object) => ({
  eventId: ID,
  stream: 'security',
  type: 'KeyStored',
  at: 1,
  actor: 'session-svc',
  body: { keyKind: 'identity', count: 1 },
  ...fields,
})
const accepted = (fields: object) => auditEvent.safeParse(event(fields)).success

describe('an audit event', () => {
  it('is of a closed schema: nothing may be added to a body', () => {
    expect(accepted({})).toBe(true)
    expect(accepted({ body: { keyKind: 'identity', count: 1, amount: '100.00' } })).toBe(false)
    expect(accepted({ body: { keyKind: 'identity' } })).toBe(false)
    expect(accepted({ note: 'x' })).toBe(false)
    expect(accepted({ type: 'SomethingElse' })).toBe(false)
  })

  it('belongs to the stream of its type', () => {
    const body = { peer: FLEET, messageId: ID, kind: 'invoice', commitment: 'a'.repeat(64) }
    for (const type of SHARING_EVENT_TYPES) {
      expect(accepted({ type, body, stream: 'sharing' })).toBe(true)
      expect(accepted({ type, body, stream: 'security' })).toBe(false)
    }
    expect(accepted({ stream: 'sharing' })).toBe(false)
  })

  it('says in its error which field is wrong, not its value', () => {
    const result = auditEvent.safeParse(event({ body: { keyKind: 'hunter2', count: 1 } }))
    expect(JSON.stringify(result.error?.issues)).toContain('keyKind')
    expect(JSON.stringify(result.error?.issues)).not.toContain('hunter2')
  })
})

it('every type has a body that refuses additions, amounts and names included', () => {
  for (const type of AUDIT_EVENT_TYPES) {
    const result = AUDIT_EVENT_BODIES[type].safeParse({ amount: '1.00', name: 'Somebody', iban: 'XX' })
    expect(result.success, type).toBe(false)
    expect(
      result.error?.issues.some((issue) => issue.code === 'unrecognized_keys'),
      type,
    ).toBe(true)
  }
})
