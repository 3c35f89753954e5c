/**
 * The fleet certificate: issued when relay and audit log have told their public keys, issued again with a higher
 * sequence when one of them changed or the end of its lifetime is near. Older ones are kept: a handshake that was
 * under way still names them.
 * @see docs/spec/identity.md §2
 */
import { equalConstantTime } from '@tallystick/primitives/bytes'
import { certificateDigest, issueCertificate, readCertificate } from '@tallystick/wire/certificate'
import type { Context } from '../context.js'
import type { Tx } from '../db.js'
import type { Certificate } from '../gen/client.js'
import { plainBytes } from '../plain-bytes.js'
import type { Identity, Signer } from './identity.js'

export const SUITES = ['TS1']
/** A certificate is valid from a little before its issue, for clocks that lag. */
const BACKDATE_MS = 120_000

export interface OwnCertificate {
  readonly sequence: number
  readonly certificate: Uint8Array
  /** SHA-256, 32 bytes. */
  readonly digest: Uint8Array
  readonly peerIds: string[]
  readonly displayName: string
  /** IK_sign that it speaks for, 32 bytes. */
  readonly signKey: Uint8Array
}

export type CurrentCertificate = OwnCertificate & {
  readonly dhKey: Uint8Array
  readonly logKey: Uint8Array
  readonly notBefore: number
  readonly notAfter: number
}

/** Public keys of the other services, as they told them. */
export interface ServiceKeys {
  readonly peerId: string
  /** Ed25519, 32 bytes. */
  readonly logKey: Uint8Array
}

/** The newest certificate, or undefined before the first. */
export async function currentCertificate(tx: Tx): Promise<CurrentCertificate | undefined> {
  const row = await tx.certificate.findFirst({ orderBy: { sequence: 'desc' } })
  return row ? read(row) : undefined
}

/** How many of the newest certificates a handshake under way may have been made for. */
const RECENT = 2

/** The newest certificates, newest first. */
export async function recentCertificates(tx: Tx): Promise<OwnCertificate[]> {
  const rows = await tx.certificate.findMany({ orderBy: { sequence: 'desc' }, take: RECENT })
  return rows.map(read)
}

function read(row: Certificate): CurrentCertificate {
  const { certificate, digest } = row
  const { displayName, signKey, dhKey, logKey, peerIds, sequence, notBefore, notAfter } = readCertificate(
    certificate,
    row.issuedAt.getTime(),
  )
  return { sequence, certificate, digest, peerIds, displayName, signKey, dhKey, logKey, notBefore, notAfter }
}

/**
 * Issues a certificate if the newest one does not say what is true now. One replica at a time.
 * @returns true when a new one was issued
 */
export async function ensureCertificate(context: Context, identity: Identity, displayName: string, keys: ServiceKeys): Promise<boolean> {
  const { db, clock, limits, audit } = context
  const now = clock.now()
  const isGood = (current: CurrentCertificate | undefined) =>
    current !== undefined &&
    current.displayName === displayName &&
    current.peerIds.includes(keys.peerId) &&
    equalConstantTime(current.logKey, keys.logKey) &&
    equalConstantTime(current.signKey, identity.signKey) &&
    equalConstantTime(current.dhKey, identity.dhKey) &&
    // Issued by a clock that was ahead: until it is valid, nobody else takes it.
    current.notBefore <= now &&
    current.notAfter - now > limits.certificateRenewBeforeMs
  await identity.follow(db)
  if (isGood(await currentCertificate(db))) return false
  const issued = await db.$transaction(async (tx) => {
    await lockCertificate(tx)
    await identity.follow(tx)
    const current = await currentCertificate(tx)
    if (isGood(current)) return false
    await issue(context, tx, identity, { sequence: (current?.sequence ?? 0) + 1, displayName, peerIds: [keys.peerId], logKey: keys.logKey })
    return true
  })
  if (issued) audit.committed()
  return issued
}

/**
 * Issues the newest certificate once more, for another identity or after the database was put back. Takes the lock of
 * certificates.
 * @param above the sequence number is above this one: above those that were issued after the copy was taken
 * @returns its sequence number; undefined before the first certificate
 */
export async function reissueCertificate(context: Context, tx: Tx, identity: Signer, above = 0): Promise<number | undefined> {
  await lockCertificate(tx)
  const current = await currentCertificate(tx)
  if (!current) return undefined
  const { displayName, peerIds, logKey } = current
  const sequence = Math.max(current.sequence, above) + 1
  await issue(context, tx, identity, { sequence, displayName, peerIds, logKey })
  return sequence
}

async function lockCertificate(tx: Tx): Promise<void> {
  await tx.$executeRaw`SELECT pg_advisory_xact_lock(hashtextextended('tallystick/session/certificate', 0))`
}

interface Said {
  readonly sequence: number
  readonly displayName: string
  readonly peerIds: string[]
  readonly logKey: Uint8Array
}

async function issue(context: Context, tx: Tx, identity: Signer, { sequence, displayName, peerIds, logKey }: Said): Promise<void> {
  const { clock, limits, audit } = context
  const now = clock.now()
  const notAfter = now + limits.certificateLifetimeMs
  const { signKey, dhKey, succession } = identity
  const fields = { displayName, signKey, dhKey, peerIds, logKey, suites: SUITES, notBefore: now - BACKDATE_MS, notAfter, sequence }
  const certificate = issueCertificate({ ...fields, ...(succession.length > 0 ? { succession: [...succession] } : {}) }, (message) =>
    identity.sign(message),
  )
  await tx.certificate.create({
    data: {
      sequence,
      digest: plainBytes(certificateDigest(certificate)),
      certificate: plainBytes(certificate),
      peerIds,
      logKey: plainBytes(logKey),
      notAfter: new Date(notAfter),
      issuedAt: new Date(now),
    },
  })
  await audit.record(tx, 'KeyAccessed', { keyKind: 'identity', purpose: 'certificate' })
  await audit.record(tx, 'AdminAction', { action: 'certificate-issued', subject: `${identity.fleetId}#${sequence}` })
}
