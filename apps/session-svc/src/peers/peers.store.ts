/** Pinned peers. The row of a peer is also the lock that gives every session with it one writer. */
import type { ReadCertificate } from '@tallystick/wire/certificate'
import type { Tx } from '../db.js'
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
}

/** Only these exchange messages. */
export function mayTalk(peer: Pick<Peer, 'trust'> | undefined): boolean {
  return peer?.trust === 'pinned' || peer?.trust === 'verified'
}

/**
 * Holds the peer until the transaction ends: whoever else seals, opens or pins for it waits here. Always the first
 * lock of a transaction, so that no two transactions wait for each other.
 */
export async function lockPeer(tx: Tx, fleetId: string): Promise<Peer | undefined> {
  const rows = await tx.$queryRaw<Peer[]>`
    SELECT fleet_id AS "fleetId", display_name AS "displayName", sign_key AS "signKey", dh_key AS "dhKey", certificate,
           certificate_digest AS "certificateDigest", sequence, peer_ids AS "peerIds", trust
      FROM session.peer WHERE fleet_id = ${fleetId} FOR UPDATE`
  return rows[0]
}

export async function findPeer(tx: Tx, fleetId: string): Promise<Peer | undefined> {
  const row = await tx.peer.findUnique({ where: { fleetId } })
  return row ? { ...row, trust: row.trust as Trust } : undefined
}

/** A pinned fleet that already claims one of these PeerIds, other than `fleetId` itself. */
export async function claimantOf(tx: Tx, peerIds: string[], fleetId: string): Promise<string | undefined> {
  const row = await tx.peer.findFirst({
    where: { fleetId: { not: fleetId }, trust: { not: 'removed' }, peerIds: { hasSome: peerIds } },
    select: { fleetId: true },
  })
  return row?.fleetId
}

/** Inserts or replaces what the certificate says; trust is as given. */
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
  }
  await tx.peer.upsert({
    where: { fleetId: certificate.fleetId },
    create: { fleetId: certificate.fleetId, pinnedAt: now, ...said },
    update: said,
  })
  const digest = plainBytes(certificate.digest)
  const adopted = { digest, fleetId: certificate.fleetId, sequence: certificate.sequence, certificate: plainBytes(bytes), adoptedAt: now }
  await tx.peerCertificate.createMany({ data: [adopted], skipDuplicates: true })
}

/** A certificate of this peer that was the pinned one at some time. */
export async function peerCertificate(tx: Tx, fleetId: string, digest: Uint8Array): Promise<Uint8Array | undefined> {
  const row = await tx.peerCertificate.findUnique({ where: { digest: plainBytes(digest) } })
  return row?.fleetId === fleetId ? row.certificate : undefined
}

export async function setTrust(tx: Tx, fleetId: string, trust: Trust, now: Date): Promise<void> {
  await tx.peer.update({ where: { fleetId }, data: { trust, updatedAt: now } })
}
