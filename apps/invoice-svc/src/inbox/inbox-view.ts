/** A received document as the API shows it. */
import type { DocumentSummary } from '@tallystick/invoice-domain/summary'
import { z } from 'zod'
import { termsSchema } from '../documents/document-schema.js'
import { summaryFields } from '../documents/document-view.js'
import type { VerdictModel } from '../gen/models.js'
import { hex, hexDigest, iso, time, uuid } from '../http/page.js'
import { verdictSchema, viewVerdict } from '../shares/share-view.js'
import type { InboxListRow, InboxRow, InboxState } from './inbox.store.js'

export const inboxStates = z.enum(['received', 'accepted', 'rejected', 'disputed', 'paid'])

export const inboxListItem = z
  .strictObject({
    id: uuid,
    inboxId: uuid,
    documentId: uuid.describe("The sender's id of the document"),
    kind: z.enum(['invoice', 'credit-note']),
    peerId: z.string(),
    ...summaryFields,
    contentDigest: hexDigest,
    state: inboxStates,
    receivedAt: time,
    verdict: verdictSchema.nullable(),
  })
  .meta({ id: 'InboxListItem' })
export type InboxListItem = z.output<typeof inboxListItem>

export const inboxItem = inboxListItem
  .extend({
    verification: z.array(z.strictObject({ check: z.string(), ok: z.boolean(), how: z.string() })),
    verdicts: z.array(verdictSchema),
    document: termsSchema,
  })
  .meta({ id: 'InboxItem' })
export type InboxItem = z.output<typeof inboxItem>

export function inboxListView(row: InboxListRow, verdicts: readonly VerdictModel[]): InboxListItem {
  const { number, issueDate, dueDate, seller, buyer, currency, payableAmount, lineCount } = row.summary as unknown as DocumentSummary
  const last = verdicts.at(-1)
  return {
    id: row.id,
    inboxId: row.id,
    documentId: row.documentId,
    kind: row.kind as 'invoice',
    peerId: row.peer,
    number,
    issueDate,
    dueDate,
    seller,
    buyer,
    currency,
    payableAmount,
    lineCount,
    contentDigest: hex(row.contentDigest),
    state: row.state as InboxState,
    receivedAt: iso(row.receivedAt),
    verdict: last === undefined ? null : viewVerdict(last),
  }
}

export function inboxView(row: InboxRow, verdicts: readonly VerdictModel[]): InboxItem {
  return {
    ...inboxListView(row, verdicts),
    verification: row.verification as InboxItem['verification'],
    verdicts: verdicts.map(viewVerdict),
    document: row.terms as InboxItem['document'],
  }
}
