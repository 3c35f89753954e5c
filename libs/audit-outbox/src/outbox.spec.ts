import { auditEvent } from '@tallystick/contracts/audit-events'
import { describe, expect, it } from 'vitest'
import { newAuditEvent, recordAuditEvents } from './outbox.js'

const ID = '01890a5d-ac96-774b-bcce-b302099a8057'
const FLEET = `tsf1${'a'.repeat(52)}`

describe('newAuditEvent', () => {
  it('puts an event into the stream of its type', () => {
    expect(newAuditEvent({ type: 'KeyStored', actor: 'session-svc', body: { keyKind: 'identity', count: 1 }, at: 5, id: ID })).toEqual({
      eventId: ID,
      stream: 'security',
      type: 'KeyStored',
      at: 5,
      actor: 'session-svc',
      body: { keyKind: 'identity', count: 1 },
    })
    const sent = newAuditEvent({
      type: 'MessageSent',
      actor: 'invoice-svc',
      body: { peer: FLEET, messageId: ID, kind: 'invoice', commitment: 'a'.repeat(64) },
      at: 5,
      id: ID,
    })
    expect(sent.stream).toBe('sharing')
    expect(auditEvent.safeParse(sent).success).toBe(true)
  })

  it('refuses what the closed schema does not have, naming fields and no values', () => {
    const bad = () =>
      newAuditEvent({
        type: 'KeyStored',
        actor: 'session-svc',
        body: { keyKind: 'identity', count: 1, amount: '99.50' } as never,
        at: 5,
        id: ID,
      })
    expect(bad).toThrow(/KeyStored/)
    expect(bad).not.toThrow(/99\.50/)
    expect(() =>
      newAuditEvent({ type: 'KeyStored', actor: 'session-svc', body: { keyKind: 'identity', count: 1 }, at: 5, id: 'not-a-uuid' }),
    ).toThrow(/eventId/)
    expect(() =>
      newAuditEvent({ type: 'KeyStored', actor: 'session-svc', body: { keyKind: 'identity', count: 1 }, at: 5.5, id: ID }),
    ).toThrow(/at /)
  })
})

it('recordAuditEvents asks nothing of the database for no events, and refuses an invalid one before asking', async () => {
  let asked = 0
  const tx = { $executeRaw: async () => ++asked }
  await recordAuditEvents(tx, [])
  await expect(
    recordAuditEvents(tx, [
      { eventId: ID, stream: 'sharing', type: 'KeyStored', at: 1, actor: 'x', body: { keyKind: 'identity', count: 1 } },
    ]),
  ).rejects.toThrow(/stream/)
  expect(asked).toBe(0)
})
