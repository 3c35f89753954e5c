/** Prekeys at rest: private halves sealed, each one-time key handed out at most once. */
import type { SecretBytes } from '@tallystick/secret-bytes/arena'
import type { Context } from '../context.js'
import type { Tx } from '../db.js'
import { plainBytes } from '../plain-bytes.js'

export type PrekeyKind = 'signed' | 'last-resort' | 'one-time' | 'pq-one-time'
export const TABLE = 'prekey'
const VERSION = 1

export interface PublicPrekey {
  readonly id: number
  readonly kind: PrekeyKind
  readonly publicKey: Uint8Array
  readonly signature: Uint8Array | null
}

export interface NewPrekey {
  readonly id: number
  readonly kind: PrekeyKind
  readonly publicKey: Uint8Array
  readonly signature: Uint8Array | null
  readonly secret: SecretBytes
}

/** Ids for new prekeys: signature and seal both bind them, so they come first. */
export async function reserveIds(tx: Tx, count: number): Promise<number[]> {
  const rows = await tx.$queryRaw<
    { id: number }[]
  >`SELECT nextval('session.prekey_id_seq')::int AS id FROM generate_series(1, ${count}::int)`
  return rows.map(({ id }) => id)
}

export async function storePrekeys(context: Context, tx: Tx, prekeys: readonly NewPrekey[]): Promise<void> {
  const createdAt = new Date(context.clock.now())
  await tx.prekey.createMany({
    data: prekeys.map(({ id, kind, publicKey, signature, secret }) => {
      const value = context.custody.sealSecret(secret, { table: TABLE, row: String(id), version: VERSION })
      return {
        id,
        kind,
        publicKey: plainBytes(publicKey),
        signature: signature && plainBytes(signature),
        sealed: plainBytes(value.sealed),
        kekId: value.kekId,
        version: VERSION,
        createdAt,
      }
    }),
  })
}

/** One-time prekeys not handed out yet. */
export async function countAvailable(tx: Tx, kind: 'one-time' | 'pq-one-time'): Promise<number> {
  return tx.prekey.count({ where: { kind, handedAt: null } })
}

/** The newest reusable prekey of a kind that is not retired. */
export async function newestReusable(
  tx: Tx,
  kind: 'signed' | 'last-resort',
): Promise<(PublicPrekey & { readonly createdAt: Date }) | undefined> {
  const row = await tx.prekey.findFirst({ where: { kind, retiredAt: null }, orderBy: { id: 'desc' } })
  return row ? { ...row, kind } : undefined
}

/** How many one-time prekeys of both kinds this peer has got and not used yet. */
export async function countOutstanding(tx: Tx, fleetId: string): Promise<number> {
  return tx.prekey.count({ where: { handedTo: fleetId, kind: { in: ['one-time', 'pq-one-time'] } } })
}

/**
 * At most one X25519 and one ML-KEM one-time prekey, marked as handed out in the same statement: two callers at once
 * skip each other's rows and never get the same key.
 */
export async function handOutOneTime(tx: Tx, fleetId: string, now: Date): Promise<PublicPrekey[]> {
  return tx.$queryRaw<PublicPrekey[]>`
    WITH curve AS (SELECT id FROM session.prekey WHERE kind = 'one-time' AND handed_at IS NULL ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED),
         kem AS (SELECT id FROM session.prekey WHERE kind = 'pq-one-time' AND handed_at IS NULL ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
    UPDATE session.prekey SET handed_at = ${now}, handed_to = ${fleetId}
     WHERE id IN (SELECT id FROM curve UNION ALL SELECT id FROM kem)
    RETURNING id, kind, public_key AS "publicKey", signature`
}

export interface PrivatePrekey {
  readonly id: number
  readonly publicKey: Uint8Array
  readonly handedTo: string | null
  /** In the arena, owned by the caller. */
  readonly secret: SecretBytes
}

/** @returns undefined when there is none: never made here, used up, or destroyed after its grace time */
export async function privatePrekey(context: Context, tx: Tx, id: number, kind: PrekeyKind): Promise<PrivatePrekey | undefined> {
  // A 32-bit id on the wire may exceed the column's signed range; no such row exists then.
  if (id > 0x7fff_ffff) return undefined
  const row = await tx.prekey.findFirst({ where: { id, kind } })
  if (!row) return undefined
  const secret = context.custody.openSecret(row, { table: TABLE, row: String(row.id), version: row.version })
  return { id: row.id, publicKey: row.publicKey, handedTo: row.handedTo, secret }
}

/** Private halves of used one-time prekeys go in the transaction that decrypts the first message. */
export async function destroyPrekeys(tx: Tx, ids: readonly number[]): Promise<void> {
  if (ids.length > 0) await tx.prekey.deleteMany({ where: { id: { in: [...ids] } } })
}

/** Whatever was ever made. @returns how many */
export async function destroyAllPrekeys(tx: Tx): Promise<number> {
  return (await tx.prekey.deleteMany()).count
}

/** Not given out any more; the private halves stay for handshakes that are under way. @returns how many */
export async function retirePrekeys(tx: Tx, kind: 'signed' | 'last-resort', now: Date): Promise<number> {
  return (await tx.prekey.updateMany({ where: { kind, retiredAt: null }, data: { retiredAt: now } })).count
}

/** A clock that was ahead must not give keys a longer life. */
export async function noneFromTheFuture(tx: Tx, now: Date): Promise<void> {
  await tx.prekey.updateMany({ where: { retiredAt: { gt: now } }, data: { retiredAt: now } })
  await tx.prekey.updateMany({ where: { handedAt: { gt: now } }, data: { handedAt: now } })
}

/**
 * Destroys keys that were replaced, or handed out, at `before` or earlier, and forgets handshakes that cannot come again:
 * of one-time keys those seen before then, since their keys are gone; of last-resort keys those whose key is gone.
 * @returns how many keys were destroyed
 */
export async function destroyExpired(tx: Tx, before: Date): Promise<number> {
  const { count } = await tx.prekey.deleteMany({ where: { OR: [{ retiredAt: { lte: before } }, { handedAt: { lte: before } }] } })
  await tx.$executeRaw`
    DELETE FROM session.handshake_seen h
     WHERE h.seen_at <= ${before} AND NOT EXISTS (SELECT 1 FROM session.prekey p WHERE p.id = h.pq_id AND p.kind = 'last-resort')`
  return count
}

/** Counts one more bundle for this peer in the window that `now` falls in. */
export async function countBundle(tx: Tx, fleetId: string, now: Date, windowMs: number): Promise<{ taken: number; windowStart: Date }> {
  const oldest = new Date(now.getTime() - windowMs)
  const rows = await tx.$queryRaw<{ taken: number; windowStart: Date }[]>`
    INSERT INTO session.bundle_quota AS q (fleet_id, window_start, taken) VALUES (${fleetId}, ${now}, 1)
    ON CONFLICT (fleet_id) DO UPDATE SET
      taken = CASE WHEN q.window_start <= ${oldest} OR q.window_start > ${now} THEN 1 ELSE q.taken + 1 END,
      window_start = CASE WHEN q.window_start <= ${oldest} OR q.window_start > ${now} THEN ${now} ELSE q.window_start END
    RETURNING taken, window_start AS "windowStart"`
  return rows[0]!
}
