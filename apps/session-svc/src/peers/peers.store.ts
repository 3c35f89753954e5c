/** Pinned peers. The row of a peer is also the lock that gives every session with it one writer. */
import type { ReadCertificate } from '@tallystick/wire/certificate'
import type { Tx } from '../db.js'
import { FIRST_VERSION, presentVersion } from '../identity/identity-keys.js'
import { plainBytes } from '../plain-bytes.js'

export type Trust = 'pinned' | 'verified' | 'blocked' | 'removed'

export interface Peer {
  readonly fleetId: string
  readonly displayName: string
  /** IK_sign, 32 bytes. */
  readonly signKey: Uint8Array
  /** IK_dh, 32 bytes. */
  readonly dhKey: Uint8Array
  readonly certificate: Uint8Array
  readonly certificateDigest: Uint8Array
  readonly sequence: number
  readonly peerIds: string[]
  readonly trust: Trust
  /** Version of this fleet's own identity keys that is the present one. @see docs/spec/identity.md §5 */
  readonly ownIdentity: number
}

/** Under its lock, with the new identity that waits for a person. */
export interface LockedPeer extends Peer {
  /** SHA-256 of the certificate that is pending; null when there is none. */
  readonly pendingDigest: Uint8Array | null
}

/** Only these exchange messages. */
export function mayTalk(peer: Pick<Peer, 'trust'> | undefined): boolean {
  return peer?.trust === 'pinned' || peer?.trust === 'verified'
}

/**
 * Holds the peer until the transaction ends: whoever else seals, opens or pins for it waits here. Always the first
 * lock of a transaction, so that no two transactions wait for each other.
 */
export async function lockPeer(tx: Tx, fleetId: string): Promise<LockedPeer | undefined> {
  const rows = await tx.$queryRaw<LockedPeer[]>`
    SELECT fleet_id AS "fleetId", display_name AS "displayName", sign_key AS "signKey", dh_key AS "dhKey", certificate,
           certificate_digest AS "certificateDigest", sequence, peer_ids AS "peerIds", trust, own_identity AS "ownIdentity",
           pending_digest AS "pendingDigest"
      FROM session.peer WHERE fleet_id = ${fleetId} FOR UPDATE`
  return rows[0]
}

/** The lock on a row does not help while there is no row: whoever pins for the first time waits here, before it locks a peer. */
export async function lockPinning(tx: Tx): Promise<void> {
  await tx.$executeRaw`SELECT pg_advisory_xact_lock(hashtextextended('tallystick/session/pin', 0))`
}

/** Nobody seals, opens or pins until the transaction ends. */
export async function lockAllPeers(tx: Tx): Promise<void> {
  await lockPinning(tx)
  await tx.$executeRaw`SELECT 1 FROM session.peer ORDER BY fleet_id FOR UPDATE`
}

export async function findPeer(tx: Tx, fleetId: string): Promise<Peer | undefined> {
  const row = await tx.peer.findUnique({ where: { fleetId } })
  return row ? { ...row, trust: row.trust as Trust } : undefined
}

/**
 * A pinned fleet that already claims one of these PeerIds, other than `fleetId` itself. Two fleets that claim the same
 * one at once have locked different rows; the second waits here for the first. Comes after the lock of a peer.
 */
export async function claimantOf(tx: Tx, peerIds: string[], fleetId: string): Promise<string | undefined> {
  await tx.$executeRaw`SELECT pg_advisory_xact_lock(hashtextextended('tallystick/session/peer-ids', 0))`
  const row = await tx.peer.findFirst({
    where: { fleetId: { not: fleetId }, trust: { not: 'removed' }, peerIds: { hasSome: peerIds } },
    select: { fleetId: true },
  })
  return row?.fleetId
}

/** Inserts or replaces what the certificate says; trust is as given. Nothing is pending afterwards. */
export async function savePeer(tx: Tx, certificate: ReadCertificate, bytes: Uint8Array, trust: Trust, now: Date): Promise<void> {
  const said = {
    displayName: certificate.displayName,
    signKey: plainBytes(certificate.signKey),
    dhKey: plainBytes(certificate.dhKey),
    certificate: plainBytes(bytes),
    certificateDigest: plainBytes(certificate.digest),
    sequence: certificate.sequence,
    peerIds: certificate.peerIds,
    trust,
    updatedAt: now,
    pendingCertificate: null,
    pendingDigest: null,
    pendingAt: null,
  }
  const { fleetId, sequence } = certificate
  // Under the lock of pinning when there is no row: no renewal of the own identity comes between.
  const ownIdentity = (await presentVersion(tx)) ?? FIRST_VERSION
  await tx.peer.upsert({ where: { fleetId }, create: { fleetId, pinnedAt: now, ownIdentity, ...said }, update: said })
  const { signKey, certificateDigest: digest } = said
  const adopted = { digest, fleetId, sequence, signKey, certificate: said.certificate, adoptedAt: now }
  await tx.peerCertificate.createMany({ data: [adopted], skipDuplicates: true })
}

/** Keeps a certificate of another root key beside the pinned one, until a person decides. */
export async function savePending(tx: Tx, certificate: ReadCertificate, bytes: Uint8Array, now: Date): Promise<void> {
  await tx.peer.update({
    where: { fleetId: certificate.fleetId },
    data: { pendingCertificate: plainBytes(bytes), pendingDigest: plainBytes(certificate.digest), pendingAt: now },
  })
}

/** @returns bytes of the certificate that waits for a person */
export async function pendingCertificate(tx: Tx, fleetId: string): Promise<Uint8Array | undefined> {
  const row = await tx.peer.findUnique({ where: { fleetId }, select: { pendingCertificate: true } })
  return row?.pendingCertificate ?? undefined
}

/** A certificate of this peer's present root key that was the pinned one at some time. */
export async function peerCertificate(tx: Tx, fleetId: string, digest: Uint8Array): Promise<Uint8Array | undefined> {
  const rows = await tx.$queryRaw<{ certificate: Uint8Array }[]>`
    SELECT c.certificate FROM session.peer_certificate c JOIN session.peer p USING (fleet_id)
     WHERE c.digest = ${plainBytes(digest)} AND c.fleet_id = ${fleetId} AND c.sign_key = p.sign_key`
  return rows[0]?.certificate
}

export async function setTrust(tx: Tx, fleetId: string, trust: Trust, now: Date): Promise<void> {
  await tx.peer.update({ where: { fleetId }, data: { trust, updatedAt: now } })
}
