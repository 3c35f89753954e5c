/** Received documents. */
import type { Db, Tx } from '../app.js'
import type { InboxModel } from '../gen/models.js'

export type InboxRow = InboxModel
export type InboxListRow = Omit<InboxRow, 'terms' | 'body' | 'statement' | 'certificate' | 'verification'>
export type InboxState = 'received' | 'accepted' | 'rejected' | 'disputed' | 'paid'

export async function inboxById(db: Pick<Tx, 'inbox'>, id: string): Promise<InboxRow | null> {
  return await db.inbox.findUnique({ where: { id } })
}

export async function lockInbox(tx: Tx, id: string): Promise<InboxRow | null> {
  await tx.$queryRaw`SELECT 1 FROM inbox WHERE id = ${id}::uuid FOR UPDATE`
  return await inboxById(tx, id)
}

/** By own id, or by the sender's document id. */
export async function inboxByAnyId(db: Pick<Tx, 'inbox'>, id: string): Promise<InboxRow[]> {
  return await db.inbox.findMany({ where: { OR: [{ id }, { documentId: id }] } })
}

export async function listInbox(
  db: Db,
  filter: { state?: InboxState | undefined; peerId?: string | undefined; after?: string | undefined; limit: number },
): Promise<InboxListRow[]> {
  return await db.inbox.findMany({
    where: {
      ...(filter.state === undefined ? {} : { state: filter.state }),
      ...(filter.peerId === undefined ? {} : { peer: filter.peerId }),
      ...(filter.after === undefined ? {} : { id: { lt: filter.after } }),
    },
    omit: { terms: true, body: true, statement: true, certificate: true, verification: true },
    orderBy: { id: 'desc' },
    take: filter.limit + 1,
  })
}
