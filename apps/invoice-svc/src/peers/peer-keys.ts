/**
 * What session-svc knows about the keys with each peer, kept on the peer's row: lists show it, and a change of it is an
 * event. A certificate that session-svc has adopted (a renewed one, or a new identity that a person approved) replaces
 * the row's, and with it the PeerIds that relay-svc lets in.
 */
import type { ResponseOf } from '@tallystick/contracts/call'
import { sessionPeer } from '@tallystick/contracts/session'
import { RpcFault } from '@tallystick/nats-rpc/fault'
import { ProtocolError } from '@tallystick/primitives/errors'
import { fingerprint, readCertificate, type ReadCertificate } from '@tallystick/wire/certificate'
import { now, type App } from '../app.js'
import { recordChange } from '../events/change.store.js'
import { hex, owned } from '../http/page.js'
import { lockPeer, messagesMayGo, peerById, type PeerRow } from './peer.store.js'

/** An answer of session-svc about a peer that it knows. */
export type PeerKeys = Extract<ResponseOf<typeof sessionPeer>, { ok: true }>

/** Calls to session-svc at a time: the step must not crowd out sealing. */
const ASK_AT_ONCE = 8

/** The background step: peers in use whose keys have not been looked at for `keyWatchMs`. @returns 0: its pace is the clock's */
export async function watchPeerKeys(app: App): Promise<number> {
  const due = await dueForLook(app)
  for (let i = 0; i < due.length; i += ASK_AT_ONCE) {
    await Promise.all(
      due.slice(i, i + ASK_AT_ONCE).map(async (fleetId) => {
        const answer = await askOrAway(app, fleetId)
        if (answer !== 'away' && answer.ok) await keepPeerKeys(app, answer)
      }),
    )
  }
  return 0
}

/** Each replica takes others: a look is claimed by writing its time. */
async function dueForLook(app: App): Promise<string[]> {
  const at = now(app)
  const before = new Date(at.getTime() - app.limits.keyWatchMs)
  const rows = await app.db.$queryRaw<Array<{ fleet_id: string }>>`
    UPDATE peer SET keys_checked_at = ${at} WHERE fleet_id IN (
      SELECT fleet_id FROM peer WHERE state = 'active' AND (keys_checked_at IS NULL OR keys_checked_at <= ${before} OR keys_checked_at > ${at})
      ORDER BY keys_checked_at NULLS FIRST LIMIT ${app.limits.stepBatch} FOR UPDATE SKIP LOCKED) RETURNING fleet_id`
  return rows.map((row) => row.fleet_id)
}

/** @returns session-svc's answer, a refusal included; `away` when it cannot be asked */
export async function askOrAway(app: App, fleetId: string): Promise<ResponseOf<typeof sessionPeer> | 'away'> {
  try {
    return await app.rpc.call(sessionPeer, { fleetId }, { timeoutMs: 2_000 })
  } catch (error) {
    if (error instanceof RpcFault) return 'away'
    throw error
  }
}

/**
 * Writes down what is new; a peer that was removed meanwhile stays as it is.
 * @returns whether the row's certificate was replaced
 */
export async function keepPeerKeys(app: App, keys: PeerKeys): Promise<boolean> {
  const known = await peerById(app.db, keys.fleetId)
  if (known === null || same(known, keys)) return false
  const certificate = readable(app, keys.certificate)
  const { replaced, told } = await app.db.$transaction(async (tx) => {
    const row = await lockPeer(tx, keys.fleetId)
    if (row === null || row.state === 'removed') return { replaced: false, told: false }
    // An older one than the row's: session-svc has not been told of its successor yet.
    const replaces = certificate !== undefined && BigInt(certificate.sequence) > row.sequence
    const told = row.keyState !== keys.keyState || row.pendingFingerprint !== keys.pendingFingerprint
    if (!replaces && !told) return { replaced: false, told: false }
    await tx.peer.update({
      where: { fleetId: row.fleetId },
      data: {
        keyState: keys.keyState,
        pendingFingerprint: keys.pendingFingerprint,
        updatedAt: now(app),
        ...(replaces
          ? { ...fromCertificate(certificate, keys.certificate, row), version: { increment: 1 }, nextSyncAt: now(app), cause: null }
          : {}),
      },
    })
    await recordChange(tx, now(app), { topic: 'peer', subject: row.fleetId, data: changeOf(row, keys) })
    if (told) await messagesMayGo(tx, row.fleetId, now(app))
    return { replaced: replaces, told }
  })
  if (replaced) app.wake.peers()
  if (told) app.wake.messages()
  return replaced
}

/**
 * The columns that a certificate fills.
 * @param before the row that it replaces; under a new identity its certificate is kept for what was signed before
 */
export function fromCertificate(certificate: ReadCertificate, bytes: Uint8Array, before: PeerRow | null) {
  const identityChanged = before !== null && before.fingerprint !== fingerprint(certificate.signKey)
  return {
    ...(identityChanged ? { previousCertificate: owned(before.certificate) } : {}),
    displayName: certificate.displayName,
    certificate: owned(bytes),
    certificateDigest: owned(certificate.digest),
    sequence: BigInt(certificate.sequence),
    fingerprint: fingerprint(certificate.signKey),
    peerIds: certificate.peerIds,
  }
}

/** What an event about a peer's keys says. */
export function changeOf(row: Pick<PeerRow, 'fleetId' | 'state'>, keys: PeerKeys): Record<string, string> {
  const change = { id: row.fleetId, state: row.state, keyState: keys.keyState }
  return keys.pendingFingerprint === null ? change : { ...change, pendingFingerprint: keys.pendingFingerprint }
}

/** Without a lock, to spare the transaction: nearly every look finds nothing new. */
function same(row: PeerRow, keys: PeerKeys): boolean {
  return (
    row.keyState === keys.keyState &&
    row.pendingFingerprint === keys.pendingFingerprint &&
    hex(row.certificateDigest) === hex(keys.certificateDigest)
  )
}

/** session-svc has verified it; one that has run out meanwhile changes nothing here. */
function readable(app: App, certificate: Uint8Array): ReadCertificate | undefined {
  try {
    return readCertificate(certificate, app.clock.now())
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error
    app.log.warn({ code: error.code, what: 'certificate' }, 'the certificate that session-svc holds of a peer is not valid now')
    return undefined
  }
}
