/** Wrapped data keys, one row each. Whoever makes or rewraps one holds the advisory lock. */
import type { Db, Tx } from '../db.js'
import type { DataKeyCipher } from './data-key.js'
import { plainBytes } from '../plain-bytes.js'

export interface DataKeyRow {
  id: string
  version: number
  cipher: DataKeyCipher
  kekId: string
  wrapped: Uint8Array
  createdAt: Date
}

/** Newest first. */
export async function readDataKeys(tx: Tx | Db): Promise<DataKeyRow[]> {
  const rows = await tx.dataKey.findMany({
    select: { id: true, version: true, cipher: true, kekId: true, wrapped: true, createdAt: true },
    orderBy: { version: 'desc' },
  })
  // Another word than these two fails to unwrap: the cipher is part of the associated data.
  return rows as DataKeyRow[]
}

/** One replica at a time, until the transaction ends. */
export async function lockDataKeys(tx: Tx): Promise<void> {
  await tx.$executeRaw`SELECT pg_advisory_xact_lock(hashtextextended('tallystick/session/data-keys', 0))`
}

/** The newest one takes over from those before it. */
export async function insertDataKey(tx: Tx, row: DataKeyRow): Promise<void> {
  await tx.dataKey.updateMany({ where: { retiredAt: null }, data: { retiredAt: row.createdAt } })
  await tx.dataKey.create({ data: { ...row, wrapped: plainBytes(row.wrapped) } })
}

export async function rewrapDataKey(tx: Tx, id: string, kekId: string, wrapped: Uint8Array): Promise<void> {
  await tx.dataKey.update({ where: { id }, data: { kekId, wrapped: plainBytes(wrapped) } })
}

/** What the first identity key was sealed under: tells an installation that is older than data keys from a new one. */
export async function sealedBefore(tx: Tx): Promise<string | undefined> {
  const row = await tx.identityKey.findFirst({ select: { kekId: true }, orderBy: { createdAt: 'asc' } })
  return row?.kekId
}
