/**
 * What a person asks of the session with a peer. session-svc has no way out of its own: the message that carries the
 * new epoch is queued here, and the step that does so is woken.
 */
import { newAuditEvent, recordAuditEvents } from '@tallystick/audit-outbox/outbox'
import type { AuditEventBody } from '@tallystick/contracts/audit-events'
import { sessionResync, sessionRotate, sessionSetPeerPolicy } from '@tallystick/contracts/session'
import { clientActor, type App } from '../app.js'
import { newId } from '../ids.js'
import { conflict, refusedBy } from '../refused.js'
import { visiblePeer, type PeerRow } from './peer.store.js'

/** The next message to the peer begins a new epoch. @throws Refused NotFound, Conflict; RpcFault when session-svc is away */
export async function rotateSession(app: App, client: string, fleetId: string): Promise<PeerRow> {
  const row = await peerInUse(app, fleetId)
  const answer = await app.rpc.call(sessionRotate, { fleetId })
  if (!answer.ok) throw refusedBy(answer)
  await recordAction(app, client, 'session-rotated', fleetId)
  app.wake.attention()
  return row
}

/**
 * A session that continues nothing, begun here at once or accepted from the peer within the hour.
 * @throws Refused NotFound, Conflict, IdentityChanged; RpcFault when session-svc is away
 */
export async function resyncSession(app: App, client: string, fleetId: string): Promise<PeerRow> {
  const row = await peerInUse(app, fleetId)
  const answer = await app.rpc.call(sessionResync, { fleetId })
  if (!answer.ok) throw refusedBy(answer)
  await recordAction(app, client, 'session-resynced', fleetId)
  app.wake.attention()
  return row
}

/** @param rotateEvery documents per epoch, 1 to 100; null: the fleet's limit */
export async function setRotateEvery(app: App, client: string, fleetId: string, rotateEvery: number | null): Promise<PeerRow> {
  const row = await peerInUse(app, fleetId)
  const answer = await app.rpc.call(sessionSetPeerPolicy, { fleetId, rotateEvery })
  if (!answer.ok) throw refusedBy(answer)
  await recordAction(app, client, 'peer-policy-set', fleetId)
  return row
}

/** Who asked, beside what session-svc writes about what came of it. */
export async function recordAction(
  app: App,
  client: string,
  action: AuditEventBody<'AdminAction'>['action'],
  subject: string,
): Promise<void> {
  await app.db.$transaction(async (tx) => {
    await recordAuditEvents(tx, [
      newAuditEvent({ type: 'AdminAction', actor: clientActor(client), at: app.clock.now(), id: newId(), body: { action, subject } }),
    ])
  })
  app.wake.audit()
}

async function peerInUse(app: App, fleetId: string): Promise<PeerRow> {
  const row = await visiblePeer(app.db, fleetId)
  if (row.state !== 'active') throw conflict(`This peer is ${row.state}: there is no session with it to change.`)
  return row
}
