/**
 * Pinning: the first certificate of a fleet is taken on the word of whoever brought the invitation; every later one
 * must come from the same root key with a higher sequence. Anything else stops here until a person decides.
 * @see docs/spec/identity.md §3
 */
import type { RequestOf, ResponseOf } from '@tallystick/contracts/call'
import type { Refusal } from '@tallystick/contracts/codes'
import type { sessionPinPeer, sessionSetPeerTrust } from '@tallystick/contracts/session'
import { equalConstantTime } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { fingerprint, type ReadCertificate, readCertificate } from '@tallystick/wire/certificate'
import type { Context } from '../context.js'
import type { Tx } from '../db.js'
import { SUITES } from '../identity/certificates.js'
import { plainBytes } from '../plain-bytes.js'
import { refuse } from '../refuse.js'
import { claimantOf, lockPeer, mayTalk, type Peer, savePeer, setTrust } from './peers.store.js'

export async function pinPeer(context: Context, ownFleetId: string, bytes: Uint8Array): Promise<ResponseOf<typeof sessionPinPeer>> {
  let certificate: ReadCertificate
  try {
    certificate = readCertificate(bytes, context.clock.now())
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error
    if (error.code === 'InvalidSignature') context.metrics.signatureFailures.inc()
    return refuse(error.code, error.message)
  }
  if (certificate.fleetId === ownFleetId) return refuse('InvalidRequest', 'this is the fleet itself')
  if (!certificate.suites.some((suite) => SUITES.includes(suite)))
    return refuse('SuiteBelowPolicy', `the peer speaks ${certificate.suites.join(', ')}, this fleet ${SUITES.join(', ')}`)
  const refusal = await context.db.$transaction(async (tx) => {
    // The lock on the row does not help while there is no row: first pins of one peer queue up here.
    await tx.$executeRaw`SELECT pg_advisory_xact_lock(hashtextextended('tallystick/session/pin', 0))`
    return adoptCertificate(context, tx, certificate, bytes, await lockPeer(tx, certificate.fleetId), 'admin')
  })
  context.audit.committed()
  if (refusal) return refusal
  const { fleetId, displayName, peerIds, signKey, digest, sequence } = certificate
  return { ok: true, fleetId, displayName, peerIds, fingerprint: fingerprint(signKey), certificateDigest: plainBytes(digest), sequence }
}

/**
 * The one rule by which a certificate replaces a pinned one. Also used for certificates that arrive in bundles.
 * @param source `admin` may pin for the first time and bring a removed peer back; `peer` may only update
 * @returns a refusal (IdentityChanged, Conflict), or undefined when the certificate is now the pinned one
 */
export async function adoptCertificate(
  context: Context,
  tx: Tx,
  certificate: ReadCertificate,
  bytes: Uint8Array,
  pinned: Peer | undefined,
  source: 'admin' | 'peer',
): Promise<Refusal | undefined> {
  const { audit, clock } = context
  const { fleetId, sequence } = certificate
  const same = pinned !== undefined && equalConstantTime(pinned.certificateDigest, certificate.digest)
  if (same && (pinned.trust !== 'removed' || source === 'peer')) return undefined
  // Removed or blocked while its certificate was being fetched: only a person brings a peer back.
  if (source === 'peer' && !mayTalk(pinned)) return refuse('UnauthorizedPeer', 'the peer is not pinned, or blocked')
  if (pinned !== undefined && !same && (sequence <= pinned.sequence || !equalConstantTime(pinned.signKey, certificate.signKey))) {
    await audit.record(tx, 'IdentityChanged', { peer: fleetId, sequence })
    return refuse('IdentityChanged', `certificate number ${sequence} of this fleet does not follow the pinned number ${pinned.sequence}`)
  }
  const claimant = await claimantOf(tx, certificate.peerIds, fleetId)
  if (claimant !== undefined) return refuse('Conflict', `another pinned fleet already uses one of these PeerIds: ${claimant}`)
  // A new certificate keeps what people decided about the fleet; its fingerprint is that of the root key, which stays.
  const trust = pinned === undefined || pinned.trust === 'removed' ? 'pinned' : pinned.trust
  await savePeer(tx, certificate, bytes, trust, new Date(clock.now()))
  if (pinned === undefined || pinned.trust === 'removed') await audit.record(tx, 'AdminAction', { action: 'peer-pinned', subject: fleetId })
  else await audit.record(tx, 'IdentityChanged', { peer: fleetId, sequence })
  return undefined
}

const TRUST_ACTION = { pinned: 'peer-pinned', verified: 'peer-verified', blocked: 'peer-blocked', removed: 'peer-removed' } as const

export async function setPeerTrust(
  context: Context,
  request: RequestOf<typeof sessionSetPeerTrust>,
): Promise<ResponseOf<typeof sessionSetPeerTrust>> {
  const { fleetId, trust } = request
  const response = await context.db.$transaction(async (tx) => {
    const peer = await lockPeer(tx, fleetId)
    if (!peer) return refuse('NotFound', 'no such peer')
    if (peer.trust === trust) return { ok: true as const }
    if (peer.trust === 'removed') return refuse('Conflict', 'a removed peer has to be pinned again by its certificate')
    await setTrust(tx, fleetId, trust, new Date(context.clock.now()))
    await context.audit.record(tx, 'AdminAction', { action: TRUST_ACTION[trust], subject: fleetId })
    return { ok: true as const }
  })
  context.audit.committed()
  return response
}
