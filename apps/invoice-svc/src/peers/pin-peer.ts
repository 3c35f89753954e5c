/**
 * Pin a peer by its invitation. Order: the invitation is verified here, the row is written as `pending`, then
 * session-svc pins the certificate and relay-svc opens its allow-list. What fails on the way is done again by the
 * background step; a refusal by session-svc ends it.
 */
import { newAuditEvent, recordAuditEvents } from '@tallystick/audit-outbox/outbox'
import { sessionPinPeer } from '@tallystick/contracts/session'
import { decodeInvitation, type Invitation } from '@tallystick/wire/invitation'
import type { ReadCertificate } from '@tallystick/wire/certificate'
import { clientActor, now, type App, type Tx } from '../app.js'
import { recordChange } from '../events/change.store.js'
import { newId } from '../ids.js'
import { conflict, found, Refused, refusedBy } from '../refused.js'
import { fromCertificate } from './peer-keys.js'
import { lockPeer, peerById, type PeerRow } from './peer.store.js'
import { syncPeer } from './sync-peer.js'

/** @throws ProtocolError of decodeInvitation; Refused IdentityChanged, Conflict; RpcFault only for a peer that was active before */
export async function pinPeer(app: App, client: string, invitationText: string): Promise<PeerRow> {
  const { fleet, ...invitation } = decodeInvitation(invitationText, app.clock.now())
  if ((await ownFleetId(app)) === fleet.fleetId) throw conflict('This is the invitation of this fleet itself.')
  const known = await peerById(app.db, fleet.fleetId)
  // A peer in use keeps its pinned certificate until session-svc has accepted the new one.
  if (known !== null && known.state !== 'pending' && known.state !== 'removed') {
    const answer = await app.rpc.call(sessionPinPeer, { certificate: invitation.certificate })
    if (!answer.ok) throw refusedBy(answer)
  }
  await app.db.$transaction(async (tx) => {
    await writePeer(app, tx, fleet, invitation)
    await recordAuditEvents(tx, [
      newAuditEvent({
        type: 'AdminAction',
        actor: clientActor(client),
        at: app.clock.now(),
        id: newId(),
        body: { action: 'peer-pinned', subject: fleet.fleetId },
      }),
    ])
    await recordChange(tx, now(app), { topic: 'peer', subject: fleet.fleetId, data: { id: fleet.fleetId, state: 'pending' } })
  })
  app.wake.audit()
  const refusal = await syncPeer(app, fleet.fleetId)
  if (refusal !== undefined) throw refusedBy(refusal)
  return found(await peerById(app.db, fleet.fleetId), 'peer')
}

async function ownFleetId(app: App): Promise<string | undefined> {
  try {
    return (await app.fleet.known()).fleetId
  } catch (error) {
    // Unknown while session-svc is away; it refuses its own certificate itself.
    app.log.debug({ err: error }, 'own fleet id not known yet')
    return undefined
  }
}

async function writePeer(app: App, tx: Tx, fleet: ReadCertificate, invitation: Invitation): Promise<void> {
  const at = now(app)
  const fields = {
    multiaddrs: invitation.multiaddrs,
    nextSyncAt: at,
    syncAttempts: 0,
    cause: null,
    updatedAt: at,
  }
  const known = await lockPeer(tx, fleet.fleetId)
  const certified = fromCertificate(fleet, invitation.certificate, known)
  if (known === null) {
    await tx.peer.create({ data: { fleetId: fleet.fleetId, state: 'pending', pinnedAt: at, ...certified, ...fields } })
    return
  }
  if (BigInt(fleet.sequence) < known.sequence)
    throw new Refused('IdentityChanged', 'This invitation holds an older certificate than the pinned one.')
  await tx.peer.update({
    where: { fleetId: fleet.fleetId },
    data: {
      ...certified,
      ...fields,
      state: 'pending',
      ...(known.state === 'removed' ? { verified: false } : {}),
      version: { increment: 1 },
    },
  })
}
