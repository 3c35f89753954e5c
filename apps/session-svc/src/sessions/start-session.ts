/**
 * The initiator's side: a first session, the next epoch, or a session that starts over, from a bundle of the peer. The
 * handshake of a next epoch is salted with the newest exporter of the old session that the peer is known to have.
 * @see docs/spec/session.md §3.2, §7, docs/spec/custody.md §7.2
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
import { adoptCertificate } from '../peers/pin-peer.js'
import { began, type Recovery } from '../recovery/recovery-state.js'
import { refuse } from '../refuse.js'
import { FIRST_EPOCH, MAX_EPOCH_LEAP, supersede, wipeSuperseded } from './epochs.js'
import { LiveSession } from './live-session.js'
import { localParty, remoteParty } from './party.js'
import type { RotationReason } from './rotation.js'
import { saveRecovery, type SessionPeer } from './session-peer.js'
import type { SessionRow, SessionStore, Standing } from './sessions.store.js'

export interface StartRequest {
  readonly context: Context
  readonly identity: Identity
  readonly store: SessionStore
  readonly tx: Tx
  readonly scope: SecretScope
  /** Locked in this transaction. */
  readonly peer: SessionPeer
  readonly recovery: Recovery
  /** As the peer's relay gave it. */
  readonly bundle: Uint8Array
  /** The session that ends; saved already. */
  readonly previous: LiveSession | undefined
  /** `resync`: the older sessions are given up, and continued only if that is the first attempt and possible. */
  readonly reason: RotationReason | undefined
}

export interface Started {
  /** Now the active one. */
  readonly session: LiveSession
  readonly recovery: Recovery
}

/** @returns the session and what it means for the recovery, saved; or a refusal that has been audited */
export async function startSession(request: StartRequest): Promise<Started | Refusal> {
  const { context, identity, store, tx, scope, peer, previous } = request
  const { arena, random, clock, limits } = context
  const now = clock.now()
  const own = await currentCertificate(tx)
  if (!own) return refuse('NotReady', 'this fleet has no certificate yet', limits.retryAfterMs)
  const read = await readBundle(request, now)
  if ('code' in read) return read

  const course = courseOf(request, await store.standing(tx, peer.fleetId), read.bundle.epoch ?? 0)
  if ('code' in course) {
    await audited(request, 'VerificationFailed')
    return course
  }
  const { epoch, reset, resync } = course
  let started: ReturnType<typeof initiate>
  try {
    const salt = course.continued ? scope.own(exporter(previous!.state, arena)) : undefined
    started = initiate({
      arena,
      random,
      self: localParty(identity, own),
      peer: remoteParty(read.bundle.certificate, now),
      bundle: read.bundle,
      epoch,
      salt,
      reset,
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
    lost: false,
    sentApplication: 0,
    sentControl: 0,
    received: 0,
    startedAt: at,
    lastUsedAt: at,
    retiredAt: null,
  }
  if (resync) await store.giveUp(tx, peer.fleetId, epoch, at)
  else if (previous) await supersede(context, tx, store, previous.row, at)
  await store.insert(context, tx, row, started.state)
  if (resync) await wipeSuperseded(context, tx, store, peer.fleetId, at)
  const recovery = await reported(request, epoch, resync, now)
  return { session: LiveSession.created(row, started.state, scope), recovery }
}

interface Course {
  readonly epoch: number
  readonly resync: boolean
  readonly reset: boolean
  readonly continued: boolean
}

/**
 * Which epoch comes next, and whether it continues what was.
 * @param hint highest epoch that the peer has had with this fleet, as its bundle says; 0 for none
 */
function courseOf({ recovery, previous, reason }: StartRequest, { highest }: Standing, hint: number): Course | Refusal {
  const hasExporter = previous !== undefined && describe(previous.state).exporterHash !== null
  // Sessions without one to send on: they have been given up. None at all, but the peer has had one with us: they are lost.
  const resync = reason === 'resync' || (previous === undefined && (highest >= FIRST_EPOCH || hint >= FIRST_EPOCH))
  const continued = hasExporter && (!resync || (recovery.attempts === 0 && hint <= highest + 1))
  if (!resync || continued) return { epoch: highest + 1, resync, reset: false, continued }
  if (hint > highest + MAX_EPOCH_LEAP) return refuse('VerificationFailed', `the peer's bundle claims an epoch that cannot be: ${hint}`)
  return { epoch: Math.max(highest, hint) + 1, resync, reset: true, continued: false }
}

/** Audit events, metrics and the row of the peer. */
async function reported(request: StartRequest, epoch: number, resync: boolean, now: number): Promise<Recovery> {
  const { context, tx, peer, previous, recovery } = request
  const { audit, metrics } = context
  const { fleetId } = peer
  await audit.record(tx, 'SessionCreated', { peer: fleetId, epoch, role: 'initiator', suite: SUITES[0]! })
  const reason = resync ? 'resync' : (request.reason ?? 'manual')
  if (previous) await audit.record(tx, 'SessionRotated', { peer: fleetId, epoch, reason })
  if (previous) metrics.rotations.inc({ reason })
  if (previous || resync) await tx.peer.update({ where: { fleetId }, data: { rotateRequested: false, rotationFailedAt: null } })
  if (!resync) return recovery
  await audit.record(tx, 'ResyncStarted', { peer: fleetId, reason: (recovery.reason || 'no session to send on').slice(0, 64) })
  metrics.resyncs.inc({ event: 'started' })
  const next = began(recovery, now)
  await saveRecovery(tx, fleetId, next)
  return next
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

async function rejectBundle(request: StartRequest, error: unknown): Promise<Refusal> {
  if (!(error instanceof ProtocolError) || error.code === 'KeyStorage') throw error
  if (error.code === 'InvalidSignature') request.context.metrics.signatureFailures.inc()
  await audited(request, error.code)
  return refuse(error.code, `the peer's prekey bundle was refused: ${error.message}`)
}

async function audited({ context, tx, peer }: StartRequest, code: ProtocolError['code']): Promise<void> {
  await context.audit.record(tx, 'VerificationFailed', { peer: peer.fleetId, what: 'bundle', code })
}
