/**
 * What a person asks of the sessions with a peer, and what this service asks of its caller, since it cannot send.
 * @see docs/spec/custody.md §6, §7
 */
import type { RequestOf, ResponseOf } from '@tallystick/contracts/call'
import type { Refusal } from '@tallystick/contracts/codes'
import type { sessionAttention, sessionResync, sessionRotate, sessionSetPeerPolicy } from '@tallystick/contracts/session'
import type { Context } from '../context.js'
import type { Tx } from '../db.js'
import { lockPeer, mayTalk } from '../peers/peers.store.js'
import { refuse } from '../refuse.js'
import { saveRecovery } from '../sessions/session-peer.js'
import { readRecovery, recoveryOf } from './read-recovery.js'
import { askedFor, isDue, mayBegin } from './recovery-state.js'

/** Most peers in one answer; the rest comes with the next question. */
const MOST_AT_ONCE = 1_000

/** @returns NotFound without the peer, PeerBlocked for one that is blocked or removed */
async function withPeer<T>(context: Context, fleetId: string, work: (tx: Tx) => Promise<T>): Promise<T | Refusal> {
  const response = await context.db.$transaction(async (tx) => {
    const peer = await lockPeer(tx, fleetId)
    if (!peer) return refuse('NotFound', 'no such peer')
    if (!mayTalk(peer)) return refuse('PeerBlocked', `this peer is ${peer.trust}`)
    return work(tx)
  })
  context.audit.committed()
  return response
}

export async function setPeerPolicy(
  context: Context,
  { fleetId, rotateEvery }: RequestOf<typeof sessionSetPeerPolicy>,
): Promise<ResponseOf<typeof sessionSetPeerPolicy>> {
  return withPeer(context, fleetId, async (tx) => {
    await tx.peer.update({ where: { fleetId }, data: { rotateEvery, updatedAt: new Date(context.clock.now()) } })
    await context.audit.record(tx, 'AdminAction', { action: 'peer-policy-set', subject: fleetId })
    return { ok: true as const }
  })
}

/** @returns the epoch that ends with the next message; 0 when there is none */
export async function requestRotation(context: Context, fleetId: string): Promise<ResponseOf<typeof sessionRotate>> {
  return withPeer(context, fleetId, async (tx) => {
    const active = await tx.session.findFirst({ where: { fleetId, active: true }, select: { epoch: true } })
    if (active) await tx.peer.update({ where: { fleetId }, data: { rotateRequested: true } })
    await context.audit.record(tx, 'AdminAction', { action: 'session-rotated', subject: fleetId })
    return { ok: true as const, epoch: active?.epoch ?? 0 }
  })
}

/** The next message to the peer starts over, and the peer may do so for an hour. */
export async function requestResync(context: Context, fleetId: string): Promise<ResponseOf<typeof sessionResync>> {
  return withPeer(context, fleetId, async (tx) => {
    const { clock, limits, audit } = context
    const recovery = askedFor(await readRecovery(tx, fleetId), clock.now(), limits)
    await saveRecovery(tx, fleetId, recovery)
    await audit.record(tx, 'AdminAction', { action: 'session-resynced', subject: fleetId })
    return { ok: true as const, state: recovery.state }
  })
}

/** Peers for which a control message would do something that nothing else does now. */
export async function attention({ db, clock, limits }: Context): Promise<ResponseOf<typeof sessionAttention>> {
  const rows = await db.peer.findMany({
    where: {
      trust: { in: ['pinned', 'verified'] },
      pendingDigest: null,
      OR: [{ recovery: { in: ['resync_required', 'resync_sent'] } }, { rotateRequested: true }],
    },
    orderBy: { recoverySince: 'asc' },
  })
  const now = clock.now()
  const items: ResponseOf<typeof sessionAttention>['items'] = []
  const wanted: string[] = []
  for (const row of rows) {
    const recovery = recoveryOf(row)
    if (recovery.state !== 'ok' && recovery.state !== 'suspect') {
      if (isDue(recovery, now, limits) && mayBegin(recovery, now, limits)) items.push({ fleetId: row.fleetId, need: 'resync' })
    } else if (row.rotateRequested) wanted.push(row.fleetId)
  }
  // Without anything received there is no exporter yet, and a message would only be refused.
  const ready = await db.session.findMany({
    where: { fleetId: { in: wanted }, active: true, received: { gt: 0 } },
    select: { fleetId: true },
  })
  for (const { fleetId } of ready) items.push({ fleetId, need: 'rotation' })
  return { ok: true, items: items.slice(0, MOST_AT_ONCE) }
}
