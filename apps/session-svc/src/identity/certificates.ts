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
import { plainBytes } from '../plain-bytes.js'
import type { Identity } from './identity.js'

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
}

/** Public keys of the other services, as they told them. */
export interface ServiceKeys {
  readonly peerId: string
  /** Ed25519, 32 bytes. */
  readonly logKey: Uint8Array
}

/** The newest certificate, or undefined before the first. */
export async function currentCertificate(tx: Tx): Promise<(OwnCertificate & { logKey: Uint8Array; notAfter: Date }) | undefined> {
  const row = await tx.certificate.findFirst({ orderBy: { sequence: 'desc' } })
  if (!row) return undefined
  const { displayName } = readCertificate(row.certificate, row.issuedAt.getTime())
  return { ...row, displayName }
}

/** How many of the newest certificates a handshake under way may have been made for. */
const RECENT = 2

/** The newest certificates, newest first. */
export async function recentCertificates(tx: Tx): Promise<OwnCertificate[]> {
  const rows = await tx.certificate.findMany({ orderBy: { sequence: 'desc' }, take: RECENT })
  return rows.map((row) => ({ ...row, displayName: readCertificate(row.certificate, row.issuedAt.getTime()).displayName }))
}

/**
 * Issues a certificate if the newest one does not say what is true now. One replica at a time.
 * @returns true when a new one was issued
 */
export async function ensureCertificate(context: Context, identity: Identity, displayName: string, keys: ServiceKeys): Promise<boolean> {
  const { db, clock, limits, audit } = context
  const now = clock.now()
  const upToDate = async (tx: Tx) => {
    const current = await currentCertificate(tx)
    const good =
      current !== undefined &&
      current.displayName === displayName &&
      current.peerIds.includes(keys.peerId) &&
      equalConstantTime(current.logKey, keys.logKey) &&
      current.notAfter.getTime() - now > limits.certificateRenewBeforeMs
    return { current, good }
  }
  if ((await upToDate(db)).good) return false
  const issued = await db.$transaction(async (tx) => {
    await tx.$executeRaw`SELECT pg_advisory_xact_lock(hashtextextended('tallystick/session/certificate', 0))`
    const { current, good } = await upToDate(tx)
    if (good) return false
    const sequence = (current?.sequence ?? 0) + 1
    const notAfter = now + limits.certificateLifetimeMs
    const certificate = issueCertificate(
      {
        displayName,
        signKey: identity.signKey,
        dhKey: identity.dhKey,
        peerIds: [keys.peerId],
        logKey: keys.logKey,
        suites: SUITES,
        notBefore: now - BACKDATE_MS,
        notAfter,
        sequence,
      },
      identity.sign,
    )
    await tx.certificate.create({
      data: {
        sequence,
        digest: plainBytes(certificateDigest(certificate)),
        certificate: plainBytes(certificate),
        peerIds: [keys.peerId],
        logKey: plainBytes(keys.logKey),
        notAfter: new Date(notAfter),
        issuedAt: new Date(now),
      },
    })
    await audit.record(tx, 'KeyAccessed', { keyKind: 'identity', purpose: 'certificate' })
    await audit.record(tx, 'AdminAction', { action: 'certificate-issued', subject: `${identity.fleetId}#${sequence}` })
    return true
  })
  if (issued) audit.committed()
  return issued
}
