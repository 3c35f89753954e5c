/** What changed, written with the change. Read in commit order: see `changesAfter`. */
import type { Db, Tx } from '../app.js'

export type Topic = 'document' | 'share' | 'peer' | 'inbox' | 'breaker'

export interface Change {
  readonly topic: Topic
  readonly subject: string
  readonly data: Record<string, string>
}

export interface ChangeRow {
  readonly id: bigint
  readonly tx: bigint
  readonly at: Date
  readonly topic: Topic
  readonly subject: string
  readonly data: Record<string, string>
}

export async function recordChange(tx: Pick<Tx, '$executeRaw'>, at: Date, { topic, subject, data }: Change): Promise<void> {
  await tx.$executeRaw`INSERT INTO change_event (at, topic, subject, data) VALUES (${at}, ${topic}, ${subject}, ${JSON.stringify(data)}::jsonb)`
}

export interface Cursor {
  readonly tx: bigint
  readonly id: bigint
}

/**
 * Only rows of transactions older than every one still running: a row with a lower number can then no longer appear
 * behind the cursor, which a plain serial would allow.
 */
export async function changesAfter(db: Db, cursor: Cursor, limit: number): Promise<ChangeRow[]> {
  return await db.$queryRaw<ChangeRow[]>`
    SELECT id, tx, at, topic, subject, data FROM change_event
    WHERE (tx, id) > (${cursor.tx}, ${cursor.id}) AND tx < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
    ORDER BY tx, id LIMIT ${limit}`
}

/** The end of what `changesAfter` can give now. */
export async function presentCursor(db: Db): Promise<Cursor> {
  const [row] = await db.$queryRaw<Array<{ tx: bigint }>>`SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS tx`
  return { tx: (row?.tx ?? 1n) - 1n, id: 2n ** 62n }
}

export async function sweepChanges(db: Db, before: Date): Promise<number> {
  return await db.$executeRaw`DELETE FROM change_event WHERE id IN (SELECT id FROM change_event WHERE at < ${before} LIMIT 5000)`
}
