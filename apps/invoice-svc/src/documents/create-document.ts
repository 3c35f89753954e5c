/** Create a draft from JSON in EN 16931 terms, or import a UBL 2.1 document. Nothing is validated beyond its form. */
import type { BillingDocument, BillingKind } from '@tallystick/invoice-domain/model'
import { fromJson, toJson } from '@tallystick/invoice-domain/record'
import { summarise } from '@tallystick/invoice-domain/summary'
import { parseUbl } from '@tallystick/ubl/parse-ubl'
import { now, type App } from '../app.js'
import { recordChange } from '../events/change.store.js'
import type { Operation } from '../http/operation.js'
import { newId } from '../ids.js'
import { asJson } from './document.store.js'
import { today, view, type DocumentView, type ImportNotes } from './document-view.js'

export interface DraftSource {
  readonly document: BillingDocument
  readonly source: 'json' | 'ubl'
  readonly notes?: ImportNotes
}

/** @throws DomainError InvalidRequest, InvalidAmount: every field that is wrong, by pointer */
export function draftFromJson(body: unknown, kind: BillingKind): DraftSource {
  return { document: fromJson(body, kind), source: 'json' }
}

/** @throws UblError with the rule (XML-DOCTYPE, XML-LIMIT, UBL-ROOT, …) */
export function draftFromUbl(xml: Uint8Array): DraftSource {
  const { document, unmapped, syntax } = parseUbl(xml)
  return { document, source: 'ubl', notes: { unmapped, syntax } }
}

export async function createDocument(
  app: App,
  client: string,
  { document, source, notes }: DraftSource,
  operation: Operation,
): Promise<DocumentView> {
  const at = now(app)
  return await app.db.$transaction(async (tx) => {
    const row = await tx.document.create({
      data: {
        id: newId(),
        kind: document.kind,
        state: 'draft',
        number: document.number ?? null,
        source,
        terms: asJson(toJson(document)),
        summary: asJson(summarise(document)),
        createdBy: client,
        createdAt: at,
        updatedAt: at,
      },
    })
    await recordChange(tx, at, { topic: 'document', subject: row.id, data: { id: row.id, kind: row.kind, state: row.state } })
    const answer = view(row, { today: today(at), notes })
    await operation.finish(tx, 201, answer)
    return answer
  })
}
