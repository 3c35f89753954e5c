/**
 * `session.v1.setPeerTrust`: what a person has decided about a pinned fleet, and about a new identity of it.
 * @see docs/spec/identity.md §3, §5
 */
import type { RequestOf, ResponseOf } from '@tallystick/contracts/call'
import type { sessionSetPeerTrust } from '@tallystick/contracts/session'
import { fingerprint } from '@tallystick/wire/certificate'
import type { Context } from '../context.js'
import type { Tx } from '../db.js'
import { startOverWith } from '../identity/start-over.js'
import { refuse } from '../refuse.js'
import { readOffered } from './pin-peer.js'
import { claimantOf, type LockedPeer, lockPeer, pendingCertificate, savePeer, setTrust } from './peers.store.js'

type Request = RequestOf<typeof sessionSetPeerTrust>
type Answer = ResponseOf<typeof sessionSetPeerTrust>

const TRUST_ACTION = { pinned: 'peer-pinned', verified: 'peer-verified', blocked: 'peer-blocked', removed: 'peer-removed' } as const

/**
 * @returns NotFound; Conflict for a removed peer, or when the fingerprint is not that of the identity in question;
 *   IdentityChanged when a new identity waits and no fingerprint is given
 */
export async function setPeerTrust(context: Context, request: Request): Promise<Answer> {
  const response = await context.db.$transaction(async (tx) => decide(context, tx, request))
  context.audit.committed()
  return response
}

async function decide(context: Context, tx: Tx, { fleetId, trust, fingerprint: compared }: Request): Promise<Answer> {
  const peer = await lockPeer(tx, fleetId)
  if (!peer) return refuse('NotFound', 'no such peer')
  if (trust === 'verified') {
    if (peer.trust === 'removed') return removed()
    if (peer.pendingDigest !== null) return approve(context, tx, peer, compared)
    if (compared !== undefined && !sameFingerprint(compared, peer.signKey))
      return refuse('Conflict', 'this is not the fingerprint of the pinned identity')
  }
  if (peer.trust === trust) return { ok: true }
  if (peer.trust === 'removed') return removed()
  await setTrust(tx, fleetId, trust, new Date(context.clock.now()))
  await context.audit.record(tx, 'AdminAction', { action: TRUST_ACTION[trust], subject: fleetId })
  return { ok: true }
}

/** A person has compared the fingerprint of the new identity: it takes the place of the pinned one, and nothing goes on. */
async function approve(context: Context, tx: Tx, peer: LockedPeer, compared: string | undefined): Promise<Answer> {
  const { audit, clock } = context
  const { fleetId } = peer
  if (compared === undefined) return refuse('IdentityChanged', 'a new identity of this peer waits: give the fingerprint that was compared')
  const bytes = (await pendingCertificate(tx, fleetId))!
  const certificate = readOffered(context, bytes)
  if ('code' in certificate) return certificate
  if (!sameFingerprint(compared, certificate.signKey))
    return refuse('Conflict', 'this is not the fingerprint of the new identity that this peer has shown')
  const claimant = await claimantOf(tx, certificate.peerIds, fleetId)
  if (claimant !== undefined) return refuse('Conflict', `another pinned fleet already uses one of these PeerIds: ${claimant}`)
  await savePeer(tx, certificate, bytes, 'verified', new Date(clock.now()))
  await startOverWith(context, tx, fleetId, 'the peer has new identity keys')
  await audit.record(tx, 'AdminAction', { action: 'peer-identity-approved', subject: fleetId })
  await audit.record(tx, 'IdentityChanged', { peer: fleetId, sequence: certificate.sequence })
  return { ok: true }
}

function removed(): Answer {
  return refuse('Conflict', 'a removed peer has to be pinned again by its certificate')
}

/** People group the digits as they like. */
function sameFingerprint(compared: string, signKey: Uint8Array): boolean {
  const digits = (text: string) => text.replaceAll(/[\s-]/g, '')
  return digits(compared) === digits(fingerprint(signKey))
}
