/**
 * The responder's side: an envelope of a session that is not known here brings a handshake. Nothing is written before
 * the message behind the handshake has decrypted; then session, used prekeys and replay memory change together.
 * @see docs/spec/session.md §3.3, §7
 */
import { ProtocolError } from '@tallystick/primitives/errors'
import { decrypt, type Decrypted } from '@tallystick/ratchet/double-ratchet'
import { respond } from '@tallystick/ratchet/pqxdh'
import type { SecretBytes } from '@tallystick/secret-bytes/arena'
import type { Envelope, Handshake } from '@tallystick/wire/envelope'
import type { Context } from '../context.js'
import type { SecretScope } from '../custody/secret-scope.js'
import type { Tx } from '../db.js'
import { plainBytes } from '../plain-bytes.js'
import { recentCertificates, SUITES } from '../identity/certificates.js'
import type { Identity } from '../identity/identity.js'
import { peerCertificate } from '../peers/peers.store.js'
import { destroyPrekeys, type PrivatePrekey, privatePrekey } from '../prekeys/prekeys.store.js'
import { accepted, type Recovery, succeeded } from '../recovery/recovery-state.js'
import { outranks, supersede, wipeSuperseded } from './epochs.js'
import { judgeHandshake } from './judge-handshake.js'
import { LiveSession } from './live-session.js'
import { localParty, remoteParty } from './party.js'
import { saveRecovery, type SessionPeer } from './session-peer.js'
import type { SessionRow, SessionStore } from './sessions.store.js'

export interface AcceptRequest {
  readonly context: Context
  readonly identity: Identity
  readonly store: SessionStore
  readonly tx: Tx
  readonly scope: SecretScope
  /** Locked in this transaction. */
  readonly peer: SessionPeer
  readonly recovery: Recovery
  readonly envelope: Envelope
}

export interface Accepted {
  readonly session: LiveSession
  readonly plaintext: Uint8Array
  /** As it is now, saved. */
  readonly recovery: Recovery
}

const undecryptable = () => new ProtocolError('Decryption', 'cannot be decrypted')

/**
 * @throws ProtocolError ReplayDetected: this ephemeral key started a session before
 * @throws ProtocolError IdentityChanged: the handshake names a certificate of the peer that was never pinned here
 * @throws EarlyHandshake, ResetRefused: not now
 * @throws ProtocolError ContinuityBroken: it does not continue the epoch that it claims to follow
 * @throws ProtocolError Decryption, VerificationFailed and what else the ratchet throws; nothing was written then
 */
export async function acceptSession(request: AcceptRequest): Promise<Accepted> {
  const { context, tx, scope, peer, envelope } = request
  const handshake = envelope.handshake!
  await refuseReplay(tx, handshake)
  const certificate = await peerCertificate(tx, peer.fleetId, handshake.certificateDigest)
  if (!certificate) throw new ProtocolError('IdentityChanged', 'the handshake names a certificate of the peer that is not known here')
  const prekeys = await loadPrekeys(request, handshake)
  const salt = scope.own(await judgeHandshake({ ...request, fleetId: peer.fleetId }))
  const { state, opened } = await answer(request, certificate, prekeys, salt)

  // Everything below happens because the message is genuine.
  scope.own(state)
  const now = new Date(context.clock.now())
  const active = await request.store.active(tx, peer.fleetId)
  const row: SessionRow = {
    sid: envelope.header.sid,
    fleetId: peer.fleetId,
    epoch: envelope.header.epoch,
    role: 'responder',
    ephemeralKey: handshake.ek,
    state: null,
    kekId: '',
    version: 1,
    handshake: null,
    active: true,
    confirmed: true,
    lost: false,
    sentApplication: 0,
    sentControl: 0,
    received: 1,
    startedAt: now,
    lastUsedAt: now,
    retiredAt: null,
  }
  await switchTo(request, row, active, now)
  await request.store.insert(context, tx, row, state)
  await useUp(request, handshake, prekeys, now)
  const recovery = await recovered(request, row)
  return { session: LiveSession.created(row, state, scope), plaintext: opened.plaintext, recovery }
}

/** An ephemeral key starts one session. While that session lives, its envelopes are found by session id and never come here. */
async function refuseReplay(tx: Tx, { spkId, pqId, ek }: Handshake): Promise<void> {
  const seen = await tx.handshakeSeen.findFirst({ where: { spkId: asColumn(spkId), pqId: asColumn(pqId), ephemeralKey: plainBytes(ek) } })
  const session = seen ?? (await tx.session.findUnique({ where: { ephemeralKey: plainBytes(ek) }, select: { sid: true } }))
  if (session) throw new ProtocolError('ReplayDetected', 'this handshake has started a session before')
}

interface Prekeys {
  readonly spk: PrivatePrekey
  readonly pq: PrivatePrekey
  readonly opk: PrivatePrekey | undefined
}

