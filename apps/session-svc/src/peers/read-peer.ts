/** `session.v1.peer`: what is pinned, the session that this side sends on, and what a person should know about it. */
import type { ResponseOf } from '@tallystick/contracts/call'
import type { sessionPeer } from '@tallystick/contracts/session'
import { fingerprint, readCertificate } from '@tallystick/wire/certificate'
import type { Context } from '../context.js'
import type { Peer, Session } from '../gen/client.js'
import { plainBytes } from '../plain-bytes.js'
import { recoveryOf } from '../recovery/read-recovery.js'
import { refuse } from '../refuse.js'
import { epochAge, messagesPerEpoch, rotationDue } from '../sessions/rotation.js'
import type { Trust } from './peers.store.js'

type Known = Extract<ResponseOf<typeof sessionPeer>, { ok: true }>

export async function readPeer(context: Context, fleetId: string): Promise<ResponseOf<typeof sessionPeer>> {
  const { db, clock, limits } = context
  const peer = await db.peer.findUnique({ where: { fleetId } })
  if (!peer) return refuse('NotFound', 'no such peer')
  const session = await db.session.findFirst({ where: { fleetId, active: true } })
  const oldEpochs = await db.session.count({ where: { fleetId, active: false, state: { not: null } } })
  const { state, reason, since } = recoveryOf(peer)
  return {
    ok: true,
    fleetId,
    trust: peer.trust as Trust,
    certificateDigest: plainBytes(peer.certificateDigest),
    certificate: plainBytes(peer.certificate),
    session: session && {
      epoch: session.epoch,
      startedAt: session.startedAt.getTime(),
      ageMs: epochAge(session, clock.now()),
      sent: session.sentApplication,
      messagesLeft: Math.max(0, messagesPerEpoch(peer, limits) - session.sentApplication),
      confirmed: session.confirmed,
    },
    keyState: keyStateOf(context, peer, session),
    recovery: { state, reason, since: since?.getTime() ?? null },
    oldEpochs,
    rotateEvery: peer.rotateEvery,
    pendingFingerprint: pendingFingerprint(peer),
  }
}

/** The worst that is true. */
function keyStateOf({ clock, limits }: Context, peer: Peer, session: Session | null): Known['keyState'] {
  if (peer.pendingCertificate !== null) return 'identity-changed'
  const due = session !== null && rotationDue(session, peer, 'application', clock.now(), limits) !== undefined
  if (due && peer.rotationFailedAt !== null) return 'rotation-blocked'
  if (peer.recovery === 'resync_required' || peer.recovery === 'resync_sent') return 'resync'
  if (peer.recovery === 'suspect') return 'suspect'
  if (due) return 'rotation-due'
  return session === null ? 'no-session' : 'ok'
}

function pendingFingerprint({ pendingCertificate, pendingAt }: Peer): string | null {
  if (pendingCertificate === null || pendingAt === null) return null
  // By the time of its arrival: that it may have expired meanwhile does not change what has to be compared.
  return fingerprint(readCertificate(pendingCertificate, pendingAt.getTime()).signKey)
}
