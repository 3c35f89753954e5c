/** Queries on peers: the allow-list, how reaching them fares, and which replica sends to them. */
import type { ErrorCode } from '@tallystick/contracts/codes'
import { Prisma, type PrismaClient } from './gen/client.js'

export type PeerState = 'allowed' | 'blocked' | 'removed'

export interface PeerRecord {
  readonly fleetId: string
  readonly state: PeerState
  readonly multiaddrs: readonly string[]
  readonly peerIds: readonly string[]
  /** Address keys from which the peer has proved its key. */
  readonly addresses: readonly string[]
}

/** Addresses of one peer that are remembered; the one that was used longest ago goes first. */
export const ADDRESSES_KEPT_PER_PEER = 8

export class PeersStore {
  readonly #db: PrismaClient

  constructor(db: PrismaClient) {
    this.#db = db
  }

  async all(): Promise<PeerRecord[]> {
    const rows = await this.#db.peer.findMany({ include: { peerIds: true, addresses: true } })
    return rows.map((row) => ({
      fleetId: row.fleetId,
      state: row.state as PeerState,
      multiaddrs: row.multiaddrs,
      peerIds: row.peerIds.map((p) => p.peerId),
      addresses: row.addresses.map((a) => a.address),
    }))
  }

  /**
   * Changes whenever a peer was replaced, so that replicas notice each other's changes cheaply. The sum, not the
   * maximum: of two changes at one time, the one that commits last may carry the earlier time.
   */
  async version(): Promise<string> {
    const [row] = await this.#db.$queryRaw<
      { version: string }[]
    >`SELECT count(*) || '@' || coalesce(sum(extract(epoch FROM updated_at)), 0) AS version FROM peer`
    return row!.version
  }

  /** @returns the fleet that already holds one of the PeerIds, if another one does; then nothing has changed */
  async replace(peer: Pick<PeerRecord, 'fleetId' | 'state' | 'multiaddrs' | 'peerIds'>): Promise<{ conflict?: string }> {
    return this.#db.$transaction(async (tx) => {
      const taken = await tx.peerIdentity.findFirst({ where: { peerId: { in: [...peer.peerIds] }, fleetId: { not: peer.fleetId } } })
      if (taken !== null) return { conflict: taken.fleetId }
      const multiaddrs = [...peer.multiaddrs]
      await tx.$executeRaw`
        INSERT INTO peer (fleet_id, state, multiaddrs) VALUES (${peer.fleetId}, ${peer.state}, ${multiaddrs})
        ON CONFLICT (fleet_id) DO UPDATE SET state = excluded.state, multiaddrs = excluded.multiaddrs, updated_at = clock_timestamp(),
          last_error = NULL, last_error_code = NULL, failures = 0, next_attempt_at = NULL`
      await tx.peerIdentity.deleteMany({ where: { fleetId: peer.fleetId, peerId: { notIn: [...peer.peerIds] } } })
      await tx.peerIdentity.createMany({ data: peer.peerIds.map((peerId) => ({ peerId, fleetId: peer.fleetId })), skipDuplicates: true })
      return {}
    })
  }

  async rememberAddress(fleetId: string, address: string): Promise<void> {
    await this.#db.$executeRaw`
      INSERT INTO peer_address (fleet_id, address) VALUES (${fleetId}, ${address})
      ON CONFLICT (fleet_id, address) DO UPDATE SET last_seen = now()`
    await this.#db.$executeRaw`
      DELETE FROM peer_address WHERE fleet_id = ${fleetId} AND address NOT IN (
        SELECT address FROM peer_address WHERE fleet_id = ${fleetId} ORDER BY last_seen DESC LIMIT ${ADDRESSES_KEPT_PER_PEER})`
  }

  async noteFailure(fleetId: string, failure: { code: ErrorCode; cause: string; failures: number; nextAttemptAt: Date }): Promise<void> {
    await this.#db.$executeRaw`
      UPDATE peer SET last_error_code = ${failure.code}, last_error = ${failure.cause}, failures = ${failure.failures}, next_attempt_at = ${failure.nextAttemptAt}
      WHERE fleet_id = ${fleetId}`
  }

  async noteReached(fleetId: string): Promise<void> {
    await this.#db.$executeRaw`
      UPDATE peer SET last_error_code = NULL, last_error = NULL, failures = 0, next_attempt_at = NULL
      WHERE fleet_id = ${fleetId} AND (failures > 0 OR last_error IS NOT NULL)`
  }

  async status(fleetId: string): Promise<{ queued: number; lastError: string | null; nextAttemptAt: number | null } | undefined> {
    const [row] = await this.#db.$queryRaw<{ queued: bigint; last_error: string | null; next_attempt_at: Date | null }[]>`
      SELECT p.last_error, p.next_attempt_at, (SELECT count(*) FROM outbound o WHERE o.fleet_id = p.fleet_id AND o.state = 'queued') AS queued
      FROM peer p WHERE p.fleet_id = ${fleetId} AND p.state <> 'removed'`
    return row && { queued: Number(row.queued), lastError: row.last_error, nextAttemptAt: row.next_attempt_at?.getTime() ?? null }
  }

  /** One replica sends to a peer at a time. Two would be harmless (the receiver knows duplicates) but wasteful. */
  async lease(fleetId: string, owner: string, leaseMs: number): Promise<boolean> {
    const until = leaseMs / 1000
    return (
      (await this.#db.$executeRaw`
      UPDATE peer SET lease_owner = ${owner}, lease_until = now() + make_interval(secs => ${until})
      WHERE fleet_id = ${fleetId} AND (lease_owner = ${owner} OR lease_until IS NULL OR lease_until < now())`) > 0
    )
  }

  async release(fleetIds: readonly string[], owner: string): Promise<void> {
    if (fleetIds.length === 0) return
    await this.#db
      .$executeRaw`UPDATE peer SET lease_until = NULL, lease_owner = NULL WHERE lease_owner = ${owner} AND fleet_id IN (${Prisma.join([...fleetIds])})`
  }
}
