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
  const [row] = await db.$queryRaw<Array<{ missing: bigint | null }>>`
    SELECT max(seq) + 1 - count(DISTINCT seq) AS missing FROM inbound WHERE peer = ${fleetId} AND seq IS NOT NULL`
  return Number(row?.missing ?? 0n)
}
