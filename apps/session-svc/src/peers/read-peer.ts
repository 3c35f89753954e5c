/** `session.v1.peer`: what is pinned, and the session that this side sends on. */
import type { ResponseOf } from '@tallystick/contracts/call'
import type { sessionPeer } from '@tallystick/contracts/session'
import type { Context } from '../context.js'
import { plainBytes } from '../plain-bytes.js'
import { refuse } from '../refuse.js'
import { epochAge } from '../sessions/rotation.js'
import { findPeer } from './peers.store.js'

export async function readPeer(context: Context, fleetId: string): Promise<ResponseOf<typeof sessionPeer>> {
  const { db, clock, limits } = context
  const peer = await findPeer(db, fleetId)
  if (!peer) return refuse('NotFound', 'no such peer')
  const session = await db.session.findFirst({ where: { fleetId, active: true } })
  const { trust, certificateDigest, certificate } = peer
  return {
    ok: true,
    fleetId,
    trust,
    certificateDigest: plainBytes(certificateDigest),
    certificate: plainBytes(certificate),
    session: session && {
      epoch: session.epoch,
      startedAt: session.startedAt.getTime(),
      ageMs: epochAge(session, clock.now()),
      sent: session.sentApplication,
      messagesLeft: limits.rotateAfterMessages - session.sentApplication,
      confirmed: session.confirmed,
    },
  }
}
