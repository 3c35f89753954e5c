/**
 * The initiator's side: a first session, or the next epoch, from a bundle of the peer. The handshake of a next epoch is
 * salted with the newest exporter of the old session that the peer is known to have.
 * @see docs/spec/session.md §3.2, §7
 */
import type { Refusal } from '@tallystick/contracts/codes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { describe, exporter } from '@tallystick/ratchet/double-ratchet'
import { initiate } from '@tallystick/ratchet/pqxdh'
import { type Bundle, decodeBundle } from '@tallystick/wire/bundle'
import { type ReadCertificate, readCertificate } from '@tallystick/wire/certificate'
import { encodeHandshake } from '@tallystick/wire/envelope'
import type { Context } from '../context.js'
import type { SecretScope } from '../custody/secret-scope.js'
import type { Tx } from '../db.js'
import { currentCertificate, SUITES } from '../identity/certificates.js'
import type { Identity } from '../identity/identity.js'
import type { Peer } from '../peers/peers.store.js'
import { adoptCertificate } from '../peers/pin-peer.js'
import { refuse } from '../refuse.js'
import { LiveSession } from './live-session.js'
import { localParty, remoteParty } from './party.js'
import type { RotationReason } from './rotation.js'
import type { SessionRow, SessionStore } from './sessions.store.js'
import { FIRST_EPOCH, supersede } from './epochs.js'

export interface StartRequest {
  readonly context: Context
  readonly identity: Identity
  readonly store: SessionStore
  readonly tx: Tx
  readonly scope: SecretScope
  /** Locked in this transaction. */
  readonly peer: Peer
  /** As the peer's relay gave it. */
  readonly bundle: Uint8Array
  /** The session that ends; saved already. */
  readonly previous: LiveSession | undefined
  readonly reason: RotationReason | undefined
}

/** @returns the session that is now the active one, or a refusal that has been audited */
export async function startSession(request: StartRequest): Promise<LiveSession | Refusal> {
  const { context, identity, store, tx, scope, peer, previous, reason } = request
  const { arena, random, clock, limits, audit, metrics } = context
  const now = clock.now()
  const own = await currentCertificate(tx)
  if (!own) return refuse('NotReady', 'this fleet has no certificate yet', limits.retryAfterMs)
  const read = await readBundle(request, now)
  if ('code' in read) return read

  const epoch = ((await store.highestEpoch(tx, peer.fleetId)) ?? FIRST_EPOCH - 1) + 1
  let started: ReturnType<typeof initiate>
  try {
    const hasExporter = previous !== undefined && describe(previous.state).exporterHash !== null
    const salt = hasExporter ? scope.own(exporter(previous.state, arena)) : undefined
    started = initiate({
      arena,
      random,
      self: localParty(identity, own),
      peer: remoteParty(read.bundle.certificate, now),
      bundle: read.bundle,
      epoch,
      salt,
    })
  } catch (error) {
    return rejectBundle(request, error)
  }
  scope.own(started.state)
  const at = new Date(now)
  const row: SessionRow = {
    sid: started.sid,
    fleetId: peer.fleetId,
    epoch,
    role: 'initiator',
    ephemeralKey: started.handshake.ek,
    state: null,
    kekId: '',
    version: 1,
    handshake: encodeHandshake(started.handshake),
    active: true,
    confirmed: false,
    sentApplication: 0,
    sentControl: 0,
    received: 0,
    startedAt: at,
    lastUsedAt: at,
    retiredAt: null,
  }
  if (previous) await supersede(context, tx, store, previous.row, at)
  await store.insert(context, tx, row, started.state)
  await audit.record(tx, 'SessionCreated', { peer: peer.fleetId, epoch, role: 'initiator', suite: SUITES[0]! })
  if (previous) {
    const why = reason ?? 'manual'
    await audit.record(tx, 'SessionRotated', { peer: peer.fleetId, epoch, reason: why })
    metrics.rotations.inc({ reason: why })
  }
  return LiveSession.created(row, started.state, scope)
}

/** Decodes the bundle and, when it brings a newer certificate of the same root key, pins that first. */
async function readBundle(request: StartRequest, now: number): Promise<{ bundle: Bundle; certificate: ReadCertificate } | Refusal> {
  const { context, tx, peer } = request
  try {
    const bundle = decodeBundle(request.bundle)
    const certificate = readCertificate(bundle.certificate, now)
    if (certificate.fleetId !== peer.fleetId) throw new ProtocolError('VerificationFailed', 'the bundle is of another fleet')
    const refusal = await adoptCertificate(context, tx, certificate, bundle.certificate, peer, 'peer')
    return refusal ?? { bundle, certificate }
  } catch (error) {
    return rejectBundle(request, error)
  }
}

async function rejectBundle({ context, tx, peer }: StartRequest, error: unknown): Promise<Refusal> {
  if (!(error instanceof ProtocolError) || error.code === 'KeyStorage') throw error
  if (error.code === 'InvalidSignature') context.metrics.signatureFailures.inc()
  await context.audit.record(tx, 'VerificationFailed', { peer: peer.fleetId, what: 'bundle', code: error.code })
  return refuse(error.code, `the peer's prekey bundle was refused: ${error.message}`)
}
