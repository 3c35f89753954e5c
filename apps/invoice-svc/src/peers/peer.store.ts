/** Peers: who we exchange with, and how far session-svc and relay-svc have heard of it. */
import type { Db, Tx } from '../app.js'
import type { PeerModel } from '../gen/models.js'
import { found } from '../refused.js'

export type PeerRow = PeerModel
export type PeerState = 'pending' | 'active' | 'blocked' | 'removed'

export async function peerById(db: Pick<Tx, 'peer'>, fleetId: string): Promise<PeerRow | null> {
  return await db.peer.findUnique({ where: { fleetId } })
}

/** Removed peers are gone for the API; their row stays for evidence and for coming back. */
export async function visiblePeer(db: Pick<Tx, 'peer'>, fleetId: string): Promise<PeerRow> {
  return found(await db.peer.findFirst({ where: { fleetId, state: { not: 'removed' } } }), 'peer')
}

export async function listPeers(
  db: Db,
  filter: { state?: PeerState | undefined; after?: string | undefined; limit: number },
): Promise<PeerRow[]> {
  return await db.peer.findMany({
    where: { state: filter.state ?? { not: 'removed' }, ...(filter.after === undefined ? {} : { fleetId: { gt: filter.after } }) },
    orderBy: { fleetId: 'asc' },
    take: filter.limit + 1,
  })
}

/** Held until the transaction ends: one writer of a peer's sequence and of its state. */
export async function lockPeer(tx: Tx, fleetId: string): Promise<PeerRow | null> {
  await tx.$queryRaw`SELECT 1 FROM peer WHERE fleet_id = ${fleetId} FOR UPDATE`
  return await peerById(tx, fleetId)
}

/** Peers whose newest change has not been heard of by both services. */
export async function peersToSync(db: Db, now: Date, limit: number): Promise<string[]> {
  const rows = await db.$queryRaw<Array<{ fleet_id: string }>>`
    SELECT fleet_id FROM peer WHERE synced_version < version AND next_sync_at <= ${now} ORDER BY next_sync_at LIMIT ${limit}`
  return rows.map((row) => row.fleet_id)
}

/** Positions missing below the newest one that this peer has sent. */
export async function missingFrom(db: Db, fleetId: string): Promise<number> {
  const row = await db.peer.findUnique({ where: { fleetId }, select: { inMissing: true } })
  return Number(row?.inMissing ?? 0n)
}

/** What waited for a person, or for keys, is tried at once. In the transaction that ends the reason. */
export async function messagesMayGo(tx: Pick<Tx, '$executeRaw'>, fleetId: string, at: Date): Promise<void> {
  await tx.$executeRaw`
    UPDATE message SET next_attempt_at = ${at} WHERE peer = ${fleetId} AND state IN ('queued', 'sealed') AND next_attempt_at > ${at}
      AND last_code IN ('IdentityChanged', 'ContinuityBroken', 'ResyncRequired', 'NotReady', 'Network')`
}
