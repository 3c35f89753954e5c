/** Change a draft by a JSON merge patch (RFC 7396) on its terms. */
import type { BillingDocument, BillingKind } from '@tallystick/invoice-domain/model'
import { mergeDraft, toJson } from '@tallystick/invoice-domain/record'
import { summarise } from '@tallystick/invoice-domain/summary'
import { now, type App } from '../app.js'
import { recordChange } from '../events/change.store.js'
import { conflict, found } from '../refused.js'
import { asJson, lockDocument } from './document.store.js'
import { documentOf, today, view, type DocumentView } from './document-view.js'

/** @throws Refused NotFound, Conflict (issued); DomainError for a patch that does not fit the terms */
export async function editDocument(app: App, id: string, patch: unknown): Promise<DocumentView> {
  const at = now(app)
  return await app.db.$transaction(async (tx) => {
    const row = found(await lockDocument(tx, id), 'document')
    if (row.state !== 'draft') throw conflict('An issued document never changes: correct it with a credit note.')
    const document: BillingDocument = mergeDraft(documentOf(row), patch)
    const changed = await tx.document.update({
      where: { id },
      data: {
        kind: document.kind satisfies BillingKind,
        number: document.number ?? null,
        terms: asJson(toJson(document)),
        summary: asJson(summarise(document)),
        updatedAt: at,
        version: { increment: 1 },
      },
    })
    await recordChange(tx, at, { topic: 'document', subject: id, data: { id, kind: changed.kind, state: changed.state } })
    return view(changed, { today: today(at) })
  })
}
