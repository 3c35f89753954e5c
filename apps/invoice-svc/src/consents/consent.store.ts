/** Consents: rows are never deleted; withdrawing sets a time. */
import type { Consent } from '@tallystick/invoice-domain/consent'
import type { Db, Tx } from '../app.js'
import type { ConsentModel } from '../gen/models.js'

export type ConsentRow = ConsentModel

/** Those of one peer, held against withdrawal until the transaction ends. */
export async function consentsWith(tx: Tx, peer: string): Promise<Consent[]> {
  const rows = await tx.$queryRaw<
    Array<{ purpose: Consent['purpose']; kinds: Consent['kinds']; granted_at: Date; expires_at: Date | null; withdrawn_at: Date | null }>
  >`
    SELECT purpose, kinds, granted_at, expires_at, withdrawn_at FROM consent WHERE peer = ${peer} AND withdrawn_at IS NULL ORDER BY id FOR SHARE`
  return rows.map((row) => ({
    purpose: row.purpose,
    kinds: row.kinds,
    grantedAt: row.granted_at.getTime(),
    ...(row.expires_at === null ? {} : { expiresAt: row.expires_at.getTime() }),
    ...(row.withdrawn_at === null ? {} : { withdrawnAt: row.withdrawn_at.getTime() }),
  }))
}

export async function consentById(db: Pick<Tx, 'consent'>, id: string): Promise<ConsentRow | null> {
  return await db.consent.findUnique({ where: { id } })
}

export async function listConsents(
  db: Db,
  filter: { peerId?: string | undefined; purpose?: string | undefined; after?: string | undefined; limit: number },
): Promise<ConsentRow[]> {
  return await db.consent.findMany({
    where: {
      ...(filter.peerId === undefined ? {} : { peer: filter.peerId }),
      ...(filter.purpose === undefined ? {} : { purpose: filter.purpose }),
      ...(filter.after === undefined ? {} : { id: { lt: filter.after } }),
    },
    orderBy: { id: 'desc' },
    take: filter.limit + 1,
  })
}
