/** Bundles of peers that wait for the rotation that will use them: one for each peer. */
import type { Tx } from '../db.js'
import { plainBytes } from '../plain-bytes.js'

export async function putPrefetched(tx: Tx, fleetId: string, bundle: Uint8Array, fetchedAt: Date): Promise<void> {
  const value = { bundle: plainBytes(bundle), fetchedAt }
  await tx.prefetchedBundle.upsert({ where: { fleetId }, create: { fleetId, ...value }, update: value })
}

/**
 * Takes the bundle out: its one-time keys are for one handshake. In the transaction that begins the session, so that it
 * is there again when that is undone, and with it the handshake.
 * @returns undefined when there is none, or one that was fetched before `oldest`
 */
export async function takePrefetched(tx: Tx, fleetId: string, oldest: Date): Promise<Uint8Array | undefined> {
  const rows = await tx.$queryRaw<{ bundle: Uint8Array; fetchedAt: Date }[]>`
    DELETE FROM session.prefetched_bundle WHERE fleet_id = ${fleetId} RETURNING bundle, fetched_at AS "fetchedAt"`
  const found = rows[0]
  return found !== undefined && found.fetchedAt >= oldest ? found.bundle : undefined
}

export async function hasPrefetched(tx: Tx, fleetId: string, oldest: Date): Promise<boolean> {
  return (await tx.prefetchedBundle.count({ where: { fleetId, fetchedAt: { gte: oldest } } })) > 0
}