async function loadPrekeys({ context, tx, scope, peer }: AcceptRequest, handshake: Handshake): Promise<Prekeys> {
  const load = async (id: number, kind: 'signed' | 'last-resort' | 'one-time' | 'pq-one-time') => {
    const prekey = await privatePrekey(context, tx, id, kind)
    // A one-time key answers only the peer that it was handed to.
    if (!prekey || (prekey.handedTo !== null && prekey.handedTo !== peer.fleetId)) {
      prekey?.secret.destroy()
      throw undecryptable()
    }
    scope.own(prekey.secret)
    return prekey
  }
  const spk = await load(handshake.spkId, 'signed')
  const pq = await load(handshake.pqId, handshake.pqKind === 'one-time' ? 'pq-one-time' : 'last-resort')
  const opk = handshake.opkId === undefined ? undefined : await load(handshake.opkId, 'one-time')
  return { spk, pq, opk }
}

/** The peer may have fetched its bundle before this fleet's newest certificate: the one before is tried as well. */
async function answer(
  { context, identity, tx, peer, envelope }: AcceptRequest,
  certificate: Uint8Array,
  { spk, pq, opk }: Prekeys,
  salt: SecretBytes | undefined,
): Promise<{ state: SecretBytes; opened: Decrypted }> {
  const { arena, clock } = context
  const now = clock.now()
  const remote = remoteParty(certificate, now)
  if (remote.fleetId !== peer.fleetId) throw undecryptable()
  let failure: unknown = undecryptable()
  for (const own of await recentCertificates(tx)) {
    const { state, sid } = respond({
      arena,
      self: localParty(identity, own),
      peer: remote,
      handshake: envelope.handshake!,
      epoch: envelope.header.epoch,
      salt,
      prekeys: { spk: spk.secret, spkPublic: spk.publicKey, pq: pq.secret, pqPublic: pq.publicKey, opk: opk?.secret },
    })
    try {
      if (Buffer.compare(sid, envelope.header.sid) !== 0) continue
      const opened = decrypt({ arena, state, envelope, now })
      return { state: opened.state, opened }
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error
      failure = error
    } finally {
      state.destroy()
    }
  }
  throw failure
}

/** Decides which session is sent on from now, before the new row exists: at most one row may be active. */
async function switchTo(request: AcceptRequest, row: SessionRow, active: SessionRow | undefined, now: Date): Promise<void> {
  const { context, store, tx, peer, envelope } = request
  const { audit, metrics } = context
  const reset = envelope.handshake!.reset === true
  await audit.record(tx, 'SessionCreated', { peer: peer.fleetId, epoch: row.epoch, role: 'responder', suite: SUITES[0]! })
  if (active && !outranks(row, active)) {
    row.active = false
    row.retiredAt = now
    if (reset) await store.giveUp(tx, peer.fleetId, row.epoch, now)
    return
  }
  if (reset) {
    await store.giveUp(tx, peer.fleetId, row.epoch, now)
    // What crossed it in the same epoch is not given up, but not sent on either.
    if (active?.epoch === row.epoch) await store.retire(tx, active.sid, now)
    await wipeSuperseded(context, tx, store, peer.fleetId, now)
  } else if (active) await supersede(context, tx, store, active, now)
  await tx.peer.update({
    where: { fleetId: peer.fleetId },
    data: { rotateRequested: false, rotationFailedAt: null, earlyEpoch: null, earlySince: null },
  })
  if (!active || row.epoch === active.epoch) return
  const reason = reset ? 'resync' : 'peer'
  await audit.record(tx, 'SessionRotated', { peer: peer.fleetId, epoch: row.epoch, reason })
  metrics.rotations.inc({ reason })
}

/** A reset of the peer heals what was wrong here as well; so does a rotation that is now what both send on. */
async function recovered({ context, tx, peer, recovery, envelope }: AcceptRequest, { active }: SessionRow): Promise<Recovery> {
  const reset = envelope.handshake!.reset === true
  const now = context.clock.now()
  if (reset) {
    await context.audit.record(tx, 'ResyncStarted', { peer: peer.fleetId, reason: 'the peer has started over' })
    context.metrics.resyncs.inc({ event: 'started' })
  }
  if (!reset && recovery.state === 'ok') return recovery
  const next = reset ? accepted(recovery, now) : succeeded(recovery, active)
  await saveRecovery(tx, peer.fleetId, next)
  if (next.state !== 'ok' || (!reset && recovery.state === 'suspect')) return next
  await context.audit.record(tx, 'ResyncCompleted', {
    peer: peer.fleetId,
    epoch: envelope.header.epoch,
    continuity: envelope.handshake!.continuity === undefined ? 'lost' : 'kept',
  })
  context.metrics.resyncs.inc({ event: 'completed' })
  return next
}

async function useUp(
  { context, tx, peer, envelope }: AcceptRequest,
  handshake: Handshake,
  { pq, opk }: Prekeys,
  seenAt: Date,
): Promise<void> {
  const used = [...(handshake.pqKind === 'one-time' ? [pq.id] : []), ...(opk ? [opk.id] : [])]
  await destroyPrekeys(tx, used)
  if (used.length > 0) await context.audit.record(tx, 'KeysZeroized', { peer: peer.fleetId, count: used.length })
  await tx.handshakeSeen.create({
    data: {
      spkId: handshake.spkId,
      pqId: handshake.pqId,
      ephemeralKey: plainBytes(handshake.ek),
      fleetId: peer.fleetId,
      sid: plainBytes(envelope.header.sid),
      seenAt,
    },
  })
}

/** Ids on the wire have 32 bits, the columns 31: what does not fit was never given out here, and no row has -1. */
function asColumn(id: number): number {
  return id > 0x7fff_ffff ? -1 : id
}
