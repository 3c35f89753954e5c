/** Grant: the row and its audit event in one transaction. Granting is itself a security event. */
import { newAuditEvent, recordAuditEvents } from '@tallystick/audit-outbox/outbox'
import { checkConsent } from '@tallystick/invoice-domain/consent'
import { clientActor, now, type App } from '../app.js'
import type { Operation } from '../http/operation.js'
import { newId } from '../ids.js'
import { visiblePeer } from '../peers/peer.store.js'
import { consentView, type ConsentView } from './consent-view.js'

export interface ConsentInput {
  readonly peerId: string
  readonly purpose: string
  readonly kinds: string[]
  readonly expiresAt?: string | undefined
}

/** @throws DomainError InvalidRequest; Refused NotFound for an unknown peer */
export async function grantConsent(app: App, client: string, input: ConsentInput, operation: Operation): Promise<ConsentView> {
  const at = now(app)
  const { peerId, ...rest } = input
  const { purpose, kinds, expiresAt } = checkConsent(rest, at.getTime())
  const view = await app.db.$transaction(async (tx) => {
    await visiblePeer(tx, peerId)
    const row = await tx.consent.create({
      data: {
        id: newId(),
        peer: peerId,
        purpose,
        kinds,
        grantedBy: client,
        grantedAt: at,
        expiresAt: expiresAt === undefined ? null : new Date(expiresAt),
        withdrawnAt: null,
      },
    })
    await recordAuditEvents(tx, [
      newAuditEvent({
        type: 'ConsentGranted',
        actor: clientActor(client),
        at: at.getTime(),
        id: newId(),
        body: { consentId: row.id, peer: peerId, purpose, kinds },
      }),
    ])
    const answer = consentView(row, at)
    await operation.finish(tx, 201, answer)
    return answer
  })
  app.wake.audit()
  return view
}
