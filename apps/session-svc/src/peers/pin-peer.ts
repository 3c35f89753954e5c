/**
 * Pinning: the first certificate of a fleet is taken on the word of whoever brought the invitation; every later one
 * must come from the same root key with a higher sequence. Anything else stops here until a person decides.
 * @see docs/spec/identity.md §3, §5
 */
import type { ResponseOf } from '@tallystick/contracts/call'
import type { Refusal } from '@tallystick/contracts/codes'
import type { sessionPinPeer } from '@tallystick/contracts/session'
import { equalConstantTime } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { fingerprint, type ReadCertificate, readCertificate, succeeds } from '@tallystick/wire/certificate'
import type { Context } from '../context.js'
import type { Tx } from '../db.js'
import { SUITES } from '../identity/certificates.js'
import { startOverWith } from '../identity/start-over.js'
import { plainBytes } from '../plain-bytes.js'
import { recordLimited } from '../recovery/audit-limit.js'
import { refuse } from '../refuse.js'
import { claimantOf, lockPeer, lockPinning, type LockedPeer, mayTalk, pendingCertificate, savePeer, savePending } from './peers.store.js'

export async function pinPeer(context: Context, ownFleetId: string, bytes: Uint8Array): Promise<ResponseOf<typeof sessionPinPeer>> {
  const certificate = readOffered(context, bytes)
  if ('code' in certificate) return certificate
  if (certificate.fleetId === ownFleetId) return refuse('InvalidRequest', 'this is the fleet itself')
  const refusal = await context.db.$transaction(async (tx) => {
    await lockPinning(tx)
    return adoptCertificate(context, tx, certificate, bytes, await lockPeer(tx, certificate.fleetId), 'admin')
  })
  context.audit.committed()
  if (refusal) return refusal
  const { fleetId, displayName, peerIds, signKey, digest, sequence } = certificate
  return { ok: true, fleetId, displayName, peerIds, fingerprint: fingerprint(signKey), certificateDigest: plainBytes(digest), sequence }
}

/** @returns the certificate, or a refusal with the reader's code */
export function readOffered(context: Context, bytes: Uint8Array): ReadCertificate | Refusal {
  try {
    return readCertificate(bytes, context.clock.now())
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error
    if (error.code === 'InvalidSignature') context.metrics.signatureFailures.inc()
    return refuse(error.code, error.message)
  }
}

/** `admin` may pin for the first time and bring a removed peer back; `peer` may only update. */
export type Source = 'admin' | 'peer'
export type Adoption = 'known' | 'adopted' | 'pending' | Refusal

/**
 * {@link judgeCertificate} for callers that can go on only with the pinned certificate.
 * @returns a refusal (IdentityChanged, Conflict, SuiteBelowPolicy, UnauthorizedPeer), or undefined when the certificate
 *   is now the pinned one
 */
export async function adoptCertificate(
  context: Context,
  tx: Tx,
  certificate: ReadCertificate,
  bytes: Uint8Array,
  pinned: LockedPeer | undefined,
  source: Source,
): Promise<Refusal | undefined> {
  const adoption = await judgeCertificate(context, tx, certificate, bytes, pinned, source)
  if (adoption === 'pending') return refuse('IdentityChanged', 'the peer has a new identity, which waits for the approval of a person')
  return typeof adoption === 'string' ? undefined : adoption
}

/**
 * The one rule by which a certificate replaces a pinned one, wherever it comes from.
 * @param pinned locked in this transaction; for `admin` under the lock of pinning
 * @returns `known`: it is the pinned one. `pending`: a new identity, kept until a person approves it
 */
export async function judgeCertificate(
  context: Context,
  tx: Tx,
  certificate: ReadCertificate,
  bytes: Uint8Array,
  pinned: LockedPeer | undefined,
  source: Source,
): Promise<Adoption> {
  const { audit, clock } = context
  const { fleetId, sequence } = certificate
  const same = pinned !== undefined && equalConstantTime(pinned.certificateDigest, certificate.digest)
  const returning = pinned?.trust === 'removed' && source === 'admin'
  // Removed or blocked while its certificate was being fetched: only a person brings a peer back.
  if (source === 'peer' && !mayTalk(pinned)) return refuse('UnauthorizedPeer', 'the peer is not pinned, or blocked')
  const waiting = pinned?.pendingDigest ?? null
  // The pinned one is shown again while a new identity waits: that changes nothing.
  if (same && !returning) return waiting === null ? 'known' : 'pending'
  if (waiting !== null && equalConstantTime(waiting, certificate.digest) && !returning) return 'pending'
  if (!certificate.suites.some((suite) => SUITES.includes(suite))) {
    const text = `the peer speaks ${certificate.suites.join(', ')}, this fleet ${SUITES.join(', ')}`
    if (source === 'peer') await reject(context, tx, fleetId, 'SuiteBelowPolicy')
    return refuse('SuiteBelowPolicy', text)
  }
  const successor = pinned !== undefined && !equalConstantTime(pinned.signKey, certificate.signKey)
  if (pinned !== undefined && !same) {
    const follows = sequence > pinned.sequence && (!successor || succeeds(certificate, pinned.signKey))
    // Once a new identity waits, the pinned key may be in the hands of whoever made it necessary.
    if (!follows || (waiting !== null && !successor && !returning)) {
      if (source === 'peer') await reject(context, tx, fleetId, 'IdentityChanged')
      await recordLimited(context, tx, fleetId, 'IdentityChanged', { peer: fleetId, sequence })
      return refuse('IdentityChanged', `certificate number ${sequence} of this fleet does not follow the pinned number ${pinned.sequence}`)
    }
  }
  const now = new Date(clock.now())
  if (successor && !returning) {
    if (waiting !== null && (await pendingFollows(context, tx, certificate))) return 'pending'
    await savePending(tx, certificate, bytes, now)
    await reject(context, tx, fleetId, 'IdentityChanged')
    return 'pending'
  }
  const claimant = await claimantOf(tx, certificate.peerIds, fleetId)
  if (claimant !== undefined) return refuse('Conflict', `another pinned fleet already uses one of these PeerIds: ${claimant}`)
  // A renewed certificate keeps what people decided about the fleet; its fingerprint is that of the root key, which stays.
  const trust = pinned === undefined || pinned.trust === 'removed' ? 'pinned' : pinned.trust
  await savePeer(tx, certificate, bytes, trust, now)
  if (successor) await startOverWith(context, tx, fleetId, 'the peer was pinned again with new identity keys')
  if (pinned === undefined || pinned.trust === 'removed') await audit.record(tx, 'AdminAction', { action: 'peer-pinned', subject: fleetId })
  else await audit.record(tx, 'IdentityChanged', { peer: fleetId, sequence })
  return 'adopted'
}

/** The peer has renewed twice, and an earlier one of the two comes late: the later one is what a person compares. */
async function pendingFollows(context: Context, tx: Tx, certificate: ReadCertificate): Promise<boolean> {
  const bytes = await pendingCertificate(tx, certificate.fleetId)
  const pending = bytes && readOffered(context, bytes)
  if (pending === undefined || 'code' in pending || pending.sequence < certificate.sequence) return false
  return equalConstantTime(pending.signKey, certificate.signKey) || succeeds(pending, certificate.signKey)
}

/** What a peer shows as often as it likes is not written as often. */
async function reject(context: Context, tx: Tx, peer: string, code: 'IdentityChanged' | 'SuiteBelowPolicy'): Promise<void> {
  await recordLimited(context, tx, peer, 'VerificationFailed', { peer, what: 'certificate', code })
}
