/**
 * `session.v1.offerCertificate`: a peer's relay has shown its fleet's certificate. Renewals spread this way without a
 * message being sent, and a new identity becomes known to people.
 * @see docs/spec/identity.md §3, §5
 */
import type { ResponseOf } from '@tallystick/contracts/call'
import type { sessionOfferCertificate } from '@tallystick/contracts/session'
import type { Context } from '../context.js'
import { refuse } from '../refuse.js'
import { judgeCertificate, readOffered } from './pin-peer.js'
import { lockPeer, mayTalk, peerCertificate } from './peers.store.js'

/**
 * @param fleetId whose connection it came on
 * @param bytes at most 4096
 * @returns `pending` as long as a new identity waits for a person, whichever certificate was shown
 */
export async function offerCertificate(
  context: Context,
  fleetId: string,
  bytes: Uint8Array,
): Promise<ResponseOf<typeof sessionOfferCertificate>> {
  const certificate = readOffered(context, bytes)
  if ('code' in certificate) return certificate
  if (certificate.fleetId !== fleetId) return refuse('UnauthorizedPeer', 'this is the certificate of another fleet')
  const adoption = await context.db.$transaction(async (tx) => {
    const pinned = await lockPeer(tx, fleetId)
    // An earlier one of the same identity: a relay that has not heard of the newest yet.
    if (pinned && mayTalk(pinned) && pinned.pendingDigest === null && (await peerCertificate(tx, fleetId, certificate.digest)))
      return 'known'
    return judgeCertificate(context, tx, certificate, bytes, pinned, 'peer')
  })
  context.audit.committed()
  return typeof adoption === 'string' ? { ok: true, outcome: adoption } : adoption
}
