/** Documents of this fleet: drafts that change, issued ones that never do. */
import type { BillingKind } from '@tallystick/invoice-domain/model'
import type { Db, Tx } from '../app.js'
import type { DocumentModel } from '../gen/models.js'
import type { Prisma } from '../gen/client.js'

export type DocumentRow = DocumentModel
/** Without terms and body: what lists need. */
export type DocumentListRow = Omit<DocumentRow, 'terms' | 'body'>

/** A value of this service as Prisma's JSON type, which excludes what JSON cannot hold. */
export function asJson(value: unknown): Prisma.InputJsonValue {
  return JSON.parse(JSON.stringify(value)) as Prisma.InputJsonValue
}

export async function documentById(db: Pick<Tx, 'document'>, id: string): Promise<DocumentRow | null> {
  return await db.document.findUnique({ where: { id } })
}

/** One writer of a draft: held until the transaction ends. */
export async function lockDocument(tx: Tx, id: string): Promise<DocumentRow | null> {
  await tx.$queryRaw`SELECT 1 FROM document WHERE id = ${id}::uuid FOR UPDATE`
  return await documentById(tx, id)
}

export async function listDocuments(
  db: Db,
  filter: {
    kind: BillingKind
    state?: 'draft' | 'issued' | undefined
    number?: string | undefined
    after?: string | undefined
    limit: number
  },
): Promise<DocumentListRow[]> {
  return await db.document.findMany({
    where: {
      kind: filter.kind,
      ...(filter.state === undefined ? {} : { state: filter.state }),
      ...(filter.number === undefined ? {} : { number: filter.number }),
      ...(filter.after === undefined ? {} : { id: { lt: filter.after } }),
    },
    omit: { terms: true, body: true },
    orderBy: { id: 'desc' },
    take: filter.limit + 1,
  })
}

/**
 * The next number of a series. The row stays locked until the transaction ends, so a number that is given in a
 * transaction that fails is given to the next one: the series has no gaps.
 */
export async function nextInSeries(tx: Tx, series: string): Promise<number> {
  const [row] = await tx.$queryRaw<Array<{ last: bigint }>>`
    INSERT INTO number_series AS n (series, last) VALUES (${series}, 1)
    ON CONFLICT (series) DO UPDATE SET last = n.last + 1 RETURNING last`
  return Number(row!.last)
}

export async function issuedWithNumber(tx: Tx, kind: BillingKind, number: string): Promise<string | undefined> {
  const row = await tx.document.findFirst({ where: { kind, number, state: 'issued' }, select: { id: true } })
  return row?.id
}

/** How the newest verdict on a document stands, or that it is under way; by document id. */
export async function shareStatus(db: Pick<Tx, '$queryRaw'>, ids: readonly string[]): Promise<Map<string, string>> {
  if (ids.length === 0) return new Map()
  const rows = await db.$queryRaw<Array<{ document_id: string; status: string }>>`
    SELECT DISTINCT ON (document_id) document_id, CASE WHEN state IN ('accepted', 'rejected', 'disputed', 'paid') THEN state ELSE 'shared' END AS status
    FROM share WHERE document_id = ANY(${[...ids]}::uuid[]) AND state NOT IN ('refused', 'cancelled')
    ORDER BY document_id, decided_at DESC NULLS LAST`
  return new Map(rows.map((row) => [row.document_id, row.status]))
}
