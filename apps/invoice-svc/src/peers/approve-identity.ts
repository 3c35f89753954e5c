/**
 * A peer has new identity keys and session-svc holds its new certificate back. A person compares the fingerprint with
 * the peer's people; the right one makes the new identity the peer's, and what waited goes on.
 * @see docs/spec/identity.md §3
 */
import { newAuditEvent, recordAuditEvents } from '@tallystick/audit-outbox/outbox'
import { sessionPeer, sessionSetPeerTrust } from '@tallystick/contracts/session'
import { readCertificate } from '@tallystick/wire/certificate'
import { clientActor, now, type App } from '../app.js'
import { recordChange } from '../events/change.store.js'
import { newId } from '../ids.js'
import { conflict, found, Refused, refusedBy } from '../refused.js'
import { askOrAway, changeOf, fromCertificate, keepPeerKeys } from './peer-keys.js'
import { lockPeer, messagesMayGo, peerById } from './peer.store.js'

/**
 * @param given the fingerprint as a person typed it; undefined: none was given
 * @returns false when no identity waits for approval
 * @throws Refused IdentityChanged (one waits and no fingerprint was given), Conflict (another fingerprint), NotFound
 */
export async function approveIdentity(app: App, client: string, fleetId: string, given: string | undefined): Promise<boolean> {
  const row = found(await peerById(app.db, fleetId), 'peer')
  const keys = await askOrAway(app, fleetId)
  if (keys !== 'away' && keys.ok) await keepPeerKeys(app, keys)
  const pending = keys === 'away' ? row.pendingFingerprint : keys.ok ? keys.pendingFingerprint : null
  if (pending === null) return false
  if (row.state !== 'active') throw conflict(`This peer is ${row.state}; its new identity can be approved once it is in use.`)
  if (given === undefined)
    throw new Refused(
      'IdentityChanged',
      'This peer has a new identity. Compare pendingFingerprint with what its people read to you, and give what they read.',
    )
  if (digits(given) !== digits(pending))
    throw conflict(
      digits(given) === digits(row.fingerprint)
        ? 'That is the fingerprint of the old identity. The new one has to be compared.'
        : 'The fingerprint does not match that of the new identity: do not approve it before it has been compared.',
    )
  const answer = await app.rpc.call(sessionSetPeerTrust, { fleetId, trust: 'verified', fingerprint: pending })
  if (!answer.ok) throw refusedBy(answer)
  const adopted = await app.rpc.call(sessionPeer, { fleetId })
  if (!adopted.ok) throw refusedBy(adopted)
  const certificate = readCertificate(adopted.certificate, app.clock.now())
  await app.db.$transaction(async (tx) => {
    const present = found(await lockPeer(tx, fleetId), 'peer')
    const { keyState, pendingFingerprint } = adopted
    await tx.peer.update({
      where: { fleetId },
      data: {
        ...(BigInt(certificate.sequence) > present.sequence ? fromCertificate(certificate, adopted.certificate, present) : {}),
        keyState,
        pendingFingerprint,
        verified: true,
        version: { increment: 1 },
        nextSyncAt: now(app),
        cause: null,
        updatedAt: now(app),
      },
    })
    await messagesMayGo(tx, fleetId, now(app))
    await recordChange(tx, now(app), { topic: 'peer', subject: fleetId, data: changeOf(present, adopted) })
    await recordAuditEvents(tx, [
      newAuditEvent({
        type: 'AdminAction',
        actor: clientActor(client),
        at: app.clock.now(),
        id: newId(),
        body: { action: 'peer-identity-approved', subject: fleetId },
      }),
    ])
  })
  app.wake.audit()
  return true
}

/** A fingerprint is compared by its digits: people read it with spaces, dashes or line breaks. */
export function digits(text: string): string {
  return text.replaceAll(/[^0-9]/g, '')
}
