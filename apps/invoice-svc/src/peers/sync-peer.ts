/**
 * Tell session-svc and relay-svc how a peer stands. Both calls are idempotent; the row's version says for which
 * change they were made, so that a change in between is not taken for done.
 */
import type { Refusal } from '@tallystick/contracts/codes'
import { relaySetPeer } from '@tallystick/contracts/relay'
import { sessionPinPeer, sessionSetPeerTrust } from '@tallystick/contracts/session'
import { RpcFault } from '@tallystick/nats-rpc/fault'
import { now, type App } from '../app.js'
import { recordChange } from '../events/change.store.js'
import { askOrAway, keepPeerKeys } from './peer-keys.js'
import { peerById, peersToSync, type PeerRow } from './peer.store.js'

/** Refusals that time alone may lift. */
const TRANSIENT: readonly string[] = ['NotReady', 'RateLimited', 'Network', 'CircuitBreakerOpen', 'KeyStorage', 'Internal', 'QuotaExceeded']

/** @returns the refusal that ended a pending pin, if there was one; faults are kept on the row and tried again */
export async function syncPeer(app: App, fleetId: string): Promise<Refusal | undefined> {
  const row = await peerById(app.db, fleetId)
  if (row === null || row.syncedVersion >= row.version) return undefined
  try {
    return await tellAndKeep(app, row)
  } finally {
    await tellAgainIfChanged(app, row)
  }
}

async function tellAndKeep(app: App, row: PeerRow): Promise<Refusal | undefined> {
  try {
    const refusal = await tellBoth(app, row)
    if (refusal === undefined) {
      await finish(app, row)
      return undefined
    }
    // session-svc has learnt a newer certificate from the peer itself: it is taken over, and told to relay-svc next.
    if (refusal.code === 'IdentityChanged' && (await takeNewerCertificate(app, row.fleetId))) return undefined
    if (TRANSIENT.includes(refusal.code) || row.state !== 'pending') {
      await postpone(app, row, refusal.message, refusal.retryAfterMs)
      return undefined
    }
    await giveUp(app, row, refusal)
    return refusal
  } catch (error) {
    if (!(error instanceof RpcFault)) throw error
    await postpone(app, row, `${error.subject.split('.')[0]}-svc is not reachable.`, error.retryAfterMs)
    return undefined
  }
}

async function takeNewerCertificate(app: App, fleetId: string): Promise<boolean> {
  const keys = await askOrAway(app, fleetId)
  return keys !== 'away' && keys.ok && (await keepPeerKeys(app, keys))
}

/** The background step: peers whose last change has not reached both services. */
export async function syncPeers(app: App): Promise<number> {
  const due = await peersToSync(app.db, now(app), app.limits.stepBatch)
  for (const fleetId of due) await syncPeer(app, fleetId)
  return due.length
}

async function tellBoth(app: App, row: PeerRow): Promise<Refusal | undefined> {
  const allowed = row.state === 'pending' || row.state === 'active'
  if (allowed) {
    const pinned = await app.rpc.call(sessionPinPeer, { certificate: row.certificate })
    if (!pinned.ok) return pinned
  }
  const trust = allowed ? (row.verified ? 'verified' : 'pinned') : (row.state as 'blocked' | 'removed')
  const relayState = allowed ? 'allowed' : (row.state as 'blocked' | 'removed')
  const tellRelay = () =>
    app.rpc.call(relaySetPeer, { fleetId: row.fleetId, peerIds: row.peerIds, multiaddrs: row.multiaddrs, state: relayState })
  const tellSession = () => app.rpc.call(sessionSetPeerTrust, { fleetId: row.fleetId, trust })
  // Opening goes keys first, closing goes doors first.
  for (const tell of allowed ? [tellSession, tellRelay] : [tellRelay, tellSession]) {
    const answer = await tell()
    if (!answer.ok && !(answer.code === 'NotFound' && !allowed)) return answer
  }
  return undefined
}

async function finish(app: App, row: PeerRow): Promise<void> {
  const state = row.state === 'pending' ? 'active' : row.state
  await app.db.$transaction(async (tx) => {
    const updated = await tx.peer.updateMany({
      where: { fleetId: row.fleetId, version: row.version, syncedVersion: { lt: row.version } },
      data: { state, syncedVersion: row.version, syncAttempts: 0, cause: null, updatedAt: now(app) },
    })
    if (updated.count === 1) await recordChange(tx, now(app), { topic: 'peer', subject: row.fleetId, data: { id: row.fleetId, state } })
  })
  // Messages may have waited for this.
  app.wake.messages()
}

/** A newer change may have been told while this one was: what was said here may have come last, so it is said again. */
async function tellAgainIfChanged(app: App, row: PeerRow): Promise<void> {
  const { count } = await app.db.peer.updateMany({
    where: { fleetId: row.fleetId, version: { gt: row.version }, syncedVersion: { gt: row.version } },
    data: { syncedVersion: row.version, nextSyncAt: now(app) },
  })
  if (count > 0) app.wake.peers()
}

async function postpone(app: App, row: PeerRow, cause: string, retryAfterMs: number | undefined): Promise<void> {
  const delay = Math.min(app.limits.retryMaxMs, Math.max(retryAfterMs ?? 0, app.limits.retryFirstMs * 2 ** Math.min(row.syncAttempts, 10)))
  await app.db.peer.updateMany({
    where: { fleetId: row.fleetId, version: row.version },
    data: { cause: cause.slice(0, 300), syncAttempts: { increment: 1 }, nextSyncAt: new Date(app.clock.now() + delay) },
  })
}

async function giveUp(app: App, row: PeerRow, refusal: Refusal): Promise<void> {
  await app.db.$transaction(async (tx) => {
    const updated = await tx.peer.updateMany({
      where: { fleetId: row.fleetId, version: row.version, state: 'pending' },
      data: { state: 'removed', syncedVersion: row.version, cause: refusal.message.slice(0, 300), updatedAt: now(app) },
    })
    if (updated.count === 1)
      await recordChange(tx, now(app), { topic: 'peer', subject: row.fleetId, data: { id: row.fleetId, state: 'removed' } })
  })
}
