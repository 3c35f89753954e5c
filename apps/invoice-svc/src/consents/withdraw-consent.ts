/** Withdraw: from this commit on nothing more is shared under it. What was shared before stays shared. */
import { newAuditEvent, recordAuditEvents } from '@tallystick/audit-outbox/outbox'
import { clientActor, now, type App } from '../app.js'
import { newId } from '../ids.js'
import { found } from '../refused.js'
import { consentById } from './consent.store.js'

/** Withdrawing twice is withdrawing once. @throws Refused NotFound */
export async function withdrawConsent(app: App, client: string, id: string): Promise<void> {
  await app.db.$transaction(async (tx) => {
    const row = found(await consentById(tx, id), 'consent')
    const changed = await tx.$executeRaw`UPDATE consent SET withdrawn_at = ${now(app)} WHERE id = ${id}::uuid AND withdrawn_at IS NULL`
    if (changed === 0) return
    await recordAuditEvents(tx, [
      newAuditEvent({
        type: 'ConsentWithdrawn',
        actor: clientActor(client),
        at: app.clock.now(),
        id: newId(),
        body: { consentId: id, peer: row.peer, purpose: row.purpose as 'share' | 'log' },
      }),
    ])
  })
  app.wake.audit()
}
