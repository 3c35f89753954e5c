/** Verify, block, remove: one change of a peer's row, then both services are told. */
import { newAuditEvent, recordAuditEvents } from '@tallystick/audit-outbox/outbox'
import { clientActor, now, type App } from '../app.js'
import { recordChange } from '../events/change.store.js'
import { newId } from '../ids.js'
import { conflict, found } from '../refused.js'
import { approveIdentity, digits } from './approve-identity.js'
import { lockPeer, peerById, type PeerRow } from './peer.store.js'
import { syncPeer } from './sync-peer.js'

type Change =
  { readonly action: 'peer-verified'; readonly fingerprint: string | undefined } | { readonly action: 'peer-blocked' | 'peer-removed' }

export async function changePeer(app: App, client: string, fleetId: string, change: Change): Promise<PeerRow> {
  if (change.action === 'peer-verified' && (await approveIdentity(app, client, fleetId, change.fingerprint)))
    return await told(app, fleetId)
  await app.db.$transaction(async (tx) => {
    const row = found(await lockPeer(tx, fleetId), 'peer')
    if (row.state === 'removed') {
      if (change.action === 'peer-removed') return
      throw conflict('This peer was removed; pin it again first.')
    }
    if (change.action === 'peer-verified') {
      if (row.state === 'blocked') throw conflict('This peer is blocked; pin it again first.')
      if (change.fingerprint !== undefined && digits(change.fingerprint) !== digits(row.fingerprint)) {
        throw conflict('The fingerprint does not match: do not trust this peer before its certificate has been compared.')
      }
      await tx.peer.update({
        where: { fleetId },
        data: { verified: true, version: { increment: 1 }, nextSyncAt: now(app), updatedAt: now(app) },
      })
    } else {
      const state = change.action === 'peer-blocked' ? 'blocked' : 'removed'
      await tx.peer.update({
        where: { fleetId },
        data: { state, version: { increment: 1 }, nextSyncAt: now(app), cause: null, updatedAt: now(app) },
      })
      await recordChange(tx, now(app), { topic: 'peer', subject: fleetId, data: { id: fleetId, state } })
    }
    await recordAuditEvents(tx, [
      newAuditEvent({
        type: 'AdminAction',
        actor: clientActor(client),
        at: app.clock.now(),
        id: newId(),
        body: { action: change.action, subject: fleetId },
      }),
    ])
  })
  app.wake.audit()
  return await told(app, fleetId)
}

async function told(app: App, fleetId: string): Promise<PeerRow> {
  await syncPeer(app, fleetId)
  app.wake.messages()
  return found(await peerById(app.db, fleetId), 'peer')
}
